//! Stand-ins for a company's proxy: a scripted one, which keeps what it was asked, and tinyproxy.

use std::{
    fs,
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::{
    http::Endpoint,
    origin::tcp_server,
    process::{Daemon, free_address},
};

/// A scripted proxy. It serves until the test's process ends.
#[derive(Debug, Clone)]
pub struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// One that hands each connection to `serve` once the head of a request is there.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn start<S>(serve: S) -> Result<Self>
    where
        S: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let keep = Arc::clone(&asked);
        let address = tcp_server(move |mut stream| {
            let head = read_head(&mut stream)?;
            keep.lock().unwrap_or_else(PoisonError::into_inner).push(head);
            serve(stream)
        })?;
        Ok(Self { address, asked })
    }

    /// One that answers with these bytes and then nothing, until its client leaves.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn answering(answer: &'static [u8]) -> Result<Self> {
        Self::start(move |mut stream| {
            stream.write_all(answer)?;
            io::copy(&mut stream, &mut io::sink()).map(drop)
        })
    }

    /// One that leads every tunnel to the same place, whatever it was asked for.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn leading_to(origin: SocketAddr) -> Result<Self> {
        Self::start(move |mut stream| {
            let mut upstream = TcpStream::connect(origin)?;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            let (mut from, mut to) = (stream.try_clone()?, upstream.try_clone()?);
            thread::spawn(move || {
                // Either end may leave first.
                drop(io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
            io::copy(&mut upstream, &mut stream)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// The value for `--upstream-proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read_head(stream: &mut impl io::Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A scripted proxy that wants TLS, answers with these bytes, and stays until its client leaves.
///
/// # Errors
/// When the kernel has no port left.
pub fn secured(tls: Arc<ServerConfig>, answer: &'static [u8]) -> Result<SocketAddr> {
    tcp_server(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&tls)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        read_head(&mut stream)?;
        stream.write_all(answer)?;
        io::copy(&mut stream, &mut io::sink()).map(drop)
    })
}

/// A running tinyproxy that wants a password.
#[derive(Debug)]
pub struct Tinyproxy {
    daemon: Daemon,
    address: SocketAddr,
    directory: TempDir,
}

impl Tinyproxy {
    /// Starts it for one user.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start(user: &str, password: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = free_address()?;
        let file = directory.path().join("tinyproxy.conf");
        let log = directory.path().join("log");
        let settings = format!(
            "Port {}\nListen 127.0.0.1\nAllow 127.0.0.1\nMaxClients 50\nTimeout 60\nLogLevel Connect\n\
             LogFile \"{}\"\nBasicAuth {user} {password}\n",
            address.port(),
            log.display()
        );
        fs::write(&file, settings)?;
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        let mut daemon = Daemon::spawn("tinyproxy", command, directory.path())?;
        daemon.wait_until_listening(&Endpoint::Tcp(address))?;
        Ok(Self { daemon, address, directory })
    }

    /// The value for `--upstream-proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it wrote down about its requests.
    pub fn log(&self) -> String {
        let file: PathBuf = self.directory.path().join("log");
        fs::read_to_string(file).unwrap_or_default() + &self.daemon.output()
    }
}
