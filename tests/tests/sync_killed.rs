//! Either end killed in the middle of a transfer: each file is the old one or the new one, and what
//! was not finished is cleared away.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use workspace_tests::{
    agent::Agent,
    binaries,
    http::Connection,
    relay::{Counted, Relay},
    tar::{BLOCK, Member, archive},
    tree::litter,
    wait::eventually,
};

const FILES: usize = 6;
/// More than the agent moves at once, and no multiple of anything.
const FILE_BYTES: usize = 300_007;
/// Moments of a transfer, as hundredths of its bytes.
const MOMENTS: [usize; 12] = [0, 1, 9, 17, 18, 34, 50, 51, 67, 84, 98, 100];

fn name(number: usize) -> String {
    format!("file{number}")
}

fn content(of: &str, number: usize) -> Vec<u8> {
    format!("{of} {number} ").into_bytes().into_iter().cycle().take(FILE_BYTES).collect()
}

fn fill(root: &Path, of: &str) -> Result<()> {
    for number in 0..FILES {
        fs::write(root.join(name(number)), content(of, number))?;
    }
    Ok(())
}

/// How many files are new; none may be anything but old or new.
fn count_new(root: &Path) -> Result<usize> {
    let mut new = 0;
    for number in 0..FILES {
        let there = fs::read(root.join(name(number)))?;
        let is_new = there == content("new", number);
        ensure!(is_new || there == content("old", number), "{} is torn", name(number));
        new += usize::from(is_new);
    }
    Ok(new)
}

/// Bytes of one member of the archive.
const MEMBER: usize = BLOCK + FILE_BYTES.next_multiple_of(BLOCK);

fn new_archive() -> Vec<u8> {
    let members = (0..FILES).map(|number| Member::file(name(number), content("new", number)));
    archive(&members.collect::<Vec<_>>())
}

fn no_litter(root: &Path) -> Result<()> {
    eventually("no unfinished write is left", || litter(root).ok()?.is_empty().then_some(()))
}

/// Waits until the agent has done all that so many bytes of an archive let it do.
fn wait_for_progress(root: &Path, sent: usize) -> Result<usize> {
    let whole = (sent / MEMBER).min(FILES);
    let begun = whole < FILES && sent % MEMBER >= BLOCK;
    eventually(&format!("{whole} files are new"), || {
        let there = count_new(root).expect("no torn file");
        assert!(there <= whole, "{there} files are new after {sent} bytes");
        let unfinished = litter(root).ok()?.len();
        (there == whole && unfinished == usize::from(begun)).then_some(whole)
    })
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_a_push_leaves_whole_files() -> Result<()> {
    let mut agent = Agent::start()?;
    let body = new_archive();
    for moment in MOMENTS {
        fill(&agent.root(), "old")?;
        let sent = (body.len() - 2 * BLOCK) * moment / 100;
        let head = agent.client.request("POST", "/v1/sync/push", &body);
        let mut connection = Connection::open(agent.client.endpoint())?;
        connection.send(&head[..head.len() - body.len() + sent])?;
        let new = wait_for_progress(&agent.root(), sent)?;
        agent.restart_killed()?;
        assert_eq!(count_new(&agent.root())?, new, "after {sent} bytes");
        no_litter(&agent.root())?;
    }
    let whole = agent.client.send("POST", "/v1/sync/push", &body)?;
    assert_eq!((whole.status(), count_new(&agent.root())?), (200, FILES));
    Ok(())
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_whatever_it_does_leaves_whole_files() -> Result<()> {
    let mut agent = Agent::start()?;
    let body = new_archive();
    for round in 0..12 {
        fill(&agent.root(), "old")?;
        let mut connection = Connection::open(agent.client.endpoint())?;
        let request = agent.client.request("POST", "/v1/sync/push", &body);
        let sent = request.len() * (round + 1) / 12;
        connection.send(&request[..sent])?;
        // Not waited for: wherever it is.
        agent.restart_killed()?;
        count_new(&agent.root())?;
        no_litter(&agent.root())?;
    }
    Ok(())
}

#[test]
fn a_client_that_goes_at_any_moment_of_a_push_leaves_whole_files() -> Result<()> {
    let agent = Agent::start()?;
    let body = new_archive();
    for moment in MOMENTS {
        fill(&agent.root(), "old")?;
        let sent = (body.len() - 2 * BLOCK) * moment / 100;
        let request = agent.client.request("POST", "/v1/sync/push", &body);
        let mut connection = Connection::open(agent.client.endpoint())?;
        connection.send(&request[..request.len() - body.len() + sent])?;
        let new = wait_for_progress(&agent.root(), sent)?;
        drop(connection);
        no_litter(&agent.root())?;
        assert_eq!(count_new(&agent.root())?, new, "after {sent} bytes");
    }
    Ok(())
}

/// A client subcommand behind a relay that holds still after so many bytes.
fn behind(relay: &Relay, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(binaries::agent());
    let (subcommand, rest) = arguments.split_first().context("no subcommand")?;
    command.args([*subcommand, "--connect", format!("unix:{}", relay.path().display()).as_str()]);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// How many bytes go through in each of the rounds that kill a client; the last is all but the end.
fn cuts() -> impl Iterator<Item = u64> {
    let all = FILES * MEMBER;
    [3, 20, 45, 70, 95].into_iter().map(move |percent| (all * percent / 100) as u64)
}

#[test]
fn a_client_that_is_killed_in_a_push_leaves_whole_files_and_the_next_push_does_the_rest()
-> Result<()> {
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fill(local.path(), "new")?;
    let source = local.path().to_str().context("a plain path")?;
    for bytes in cuts() {
        fill(&agent.root(), "old")?;
        let path = agent.directory().join(format!("relay{bytes}"));
        let relay = Relay::start(path, &agent.socket(), Counted::Requests, bytes)?;
        let mut client = behind(&relay, &["push", source])?;
        relay.wait_until_held()?;
        client.kill()?;
        client.wait()?;
        no_litter(&agent.root())?;
        ensure!(count_new(&agent.root())? < FILES, "nothing was cut");
    }
    agent.run_cli("push", &[source])?;
    assert_eq!(count_new(&agent.root())?, FILES);
    Ok(())
}

#[test]
fn a_client_that_is_killed_in_a_pull_leaves_whole_files_and_the_next_pull_clears_up() -> Result<()>
{
    let (agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fill(&agent.root(), "new")?;
    let target = local.path().join("copy");
    fs::create_dir(&target)?;
    let mut littered = 0;
    for bytes in cuts() {
        fill(&target, "old")?;
        let path = agent.directory().join(format!("relay{bytes}"));
        let relay = Relay::start(path, &agent.socket(), Counted::Answers, bytes)?;
        let mut client = behind(&relay, &["pull", target.to_str().context("a plain path")?])?;
        relay.wait_until_held()?;
        // One file is begun at each of these moments.
        eventually("a file is begun", || litter(&target).ok().filter(|found| !found.is_empty()))?;
        client.kill()?;
        client.wait()?;
        ensure!(count_new(&target)? < FILES, "nothing was cut");
        littered += litter(&target)?.len();
        agent.run_cli("pull", &[target.to_str().context("a plain path")?])?;
        assert_eq!(count_new(&target)?, FILES);
        ensure!(litter(&target)?.is_empty(), "{:?}", litter(&target)?);
    }
    ensure!(littered > 0, "no client was killed in the middle of a file");
    Ok(())
}

#[test]
fn an_agent_that_is_killed_in_a_pull_leaves_whole_files() -> Result<()> {
    let (mut agent, local) = (Agent::start()?, tempfile::tempdir()?);
    fill(&agent.root(), "new")?;
    let target = local.path().to_str().context("a plain path")?.to_owned();
    for bytes in cuts() {
        fill(local.path(), "old")?;
        let path = agent.directory().join(format!("relay{bytes}"));
        let relay = Relay::start(path, &agent.socket(), Counted::Answers, bytes)?;
        let mut client = behind(&relay, &["pull", &target])?;
        relay.wait_until_held()?;
        agent.restart_killed()?;
        ensure!(!client.wait()?.success(), "a pull that was cut counts as a success");
        ensure!(count_new(local.path())? < FILES, "nothing was cut");
        ensure!(litter(local.path())?.is_empty(), "an unfinished write is left");
    }
    agent.run_cli("pull", &[&target])?;
    assert_eq!(count_new(local.path())?, FILES);
    Ok(())
}
