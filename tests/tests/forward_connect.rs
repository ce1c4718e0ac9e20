//! Forwards to a service behind the proxy: `--forward 127.0.0.1:PORT=connect:HOST:PORT`. Real proxy,
//! real policy, services that speak first and services that speak last.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixListener,
    process::Command,
    thread,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{self, Agent, text},
    http::Endpoint,
    origin::{drain, tcp_server},
    process::{Daemon, free_address},
    proxy::{self, Proxy},
    require,
    wait::eventually,
};

/// Greets as a database does, then answers with what it received, turned round.
fn greeter() -> Result<u16> {
    let address = tcp_server(|mut stream| {
        stream.write_all(b"greetings\n")?;
        let mut bytes = drain(&mut stream)?;
        bytes.reverse();
        stream.write_all(&bytes)?;
        stream.shutdown(Shutdown::Write)
    })?;
    Ok(address.port())
}

/// An agent whose port leads to `destination`, with a way to the proxy as the first forward.
fn workspace(proxy: &Proxy, destination: &str) -> Result<(Agent, u16)> {
    let (way, port) = (free_address()?, free_address()?);
    let way = format!("{way}=unix:{}", proxy.socket().display());
    let forward = format!("{port}=connect:{destination}");
    // The service first: the proxy's URL is still that of the way to it.
    let setup = agent::Setup::new()?.args(&["--forward", &forward, "--forward", &way]);
    Ok((setup.start()?, port.port()))
}

const CLIENT: &str = "
import socket, sys
data = bytes(range(256)) * int(sys.argv[2])
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=60) as connection:
    stream = connection.makefile('rb')
    print(stream.readline().decode().strip() or 'closed')
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    back = stream.read()
assert back == data[::-1], len(back)
print(len(back))
";

fn client(agent: &Agent, port: u16, blocks: u32) -> Result<Value> {
    agent.exec(&json!({
        "argv": ["python3", "-c", CLIENT, port.to_string(), blocks.to_string()],
    }))
}

#[test]
fn a_service_that_the_policy_permits_is_reached_with_both_half_closes() -> Result<()> {
    require!(Python);
    let service = greeter()?;
    let proxy = proxy::Setup::new()?.allow_local("db.test", service).start()?;
    let (agent, port) = workspace(&proxy, &format!("db.test:{service}"))?;
    for blocks in [0, 1, 8192] {
        let reply = client(&agent, port, blocks)?;
        assert_eq!(text(&reply, "stdout")?, format!("greetings\n{}\n", blocks * 256), "{reply}");
    }
    proxy.audited(|line| line["host"] == "db.test" && line["method"] == "CONNECT")?;
    let metrics = agent.client.get("/metrics")?.text();
    ensure!(metrics.contains("forwards_total{result=\"connected\"} 3"), "{metrics}");
    let environment = agent.shell("env")?;
    ensure!(!text(&environment, "stdout")?.contains(&format!(":{port}\n")), "{environment}");
    Ok(())
}

#[test]
fn the_way_may_be_named_and_lead_from_a_private_namespace() -> Result<()> {
    require!(Python, UserNamespaces);
    let service = greeter()?;
    let proxy = proxy::Setup::new()?.allow_local("db.test", service).start()?;
    let port = free_address()?;
    let via = proxy.socket();
    let forward = format!("{port}=connect:db.test:{service},via=unix:{}", via.display());
    let agent = agent::Setup::new()?
        .args(&["--isolate-net", "required", "--seccomp", "required", "--forward", &forward])
        .start()?;
    let reply = client(&agent, port.port(), 1)?;
    assert_eq!(text(&reply, "stdout")?, "greetings\n256\n", "{reply}");
    let environment = agent.shell("env")?;
    ensure!(!text(&environment, "stdout")?.contains("PROXY"), "{environment}");
    Ok(())
}

#[test]
fn a_refusal_closes_the_connection_and_the_log_names_it() -> Result<()> {
    require!(Python);
    let service = greeter()?;
    let proxy = proxy::Setup::new()?.start()?;
    let (agent, port) = workspace(&proxy, &format!("db.test:{service}"))?;
    let reply = client(&agent, port, 0)?;
    assert_eq!(text(&reply, "stdout")?.lines().next(), Some("closed"), "{reply}");
    let logged = || {
        let log = agent.daemon.stderr();
        let found = log.lines().find(|line| line.contains("db.test")).map(str::to_owned);
        found.filter(|line| line.contains("403") && line.contains("not_allowed"))
    };
    let line = eventually("the log names the refusal", logged)?;
    ensure!(line.contains(&service.to_string()), "{line}");
    let metrics = agent.client.get("/metrics")?.text();
    ensure!(metrics.contains("forwards_total{result=\"refused\"} 1"), "{metrics}");
    Ok(())
}

#[test]
fn a_proxy_that_answers_nonsense_or_hangs_up_closes_the_connection_and_harms_nothing() -> Result<()>
{
    require!(Python);
    let setup = agent::Setup::new()?;
    let socket = setup.directory().join("odd.sock");
    let listener = UnixListener::bind(&socket)?;
    thread::spawn(move || {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1 << 20));
        let answers = ["", "SSH-2.0-odd\r\n", "HTTP/1.1 302 Found\r\n\r\n", endless.as_str()];
        for (mut stream, answer) in listener.incoming().flatten().zip(answers) {
            let mut byte = [0];
            // A client that goes away early is what is asked of it.
            drop(stream.read_exact(&mut byte).and_then(|()| stream.write_all(answer.as_bytes())));
        }
    });
    let port = free_address()?;
    let forward = format!("{port}=connect:db.test:1,via=unix:{}", socket.display());
    let agent = setup.args(&["--forward", &forward]).start()?;
    let line = format!(
        "import socket; c = socket.create_connection(('127.0.0.1', {})); \
         print('closed' if not c.recv(1) else 'data')",
        port.port()
    );
    for _ in 0..4 {
        let reply = agent.exec(&json!({ "argv": ["python3", "-c", line] }))?;
        let closed = text(&reply, "stdout")? == "closed\n"
            || text(&reply, "stderr")?.contains("ConnectionReset");
        ensure!(closed, "{reply}");
    }
    assert_eq!(agent.client.get("/health")?.status(), 200);
    Ok(())
}

#[test]
fn a_service_without_a_proxy_on_the_way_is_refused_at_the_start() -> Result<()> {
    let setup = agent::Setup::new()?.args(&["--forward", "127.0.0.1:3306=connect:db.test:3306"]);
    let said = setup.start_refused()?;
    ensure!(said.contains("connect:db.test:3306") && said.contains("via=unix:"), "{said}");
    Ok(())
}

#[test]
fn a_cache_of_a_test_environment_is_used_by_its_own_client() -> Result<()> {
    require!(Redis);
    let directory = tempfile::tempdir()?;
    let at = free_address()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &at.port().to_string()]);
    let mut redis = Daemon::spawn("redis", command, directory.path())?;
    redis.wait_until_listening(&Endpoint::Tcp(at))?;
    let proxy = proxy::Setup::new()?.allow_local("cache.test", at.port()).start()?;
    let (agent, port) = workspace(&proxy, &format!("cache.test:{}", at.port()))?;
    let line = format!("redis-cli -p {port} set colour blue && redis-cli -p {port} get colour");
    assert_eq!(text(&agent.shell(&line)?, "stdout")?, "OK\nblue\n");
    Ok(())
}
