//! A wire on which something happens the moment that a request is made: between two calls of a client,
//! where a test has no other way to stand.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use anyhow::Result;

use crate::binaries;

/// A socket in front of an agent's.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Ambush {
    path: PathBuf,
    trap: Trap,
}

impl Ambush {
    /// Listens at `path` for an agent at `server`. Before the first request that begins with `request`
    /// goes on, `action` is done.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn lay(
        path: PathBuf,
        server: &Path,
        request: &'static str,
        action: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let listener = UnixListener::bind(&path)?;
        let trap = Trap { request, action: Arc::new(Mutex::new(Some(Box::new(action)))) };
        let (server, laid) = (server.to_owned(), trap.clone());
        // Ends with the test: the threads hold nothing but connections.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(agent) = UnixStream::connect(&server) else { return };
                let there = pass(&client, &agent, Some(laid.clone()));
                if there.and(pass(&agent, &client, None)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { path, trap })
    }

    /// A client subcommand whose agent is behind this.
    pub fn cli(&self, subcommand: &str) -> Command {
        let mut command = Command::new(binaries::agent());
        command.args([subcommand, "--connect", format!("unix:{}", self.path.display()).as_str()]);
        command.stdin(Stdio::null());
        command
    }

    /// Whether the request has come.
    pub fn is_sprung(&self) -> bool {
        self.trap.lock().is_none()
    }
}

type Action = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
struct Trap {
    request: &'static str,
    action: Arc<Mutex<Option<Action>>>,
}

impl Trap {
    fn lock(&self) -> MutexGuard<'_, Option<Action>> {
        self.action.lock().expect("no thread panics with it")
    }

    /// Acts on the first request that is meant. A client writes the head of a request at once.
    fn look(&self, bytes: &[u8]) {
        if bytes.starts_with(self.request.as_bytes())
            && let Some(action) = self.lock().take()
        {
            action();
        }
    }
}

fn pass(from: &UnixStream, to: &UnixStream, trap: Option<Trap>) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..length];
            if let Some(trap) = &trap {
                trap.look(bytes);
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    });
    Ok(())
}
