//! Archives that are made to break out, pushed as they are.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use workspace_tests::{
    agent::Agent,
    binaries, gvisor,
    hostile_archives::{Attack, attacks},
    http::Response,
    require,
    tar::{DIRECTORY, FILE, Member, archive, zstd_bomb},
    tree::{Node, litter, picture},
    wait::eventually,
};

/// What is beside the root, and must stay as it is.
fn surroundings(agent: &Agent) -> Result<()> {
    fs::create_dir(agent.directory().join("outside"))?;
    fs::write(agent.directory().join("target"), "untouched")?;
    fs::write(agent.root().join("kept"), "kept")?;
    symlink("../outside", agent.root().join("there"))?;
    Ok(())
}

fn ensure_untouched(agent: &Agent) -> Result<()> {
    ensure!(picture(&agent.directory().join("outside"))?.is_empty(), "'outside' was written to");
    ensure!(fs::read_to_string(agent.directory().join("target"))? == "untouched", "the target");
    for escaped in [agent.directory().join("escaped"), "/tmp/escaped".into()] {
        ensure!(fs::symlink_metadata(&escaped).is_err(), "{} was made", escaped.display());
    }
    Ok(())
}

fn push(agent: &Agent, coding: Option<&str>, query: &str, body: &[u8]) -> Result<Response> {
    let client = agent.client.clone();
    let client = match coding {
        Some(coding) => client.with("content-encoding", coding),
        None => client,
    };
    client.send("POST", &format!("/v1/sync/push{query}"), body)
}

fn ensure_refused(agent: &Agent, attack: &Attack) -> Result<()> {
    let answer = push(agent, attack.coding, "", &attack.body)?;
    let given = (answer.status(), answer.problem_code()?);
    let (status, code) = attack.refusal;
    ensure!(given == (status, code.to_owned()), "{given:?}: {}", answer.text());
    ensure!(answer.json()?["detail"].as_str().is_some_and(|detail| detail.len() > 10), "no detail");
    ensure_untouched(agent)?;
    ensure!(litter(&agent.root())?.is_empty(), "an unfinished write is left");
    ensure!(fs::read_to_string(agent.root().join("kept"))? == "kept", "a file that was there");
    let harmless = push(agent, None, "?path=after", &archive(&[Member::file("f", "x")]))?;
    ensure!(harmless.status() == 200, "afterwards: {}", harmless.text());
    Ok(())
}

#[test]
fn a_hostile_archive_gets_its_refusal_and_changes_nothing_outside() -> Result<()> {
    let outside = "/tmp/escaped";
    for attack in attacks(outside) {
        let agent = Agent::start()?;
        surroundings(&agent)?;
        ensure_refused(&agent, &attack).with_context(|| attack.what)?;
    }
    Ok(())
}

#[test]
fn odd_names_are_taken_as_they_are() -> Result<()> {
    let agent = Agent::start()?;
    let (newline, long) = ("two\nlines", "n".repeat(200));
    let answer = push(
        &agent,
        None,
        "",
        &archive(&[
            Member::extended(&[("path", newline.as_bytes())]),
            Member::file("a", "x"),
            Member::gnu_long_name(&long),
            Member::file("b", "x"),
            Member::extended(&[("path", b"caf\xe9"), ("linkpath", b"over/there\n")]),
            Member::link("c", "overridden"),
            Member::file("setuid", "x").field(100, b"0006755\0"),
        ]),
    )?;
    ensure!(answer.status() == 200, "{}", answer.text());
    let seen = picture(&agent.root())?;
    let names: Vec<&[u8]> = seen.keys().map(|path| path.as_os_str().as_bytes()).collect();
    assert_eq!(names, [b"caf\xe9", long.as_bytes(), b"setuid", newline.as_bytes()]);
    let mut found = seen.values().map(|seen| seen.node.clone());
    assert_eq!(found.next(), Some(Node::Link(b"over/there\n".to_vec())));
    assert_eq!(seen[Path::new("setuid")].mode, 0o755);
    Ok(())
}

/// The most memory that the agent ever had, in KiB.
fn peak_kib(agent: &Agent) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.daemon.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

#[test]
fn a_few_bytes_that_unpack_to_gigabytes_of_holes_take_neither_memory_nor_disk() -> Result<()> {
    const BLOCKS: usize = 16 * 1024;
    let size = (BLOCKS * 128 * 1024).to_string();
    let agent = Agent::start()?;
    let members = [
        Member::extended(&[("WORKSPACE.sparse", b"1"), ("size", size.as_bytes())]),
        Member::new(FILE, "holes"),
    ];
    let start: Vec<u8> = members.iter().flat_map(Member::bytes).collect();
    let body = zstd_bomb(&start, BLOCKS, 20);
    ensure!(body.len() < 100_000, "{} bytes are no bomb", body.len());
    let answer = push(&agent, Some("zstd"), "", &body)?;
    ensure!(answer.status() == 200, "{}", answer.text());
    let made = fs::metadata(agent.root().join("holes"))?;
    assert_eq!(made.len().to_string(), size);
    let allocated = std::os::unix::fs::MetadataExt::blocks(&made) * 512;
    ensure!(allocated < 1 << 20, "{allocated} bytes are allocated");
    if !gvisor::is_place() {
        ensure!(peak_kib(&agent)? < 32 << 10, "{} KiB of memory", peak_kib(&agent)?);
    }
    Ok(())
}

/// Exchanges two names, over and over, until it is dropped.
struct Exchange {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Exchange {
    fn start(root: &Path) -> Self {
        let (one, other) = (root.join("dir"), root.join("swapped"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut times = 0;
            while !stopped.load(Ordering::Relaxed) {
                let done = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                times += u64::from(done.is_ok());
            }
            times
        });
        Self { stop, thread: Some(thread) }
    }

    fn times(&mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("ended twice")?;
        thread.join().map_err(|_panic| anyhow::anyhow!("it panicked"))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Files, a directory and a link, all in a directory whose name may lead elsewhere, and something
/// beside it, so that it is opened more than once.
fn into_the_swapped() -> Vec<u8> {
    archive(&[
        Member::file("dir/first", "hostile"),
        Member::file("other", "x"),
        Member::new(DIRECTORY, "dir/d/"),
        Member::file("dir/d/f", "hostile"),
        Member::link("dir/l", "hostile"),
    ])
}

/// Pushes until some went well and some did not, which takes both states of the name.
fn push_while_it_changes(agent: &Agent) -> Result<()> {
    const CODES: [&str; 5] =
        ["is_a_link", "not_a_directory", "not_found", "directory_not_empty", "is_a_directory"];
    let body = into_the_swapped();
    let (mut taken, mut refused) = (0, 0);
    eventually("pushes were taken and refused", || {
        for query in ["", "?mirror=true", "?delete=true", "?skip_same=true"] {
            let answer = push(agent, None, query, &body).expect("an answer");
            if answer.status() == 200 {
                taken += 1;
            } else {
                let code = answer.problem_code().expect("a code");
                let known = CODES.contains(&code.as_str()) || is_place_gone(&answer.text());
                assert!(known, "{}", answer.text());
                refused += 1;
            }
        }
        ensure_untouched(agent).expect("nothing outside");
        (taken >= 8 && refused >= 8).then_some(())
    })
}

/// gVisor says EINVAL of a new name in a directory that was removed meanwhile, where Linux says ENOENT.
fn is_place_gone(problem: &str) -> bool {
    gvisor::is_place() && problem.contains("Invalid argument (os error 22)")
}

#[test]
fn a_directory_that_becomes_a_link_during_a_push_leads_nobody_out() -> Result<()> {
    let agent = Agent::start()?;
    surroundings(&agent)?;
    fs::create_dir(agent.root().join("dir"))?;
    symlink("../outside", agent.root().join("swapped"))?;
    let mut exchange = Exchange::start(&agent.root());
    let pushed = push_while_it_changes(&agent);
    ensure!(exchange.times()? > 100, "it did not change");
    pushed?;
    ensure_untouched(&agent)
}

#[test]
fn a_command_that_puts_a_link_in_the_way_leads_nobody_out() -> Result<()> {
    let agent = Agent::start()?;
    surroundings(&agent)?;
    let line = "while :; do mkdir -p dir; rm -rf dir; ln -s ../outside dir; rm -f dir; done";
    let body = json!({ "id": "swaps", "shell": line });
    let started = agent.client.send_json("POST", "/v1/processes", &body)?;
    ensure!(started.status() == 201, "{}", started.text());
    push_while_it_changes(&agent)?;
    let ended = agent.client.send("DELETE", "/v1/processes/swaps", b"")?;
    ensure!(ended.status() == 200, "{}", ended.text());
    ensure_untouched(&agent)
}

/// Somebody in the agent's place, who answers one request of a client, whatever it is.
fn impostor(socket: &Path, answer: Vec<u8>) -> Result<JoinHandle<std::io::Result<()>>> {
    let listener = UnixListener::bind(socket)?;
    Ok(thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        // The body is chunked.
        while !request.ends_with(b"\r\n0\r\n\r\n") {
            match client.read(&mut buffer)? {
                0 => break,
                length => request.extend_from_slice(&buffer[..length]),
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        client.write_all(head.as_bytes())?;
        client.write_all(&answer)
    }))
}

fn client_of(socket: &Path, arguments: &[&str]) -> Result<Output> {
    let (subcommand, rest) = arguments.split_first().context("no subcommand")?;
    let mut command = Command::new(binaries::agent());
    command.arg(subcommand).arg("--connect").arg(format!("unix:{}", socket.display())).args(rest);
    Ok(command.stdin(Stdio::null()).output()?)
}

#[test]
fn a_pull_takes_nothing_that_is_excluded_whatever_the_workspace_sends() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let local = directory.path().join("local");
    fs::create_dir_all(local.join(".git/hooks"))?;
    fs::write(local.join(".git/config"), "mine")?;
    let attacks: [&[Member]; 4] = [
        &[Member::file(".git/hooks/post-checkout", "hostile")],
        &[Member::new(DIRECTORY, ".git/"), Member::file(".git/config", "hostile")],
        &[Member::link(".git", "elsewhere")],
        &[Member::global(&[("WORKSPACE.removed", b".git/config")])],
    ];
    for (number, attack) in attacks.into_iter().enumerate() {
        let socket = directory.path().join(format!("{number}.sock"));
        let answered = impostor(&socket, archive(attack))?;
        let target = local.to_str().context("a plain path")?;
        let pulled = client_of(&socket, &["pull", target, "--delete", "--delete-any"])?;
        let said = String::from_utf8_lossy(&pulled.stderr);
        ensure!(pulled.status.code() == Some(125) && said.contains("excluded"), "{said}");
        answered.join().map_err(|_panic| anyhow::anyhow!("the impostor panicked"))??;
        let there: Vec<_> = picture(&local)?.into_keys().collect();
        assert_eq!(there, [".git", ".git/config", ".git/hooks"].map(PathBuf::from));
        assert_eq!(fs::read_to_string(local.join(".git/config"))?, "mine");
    }
    Ok(())
}

#[test]
fn a_push_sends_nothing_that_is_excluded_whatever_the_workspace_asks_for() -> Result<()> {
    let local = tempfile::tempdir()?;
    fs::write(local.path().join("secret.env"), "secret")?;
    let plan = "{\"change\":\"create\",\"path\":\"secret.env\",\"kind\":\"file\",\"mtime\":[0,0]}\n\
        {\"entries\":1,\"target_entries\":0}\n";
    let sockets = tempfile::tempdir()?;
    let socket = sockets.path().join("agent.sock");
    let answered = impostor(&socket, plan.into())?;
    let source = local.path().to_str().context("a plain path")?;
    let pushed = client_of(&socket, &["push", source, "--exclude", "*.env", "--checksum"])?;
    let said = String::from_utf8_lossy(&pushed.stderr);
    ensure!(pushed.status.code() == Some(125), "{}: {said}", pushed.status);
    ensure!(said.contains("asks for 'secret.env'"), "{said}");
    answered.join().map_err(|_panic| anyhow::anyhow!("the impostor panicked"))??;
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun(
        "all_of_it_holds_under_gvisor",
        &[(
            "a_directory_that_becomes_a_link_during_a_push_leads_nobody_out",
            "the names change outside of the sandbox",
        )],
    )
}
