//! A workspace without room, and one that cannot be written.

use std::fs;

use anyhow::{Context, Result, ensure};
use workspace_tests::{
    agent::{Agent, Setup, text},
    mounts::{self, RootIs},
    require,
    tar::{Member, archive, zstd_bomb},
};

/// What the agent sees in its root; the test itself sees what is beneath the mount.
fn listing(agent: &Agent) -> Result<String> {
    let reply = agent.shell("find . -mindepth 1 | sort")?;
    Ok(text(&reply, "stdout")?.to_owned())
}

fn file(name: &str, size: usize) -> Member {
    Member::file(name, vec![b'x'; size])
}

/// A push that has to end with this refusal, and leave room for what fits.
fn ensure_refused(agent: &Agent, body: &[u8], refusal: (u16, &str)) -> Result<()> {
    let answer = agent.client.send("POST", "/v1/sync/push", body)?;
    let given = (answer.status(), answer.problem_code()?);
    ensure!(given == (refusal.0, refusal.1.to_owned()), "{given:?}: {}", answer.text());
    let after = agent.client.get("/health")?;
    ensure!(after.status() == 200, "{}", after.text());
    Ok(())
}

#[test]
fn a_full_disk_is_said_and_keeps_the_old_file() -> Result<()> {
    require!(Mounts);
    let agent = mounts::start(Setup::new()?, RootIs::Memory("size=4m"))?;
    agent.shell("echo old > big; echo old > kept")?;
    let body = archive(&[file("first", 100_000), file("big", 8 << 20), file("later", 1)]);
    ensure_refused(&agent, &body, (507, "no_space"))?;
    assert_eq!(listing(&agent)?, "./big\n./first\n./kept\n");
    assert_eq!(text(&agent.shell("cat big kept")?, "stdout")?, "old\nold\n");
    let put = agent.client.send("PUT", "/v1/files/big", &vec![b'x'; 8 << 20])?;
    assert_eq!((put.status(), put.problem_code()?.as_str()), (507, "no_space"));
    assert_eq!(text(&agent.shell("cat big")?, "stdout")?, "old\n");
    // The room that the failed ones took is there again.
    let fits = agent.client.send("POST", "/v1/sync/push", &archive(&[file("big", 3 << 20)]))?;
    assert_eq!(fits.status(), 200, "{}", fits.text());
    Ok(())
}

#[test]
fn a_few_bytes_that_unpack_to_gigabytes_fill_the_disk_for_a_moment_only() -> Result<()> {
    require!(Mounts);
    let agent = mounts::start(Setup::new()?, RootIs::Memory("size=16m"))?;
    let start = Member::new(b'0', "bomb").size(b"77777777777\0").bytes();
    let bomb = zstd_bomb(&start, 64 * 1024, 20);
    let client = agent.client.clone().with("content-encoding", "zstd");
    let answer = client.send("POST", "/v1/sync/push", &bomb)?;
    assert_eq!((answer.status(), answer.problem_code()?.as_str()), (507, "no_space"));
    assert_eq!(listing(&agent)?, "");
    let status = fs::read_to_string(format!("/proc/{}/status", agent.daemon.pid()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let peak: u64 = peak.trim_end_matches("kB").trim().parse()?;
    ensure!(peak < 32 << 10, "{peak} KiB of memory");
    Ok(())
}

#[test]
fn a_disk_without_inodes_is_said_and_what_arrived_is_whole() -> Result<()> {
    require!(Mounts);
    let agent = mounts::start(Setup::new()?, RootIs::Memory("size=4m,nr_inodes=20"))?;
    let members: Vec<Member> = (10..40).map(|number| file(&format!("f{number}"), 10)).collect();
    ensure_refused(&agent, &archive(&members), (507, "no_space"))?;
    let there = listing(&agent)?;
    ensure!(there.lines().count() >= 15 && there.starts_with("./f10\n./f11\n"), "{there}");
    ensure!(!there.contains(".workspace-tmp"), "{there}");
    let torn = agent.shell("find . -type f ! -size 10c")?;
    assert_eq!(text(&torn, "stdout")?, "");
    let directories: Vec<Member> =
        (10..40).map(|number| Member::new(b'5', format!("d{number}/"))).collect();
    ensure_refused(&agent, &archive(&directories), (507, "no_space"))?;
    let links: Vec<Member> = (10..40).map(|n| Member::link(format!("l{n}"), "f10")).collect();
    ensure_refused(&agent, &archive(&links), (507, "no_space"))
}

#[test]
fn the_command_line_says_that_the_disk_is_full() -> Result<()> {
    require!(Mounts);
    let agent = mounts::start(Setup::new()?, RootIs::Memory("size=4m"))?;
    let local = tempfile::tempdir()?;
    fs::write(local.path().join("big"), vec![b'x'; 8 << 20])?;
    let output = agent.cli("push").arg(local.path()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(125), "{}: {said}", output.status);
    ensure!(said.contains("no space is left") && said.contains("big"), "{said}");
    assert_eq!(listing(&agent)?, "");
    Ok(())
}

#[test]
fn a_root_that_cannot_be_written_is_said_and_can_be_read() -> Result<()> {
    require!(Mounts);
    let setup = Setup::new()?;
    fs::write(setup.directory().join("root/kept"), "kept")?;
    let agent = mounts::start(setup, RootIs::ReadOnly)?;
    for members in [
        vec![file("f", 1)],
        vec![file("kept", 1)],
        vec![Member::new(b'5', "d/")],
        vec![Member::link("l", "kept")],
        vec![file("d/f", 1)],
    ] {
        ensure_refused(&agent, &archive(&members), (403, "read_only"))?;
    }
    let put = agent.client.send("PUT", "/v1/files/kept", b"x")?;
    assert_eq!((put.status(), put.problem_code()?.as_str()), (403, "read_only"));
    let local = tempfile::tempdir()?;
    agent.run_cli("pull", &[local.path().to_str().context("a plain path")?])?;
    assert_eq!(fs::read_to_string(local.path().join("kept"))?, "kept");
    Ok(())
}
