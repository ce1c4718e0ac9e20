//! Ways over the network, and the one way that is meant to work.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixStream},
    },
    path::Path,
    time::Duration,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::{AddressFamily as RawFamily, SocketType, socket as raw_socket};
use workspace_tests::isolation::{
    ABSTRACT, AGENT_PORT, AGENT_SOCKET, FORWARD, INTERNAL, MANAGEMENT_PORT, METADATA, NAME_SERVER,
    NEIGHBOUR_PORT, OUTSIDE, PERMITTED, POD, UNLISTED,
};

use crate::{Attempt, Attempts, reason};

/// Longer than any answer takes here; a dropped packet costs an attempt this long.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) const ATTEMPTS: Attempts = &[
    ("tcp_https", || exchange(at(OUTSIDE, 443))),
    ("tcp_other", || exchange(at(OUTSIDE, 80))),
    ("udp", || datagram(at(OUTSIDE, 4444))),
    ("dns", || datagram(at(NAME_SERVER, 53))),
    ("metadata", || exchange(at(METADATA, 80))),
    ("internal", || exchange(at(INTERNAL, 6379))),
    ("management_loopback", || http(at("127.0.0.1", MANAGEMENT_PORT), "/healthz")),
    ("management_pod", || http(at(POD, MANAGEMENT_PORT), "/healthz")),
    ("agent_loopback", || http(at("127.0.0.1", AGENT_PORT), "/health")),
    ("agent_pod", || http(at(POD, AGENT_PORT), "/health")),
    ("agent_socket", agent_socket),
    ("neighbour_port", || exchange(at("127.0.0.1", NEIGHBOUR_PORT))),
    ("neighbour_abstract", abstract_socket),
    ("packet_socket", || opened(AddressFamily::Packet, SockType::Raw)),
    ("raw_socket", raw),
    ("vsock", || opened(AddressFamily::Vsock, SockType::Stream)),
    ("proxy_permitted", || through_proxy(&format!("http://{PERMITTED}/"))),
    ("proxy_unlisted", || through_proxy(&format!("http://{UNLISTED}/"))),
    ("proxy_metadata", || through_proxy(&format!("http://{METADATA}/"))),
    ("proxy_management", || through_proxy(&format!("http://127.0.0.1:{MANAGEMENT_PORT}/healthz"))),
];

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), port)
}

/// Connects, sends, and wants at least a byte back.
fn exchange(address: SocketAddr) -> Attempt {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| reason(&e))?;
    answer_of(&mut stream, b"GET / HTTP/1.0\r\n\r\n")
}

fn answer_of(stream: &mut TcpStream, request: &[u8]) -> Attempt {
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| reason(&e))?;
    talk(stream, request)
}

fn talk(stream: &mut (impl Read + Write), request: &[u8]) -> Attempt {
    stream.write_all(request).map_err(|e| reason(&e))?;
    let mut answer = [0; 256];
    match stream.read(&mut answer).map_err(|e| reason(&e))? {
        0 => Err("closed without an answer".to_owned()),
        length => {
            Ok(String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or("").into())
        }
    }
}

fn datagram(address: SocketAddr) -> Attempt {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|e| reason(&e))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(|e| reason(&e))?;
    socket.send_to(b"question", address).map_err(|e| reason(&e))?;
    let mut answer = [0; 64];
    let (length, _) = socket.recv_from(&mut answer).map_err(|e| reason(&e))?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Reached when an HTTP server says that it is well.
fn http(address: SocketAddr, path: &str) -> Attempt {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| reason(&e))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    well(answer_of(&mut stream, request.as_bytes())?)
}

fn well(status: String) -> Attempt {
    if status.starts_with("HTTP/1.1 200") { Ok(status) } else { Err(status) }
}

/// The agent's own socket, where it lies in the workspace: may commands call the agent there?
fn agent_socket() -> Attempt {
    let mut stream = UnixStream::connect(Path::new(AGENT_SOCKET)).map_err(|e| reason(&e))?;
    well(talk(
        &mut stream,
        b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )?)
}

fn abstract_socket() -> Attempt {
    let address = UnixAddr::from_abstract_name(ABSTRACT).map_err(|e| reason(&e))?;
    let mut stream = UnixStream::connect_addr(&address).map_err(|e| reason(&e))?;
    talk(&mut stream, b"")
}

fn opened(family: AddressFamily, kind: SockType) -> Attempt {
    let opened = socket(family, kind, SockFlag::empty(), None);
    opened.map(|_socket| "opened".to_owned()).map_err(|errno| errno.to_string())
}

fn raw() -> Attempt {
    let icmp = Some(rustix::net::ipproto::ICMP);
    let opened = raw_socket(RawFamily::INET, SocketType::RAW, icmp);
    opened.map(|_socket| "opened".to_owned()).map_err(|errno| reason(&errno.into()))
}

fn through_proxy(url: &str) -> Attempt {
    let proxy = FORWARD.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE).map_err(|e| reason(&e))?;
    let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    well(answer_of(&mut stream, request.as_bytes())?)
}
