//! Moving only what differs, removing only what was meant, and looking before leaping.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use workspace_tests::{
    agent::{Agent, Setup},
    http::Connection,
};

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain")
}

/// More files than are sent whole without asking.
const MANY: u64 = 2100;

/// So many, in a few directories.
fn wide_tree(root: &Path) -> Result<()> {
    for number in 0..MANY {
        let directory = root.join(format!("d{}", number % 9));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("f{number}")), format!("{number}"))?;
    }
    Ok(())
}

/// Runs push or pull with `--json`.
fn report(agent: &Agent, subcommand: &str, arguments: &[&str]) -> Result<Value> {
    let arguments = [arguments, &["--json"]].concat();
    Ok(serde_json::from_slice(&agent.run_cli(subcommand, &arguments)?.stdout)?)
}

fn counts(report: &Value) -> [u64; 4] {
    ["files", "touched", "unchanged", "removed"].map(|field| report[field].as_u64().unwrap_or(99))
}

#[test]
fn a_push_moves_what_differs_and_the_rest_keeps_its_inode() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    wide_tree(local.path())?;
    assert_eq!(counts(&report(&agent, "push", &[path(local.path()), "w"])?), [MANY, 0, 0, 0]);
    let kept = agent.root().join("w/d0/f0");
    let inode = fs::metadata(&kept)?.ino();
    assert_eq!(counts(&report(&agent, "push", &[path(local.path()), "w"])?), [0, 0, MANY, 0]);
    fs::write(local.path().join("d1/f1"), "changed")?;
    fs::write(local.path().join("d1/new"), "new")?;
    fs::set_permissions(local.path().join("d2/f2"), fs::Permissions::from_mode(0o600))?;
    assert_eq!(counts(&report(&agent, "push", &[path(local.path()), "w"])?), [2, 1, MANY - 2, 0]);
    assert_eq!(fs::read_to_string(agent.root().join("w/d1/f1"))?, "changed");
    assert_eq!(fs::metadata(agent.root().join("w/d2/f2"))?.mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&kept)?.ino(), inode);
    assert_eq!(counts(&report(&agent, "push", &[path(local.path()), "w"])?), [0, 0, MANY + 1, 0]);
    Ok(())
}

#[test]
fn a_small_tree_that_is_sent_whole_leaves_what_is_the_same_alone() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fs::write(local.path().join("same"), "1")?;
    fs::write(local.path().join("other"), "1")?;
    report(&agent, "push", &[path(local.path())])?;
    let inode = fs::metadata(agent.root().join("same"))?.ino();
    fs::write(local.path().join("other"), "22")?;
    assert_eq!(counts(&report(&agent, "push", &[path(local.path())])?), [1, 0, 1, 0]);
    assert_eq!(fs::metadata(agent.root().join("same"))?.ino(), inode);
    Ok(())
}

#[test]
fn a_pull_brings_what_differs_and_removes_what_is_gone_only_when_told() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    wide_tree(&agent.root())?;
    symlink("f0", agent.root().join("d0/link"))?;
    assert_eq!(counts(&report(&agent, "pull", &[path(local.path())])?), [MANY, 0, 0, 0]);
    assert_eq!(counts(&report(&agent, "pull", &[path(local.path())])?), [0, 0, 0, 0]);
    fs::write(agent.root().join("d3/f3"), "changed")?;
    fs::remove_dir_all(agent.root().join("d4"))?;
    assert_eq!(counts(&report(&agent, "pull", &[path(local.path())])?), [1, 0, 0, 0]);
    ensure!(local.path().join("d4").exists(), "it was removed without being told");
    let gone = fs::read_dir(local.path().join("d4"))?.count() as u64 + 1;
    assert_eq!(
        counts(&report(&agent, "pull", &[path(local.path()), "--delete"])?),
        [0, 0, 0, gone]
    );
    ensure!(!local.path().join("d4").exists(), "it was not removed");
    Ok(())
}

#[test]
fn an_answer_that_is_whole_before_its_request_waits_for_it() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("file"), "content")?;
    let mut connection = Connection::open(agent.client.endpoint())?;
    let head = "POST /v1/sync/pull HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    connection.send(format!("{head}e\r\n{{\"entries\":0}}\n\r\n").as_bytes())?;
    assert_eq!(connection.read_head()?.status, 200);
    let archive = connection.read_chunk()?.context("nothing came")?;
    ensure!(archive.ends_with(&[0; 1024]), "the archive is not whole");
    connection.send(b"0\r\n\r\nGET /health HTTP/1.1\r\nhost: a\r\n\r\n")?;
    assert_eq!(connection.read_chunk()?, None);
    assert_eq!(connection.read_response("GET")?.status(), 200);
    Ok(())
}

#[test]
fn deleting_most_of_a_tree_is_refused_unless_it_is_meant() -> Result<()> {
    let (agent, local, empty) = (Agent::start()?, tempfile::tempdir()?, tempfile::tempdir()?);
    wide_tree(local.path())?;
    agent.run_cli("push", &[path(local.path()), "w"])?;
    let refused = agent.cli("push").args([path(empty.path()), "w", "--delete"]).output()?;
    assert_eq!(refused.status.code(), Some(125));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(said.contains("--delete-any"), "{said}");
    ensure!(agent.root().join("w/d0/f0").exists(), "something was removed all the same");
    // The same the other way round.
    agent.run_cli("pull", &["w", path(local.path())])?;
    fs::create_dir(agent.root().join("empty"))?;
    let refused = agent.cli("pull").args(["empty", path(local.path()), "--delete"]).output()?;
    assert_eq!(refused.status.code(), Some(125));
    ensure!(local.path().join("d0/f0").exists(), "something was removed all the same");
    agent.run_cli("push", &[path(empty.path()), "w", "--delete", "--delete-any"])?;
    assert_eq!(fs::read_dir(agent.root().join("w"))?.count(), 0);
    Ok(())
}

#[test]
fn what_is_left_out_is_not_removed_either() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    for name in ["kept/node_modules/x", "kept/own"] {
        let place = agent.root().join(name);
        fs::create_dir_all(place.parent().expect("not the top"))?;
        fs::write(place, "")?;
    }
    fs::write(local.path().join("file"), "")?;
    let ignore = local.path().join("ignore");
    fs::write(&ignore, "# what is made here\n*.o\n!keep.o\n")?;
    for name in ["a.o", "keep.o"] {
        fs::write(local.path().join(name), "")?;
        fs::write(agent.root().join(format!("there-{name}")), "")?;
    }
    let arguments =
        [path(local.path()), "--delete", "--delete-any", "--exclude-from", path(&ignore)];
    agent.run_cli("push", &arguments)?;
    let mut names: Vec<_> =
        fs::read_dir(agent.root())?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "ignore", "keep.o", "kept", "there-a.o", "there-keep.o"]);
    ensure!(agent.root().join("kept/node_modules/x").exists(), "what was left out was removed");
    ensure!(!agent.root().join("kept/own").exists(), "what was not left out was kept");
    Ok(())
}

#[test]
fn ignore_files_of_the_tree_count_at_every_depth_and_protect_what_they_leave_out() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    let here = |name: &str| local.path().join(name);
    fs::create_dir_all(here("sub/out"))?;
    fs::write(here(".gitignore"), "*.log\nout/\n")?;
    fs::write(here("sub/.gitignore"), "!keep.log\n")?;
    for name in ["a.log", "code", "sub/keep.log", "sub/x.log", "sub/out/file"] {
        fs::write(here(name), "")?;
    }
    // The workspace made these, and has no ignore files yet.
    fs::create_dir_all(agent.root().join("out"))?;
    for name in ["out/made", "made.log", "stale"] {
        fs::write(agent.root().join(name), "")?;
    }
    let arguments = [path(local.path()), "--gitignore", "--delete", "--delete-any"];
    agent.run_cli("push", &arguments)?;
    for (name, there) in [
        ("code", true),
        ("sub/keep.log", true),
        ("a.log", false),
        ("sub/x.log", false),
        ("sub/out", false),
        ("out/made", true),
        ("made.log", true),
        ("stale", false),
    ] {
        assert_eq!(agent.root().join(name).exists(), there, "{name}");
    }
    // The other way round: what is ignored there is not missed here.
    agent.run_cli("pull", &arguments)?;
    for name in ["a.log", "sub/x.log", "sub/out/file", "code"] {
        ensure!(here(name).exists(), "{name} was removed");
    }
    ensure!(!here("out").exists() && !here("made.log").exists(), "what is ignored was brought");
    Ok(())
}

#[test]
fn a_file_takes_the_place_of_a_directory_only_when_nothing_excluded_is_in_it() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fs::write(local.path().join("d"), "a file now")?;
    fs::create_dir_all(agent.root().join("d/node_modules"))?;
    fs::write(agent.root().join("d/node_modules/x"), "")?;
    fs::write(agent.root().join("d/old"), "")?;
    let arguments = [path(local.path()), "--delete", "--delete-any"];
    let output = agent.cli("push").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(3) && said.contains("not replaced: d"), "{output:?}");
    ensure!(agent.root().join("d/node_modules/x").exists(), "what was left out was removed");
    agent.run_cli("push", &[arguments.as_slice(), &["--no-default-excludes"]].concat())?;
    assert_eq!(fs::read_to_string(agent.root().join("d"))?, "a file now");
    // A pull whose removals look like a mistake replaces nothing either.
    fs::create_dir_all(local.path().join("e"))?;
    for number in 0..12 {
        fs::write(local.path().join(format!("e/mine{number}")), "")?;
    }
    fs::remove_file(local.path().join("d"))?;
    fs::remove_file(agent.root().join("d"))?;
    fs::write(agent.root().join("e"), "a file")?;
    let refused = agent.cli("pull").args([path(local.path()), "--delete"]).output()?;
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    ensure!(local.path().join("e/mine0").exists(), "it was removed all the same");
    assert_eq!(fs::read_dir(local.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fs::write(local.path().join("new"), "12")?;
    fs::write(agent.root().join("gone"), "1")?;
    for (subcommand, expected) in
        [("push", "remove gone\ncreate new\n"), ("pull", "create gone\nremove new\n")]
    {
        let output = agent.run_cli(subcommand, &[path(local.path()), "--delete", "--dry-run"])?;
        assert_eq!(String::from_utf8(output.stdout)?, expected);
    }
    let plan = report(&agent, "push", &[path(local.path()), "--dry-run"])?;
    assert_eq!(
        plan,
        serde_json::json!({
            "changes": [{ "change": "create", "path": "new", "bytes": 2, "spared": 0 }]
        })
    );
    ensure!(agent.root().join("gone").exists() && !agent.root().join("new").exists(), "it did");
    Ok(())
}

#[test]
fn checksums_find_what_size_and_time_hide() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fs::write(local.path().join("f"), "one")?;
    agent.run_cli("push", &[path(local.path())])?;
    let times = fs::File::open(local.path().join("f"))?.metadata()?.modified()?;
    fs::write(agent.root().join("f"), "two")?;
    fs::File::options().write(true).open(agent.root().join("f"))?.set_modified(times)?;
    agent.run_cli("push", &[path(local.path())])?;
    assert_eq!(fs::read_to_string(agent.root().join("f"))?, "two");
    agent.run_cli("push", &[path(local.path()), "--checksum"])?;
    assert_eq!(fs::read_to_string(agent.root().join("f"))?, "one");
    // The other way round: the same content with another time is not sent again.
    fs::File::options()
        .write(true)
        .open(agent.root().join("f"))?
        .set_modified(times - std::time::Duration::from_secs(5))?;
    let pushed = report(&agent, "push", &[path(local.path()), "--checksum"])?;
    assert_eq!((counts(&pushed), &pushed["bytes"]), ([0, 1, 0, 0], &Value::from(0)));
    Ok(())
}

#[test]
fn trees_are_compressed_over_tcp_and_arrive_the_same() -> Result<()> {
    let (agent, local, back) =
        (Setup::new()?.on_tcp().start()?, tempfile::tempdir()?, tempfile::tempdir()?);
    wide_tree(local.path())?;
    fs::write(local.path().join("text"), "the same again\n".repeat(300_000))?;
    agent.run_cli("push", &[path(local.path())])?;
    agent.run_cli("pull", &[path(back.path())])?;
    ensure!(
        fs::read(back.path().join("text"))? == fs::read(local.path().join("text"))?,
        "it differs"
    );
    let raw = agent.client.get("/v1/sync/pull")?;
    let coded = agent.client.clone().with("accept-encoding", "zstd").get("/v1/sync/pull")?;
    assert_eq!(coded.header("content-encoding"), Some("zstd"));
    ensure!(coded.body.len() * 10 < raw.body.len(), "{} of {}", coded.body.len(), raw.body.len());
    let pushed = agent.client.clone().with("content-encoding", "zstd").send(
        "POST",
        "/v1/sync/push?path=copy",
        &coded.body,
    )?;
    assert_eq!((pushed.status(), &pushed.json()?["files"]), (200, &Value::from(MANY + 1)));
    Ok(())
}

#[test]
fn holes_times_and_names_that_are_no_text_survive() -> Result<()> {
    let (agent, local, back) = (Agent::start()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let sparse = fs::File::create(local.path().join("sparse"))?;
    sparse.set_len(64 << 20)?;
    std::os::unix::fs::FileExt::write_at(&sparse, b"in the middle", 32 << 20)?;
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(local.path().join(odd), "x")?;
    agent.run_cli("push", &[path(local.path())])?;
    agent.run_cli("pull", &[path(back.path())])?;
    for root in [agent.root(), back.path().to_owned()] {
        let (here, there) =
            (fs::metadata(local.path().join("sparse"))?, fs::metadata(root.join("sparse"))?);
        assert_eq!(
            (here.len(), here.mtime(), here.mtime_nsec()),
            (there.len(), there.mtime(), there.mtime_nsec())
        );
        ensure!(there.blocks() * 512 < 1 << 20, "{} blocks: the holes are gone", there.blocks());
        ensure!(
            fs::read(root.join("sparse"))? == fs::read(local.path().join("sparse"))?,
            "it differs"
        );
        assert_eq!(fs::read_to_string(root.join(odd))?, "x");
    }
    assert_eq!(counts(&report(&agent, "pull", &[path(back.path())])?), [0, 0, 0, 0]);
    Ok(())
}

#[test]
fn a_directory_that_cannot_be_read_costs_nobody_its_copy() -> Result<()> {
    let (agent, local) = (Setup::new()?.unprivileged()?.start()?, tempfile::tempdir()?);
    agent.shell("mkdir -p closed/in other; echo x > closed/in/file; echo x > other/f")?;
    agent.run_cli("pull", &[path(local.path())])?;
    agent.shell("chmod 000 closed; rm -r other")?;
    let output = agent.cli("pull").args([path(local.path()), "--delete"]).output()?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    ensure!(local.path().join("closed/in/file").exists(), "the copy was removed");
    ensure!(!local.path().join("other").exists(), "what is gone was kept");
    agent.shell("chmod 755 closed")?;
    Ok(())
}
