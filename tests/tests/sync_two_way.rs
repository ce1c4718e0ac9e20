//! Push and pull between two sides that both change things.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::agent::Agent;

/// A tree here and in the workspace, with the base of both.
struct Both {
    agent: Agent,
    dir: TempDir,
}

impl Both {
    /// Both sides have `files`, and have agreed on them.
    fn having(files: &[&str]) -> Result<Self> {
        let both = Self { agent: Agent::start()?, dir: tempfile::tempdir()? };
        for file in files {
            let place = both.here(file);
            fs::create_dir_all(place.parent().expect("not the top"))?;
            fs::write(place, "as it was")?;
        }
        let pushed = both.run("push", &[])?;
        ensure!(pushed.status.success(), "{pushed:?}");
        Ok(both)
    }

    fn here(&self, file: &str) -> PathBuf {
        self.dir.path().join("tree").join(file)
    }

    fn there(&self, file: &str) -> PathBuf {
        self.agent.root().join("w").join(file)
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    fn run(&self, subcommand: &str, more: &[&str]) -> Result<Output> {
        let (tree, base) = (self.dir.path().join("tree"), self.base());
        fs::create_dir_all(&tree)?;
        let mut command = self.agent.cli(subcommand);
        match subcommand {
            "push" => command.arg(&tree).arg("w"),
            _ => command.arg("w").arg(&tree),
        };
        Ok(command.arg("--base").arg(base).args(more).output()?)
    }

    fn json(&self, subcommand: &str, more: &[&str]) -> Result<(Option<i32>, Value)> {
        let output = self.run(subcommand, &[more, &["--json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.stdout.is_empty(), "{}: {said}", output.status);
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| error.kind().to_string())
}

#[test]
fn a_push_leaves_what_only_the_workspace_has_changed() -> Result<()> {
    let both = Both::having(&["mine", "theirs", "gone-there", "d/same"])?;
    fs::write(both.here("mine"), "changed here")?;
    fs::write(both.there("theirs"), "changed there")?;
    fs::write(both.there("new"), "made there")?;
    fs::remove_file(both.there("gone-there"))?;
    let (code, pushed) = both.json("push", &["--delete"])?;
    assert_eq!((code, &pushed["files"], &pushed["removed"]), (Some(0), &json!(1), &json!(0)));
    assert_eq!((&pushed["conflicts"], &pushed["left"]), (&json!([]), &json!(3)));
    assert_eq!(text(&both.there("mine")), "changed here");
    assert_eq!(text(&both.there("theirs")), "changed there");
    ensure!(!both.there("gone-there").exists(), "it was brought back");
    // The other way round brings these, and takes nothing back.
    let (code, pulled) = both.json("pull", &["--delete"])?;
    assert_eq!((code, &pulled["files"], &pulled["removed"]), (Some(0), &json!(2), &json!(1)));
    assert_eq!(text(&both.here("theirs")), "changed there");
    assert_eq!(text(&both.here("new")), "made there");
    assert_eq!(text(&both.here("mine")), "changed here");
    ensure!(!both.here("gone-there").exists(), "it was kept");
    for subcommand in ["push", "pull"] {
        let (code, again) = both.json(subcommand, &["--delete"])?;
        assert_eq!((code, &again["files"], &again["left"]), (Some(0), &json!(0), &json!(0)));
    }
    Ok(())
}

#[test]
fn what_both_have_changed_is_told_and_nothing_moves() -> Result<()> {
    let both = Both::having(&["both", "deleted", "mine", "equal"])?;
    fs::write(both.here("both"), "changed here")?;
    fs::write(both.there("both"), "changed there")?;
    fs::remove_file(both.here("deleted"))?;
    fs::write(both.there("deleted"), "changed there")?;
    fs::write(both.here("mine"), "changed here")?;
    for place in [both.here("equal"), both.there("equal")] {
        fs::write(&place, "the same")?;
        fs::File::options().write(true).open(&place)?.set_modified(std::time::UNIX_EPOCH)?;
    }
    let base = text(&both.base());
    for (subcommand, more) in
        [("push", &["--delete"][..]), ("pull", &["--delete"]), ("push", &["--dry-run", "--delete"])]
    {
        let (code, told) = both.json(subcommand, more)?;
        let expected = json!([
            { "path": "both", "local": "modified", "remote": "modified" },
            { "path": "deleted", "local": "deleted", "remote": "modified" },
        ]);
        assert_eq!((code, &told["conflicts"]), (Some(4), &expected), "{subcommand} {more:?}");
    }
    assert_eq!(text(&both.here("both")), "changed here");
    assert_eq!(text(&both.there("both")), "changed there");
    assert_eq!(text(&both.there("mine")), "as it was");
    assert_eq!(text(&both.base()), base);
    let said = both.run("push", &[])?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("conflict: both (local modified, remote modified)"), "{said}");
    Ok(())
}

#[test]
fn the_rest_can_be_moved_and_a_winner_named() -> Result<()> {
    let both = Both::having(&["both", "mine"])?;
    fs::write(both.here("both"), "changed here")?;
    fs::write(both.there("both"), "changed there")?;
    fs::write(both.here("mine"), "changed here")?;
    let (code, pushed) = both.json("push", &["--conflict", "skip"])?;
    assert_eq!((code, &pushed["files"]), (Some(4), &json!(1)));
    assert_eq!(
        (text(&both.there("mine")), text(&both.there("both"))),
        ("changed here".into(), "changed there".into())
    );
    let (code, pushed) = both.json("push", &["--conflict", "remote"])?;
    assert_eq!((code, &pushed["conflicts"][0]["kept"]), (Some(0), &json!("remote")));
    assert_eq!(text(&both.there("both")), "changed there");
    let (code, _) = both.json("pull", &["--conflict", "local"])?;
    assert_eq!((code, text(&both.here("both"))), (Some(0), "changed here".into()));
    let (code, _) = both.json("push", &["--conflict", "local"])?;
    assert_eq!((code, text(&both.there("both"))), (Some(0), "changed here".into()));
    let (code, agreed) = both.json("pull", &[])?;
    assert_eq!((code, &agreed["conflicts"]), (Some(0), &json!([])));
    Ok(())
}

#[test]
fn a_directory_that_was_replaced_takes_no_change_with_it() -> Result<()> {
    let both = Both::having(&["d/f", "d/g"])?;
    fs::remove_dir_all(both.here("d"))?;
    fs::write(both.here("d"), "a file now")?;
    fs::write(both.there("d/new"), "made there")?;
    let (code, pushed) = both.json("push", &["--delete", "--delete-any"])?;
    assert_eq!((code, &pushed["blocked"]), (Some(3), &json!(["d"])));
    assert_eq!(text(&both.there("d/new")), "made there");
    Ok(())
}

#[test]
fn without_a_base_yet_what_differs_is_a_conflict() -> Result<()> {
    let both = Both { agent: Agent::start()?, dir: tempfile::tempdir()? };
    fs::create_dir_all(both.here(""))?;
    fs::create_dir_all(both.there(""))?;
    fs::write(both.here("f"), "here")?;
    fs::write(both.there("f"), "and there")?;
    let (code, told) = both.json("pull", &[])?;
    assert_eq!((code, &told["conflicts"][0]["local"]), (Some(4), &json!("created")));
    ensure!(!both.base().exists(), "a base was written of what nobody agreed on");
    Ok(())
}

#[test]
fn a_base_that_is_none_or_inside_is_refused() -> Result<()> {
    let both = Both::having(&["f"])?;
    fs::write(both.base(), "no manifest\n")?;
    let refused = both.run("push", &[])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(125) && said.contains("line 1"), "{said}");
    let inside = both.here("base");
    let tree = both.here("");
    let refused = both.agent.cli("push").arg(&tree).args(["w", "--base"]).arg(&inside).output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(125) && said.contains("keep it elsewhere"), "{said}");
    Ok(())
}
