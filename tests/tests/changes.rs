//! Asking what has changed, hearing of it as it happens, and saving it before the end.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_tests::{
    agent::{Agent, Setup, text},
    commands::Follower,
    wait::eventually,
};

/// The lines of an answer, the last one apart.
fn changes(agent: &Agent, query: &str) -> Result<(BTreeSet<(String, String)>, Value)> {
    let answer = agent.client.get(&format!("/v1/sync/changes?{query}"))?;
    ensure!(answer.status() == 200, "{}: {}", answer.status(), answer.text());
    let mut lines: Vec<Value> =
        answer.text().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let end = lines.pop().context("no lines")?;
    let told = lines
        .iter()
        .map(|line| Ok((text(line, "change")?.to_owned(), text(line, "path")?.to_owned())));
    Ok((told.collect::<Result<_>>()?, end))
}

/// A cursor after which nothing has changed: what is written within a tick of the clock of a snapshot
/// is told once more.
fn settled_cursor(agent: &Agent) -> Result<String> {
    let mut cursor = text(&changes(agent, "")?.1, "cursor")?.to_owned();
    eventually("the tree is at rest", || {
        let (told, end) = changes(agent, &format!("since={cursor}")).ok()?;
        cursor = text(&end, "cursor").ok()?.to_owned();
        told.is_empty().then_some(())
    })?;
    Ok(cursor)
}

#[test]
fn a_command_is_asked_after_what_it_has_changed_and_just_that_is_pulled() -> Result<()> {
    let agent = Agent::start()?;
    agent.shell("mkdir -p src .git; echo 1 > src/kept; echo 1 > src/changed; echo 1 > gone")?;
    let cursor = settled_cursor(&agent)?;
    agent.shell("echo 2 > src/changed; rm gone; echo 1 > new; echo 1 > .git/hidden")?;
    let (told, end) = changes(&agent, &format!("since={cursor}"))?;
    let expected = [("update", "src/changed"), ("remove", "gone"), ("create", "new")];
    let expected = expected.map(|(what, path)| (what.to_owned(), path.to_owned()));
    assert_eq!(told, BTreeSet::from(expected));
    assert_eq!((&end["entries"], &end["by"]), (&json!(3), &json!("scan")));

    let archive = agent.client.get(&format!("/v1/sync/pull?since={cursor}"))?;
    ensure!(archive.header("workspace-cursor").is_some(), "{:?}", archive.head);
    let content = String::from_utf8_lossy(&archive.body).into_owned();
    for (name, sent) in [
        ("src/changed", true),
        ("new", true),
        ("WORKSPACE.removed=gone", true),
        ("src/kept", false),
        ("hidden", false),
    ] {
        assert_eq!(content.contains(name), sent, "{name}");
    }
    Ok(())
}

#[test]
fn a_cursor_of_an_earlier_life_is_said_to_be_unknown() -> Result<()> {
    let (first, second) = (Agent::start()?, Agent::start()?);
    let cursor = settled_cursor(&first)?;
    for call in ["changes", "pull"] {
        let answer = second.client.get(&format!("/v1/sync/{call}?since={cursor}"))?;
        assert_eq!((answer.status(), answer.problem_code()?.as_str()), (410, "unknown_cursor"));
    }
    assert_eq!(
        second.client.get(&format!("/v1/sync/changes?since={cursor}&path=x"))?.status(),
        400
    );
    Ok(())
}

#[test]
fn changes_are_heard_of_as_they_happen_and_unfinished_writes_are_not() -> Result<()> {
    let agent = Agent::start()?;
    let request = agent.client.request("GET", "/v1/sync/watch", b"");
    let mut events = Follower::of(&agent.client, &request)?;
    let ready = events.next_event()?.context("no event")?;
    assert_eq!((&ready["event"], &ready["by"]), (&json!("ready"), &json!("inotify")));
    fs::create_dir(agent.root().join("dir"))?;
    fs::write(agent.root().join(".workspace-tmp-0123456789abcdef"), "half")?;
    fs::create_dir_all(agent.root().join("node_modules/x"))?;
    agent.client.send("PUT", "/v1/files/dir/deep/file", b"content")?;
    let mut seen = BTreeSet::new();
    while !seen.contains("dir/deep/file") {
        let event = events.next_event()?.context("no event")?;
        assert_eq!(event["event"], "changed", "{event}");
        seen.insert(text(&event, "path")?.to_owned());
    }
    assert_eq!(seen, ["dir", "dir/deep", "dir/deep/file"].map(str::to_owned).into());
    fs::remove_file(agent.root().join("dir/deep/file"))?;
    loop {
        let event = events.next_event()?.context("no event")?;
        if event["change"] == "remove" {
            assert_eq!(event["path"], "dir/deep/file");
            return Ok(());
        }
    }
}

#[test]
fn the_command_line_prints_what_changes_until_the_agent_ends() -> Result<()> {
    let mut agent = Agent::start()?;
    let output = agent.directory().join("watched");
    let mut watch = agent.cli("watch");
    watch.args(["--exclude", "*.tmp"]).stdout(fs::File::create(&output)?);
    let mut watch = watch.spawn()?;
    // What is there when the watch begins is no change: something new each time, until one is told.
    let mut number = 0;
    eventually("a change is printed", || {
        number += 1;
        fs::write(agent.root().join(format!("{number}.tmp")), "").ok()?;
        fs::write(agent.root().join(format!("{number}.txt")), "").ok()?;
        fs::read_to_string(&output).ok().filter(|text| text.contains("create "))
    })?;
    agent.daemon.signal(Signal::TERM)?;
    ensure!(watch.wait()?.success(), "the watch failed");
    let text = fs::read_to_string(&output)?;
    ensure!(text.lines().all(|line| line.ends_with(".txt")), "{text}");
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}

#[test]
fn a_watch_ends_with_the_agent() -> Result<()> {
    let mut agent = Agent::start()?;
    let request = agent.client.request("GET", "/v1/sync/watch", b"");
    let mut events = Follower::of(&agent.client, &request)?;
    events.next_event()?.context("no event")?;
    agent.daemon.signal(Signal::TERM)?;
    let rest = events.rest()?;
    assert_eq!(rest.last(), Some(&json!({ "event": "stopped" })));
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}

fn many_files(root: &Path, content: &str) -> Result<()> {
    for number in 0..2000 {
        let directory = root.join(format!("d{}", number % 20));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("f{number}")), format!("{content} {number}"))?;
    }
    Ok(())
}

#[test]
fn what_has_changed_is_saved_during_a_stop() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "50s"]).start()?;
    let saved = tempfile::tempdir()?;
    let local = saved.path().to_str().context("a plain path")?.to_owned();
    many_files(&agent.root(), "before")?;
    agent.run_cli("pull", &[&local])?;
    let mut events = Follower::of(&agent.client, &agent.client.request("GET", "/v1/events", b""))?;
    assert_eq!(events.next_event()?.context("no hello")?["event"], "hello");
    many_files(&agent.root(), "after the last pull")?;
    agent.daemon.signal(Signal::TERM)?;
    assert_eq!(events.next_event()?.context("no event")?["event"], "draining");
    // No command runs and no call is under way: it is the subscriber that the agent stays for.
    let pulled = agent.run_cli("pull", &[&local, "--json"])?;
    assert_eq!(serde_json::from_slice::<Value>(&pulled.stdout)?["files"], 2000);
    assert_eq!(fs::read_to_string(saved.path().join("d3/f3"))?, "after the last pull 3");
    ensure!(agent.daemon.is_running(), "the agent has ended with a subscriber left");
    drop(events);
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}

#[test]
fn a_stop_waits_for_changes_that_somebody_has_asked_after_to_be_pulled() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "50s"]).start()?;
    let cursor = settled_cursor(&agent)?;
    many_files(&agent.root(), "work")?;
    agent.daemon.signal(Signal::TERM)?;
    eventually("the agent drains", || {
        agent.client.get("/readyz").ok().filter(|answer| answer.status() == 503)
    })?;
    let archive = agent.client.get(&format!("/v1/sync/pull?since={cursor}"))?;
    assert_eq!(archive.status(), 200);
    let text = String::from_utf8_lossy(&archive.body).into_owned();
    assert_eq!(text.matches("work ").count(), 2000);
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}

#[test]
fn a_subscriber_that_stays_is_told_of_the_end() -> Result<()> {
    let mut agent = Setup::new()?.args(&["--drain-timeout", "2s"]).start()?;
    let mut events = Follower::of(&agent.client, &agent.client.request("GET", "/v1/events", b""))?;
    events.next_event()?.context("no hello")?;
    agent.daemon.signal(Signal::TERM)?;
    let rest = events.rest()?;
    assert_eq!(rest.first().context("no event")?["event"], "draining");
    assert_eq!(rest.last(), Some(&json!({ "event": "stopped" })));
    ensure!(agent.daemon.wait()?.success(), "{}", agent.daemon.output());
    Ok(())
}
