//! Audit lines: one for each request however it ends, and what becomes of them when nobody reads.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{TcpListener, UdpSocket},
    process::{Child, ChildStdout, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use workspace_tests::{
    http::{Client, Connection, Endpoint},
    process::free_address,
    proxy::{ADMIN_TOKEN, Setup},
    upstream_proxy::Scripted,
    wait::eventually,
};

/// More lines than wait and fit into the pipe.
const MANY: usize = 12_000;

/// A proxy whose standard output is a small pipe that nobody reads yet.
struct Piped {
    child: Child,
    pipe: Option<ChildStdout>,
    workspace: Connection,
    admin: Client,
    _setup: Setup,
}

impl Piped {
    fn start(arguments: &[&str]) -> Result<Self> {
        let setup = Setup::new()?.args(arguments);
        let admin = Endpoint::Tcp(free_address()?);
        let Endpoint::Tcp(address) = admin.clone() else { unreachable!("it was just made") };
        let mut command = setup.command(free_address()?, address)?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let pipe = child.stdout.take().context("a pipe")?;
        rustix::pipe::fcntl_setpipe_size(&pipe, 4096)?;
        let admin = Client::new(admin).with_token(ADMIN_TOKEN);
        eventually("the proxy serves", || admin.get("/healthz").ok())?;
        let workspace = Connection::open(&Endpoint::Unix(setup.socket()))?;
        Ok(Self { child, pipe: Some(pipe), workspace, admin, _setup: setup })
    }

    /// The code of a request that the policy denies, all on one connection.
    fn ask(&mut self) -> Result<String> {
        self.workspace.send(b"GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n")?;
        let answer = self.workspace.read_response("GET")?;
        Ok(answer.header("x-proxy-error").context("a code")?.to_owned())
    }

    fn lost(&self) -> Result<usize> {
        let text = self.admin.get("/metrics")?.text();
        let line = text.lines().find_map(|line| line.strip_prefix("ws_proxy_audit_dropped_total "));
        Ok(line.context("the metric")?.parse()?)
    }

    /// Begins to read the lines.
    fn read(&mut self) -> Result<JoinHandle<Vec<Value>>> {
        let pipe = self.pipe.take().context("nobody reads yet")?;
        Ok(thread::spawn(move || {
            let lines = BufReader::new(pipe).lines().map_while(Result::ok);
            lines.map(|line| serde_json::from_str(&line).expect("a whole line")).collect()
        }))
    }

    /// Stops the proxy, which writes out what waits.
    fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a pid")?;
        kill_process(pid, Signal::TERM)?;
        let ended = eventually("the proxy ends", || self.child.try_wait().ok().flatten())?;
        ensure!(ended.success(), "{ended}");
        Ok(())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what they are for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_log_that_nobody_reads_stalls_no_request_and_lost_lines_are_counted() -> Result<()> {
    let mut proxy = Piped::start(&[])?;
    for _ in 0..MANY {
        assert_eq!(proxy.ask()?, "not_allowed");
    }
    let lost = proxy.lost()?;
    ensure!((1..MANY).contains(&lost), "{lost} lines lost");
    let reader = proxy.read()?;
    proxy.stop()?;
    let lines = reader.join().expect("the reader");
    assert_eq!(lines.len() + lost, MANY);
    Ok(())
}

#[test]
fn where_lines_are_required_no_request_is_served_without_one() -> Result<()> {
    let mut proxy = Piped::start(&["--require-audit"])?;
    let mut served = 0;
    let refused = loop {
        match proxy.ask()?.as_str() {
            "not_allowed" => served += 1,
            other => break other.to_owned(),
        }
        ensure!(served < MANY, "everything was served");
    };
    assert_eq!(refused, "audit_unavailable");
    let reader = proxy.read()?;
    eventually("there is room again", || {
        let room = proxy.ask().is_ok_and(|code| code == "not_allowed");
        room.then(|| served += 1)
    })?;
    proxy.stop()?;
    let lines = reader.join().expect("the reader");
    let written = lines.iter().filter(|line| line["code"] == "not_allowed").count();
    assert_eq!(written, served, "each request that was decided has its line");
    Ok(())
}

/// Waits for the first bytes at a listener, and keeps the connection.
fn reached(listener: &TcpListener) -> Result<std::net::TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

#[test]
fn a_client_that_leaves_leaves_one_line_whatever_it_was_waiting_for() -> Result<()> {
    let names = UdpSocket::bind("127.0.0.1:0")?;
    names.set_read_timeout(Some(Duration::from_secs(30)))?;
    let origin = TcpListener::bind("127.0.0.1:0")?;
    let port = origin.local_addr()?.port();
    let silent = Scripted::answering(b"")?;
    let setup = Setup::new()?
        .allow_local("origin.test", port)
        .args(&["--dns-server", &names.local_addr()?.to_string(), "--dns-timeout", "5m"])
        .args(&["--upstream-proxy", &silent.url(), "--connect-timeout", "5m"])
        .args(&["--upstream-proxy-bypass", "origin.test,names.test"]);
    let proxy = ["names.test", "company.test"]
        .into_iter()
        .fold(setup, |setup, host| {
            setup.policy(|policy| {
                let rules = policy["egress"]["allow"].as_array_mut().expect("a list");
                rules.push(json!({ "host": host, "ports": [80] }));
            })
        })
        .start()?;
    let ask = |host: &str, more: &str| -> Result<Connection> {
        let mut client = proxy.connect()?;
        let head = format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{more}");
        client.send(head.as_bytes())?;
        Ok(client)
    };
    let (here, whole) = (format!("origin.test:{port}"), "Content-Length: 0\r\n\r\n");

    // While the name is looked up.
    let client = ask("names.test", whole)?;
    names.recv(&mut [0; 512])?;
    drop(client);
    proxy.audited(|line| line["host"] == "names.test" && line["code"] == "cancelled")?;
    // While the upstream proxy makes up its mind.
    let client = ask("company.test", whole)?;
    eventually("it is asked", || (!silent.asked().is_empty()).then_some(()))?;
    drop(client);
    proxy.audited(|line| line["host"] == "company.test" && line["code"] == "cancelled")?;
    // While the origin thinks.
    let client = ask(&here, whole)?;
    let _thinking = reached(&origin)?;
    drop(client);
    proxy.audited(|line| {
        line["method"] == "POST" && line["ms_ttfb"].is_null() && line["addr_class"] == "loopback"
    })?;
    // In the middle of its own body.
    let client = ask(&here, "Content-Length: 100\r\n\r\nhalf")?;
    let _waiting = reached(&origin)?;
    drop(client);
    // In a tunnel, before it has said a word.
    let mut client = proxy.connect()?;
    client.send(format!("CONNECT {here} HTTP/1.1\r\nHost: {here}\r\n\r\n").as_bytes())?;
    assert_eq!(client.read_head()?.status, 200);
    drop(client);
    proxy.audited(|line| line["mode"] == "connect" && line["close_reason"] == "cancelled")?;
    // Before the head was whole: what never becomes a request has no line.
    let mut client = proxy.connect()?;
    client.send(b"GET http://origin.te")?;
    drop(client);

    eventually("all lines are there", || (proxy.audit().len() >= 5).then_some(()))?;
    let mut proxy = proxy;
    proxy.daemon.signal(Signal::TERM)?;
    ensure!(proxy.daemon.wait()?.success());
    assert_eq!(proxy.audit().len(), 5, "{:?}", proxy.audit());
    Ok(())
}
