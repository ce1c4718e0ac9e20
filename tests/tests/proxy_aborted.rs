//! Ten thousand tunnels whose clients go away in the middle leave nothing behind.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::set_socket_linger;
use workspace_tests::{
    hello::Hello,
    origin::tcp_server,
    proxy::{Proxy, Setup},
    wait::eventually,
};

/// What a client has said when it goes away.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Half of its request.
    Asking,
    /// All of it; the answer is on its way.
    Asked,
    /// It has its answer.
    Open,
    /// Half a handshake.
    Greeting,
    /// A handshake and some data.
    Talking,
    /// The same with the request, in one piece.
    AtOnce,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Asking, Self::Asked, Self::Open, Self::Greeting, Self::Talking, Self::AtOnce];
}

const THREADS: usize = 8;
const EACH: usize = 1250;

fn read_answer(stream: &mut TcpStream) -> Result<()> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the proxy closed")?;
        answer.extend(byte);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Goes as far as the stage says and resets the connection.
fn abort(proxy: &Proxy, target: &str, stage: Stage) -> Result<()> {
    let mut stream = TcpStream::connect(proxy.tcp)?;
    // Closing resets, in place of saying goodbye.
    set_socket_linger(&stream, Some(std::time::Duration::ZERO))?;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let hello = Hello { sni: Some("held.test".to_owned()), ..Hello::default() }.bytes();
    let (half, data) = (&hello[..hello.len() / 2], [&hello[..], &[23; 5000]].concat());
    match stage {
        Stage::Asking => stream.write_all(&request.as_bytes()[..20])?,
        Stage::Asked => stream.write_all(request.as_bytes())?,
        Stage::AtOnce => stream.write_all(&[request.as_bytes(), &data].concat())?,
        Stage::Open | Stage::Greeting | Stage::Talking => {
            stream.write_all(request.as_bytes())?;
            read_answer(&mut stream)?;
            let words = match stage {
                Stage::Greeting => half,
                Stage::Talking => &data,
                _ => &[],
            };
            stream.write_all(words)?;
        }
    }
    Ok(())
}

/// Descriptors and tasks of the proxy.
fn held(proxy: &Proxy) -> Result<(usize, u64)> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", proxy.daemon.pid()))?.count();
    let metrics = proxy.admin.get("/metrics")?.text();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let line = line.with_context(|| format!("no {name}in {metrics}"))?;
        Ok::<u64, anyhow::Error>(line.parse()?)
    };
    let open = value("ws_proxy_tunnels_active ")? + value("ws_proxy_connections_active ")?;
    Ok((descriptors, value("ws_proxy_tasks ")? + open))
}

#[test]
fn ten_thousand_aborted_tunnels_leave_no_descriptor_and_no_task() -> Result<()> {
    let upstream = tcp_server(|mut stream| {
        stream.write_all(&[1; 2000])?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    })?;
    let target = format!("held.test:{}", upstream.port());
    let proxy = Setup::new()?
        .allow_local("held.test", upstream.port())
        .args(&["--max-tunnels", "10000", "--idle-timeout", "1h", "--hello-timeout", "1h"])
        .start()?;
    let settled = |before: Option<(usize, u64)>| {
        let now = held(&proxy).ok()?;
        let (descriptors, tasks) = before.unwrap_or(now);
        (now.0 <= descriptors && now.1 <= tasks).then_some(now)
    };
    // Threads of the runtime and whatever else is made once.
    for stage in Stage::ALL.into_iter().cycle().take(60) {
        abort(&proxy, &target, stage)?;
    }
    let ended = || {
        let metrics = proxy.admin.get("/metrics").ok()?.text();
        let none = |name: &str| metrics.contains(&format!("\nws_proxy_{name} 0\n"));
        (none("tunnels_active") && none("connections_active")).then_some(())
    };
    eventually("the first tunnels are gone", ended)?;
    let before = eventually("there is a base line", || settled(None))?;
    thread::scope(|scope| {
        let run = |at: usize| {
            let mut stages = Stage::ALL.into_iter().cycle().skip(at).take(EACH);
            stages.try_for_each(|stage| {
                abort(&proxy, &target, stage).with_context(|| format!("{stage:?}"))
            })
        };
        let threads: Vec<_> = (0..THREADS).map(|at| scope.spawn(move || run(at))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    eventually("everything is as before", || settled(Some(before)))
        .with_context(|| format!("before {before:?}, now {:?}", held(&proxy)))?;
    // Each of them is in the log, but for those that never asked.
    let lines = proxy.audit();
    let opened = lines.iter().filter(|line| line["mode"] == "connect").count();
    ensure!(opened >= THREADS * EACH / 2, "{opened} tunnels were asked for");
    Ok(())
}
