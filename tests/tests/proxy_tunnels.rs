//! What becomes of an open tunnel when one of its ends stops, breaks, or speaks on.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Result, ensure};
use rustix::net::sockopt::set_socket_linger;
use workspace_tests::{
    http::Connection,
    origin::tcp_server,
    proxy::{Proxy, Setup},
};

/// A tunnel to this port, through a proxy with these arguments.
fn tunnel(port: u16, arguments: &[&str]) -> Result<(Proxy, Connection)> {
    let proxy = Setup::new()?.allow_raw("raw.test", port).args(arguments).start()?;
    let mut connection = proxy.connect()?;
    let request = format!("CONNECT raw.test:{port} HTTP/1.1\r\nHost: raw.test:{port}\r\n\r\n");
    connection.send(request.as_bytes())?;
    assert_eq!(connection.read_head()?.status, 200);
    Ok((proxy, connection))
}

fn closed_for(proxy: &Proxy, reason: &str) -> Result<()> {
    proxy.audited(|line| line["mode"] == "connect" && line["close_reason"] == reason).map(drop)
}

#[test]
fn a_client_that_has_said_all_still_gets_ten_megabytes() -> Result<()> {
    const SIZE: usize = 10_000_000;
    let upstream = tcp_server(|mut stream| {
        stream.read_to_end(&mut Vec::new())?;
        (0..100).try_for_each(|_| stream.write_all(&[b'x'; SIZE / 100]))
    })?;
    let (proxy, mut client) = tunnel(upstream.port(), &[])?;
    client.send(b"that is all")?;
    client.finish_sending()?;
    assert_eq!(client.read_to_end()?.len(), SIZE);
    closed_for(&proxy, "completed")
}

#[test]
fn a_server_that_has_said_all_still_hears_the_client() -> Result<()> {
    let (heard, hears) = mpsc::channel();
    let upstream = tcp_server(move |mut stream| {
        stream.write_all(b"bye")?;
        stream.shutdown(Shutdown::Write)?;
        let mut words = Vec::new();
        stream.read_to_end(&mut words)?;
        drop(heard.send(words));
        Ok(())
    })?;
    let (proxy, mut client) = tunnel(upstream.port(), &[])?;
    assert_eq!(client.read_to_end()?, b"bye");
    client.send(&[7; 100_000])?;
    client.finish_sending()?;
    assert_eq!(hears.recv()?.len(), 100_000);
    closed_for(&proxy, "completed")
}

/// Closing this end breaks the connection off.
fn resetting(stream: TcpStream) -> Result<()> {
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}

#[test]
fn a_reset_of_one_end_ends_the_other() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (proxy, mut client) = tunnel(port, &[])?;
    let (mut upstream, _) = listener.accept()?;
    upstream.write_all(b"hello")?;
    assert_eq!(client.read_exact(5)?, b"hello");
    resetting(upstream)?;
    ensure!(client.read_to_end().unwrap_or_default().is_empty(), "more came");
    closed_for(&proxy, "upstream_broke")?;

    let mut client = TcpStream::connect(proxy.tcp)?;
    write!(client, "CONNECT raw.test:{port} HTTP/1.1\r\nHost: raw.test:{port}\r\n\r\n")?;
    let (mut upstream, _) = listener.accept()?;
    upstream.write_all(b"hello")?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"hello") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        heard.extend(byte);
    }
    resetting(client)?;
    // In order or by a reset: a hang would be the failure.
    ensure!(upstream.read_to_end(&mut Vec::new()).unwrap_or(0) == 0, "more came");
    // The client is gone, and with it whom an answer could be for.
    drop(upstream);
    closed_for(&proxy, "cancelled")
}
