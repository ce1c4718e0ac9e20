//! What runs inside the workspace: stands for untrusted code, so it reports what it could do and
//! decides nothing.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use workspace_tests::http::{Client, Connection, Endpoint};

pub(crate) fn run(command: &[&str]) -> Result<ExitCode> {
    match command {
        ["true"] => {}
        ["exit", code] => return Ok(ExitCode::from(code.parse::<u8>()?)),
        ["call-tool", url] => call_tool(url)?,
        ["connect", authority] => return connect(authority),
        ["dial", addresses @ ..] => dial(addresses)?,
        ["search"] => search()?,
        ["edit", directory] => edit(Path::new(directory))?,
        _ => bail!("no such command: {command:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Calls a tool of the MCP server at `url`, as an agent's MCP client would: without any credential.
fn call_tool(url: &str) -> Result<()> {
    let (address, path) = split(url)?;
    let call = |id: u32, method: &str, params| {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        Client::new(Endpoint::Tcp(address))
            .with("accept", "application/json, text/event-stream")
            .json("POST", path, &body)
    };
    call(1, "initialize", json!({ "protocolVersion": "2025-06-18", "capabilities": {} }))?;
    let reply =
        call(2, "tools/call", json!({ "name": "greet", "arguments": { "name": "workspace" } }))?;
    println!("{}", reply["result"]["content"][0]["text"].as_str().context("no text")?);
    Ok(())
}

fn split(url: &str) -> Result<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://").context("not an http URL")?;
    let slash = rest.find('/').context("no path")?;
    Ok((rest[..slash].parse()?, &rest[slash..]))
}

/// Asks the proxy for a tunnel, and fails with what the proxy says when there is none.
fn connect(authority: &str) -> Result<ExitCode> {
    let proxy = std::env::var("HTTPS_PROXY").context("HTTPS_PROXY is not set")?;
    let (proxy, _) = split(&format!("{}/", proxy.trim_end_matches('/')))?;
    let mut connection = Connection::open(&Endpoint::Tcp(proxy))?;
    connection
        .send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())?;
    let head = connection.read_head()?;
    println!("{} {}", head.status, head.header("x-proxy-error").unwrap_or("-"));
    Ok(ExitCode::from(if head.status == 200 { 0 } else { 22 }))
}

/// Tries to get out without the proxy, and tells what came of it.
fn dial(addresses: &[&str]) -> Result<()> {
    let devices = fs::read_to_string("/proc/self/net/dev")?;
    let names = devices.lines().skip(2).filter_map(|line| line.split(':').next());
    let names: Vec<&str> = names.map(str::trim).collect();
    println!("interfaces: {}", names.join(" "));
    for address in addresses {
        let address: SocketAddr = address.parse()?;
        // An address beyond loopback is tried only where no packet can leave.
        if !address.ip().is_loopback() && names != ["lo"] {
            println!("{address}: not tried, there is another interface");
            continue;
        }
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Ok(_) => println!("{address}: REACHED"),
            Err(error) => println!("{address}: {error}"),
        }
    }
    Ok(())
}

/// Prints whatever a process of the workspace can read about itself and the others.
fn search() -> Result<()> {
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    for process in fs::read_dir("/proc")?.flatten() {
        for file in ["cmdline", "environ"] {
            if let Ok(bytes) = fs::read(process.path().join(file)) {
                println!("{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
    Ok(())
}

/// Changes a folder: one file edited, one new, one gone.
fn edit(directory: &Path) -> Result<()> {
    let mut text = fs::read_to_string(directory.join("file-0.txt"))?;
    text.push_str("edited in the workspace\n");
    fs::write(directory.join("file-0.txt"), text)?;
    fs::write(directory.join("new.txt"), "made in the workspace\n")?;
    fs::remove_file(directory.join("file-1.txt"))?;
    Ok(())
}
