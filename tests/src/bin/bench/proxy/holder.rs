//! An origin in a process of its own, since both ends of many idle tunnels are more descriptors than
//! one process may have. It greets whoever begins with anything but HTTP, and keeps the connection.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use anyhow::Result;
use tempfile::TempDir;
use workspace_tests::{process::Daemon, wait::eventually};

use super::origin;

/// The argument that makes this program such an origin.
pub(crate) const ARGUMENT: &str = "hold";

/// A running one, which ends with its value.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) address: SocketAddr,
    _daemon: Daemon,
    _directory: TempDir,
}

impl Holder {
    pub(super) fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT);
        let daemon = Daemon::spawn("holder", command, directory.path())?;
        let said = || daemon.stdout().strip_suffix('\n').map(str::to_owned);
        let address = eventually("the holder says where it listens", said)?.parse()?;
        Ok(Self { address, _daemon: daemon, _directory: directory })
    }
}

/// Runs as such an origin, for ever.
pub(crate) fn hold() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut held = Vec::new();
    for stream in listener.incoming() {
        // Whoever connects speaks first, and at once.
        held.extend(greeted(stream?)?);
    }
    Ok(())
}

/// The connection, unless it is one of HTTP, which has a thread of its own then.
fn greeted(mut stream: TcpStream) -> io::Result<Option<TcpStream>> {
    let mut first = [0];
    stream.peek(&mut first)?;
    if first == *b"G" {
        thread::spawn(move || origin::serve(stream, &origin::small(), &origin::bulk()));
        return Ok(None);
    }
    // One read is all of a hello.
    let read = stream.read(&mut [0; 1024])?;
    let greets = read > 0 && stream.write_all(b"!").is_ok();
    Ok(greets.then_some(stream))
}
