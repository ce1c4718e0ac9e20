//! Every limit of the proxy: what the client sees, what is written down, what is counted.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::SocketAddr,
};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use serde_json::json;
use workspace_tests::{
    dns::{Answer, NameServer},
    http::{Connection, Head, Response},
    origin::{Origin, tcp_server},
    proxy::{Proxy, Setup},
    wait::eventually,
};

/// How often a limit was reached.
fn hits(proxy: &Proxy, limit: &str) -> Result<u64> {
    let text = proxy.admin.get("/metrics")?.text();
    let prefix = format!("ws_proxy_limit_hits_total{{limit=\"{limit}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(line.map_or(Ok(0), str::parse)?)
}

/// Holds a refusal against its code, its audit line and its count.
fn assert_limited(proxy: &Proxy, answer: &Head, expected: (u16, &str), limit: &str) -> Result<()> {
    let (status, code) = expected;
    assert_eq!((answer.status, answer.header("x-proxy-error")), (status, Some(code)), "{answer:?}");
    let line = proxy.audited(|line| line["code"] == code)?;
    assert_eq!(line["status"], status, "{line}");
    ensure!(hits(proxy, limit)? >= 1, "not counted as {limit}");
    Ok(())
}

fn get(host: &str) -> Vec<u8> {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

fn ask(connection: &mut Connection, request: &[u8]) -> Result<Response> {
    // The proxy may answer before it has taken everything.
    drop(connection.send(request));
    connection.read_response("GET")
}

fn connect(connection: &mut Connection, target: &str) -> Result<Head> {
    connection.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
    connection.read_head()
}

#[test]
fn a_connection_too_many_is_told_so_until_there_is_a_place_again() -> Result<()> {
    let proxy = Setup::new()?.args(&["--max-connections", "1"]).start()?;
    let asked = |connection: &mut Connection| ask(connection, &get("other.test"));
    let first = || {
        // Whoever waited for the listeners may still be in the way.
        let mut connection = proxy.connect().ok()?;
        (asked(&mut connection).ok()?.status() == 403).then_some(connection)
    };
    let mut held = eventually("the one place is ours", first)?;
    let mut second = proxy.connect()?;
    let answer = asked(&mut second)?;
    assert_limited(&proxy, &answer.head, (503, "too_many_connections"), "connections")?;
    assert_eq!(answer.header("retry-after"), Some("5"));
    ensure!(second.read_to_end()?.is_empty(), "it goes on");
    assert_eq!(asked(&mut held)?.status(), 403, "the one that has a place keeps it");
    drop(held);
    eventually("the place is given on", first)?;
    Ok(())
}

#[test]
fn a_tunnel_too_many_is_refused_until_one_closes() -> Result<()> {
    let upstream = tcp_server(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop))?;
    let target = format!("held.test:{}", upstream.port());
    let setup = Setup::new()?.allow_raw("held.test", upstream.port());
    let proxy = setup.args(&["--max-tunnels", "1"]).start()?;
    let mut first = proxy.connect()?;
    assert_eq!(connect(&mut first, &target)?.status, 200);
    let refused = connect(&mut proxy.connect()?, &target)?;
    assert_limited(&proxy, &refused, (503, "overloaded"), "tunnels")?;
    assert_eq!(refused.header("retry-after"), Some("5"));
    drop(first);
    eventually("the place is given on", || {
        let mut next = proxy.connect().ok()?;
        (connect(&mut next, &target).ok()?.status == 200).then_some(())
    })
}

#[test]
fn a_host_that_is_asked_too_often_is_asked_no_more_for_a_moment() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let host = format!("busy.test:{}", origin.port());
    let proxy = Setup::new()?
        .allow_local("busy.test", origin.port())
        .allow_local("quiet.test", origin.port())
        .args(&["--host-rate", "1"])
        .start()?;
    let mut connection = proxy.connect()?;
    // At once, so that a slow machine does not wait a second between any two.
    connection.send(&get(&host).repeat(50))?;
    let answers: Vec<Response> =
        (0..50).map(|_| connection.read_response("GET")).collect::<Result<_>>()?;
    assert_eq!(answers[0].status(), 200);
    let refused = answers.iter().find(|answer| answer.status() != 200).context("all passed")?;
    assert_limited(&proxy, &refused.head, (429, "rate_limited"), "host_rate")?;
    assert_eq!(refused.header("retry-after"), Some("1"));
    let passed = answers.iter().filter(|answer| answer.status() == 200).count();
    assert_eq!(origin.received().len(), passed, "the origin saw what was refused");
    let quiet = format!("quiet.test:{}", origin.port());
    assert_eq!(ask(&mut proxy.connect()?, &get(&quiet))?.status(), 200);
    eventually("the host may be asked again", || {
        let answer = ask(&mut proxy.connect().ok()?, &get(&host)).ok()?;
        (answer.status() == 200).then_some(())
    })
}

#[test]
fn a_head_may_have_as_many_bytes_as_is_said() -> Result<()> {
    let proxy = Setup::new()?.args(&["--max-head", "2048"]).start()?;
    let long = "x".repeat(3000);
    let headers = format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: {long}\r\n\r\n");
    let answer = ask(&mut proxy.connect()?, headers.as_bytes())?;
    assert_limited(&proxy, &answer.head, (431, "head_too_large"), "head")?;
    let line = format!("GET http://a.test/{long} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let answer = ask(&mut proxy.connect()?, line.as_bytes())?;
    assert_limited(&proxy, &answer.head, (414, "uri_too_long"), "head")?;
    // A byte less than too many, and the reason is another one.
    let begin = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: ";
    let fitting = format!("{begin}{}\r\n\r\n", "x".repeat(2048 - begin.len() - 4));
    assert_eq!(ask(&mut proxy.connect()?, fitting.as_bytes())?.status(), 403);
    assert_eq!(hits(&proxy, "head")?, 2);

    let wide = Setup::new()?.args(&["--max-head", "300000"]).start()?;
    let headers = format!("{begin}{}\r\n\r\n", "x".repeat(250_000));
    assert_eq!(ask(&mut wide.connect()?, headers.as_bytes())?.status(), 403);
    Ok(())
}

#[test]
fn a_body_may_have_as_many_bytes_as_is_said_however_it_comes() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let host = format!("plain.test:{}", origin.port());
    let setup = Setup::new()?.allow_local("plain.test", origin.port());
    let proxy = setup.args(&["--max-body", "10"]).start()?;
    let post = |framed: &str| {
        let request = format!("POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{framed}");
        ask(&mut proxy.connect()?, request.as_bytes())
    };
    assert_eq!(post("Content-Length: 10\r\n\r\n0123456789")?.status(), 200);
    let answer = post("Content-Length: 11\r\n\r\n0123456789a")?;
    assert_limited(&proxy, &answer.head, (413, "body_too_large"), "body")?;
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n";
    assert_eq!(post(chunks)?.header("x-proxy-error"), Some("body_too_large"));
    assert_eq!(hits(&proxy, "body")?, 2);
    let seen = origin.received();
    ensure!(seen.iter().all(|seen| seen.body.len() <= 10), "the origin got too much: {seen:?}");
    Ok(())
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_answered_and_closed() -> Result<()> {
    let proxy = Setup::new()?.args(&["--header-timeout", "300ms"]).start()?;
    let mut slow = proxy.connect()?;
    slow.send(b"GET http://a.test/ HTTP/1.1\r\nHost: a.te")?;
    let answer = slow.read_response("GET")?;
    assert_limited(&proxy, &answer.head, (408, "header_timeout"), "header_timeout")?;
    ensure!(slow.read_to_end()?.is_empty(), "it goes on");
    // Behind a request as well.
    let mut second = proxy.connect()?;
    second.send(&[&get("a.test")[..], b"GET http://a.te"].concat())?;
    assert_eq!(second.read_response("GET")?.status(), 403);
    assert_eq!(second.read_response("GET")?.header("x-proxy-error"), Some("header_timeout"));
    // Silence is no request: it is closed without a word and without a line.
    eventually("three requests are written down", || (proxy.audit().len() == 3).then_some(()))?;
    ensure!(proxy.connect()?.read_to_end()?.is_empty(), "silence was answered");
    // A request that comes behind it is the next line.
    assert_eq!(ask(&mut proxy.connect()?, &get("last.test"))?.status(), 403);
    proxy.audited(|line| line["host"] == "last.test")?;
    assert_eq!((proxy.audit().len(), hits(&proxy, "header_timeout")?), (4, 2));
    Ok(())
}

#[test]
fn a_tunnel_in_which_nothing_is_said_is_closed() -> Result<()> {
    let upstream = tcp_server(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop))?;
    let setup = Setup::new()?.allow_local("tls.test", upstream.port());
    let proxy = setup.args(&["--hello-timeout", "300ms"]).start()?;
    let mut client = proxy.connect()?;
    let opened = connect(&mut client, &format!("tls.test:{}", upstream.port()))?;
    assert_eq!(opened.status, 200);
    client.send(&[22, 3, 1, 2])?;
    ensure!(client.read_to_end().unwrap_or_default().is_empty(), "something was answered");
    let line = proxy.audited(|line| line["code"] == "hello_timeout")?;
    assert_eq!(line["decision"], "deny", "{line}");
    assert_eq!(hits(&proxy, "hello_timeout")?, 1);
    Ok(())
}

/// A listener whose queue is full, so that the kernel lets further connections wait.
struct FullQueue {
    address: SocketAddr,
    _listener: std::os::fd::OwnedFd,
    _queued: Vec<std::os::fd::OwnedFd>,
}

impl FullQueue {
    fn new() -> Result<Self> {
        let stream = |flags| socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let listener = stream(SocketFlags::CLOEXEC)?;
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
        listen(&listener, 0)?;
        let address = SocketAddr::try_from(getsockname(&listener)?)?;
        let queued = (0..8).map(|_| {
            let socket = stream(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            // It is under way, which is all that is wanted.
            let _under_way = rustix::net::connect(&socket, &address);
            Ok(socket)
        });
        let queued = queued.collect::<Result<Vec<_>>>()?;
        Ok(Self { address, _listener: listener, _queued: queued })
    }
}

#[test]
fn a_destination_that_does_not_answer_is_given_up() -> Result<()> {
    let queue = FullQueue::new()?;
    let port = queue.address.port();
    let setup = Setup::new()?.allow_local("far.test", port);
    let proxy = setup.args(&["--connect-timeout", "300ms"]).start()?;
    let answer = connect(&mut proxy.connect()?, &format!("far.test:{port}"))?;
    assert_limited(&proxy, &answer, (504, "connect_timeout"), "connect_timeout")
}

#[test]
fn a_name_server_that_does_not_answer_is_given_up() -> Result<()> {
    let dns = NameServer::start()?;
    dns.script(BTreeMap::from([("slow.test".to_owned(), Answer::Silence)]), 0);
    let address = dns.address().to_string();
    let arguments = ["--dns-server", &address, "--dns-timeout", "300ms", "--allow", "slow.test"];
    let proxy = Setup::new()?.args(&arguments).start()?;
    let answer = connect(&mut proxy.connect()?, "slow.test:443")?;
    assert_limited(&proxy, &answer, (504, "dns_timeout"), "dns_timeout")
}

#[test]
fn silence_ends_a_tunnel_a_wait_for_an_answer_and_an_answer() -> Result<()> {
    // Hears everything, and says what it is told: at most the beginning of an answer.
    let mute = |words: &'static [u8]| {
        tcp_server(move |mut stream| {
            stream.read_exact(&mut [0; 4])?;
            stream.write_all(words)?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        })
    };
    let silent = mute(b"")?;
    let half = mute(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
    let proxy = Setup::new()?
        .allow_raw("raw.test", silent.port())
        .allow_local("silent.test", silent.port())
        .allow_local("half.test", half.port())
        .args(&["--idle-timeout", "300ms"])
        .start()?;
    let host = format!("silent.test:{}", silent.port());
    let answer = ask(&mut proxy.connect()?, &get(&host))?;
    assert_limited(&proxy, &answer.head, (504, "upstream_timeout"), "idle_timeout")?;

    let mut client = proxy.connect()?;
    assert_eq!(connect(&mut client, &format!("raw.test:{}", silent.port()))?.status, 200);
    client.send(b"data")?;
    ensure!(client.read_to_end().unwrap_or_default().is_empty(), "something was answered");
    let idle = |mode: &str| {
        proxy.audited(|line| line["mode"] == mode && line["close_reason"] == "idle_timeout")
    };
    assert_eq!(idle("connect")?["bytes_up"], 4);

    let mut client = proxy.connect()?;
    client.send(&get(&format!("half.test:{}", half.port())))?;
    ensure!(client.read_response("GET").is_err(), "half an answer looks whole");
    idle("forward")?;
    assert_eq!(hits(&proxy, "idle_timeout")?, 3);
    Ok(())
}

#[test]
fn limits_stand_in_the_policy_file_and_a_flag_wins() -> Result<()> {
    let upstream = tcp_server(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop))?;
    let target = format!("held.test:{}", upstream.port());
    let allowed = |arguments: &[&str]| {
        let setup = Setup::new()?.allow_raw("held.test", upstream.port()).args(arguments);
        let limits = json!({ "max_tunnels": 1, "idle_timeout": "1h" });
        let proxy = setup.policy(|policy| policy["limits"] = limits).start()?;
        let mut connections = [proxy.connect()?, proxy.connect()?];
        let [first, second] = &mut connections;
        Ok::<_, anyhow::Error>([connect(first, &target)?.status, connect(second, &target)?.status])
    };
    assert_eq!(allowed(&[])?, [200, 503]);
    assert_eq!(allowed(&["--max-tunnels", "2"])?, [200, 200]);
    Ok(())
}
