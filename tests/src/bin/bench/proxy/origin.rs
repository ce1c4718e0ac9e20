//! The origins behind all contenders: a plain one that costs next to nothing, and nginx with TLS.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use anyhow::Result;
use workspace_tests::{ca::Ca, origin::tcp_server, process::free_address, tools::Tool};

use super::peers::{self, Ended};

/// Bytes of an ordinary answer.
pub(super) const SMALL: usize = 1024;
/// Bytes of a download.
const BULK: usize = 1 << 30;
/// What asks for a download.
pub(crate) const BULK_REQUEST: &[u8] = b"GET /bulk HTTP/1.1\r\nHost: raw.test\r\n\r\n";
/// The name in the certificate.
pub(crate) const SECURE_HOST: &str = "secure.test";

/// Starts the plain one: it answers requests in HTTP and greets whoever begins with anything else.
pub(crate) fn start() -> Result<SocketAddr> {
    let (small, bulk) = (small(), bulk());
    tcp_server(move |stream| serve(stream, &small, &bulk))
}

/// The ordinary answer.
pub(super) fn small() -> Vec<u8> {
    answer(SMALL, SMALL)
}

/// The head of a download, and a piece of its body.
pub(super) fn bulk() -> (Vec<u8>, Vec<u8>) {
    (answer(BULK, 0), vec![b'b'; 256 << 10])
}

fn answer(length: usize, body: usize) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'a'; body]].concat()
}

/// Answers on one connection, as long as it lasts.
pub(super) fn serve(
    mut stream: TcpStream,
    small: &[u8],
    bulk: &(Vec<u8>, Vec<u8>),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut filled) = ([0; 8192], 0);
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let request = &buffer[..filled];
        if request[0] != b'G' {
            stream.write_all(b"!")?;
        } else if !request.ends_with(b"\r\n\r\n") {
            continue;
        } else if request.starts_with(b"GET /bulk") {
            stream.write_all(&bulk.0)?;
            for _ in 0..BULK / bulk.1.len() {
                stream.write_all(&bulk.1)?;
            }
        } else {
            stream.write_all(small)?;
        }
        filled = 0;
    }
}

/// nginx with TLS and the ordinary answer.
#[derive(Debug)]
pub(crate) struct Secure {
    address: SocketAddr,
    ca: Ca,
    _nginx: Ended,
}

impl Secure {
    /// Starts it, where it is installed.
    pub(crate) fn start() -> Result<Result<Self, String>> {
        if let Some(reason) = Tool::Nginx.missing().or_else(|| Tool::Openssl.missing()) {
            return Ok(Err(reason));
        }
        let (address, ca) = (free_address()?, Ca::new()?);
        let files = ca.server(SECURE_HOST)?;
        let server = format!(
            "listen {address} ssl; ssl_certificate {}; ssl_certificate_key {};
             location / {{ return 200 {}; }}",
            files.certificate.display(),
            files.key.display(),
            "a".repeat(SMALL),
        );
        let nginx = peers::nginx(address, "", &server)?;
        Ok(Ok(Self { address, ca, _nginx: nginx }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that made its certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.ca.certificate()
    }
}
