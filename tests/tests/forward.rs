//! The loopback forwarder: what commands reach at 127.0.0.1 is a Unix socket outside.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixListener,
    path::Path,
    thread,
};

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{
    agent::{Agent, Setup, text},
    process::free_address,
    require,
};

/// Answers each connection with what it received, turned round, once the client has finished.
fn reverser(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes);
            bytes.reverse();
            // A client that goes away early is the client's affair.
            drop(read.and_then(|_| stream.write_all(&bytes)));
            drop(stream.shutdown(Shutdown::Write));
        }
    });
    Ok(())
}

fn agent_with_reverser() -> Result<(Agent, u16)> {
    let setup = Setup::new()?;
    let socket = setup.directory().join("service.sock");
    reverser(&socket)?;
    let address = free_address()?;
    let forward = format!("{address}=unix:{}", socket.display());
    Ok((setup.args(&["--forward", &forward]).start()?, address.port()))
}

const CLIENT: &str = "
import socket, sys
data = bytes(range(256)) * int(sys.argv[2])
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=60) as connection:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    back = b''.join(iter(lambda: connection.recv(65536), b''))
assert back == data[::-1], len(back)
print(len(back))
";

#[test]
fn bytes_and_both_half_closes_pass_the_forwarder() -> Result<()> {
    require!(Python);
    let (agent, port) = agent_with_reverser()?;
    for blocks in ["0", "1", "8192"] {
        let body = json!({ "argv": ["python3", "-c", CLIENT, port.to_string(), blocks] });
        let reply = agent.exec(&body)?;
        assert_eq!(reply["exit_code"], 0, "{reply}");
        assert_eq!(text(&reply, "stdout")?.trim(), (blocks.parse::<u32>()? * 256).to_string());
    }
    Ok(())
}

#[test]
fn many_connections_pass_the_forwarder_at_once() -> Result<()> {
    require!(Python);
    let (agent, port) = agent_with_reverser()?;
    let line =
        format!("for i in 1 2 3 4 5 6 7 8; do python3 -c \"$CLIENT\" {port} 100 & done; wait");
    let reply = agent.exec(&json!({ "shell": line, "env": { "CLIENT": CLIENT } }))?;
    assert_eq!(text(&reply, "stdout")?, "25600\n".repeat(8), "{reply}");
    Ok(())
}

#[test]
fn a_forwarder_without_its_service_closes_the_connection_and_harms_nothing() -> Result<()> {
    require!(Python);
    let setup = Setup::new()?;
    let address = free_address()?;
    let forward = format!("{address}=unix:{}", setup.directory().join("nobody.sock").display());
    let agent = setup.args(&["--forward", &forward]).start()?;
    let line = format!(
        "import socket; c = socket.create_connection(('127.0.0.1', {})); \
         print('closed' if not c.recv(1) else 'data')",
        address.port()
    );
    let reply = agent.exec(&json!({ "argv": ["python3", "-c", line] }))?;
    let closed = text(&reply, "stdout")? == "closed\n"
        || text(&reply, "stderr")?.contains("ConnectionReset");
    ensure!(closed, "{reply}");
    assert_eq!(agent.client.get("/health")?.status(), 200);
    Ok(())
}

#[test]
fn commands_are_told_of_the_proxy_at_the_first_forward() -> Result<()> {
    let (agent, port) = agent_with_reverser()?;
    let reply = agent.exec(&json!({ "argv": ["env"] }))?;
    let environment = text(&reply, "stdout")?;
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        ensure!(environment.contains(&format!("{name}=http://127.0.0.1:{port}")), "{environment}");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        ensure!(environment.contains(&format!("{name}=")), "{environment}");
    }
    Ok(())
}
