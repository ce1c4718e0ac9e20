//! Large files that changed a little: only what changed travels, whatever happens meanwhile.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup},
    ambush::Ambush,
};

const MIB: u64 = 1 << 20;

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain")
}

/// Content without repetitions.
fn noise(mebibytes: u64, seed: u64) -> Vec<u8> {
    let words = (0..mebibytes * MIB / 8).map(|index| {
        let mixed = (index ^ (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_ne_bytes()
    });
    words.flatten().collect()
}

/// Overwrites a byte in the middle of a file.
fn change_a_byte(file: &Path) -> Result<()> {
    let middle = fs::metadata(file)?.len() / 2;
    let mut open = fs::File::options().write(true).open(file)?;
    open.seek(SeekFrom::Start(middle))?;
    Ok(open.write_all(b"!")?)
}

/// Puts a byte before everything else.
fn insert_in_front(file: &Path) -> Result<()> {
    let content = fs::read(file)?;
    Ok(fs::write(file, [b"!", content.as_slice()].concat())?)
}

fn report(agent: &Agent, subcommand: &str, arguments: &[&str]) -> Result<Value> {
    let arguments = [arguments, &["--json"]].concat();
    Ok(serde_json::from_slice(&agent.run_cli(subcommand, &arguments)?.stdout)?)
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or(u64::MAX)
}

fn same(left: &Path, right: &Path) -> Result<()> {
    let same = fs::read(left)? == fs::read(right)?;
    ensure!(same, "{} and {} differ", left.display(), right.display());
    let times = (fs::metadata(left)?.modified()?, fs::metadata(right)?.modified()?);
    ensure!(times.0 == times.1, "their times differ: {times:?}");
    Ok(())
}

/// Both directions, with each edit: what arrives is right, and little of it travelled.
fn edits_travel_alone(agent: &Agent, more: &[&str]) -> Result<()> {
    let local = tempfile::tempdir()?;
    let (here, there) = (local.path().join("big"), agent.root().join("w/big"));
    fs::write(&here, noise(24, 1))?;
    agent.run_cli("push", &[path(local.path()), "w"])?;
    for edit in [change_a_byte, insert_in_front] {
        edit(&here)?;
        let pushed = report(agent, "push", &[&[path(local.path()), "w"], more].concat())?;
        same(&here, &there)?;
        edit(&there)?;
        let pulled = report(agent, "pull", &[&["w", path(local.path())], more].concat())?;
        same(&here, &there)?;
        for moved in [pushed, pulled] {
            let size = number(&moved, "bytes") + number(&moved, "spared");
            ensure!(size >= 24 * MIB && number(&moved, "bytes") < 3 * MIB, "{moved}");
            assert_eq!(moved["files"], 1);
        }
    }
    Ok(())
}

#[test]
fn a_changed_or_inserted_byte_travels_with_its_surroundings_alone() -> Result<()> {
    edits_travel_alone(&Agent::start()?, &["--no-whole-file"])
}

#[test]
fn the_same_over_tcp_where_trees_are_compressed() -> Result<()> {
    edits_travel_alone(&Setup::new()?.on_tcp().start()?, &[])
}

#[test]
fn a_whole_file_is_sent_when_told() -> Result<()> {
    let (agent, local) = (Setup::new()?.on_tcp().start()?, tempfile::tempdir()?);
    let here = local.path().join("big");
    fs::write(&here, noise(5, 2))?;
    agent.run_cli("push", &[path(local.path())])?;
    change_a_byte(&here)?;
    let pushed = report(&agent, "push", &[path(local.path()), "--whole-file"])?;
    assert_eq!((number(&pushed, "bytes"), number(&pushed, "spared")), (5 * MIB, 0));
    change_a_byte(&agent.root().join("big"))?;
    let pulled = report(&agent, "pull", &[path(local.path()), "--whole-file"])?;
    assert_eq!((number(&pulled, "bytes"), number(&pulled, "spared")), (5 * MIB, 0));
    same(&here, &agent.root().join("big"))
}

#[test]
fn a_dry_run_says_what_would_be_spared() -> Result<()> {
    let (agent, local) = (Setup::new()?.on_tcp().start()?, tempfile::tempdir()?);
    let here = local.path().join("big");
    fs::write(&here, noise(8, 3))?;
    agent.run_cli("push", &[path(local.path())])?;
    let before = fs::read(&here)?;
    change_a_byte(&here)?;
    for subcommand in ["push", "pull"] {
        let plan = report(&agent, subcommand, &[path(local.path()), "--dry-run"])?;
        let change = &plan["changes"][0];
        let spared = number(change, "spared");
        assert_eq!((&change["change"], number(change, "bytes")), (&json!("update"), 8 * MIB));
        ensure!(spared > 6 * MIB && spared < 8 * MIB, "{plan}");
    }
    ensure!(fs::read(agent.root().join("big"))? == before, "it was no dry run");
    Ok(())
}

#[test]
fn one_with_a_base_says_it_too() -> Result<()> {
    let (agent, dir) = (Setup::new()?.on_tcp().start()?, tempfile::tempdir()?);
    let (local, base) = (dir.path().join("tree"), dir.path().join("base"));
    fs::create_dir(&local)?;
    fs::write(local.join("big"), noise(8, 3))?;
    let arguments = [path(&local), "--base", path(&base)];
    agent.run_cli("push", &arguments)?;
    for (subcommand, changed) in [("push", local.join("big")), ("pull", agent.root().join("big"))] {
        insert_in_front(&changed)?;
        let plan = report(&agent, subcommand, &[&arguments[..], &["--dry-run"]].concat())?;
        let spared = number(&plan["changes"][0], "spared");
        ensure!(spared > 6 * MIB && spared <= 8 * MIB, "{subcommand}: {plan}");
        let done = report(&agent, subcommand, &arguments)?;
        ensure!(number(&done, "spared") == spared, "{plan} and then {done}");
    }
    Ok(())
}

/// Runs a subcommand for which `changed` is another file by the time that it makes `request`, after it
/// has been compared.
fn with_a_change_at(
    request: &'static str,
    agent: &Agent,
    (subcommand, arguments): (&str, &[&str]),
    changed: PathBuf,
) -> Result<Value> {
    let socket = agent.directory().join(format!("ambush-{subcommand}"));
    let change = move || fs::write(changed, noise(5, 9)).expect("it is there");
    let ambush = Ambush::lay(socket, &agent.socket(), request, change)?;
    let more = ["--no-whole-file", "--json"];
    let output = ambush.cli(subcommand).args(arguments).args(more).output()?;
    ensure!(output.status.success() && ambush.is_sprung(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn a_file_that_changes_once_it_has_been_compared_is_sent_whole() -> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    let (here, there) = (local.path().join("big"), agent.root().join("w/big"));
    fs::write(&here, noise(8, 1))?;
    agent.run_cli("push", &[path(local.path()), "w"])?;
    change_a_byte(&here)?;
    let push: (_, &[_]) = ("push", &[path(local.path()), "w"]);
    let pushed = with_a_change_at("POST /v1/sync/push", &agent, push, there.clone())?;
    same(&here, &there)?;
    change_a_byte(&there)?;
    insert_in_front(&there)?;
    let pull: (_, &[_]) = ("pull", &["w", path(local.path())]);
    let pulled = with_a_change_at("POST /v1/sync/delta", &agent, pull, here.clone())?;
    same(&here, &there)?;
    for moved in [pushed, pulled] {
        assert_eq!((&moved["files"], number(&moved, "spared")), (&json!(1), 0), "{moved}");
        ensure!(number(&moved, "bytes") >= 8 * MIB, "{moved}");
    }
    Ok(())
}

#[test]
fn what_has_little_in_common_is_sent_whole() -> Result<()> {
    let (agent, local) = (Setup::new()?.on_tcp().start()?, tempfile::tempdir()?);
    let here = local.path().join("big");
    fs::write(&here, noise(6, 4))?;
    agent.run_cli("push", &[path(local.path())])?;
    fs::write(&here, noise(6, 5))?;
    let pushed = report(&agent, "push", &[path(local.path())])?;
    assert_eq!((number(&pushed, "bytes"), number(&pushed, "spared")), (6 * MIB, 0));
    fs::write(agent.root().join("big"), noise(7, 6))?;
    let pulled = report(&agent, "pull", &[path(local.path())])?;
    assert_eq!((number(&pulled, "bytes"), number(&pulled, "spared")), (7 * MIB, 0));
    same(&here, &agent.root().join("big"))
}

#[test]
fn a_small_file_here_and_a_large_one_there_are_no_obstacle() -> Result<()> {
    let (agent, local) = (Setup::new()?.on_tcp().start()?, tempfile::tempdir()?);
    let (here, there) = (local.path().join("f"), agent.root().join("f"));
    fs::write(&here, "small")?;
    fs::write(&there, noise(5, 7))?;
    agent.run_cli("pull", &[path(local.path())])?;
    same(&here, &there)?;
    fs::write(&there, "small")?;
    agent.run_cli("push", &[path(local.path())])?;
    same(&here, &there)
}

#[test]
fn a_client_that_asks_for_no_notes_gets_the_content() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("big"), noise(5, 8))?;
    let manifest =
        b"{\"path\":\"big\",\"kind\":\"file\",\"size\":1,\"mtime\":[1,0]}\n{\"entries\":1}\n";
    let whole = agent.client.send("POST", "/v1/sync/pull", manifest)?;
    ensure!(whole.body.len() as u64 > 5 * MIB, "{} bytes", whole.body.len());
    let noted = agent.client.clone().with("workspace-delta", "notes");
    let noted = noted.send("POST", "/v1/sync/pull", manifest)?;
    ensure!(noted.body.len() < 10_000, "{} bytes", noted.body.len());
    Ok(())
}

#[test]
fn chunks_of_what_is_no_file_are_refused_by_name() -> Result<()> {
    let agent = Agent::start()?;
    fs::create_dir(agent.root().join("d"))?;
    std::os::unix::fs::symlink("/etc/passwd", agent.root().join("link"))?;
    for (file, status, code) in [
        ("none", 404, "not_found"),
        ("d", 409, "is_a_directory"),
        ("link", 409, "too_many_links"),
        ("../x", 400, "bad_path"),
    ] {
        for method in ["GET", "POST"] {
            let call = if method == "GET" { "chunks" } else { "delta" };
            let target = format!("/v1/sync/{call}?file={file}");
            let answer = agent.client.send(method, &target, b"{\"chunks\":0}\n")?;
            assert_eq!((answer.status(), answer.problem_code()?), (status, code.to_owned()));
        }
    }
    fs::write(agent.root().join("f"), "x")?;
    let answer = agent.client.send("POST", "/v1/sync/delta?file=f", b"{\"chunks\":1}\n")?;
    assert_eq!((answer.status(), answer.problem_code()?), (400, "bad_chunks".to_owned()));
    Ok(())
}
