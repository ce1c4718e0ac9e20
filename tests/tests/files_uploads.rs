//! Uploads in several requests: what survives a killed client, a broken connection, a killed agent.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use workspace_tests::{
    agent::{Agent, Setup, text},
    gvisor,
    http::{Client, Connection, Response},
    require,
    wait::eventually,
};

const KIND: &str = "Content-Type: application/partial-upload";

fn some_bytes(length: u32) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Begins an upload and gives its path.
fn begin(agent: &Agent, target: &str) -> Result<String> {
    begin_with(&agent.client, target)
}

fn begin_with(client: &Client, target: &str) -> Result<String> {
    let begun = client.clone().with("upload-complete", "?0").send("PUT", target, b"")?;
    ensure!(begun.status() == 201, "{}: {}", begun.status(), begun.text());
    Ok(begun.header("location").context("no Location")?.to_owned())
}

fn part(agent: &Agent, upload: &str, offset: u64, last: bool, body: &[u8]) -> Result<Response> {
    let client = agent.client.clone();
    let client = client.with("content-type", "application/partial-upload");
    let client = client.with("upload-offset", &offset.to_string());
    client.with("upload-complete", if last { "?1" } else { "?0" }).send("PATCH", upload, body)
}

fn offset(agent: &Agent, upload: &str) -> Result<u64> {
    let head = agent.client.send("HEAD", upload, b"")?;
    Ok(head.header("upload-offset").with_context(|| format!("{}", head.status()))?.parse()?)
}

fn is_busy(agent: &Agent, upload: &str) -> Result<bool> {
    let uploads = agent.client.get("/v1/uploads")?.json()?;
    let uploads = uploads["uploads"].as_array().context("no list")?.clone();
    let name = upload.rsplit('/').next();
    Ok(uploads.iter().any(|one| one["upload"].as_str() == name && one["busy"] == true))
}

fn curl_part(agent: &Agent, upload: &str, offset: u64, more: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "-X", "PATCH", "--unix-socket"]).arg(agent.socket());
    command.args(["-H", KIND, "-H", "Upload-Complete: ?1", "-H"]);
    command.arg(format!("Upload-Offset: {offset}")).args(more);
    command.arg(format!("http://localhost{upload}"));
    command
}

#[test]
fn after_a_killed_curl_the_rest_is_enough() -> Result<()> {
    require!(Curl);
    let agent = Agent::start()?;
    let (content, local) = (some_bytes(8_000_000), agent.directory().join("local"));
    fs::write(&local, &content)?;
    fs::write(agent.root().join("file"), "old")?;
    let upload = begin(&agent, "/v1/files/file")?;
    let source = local.to_str().context("a plain path")?;
    // It would take a minute and more to come to the end.
    let slow = ["--limit-rate", "100k", "-T", source];
    let mut curl = curl_part(&agent, &upload, 0, &slow).stdout(Stdio::null()).spawn()?;
    eventually("some of it has arrived", || {
        offset(&agent, &upload).ok().filter(|offset| *offset > 100_000)
    })?;
    curl.kill()?;
    curl.wait()?;
    eventually("nobody sends", || (!is_busy(&agent, &upload).ok()?).then_some(()))?;
    let reached = offset(&agent, &upload)?;
    ensure!(reached < 8_000_000, "the client was not killed in the middle");
    assert_eq!(fs::read_to_string(agent.root().join("file"))?, "old");
    let rest = agent.directory().join("rest");
    fs::write(&rest, &content[usize::try_from(reached)?..])?;
    let source = rest.to_str().context("a plain path")?;
    let output = curl_part(&agent, &upload, reached, &["-T", source]).output()?;
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(reply["size"], 8_000_000);
    ensure!(fs::read(agent.root().join("file"))? == content, "it is not what was sent");
    Ok(())
}

#[test]
fn an_upload_outlives_an_agent_that_is_killed_while_it_writes() -> Result<()> {
    let mut agent = Agent::start()?;
    let content = some_bytes(3_000_000);
    let upload = begin(&agent, "/v1/files/a/file?mode=0600")?;
    let mut sending = Connection::open(agent.client.endpoint())?;
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: a\r\n{KIND}\r\nUpload-Offset: 0\r\nContent-Length: 3000000\r\n\r\n"
    );
    sending.send(head.as_bytes())?;
    sending.send(&content[..1_000_000])?;
    eventually("all that was sent has arrived", || {
        offset(&agent, &upload).ok().filter(|offset| *offset == 1_000_000)
    })?;
    agent.crash_and_start_again()?;
    assert_eq!(offset(&agent, &upload)?, 1_000_000);
    let wrong = part(&agent, &upload, 3, true, &content[3..])?;
    assert_eq!((wrong.status(), wrong.problem_code()?), (409, "upload_offset_mismatch".to_owned()));
    assert_eq!(wrong.header("upload-offset"), Some("1000000"));
    let written = part(&agent, &upload, 1_000_000, true, &content[1_000_000..])?;
    assert_eq!(written.status(), 201, "{}", written.text());
    let sum = agent.shell("sha256sum <a/file")?;
    let expected = format!("{}  -\n", text(&written.json()?, "sha256")?);
    assert_eq!(text(&sum, "stdout")?, expected);
    assert_eq!(fs::metadata(agent.root().join("a/file"))?.permissions().mode() & 0o777, 0o600);
    ensure!(fs::read(agent.root().join("a/file"))? == content, "it is not what was sent");
    Ok(())
}

#[test]
fn nothing_shows_an_unfinished_upload_and_no_call_reaches_into_it() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("seen"), "x")?;
    let cursor = text(&agent.client.get("/v1/sync/changes")?.json()?, "cursor")?.to_owned();
    let upload = begin(&agent, "/v1/files/hidden")?;
    part(&agent, &upload, 0, false, b"half")?;
    for target in ["/v1/files", "/v1/files/?depth=9", "/v1/sync/manifest", "/v1/sync/pull"] {
        let shown = agent.client.get(target)?.text();
        ensure!(shown.contains("seen"), "{target} shows nothing at all: {shown}");
        ensure!(
            !shown.contains("workspace-uploads") && !shown.contains("half"),
            "{target}: {shown}"
        );
    }
    let changes = agent.client.get(&format!("/v1/sync/changes?since={cursor}"))?.text();
    // What is younger than a tick before the cursor may be told twice.
    ensure!(!changes.contains("workspace-uploads") && !changes.contains("hidden"), "{changes}");
    let id = upload.rsplit('/').next().context("no id")?;
    for (method, target) in [
        ("PUT", format!("/v1/files/.workspace-uploads/{id}")),
        ("DELETE", format!("/v1/files/.workspace-uploads/{id}")),
        ("DELETE", "/v1/files/.workspace-uploads?recursive=true".to_owned()),
    ] {
        assert_eq!(
            agent.client.send(method, &target, b"x")?.problem_code()?,
            "bad_path",
            "{target}"
        );
    }
    // A mirror of something else removes what is there, but not this.
    let empty = tempfile::tempdir()?;
    let local = empty.path().to_str().context("a plain path")?;
    agent.run_cli("push", &[local, "--delete", "--delete-any"])?;
    ensure!(!agent.root().join("seen").exists(), "the mirror removed nothing");
    assert_eq!(part(&agent, &upload, 4, true, b" and half")?.status(), 201);
    assert_eq!(fs::read_to_string(agent.root().join("hidden"))?, "half and half");
    let left: Vec<_> =
        fs::read_dir(agent.root())?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["hidden"]);
    Ok(())
}

#[test]
fn what_is_left_alone_is_removed_and_limits_hold() -> Result<()> {
    let limits = ["--upload-keep", "1s", "--max-uploads", "1", "--upload-space", "1KiB"];
    let agent = Setup::new()?.args(&limits).start()?;
    let upload = begin(&agent, "/v1/files/f")?;
    let second = begin(&agent, "/v1/files/g").unwrap_err().to_string();
    ensure!(second.contains("too_many_uploads"), "{second}");
    let large = part(&agent, &upload, 0, true, &[0; 2000])?;
    assert_eq!((large.status(), large.problem_code()?), (507, "upload_space_used".to_owned()));
    eventually("it is forgotten", || offset(&agent, &upload).err())?;
    eventually("nothing is left", || {
        (fs::read_dir(agent.root()).ok()?.count() == 0).then_some(())
    })?;
    begin(&agent, "/v1/files/g")?;
    Ok(())
}

#[test]
fn conditions_are_those_of_the_beginning_and_hold_at_the_end() -> Result<()> {
    let agent = Agent::start()?;
    let create = agent.client.clone().with("if-none-match", "*");
    let (first, second) =
        (begin_with(&create, "/v1/files/f")?, begin_with(&create, "/v1/files/f")?);
    assert_eq!(part(&agent, &first, 0, true, b"first")?.status(), 201);
    let late = part(&agent, &second, 0, true, b"second")?;
    assert_eq!((late.status(), late.problem_code()?), (412, "precondition_failed".to_owned()));
    assert_eq!(fs::read_to_string(agent.root().join("f"))?, "first");
    assert_eq!(agent.client.send("DELETE", &second, b"")?.status(), 204);
    Ok(())
}

/// Stands between a client and an agent, and breaks each of the first connections after so many
/// bytes from the client, or from the agent.
struct Breaker {
    socket: PathBuf,
    broken: Arc<AtomicUsize>,
}

impl Breaker {
    fn start(agent: &Agent, breaks: usize, after: u64) -> Result<Self> {
        let (socket, upstream) = (agent.directory().join("breaker.sock"), agent.socket());
        let listener = UnixListener::bind(&socket)?;
        let broken = Arc::new(AtomicUsize::new(0));
        let count = broken.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&upstream) else { continue };
                let limit = if count.load(Ordering::SeqCst) < breaks { after } else { u64::MAX };
                relay_both(&client, &server, limit, &count);
            }
        });
        Ok(Self { socket, broken })
    }

    fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }
}

fn relay_both(client: &UnixStream, server: &UnixStream, limit: u64, broken: &Arc<AtomicUsize>) {
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
        let broken = broken.clone();
        std::thread::spawn(move || relay(from, to, limit, &broken));
    }
}

fn relay(mut from: UnixStream, mut to: UnixStream, limit: u64, broken: &AtomicUsize) {
    let copied = std::io::copy(&mut (&mut from).take(limit), &mut to).unwrap_or(0);
    if copied == limit {
        broken.fetch_add(1, Ordering::SeqCst);
    }
    // Both may be closed already.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

/// Runs a subcommand through the breaker.
fn through(
    breaker: &Breaker,
    agent: &Agent,
    subcommand: &str,
    arguments: &[&Path],
) -> Result<String> {
    let mut command = agent.cli(subcommand);
    command.env_remove("WORKSPACE_AGENT_ADDR");
    let mut plain = Command::new(command.get_program());
    plain.arg(subcommand).args(["--connect", &breaker.address()]).args(arguments);
    let output = plain.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{subcommand}: {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn put_and_get_go_on_over_connections_that_break() -> Result<()> {
    let agent = Agent::start()?;
    let (content, local) = (some_bytes(20_000_000), agent.directory().join("local"));
    fs::write(&local, &content)?;
    let breaker = Breaker::start(&agent, 3, 5_000_000)?;
    let said = through(&breaker, &agent, "put", &[&local, Path::new("dir/")])?;
    ensure!(said.starts_with("put dir/local: 20000000 B, sha256 "), "{said}");
    ensure!(breaker.broken.load(Ordering::SeqCst) == 3, "no connection broke");
    ensure!(fs::read(agent.root().join("dir/local"))? == content, "it is not what was sent");
    ensure!(fs::read_dir(agent.root())?.count() == 1, "something is left of the upload");

    breaker.broken.store(0, Ordering::SeqCst);
    let target = agent.directory().join("copy");
    let said = through(&breaker, &agent, "get", &[Path::new("dir/local"), &target])?;
    ensure!(said.ends_with("copy: 20000000 B\n"), "{said}");
    ensure!(breaker.broken.load(Ordering::SeqCst) == 3, "no connection broke");
    ensure!(fs::read(&target)? == content, "it is not what is there");
    Ok(())
}

#[test]
fn put_goes_on_with_an_agent_that_was_killed() -> Result<()> {
    let mut agent = Agent::start()?;
    let local = agent.directory().join("local");
    let mut file = File::create(&local)?;
    for _ in 0..32 {
        file.write_all(&some_bytes(4_000_000))?;
    }
    let breaker = Breaker::start(&agent, 1, 5_000_000)?;
    let mut put = Command::new(agent.cli("put").get_program());
    put.args(["put", "--connect", &breaker.address()]).arg(&local).arg("file");
    let put = put.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    eventually("it has sent something", || {
        (breaker.broken.load(Ordering::SeqCst) == 1).then_some(())
    })?;
    agent.crash_and_start_again()?;
    let output = put.wait_with_output()?;
    ensure!(output.status.success(), "{}", output.status);
    let sum = Command::new("cmp").arg(&local).arg(agent.root().join("file")).status()?;
    ensure!(sum.success(), "it is not what was sent");
    Ok(())
}

#[test]
fn put_and_get_move_small_files_with_their_modes_and_say_what_is_wrong() -> Result<()> {
    let agent = Agent::start()?;
    let local = agent.directory().join("local");
    fs::write(&local, "hello\n")?;
    let path = local.to_str().context("a plain path")?;
    let said = String::from_utf8(agent.run_cli("put", &[path])?.stdout)?;
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(said, format!("put local: 6 B, sha256 {sha256}\n"));
    agent.shell("chmod 700 local")?;
    let copy = agent.directory().join("copy");
    agent.run_cli("get", &["local", copy.to_str().context("a plain path")?])?;
    let mode = fs::metadata(&copy)?.permissions().mode();
    assert_eq!((fs::read_to_string(&copy)?, mode & 0o777), ("hello\n".to_owned(), 0o700));
    assert_eq!(agent.run_cli("get", &["local", "-"])?.stdout, b"hello\n");
    for (arguments, expected) in [
        (&["put", path, "--create"][..], "precondition_failed"),
        (&["put", "/nonexistent"], "/nonexistent"),
        (&["put", "/"], "push copies directories"),
        (&["get", "none"], "not_found"),
        (&["get", "."], "is a directory"),
        (&["get", "../x"], "not acceptable"),
    ] {
        let output = agent.cli(arguments[0]).args(&arguments[1..]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        ensure!(said.contains(expected), "{arguments:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_stop_lets_a_part_come_to_its_end() -> Result<()> {
    let mut agent = Agent::start()?;
    let upload = begin(&agent, "/v1/files/f")?;
    let mut sending = Connection::open(agent.client.endpoint())?;
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: a\r\n{KIND}\r\nUpload-Offset: 0\r\nUpload-Complete: ?1\r\nContent-Length: 8\r\n\r\n"
    );
    sending.send(head.as_bytes())?;
    sending.send(b"half")?;
    eventually("the first half has arrived", || offset(&agent, &upload).ok().filter(|o| *o == 4))?;
    agent.signal(Signal::TERM)?;
    sending.send(b"half")?;
    assert_eq!(sending.read_response("PATCH")?.status(), 201);
    ensure!(agent.daemon.wait()?.success(), "the agent did not stop in order");
    assert_eq!(fs::read_to_string(agent.root().join("f"))?, "halfhalf");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    // In the sandbox the agent is not told that the relay has closed its end: the upload stays busy
    // until the silence is long enough.
    let reason =
        "a Unix socket that a relay closes in the middle of a write is not seen to be closed";
    let left_out = [("put_and_get_go_on_over_connections_that_break", reason)];
    gvisor::rerun("all_of_it_holds_under_gvisor", &left_out)
}
