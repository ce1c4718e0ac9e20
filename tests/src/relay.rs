//! A wire that holds still: passes so many bytes on, and then nothing more, so that either end can be
//! killed at an exact moment.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;

use crate::wait::eventually;

/// Which bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those to the server.
    Requests,
    /// Those from the server.
    Answers,
}

/// A socket in front of another.
#[derive(Debug)]
pub struct Relay {
    path: PathBuf,
    held: Arc<AtomicBool>,
}

impl Relay {
    /// Listens at `path` for a server at `server`, and passes `bytes` of the counted direction on.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(path: PathBuf, server: &Path, counted: Counted, bytes: u64) -> Result<Self> {
        let listener = UnixListener::bind(&path)?;
        let held = Arc::new(AtomicBool::new(false));
        let gate = Gate { left: Arc::new(Mutex::new(bytes)), held: Arc::clone(&held) };
        let server = server.to_owned();
        // Ends with the test: the threads hold nothing but connections.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(upstream) = UnixStream::connect(&server) else { return };
                let (request, answer) = match counted {
                    Counted::Requests => (Some(gate.clone()), None),
                    Counted::Answers => (None, Some(gate.clone())),
                };
                if pass(&client, &upstream, request).and(pass(&upstream, &client, answer)).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { path, held })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until it has passed all that it passes.
    ///
    /// # Errors
    /// When there never is so much.
    pub fn wait_until_held(&self) -> Result<()> {
        eventually("the relay holds", || self.held.load(Ordering::Acquire).then_some(()))
    }
}

/// What may still go through, over all connections.
#[derive(Debug, Clone)]
struct Gate {
    left: Arc<Mutex<u64>>,
    held: Arc<AtomicBool>,
}

impl Gate {
    /// How many of `bytes` go through.
    fn admit(&self, bytes: usize) -> usize {
        let mut left = self.left.lock().expect("no thread panics with it");
        let admitted = usize::try_from(*left).map_or(bytes, |left| left.min(bytes));
        *left -= admitted as u64;
        if *left == 0 {
            self.held.store(true, Ordering::Release);
        }
        admitted
    }
}

fn pass(from: &UnixStream, to: &UnixStream, gate: Option<Gate>) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let passed = gate.as_ref().map_or(length, |gate| gate.admit(length));
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
        }
        // The end of one side is the end of the other: neither is left waiting for a dead one.
        drop(to.shutdown(Shutdown::Write));
    });
    Ok(())
}
