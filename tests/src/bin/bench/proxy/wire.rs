//! A client's connection, at as little cost as can be: the driver shares the processor with what it
//! measures.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// What has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(5);

/// One connection and what was read of it last. Nothing on it waits longer than [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects; with a target, asks for a tunnel to it.
    pub(crate) fn tunnel(address: SocketAddr, target: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut wire = Self { stream, buffer: vec![0; 4096] };
        if let Some(target) = target {
            let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
            wire.stream.write_all(request.as_bytes())?;
            wire.read_head()?;
        }
        Ok(wire)
    }

    /// Sends a TLS hello and waits for the first byte behind it.
    pub(crate) fn greet(&mut self, hello: &[u8]) -> Result<()> {
        self.stream.write_all(hello)?;
        Ok(self.stream.read_exact(&mut self.buffer[..1])?)
    }

    /// Sends a request and reads its answer, which has a length.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request)?;
        let (read, end) = self.read_head()?;
        let mut left = (end + self.content_length(end)?).saturating_sub(read);
        while left > 0 {
            let most = left.min(self.buffer.len());
            left -= self.read_some(0, most)?;
        }
        Ok(())
    }

    /// Sends a request and reads its answer until it is whole or the time is up: how many bytes came.
    pub(crate) fn download(&mut self, request: &[u8], time: Duration) -> Result<usize> {
        let end_of_time = Instant::now() + time;
        self.stream.write_all(request)?;
        let (mut read, end) = self.read_head()?;
        let whole = end + self.content_length(end)?;
        while read < whole && Instant::now() < end_of_time {
            read += self.read_some(0, self.buffer.len())?;
        }
        Ok(read)
    }

    /// Room for bulk: what a proxy costs, not the reader's system calls, is measured.
    pub(crate) fn for_bulk(mut self) -> Self {
        self.buffer.resize(256 << 10, 0);
        self
    }

    /// The connection alone.
    pub(crate) fn idle(self) -> TcpStream {
        self.stream
    }

    /// Reads until the head is whole: how much was read, and where the head ends.
    fn read_head(&mut self) -> Result<(usize, usize)> {
        let (mut read, begun) = (0, Instant::now());
        loop {
            ensure!(begun.elapsed() < PATIENCE, "no whole answer after {PATIENCE:?}");
            read += self.read_some(read, self.buffer.len())?;
            let end = self.buffer[..read].windows(4).position(|part| part == b"\r\n\r\n");
            if let Some(end) = end {
                let good = [&b"HTTP/1.1 200"[..], b"HTTP/1.0 200"]
                    .iter()
                    .any(|start| self.buffer.starts_with(start));
                ensure!(good, "{}", String::from_utf8_lossy(&self.buffer[..read]));
                return Ok((read, end + 4));
            }
        }
    }

    fn read_some(&mut self, from: usize, to: usize) -> Result<usize> {
        let read = self.stream.read(&mut self.buffer[from..to])?;
        ensure!(read > 0, "the connection was closed");
        Ok(read)
    }

    fn content_length(&self, end: usize) -> Result<usize> {
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
        length.and_then(|digits| digits.parse().ok()).context("an answer without a length")
    }
}
