//! The internet of a test that runs in a [`crate::namespace`]: whatever is dialled, on one of a few
//! ports, is accepted, noted with the address that was dialled, and answered as scripted.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Result;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::Deserialize;

use crate::ca::Server;

/// Ports on which somebody listens, on every address. Everywhere else connections are refused.
pub const PORTS: [u16; 11] = [22, 80, 443, 2379, 3306, 5432, 6443, 8443, 9000, 10250, 10255];
/// What an upstream says to what is no HTTP.
pub const GREETING: &[u8] = b"upstream-was-reached";

/// How the upstreams behave.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Whether they speak TLS on port 443.
    pub tls: bool,
    /// What they answer, one byte a character; an ordinary answer when absent.
    pub reply: Option<String>,
    /// Whether they keep the connection open behind the reply.
    pub hold: bool,
    /// Whether they speak before the client does.
    pub first: bool,
}

#[derive(Debug, Default)]
struct State {
    script: Upstream,
    /// Counts the scripts: a connection that outlives its own leaves no trace in the next one's.
    turn: u64,
    dialled: Vec<SocketAddr>,
    received: Vec<u8>,
}

/// The running upstreams. They serve until the test's process ends.
#[derive(Debug, Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    tls: Arc<ServerConfig>,
}

impl World {
    /// Listens on [`PORTS`] of every address.
    ///
    /// # Errors
    /// When the ports are taken, as they are outside a namespace, or the certificate is none.
    pub fn start(server: &Server) -> Result<Self> {
        let world = Self { state: Arc::default(), tls: Arc::new(tls(server)?) };
        for port in PORTS {
            let listener = TcpListener::bind(("::", port))?;
            let world = world.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let world = world.clone();
                    // A client that goes away early is the client's affair.
                    thread::spawn(move || drop(world.serve(stream, port)));
                }
            });
        }
        Ok(world)
    }

    /// Sets the script and forgets what was seen.
    pub fn script(&self, script: Upstream) {
        let mut state = self.lock();
        *state = State { script, turn: state.turn + 1, ..State::default() };
    }

    /// The addresses that were dialled since the script was set.
    pub fn dialled(&self) -> Vec<String> {
        self.lock().dialled.iter().map(ToString::to_string).collect()
    }

    /// Everything that was received since the script was set, one character a byte.
    pub fn received(&self) -> String {
        self.lock().received.iter().copied().map(char::from).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, turn: &Turn, bytes: &[u8]) {
        let mut state = self.lock();
        if state.turn == turn.number {
            state.received.extend(bytes);
        }
    }

    fn serve(&self, mut stream: TcpStream, port: u16) -> io::Result<()> {
        let local = stream.local_addr()?;
        let (script, turn) = {
            let mut state = self.lock();
            state.dialled.push(SocketAddr::new(local.ip().to_canonical(), local.port()));
            (state.script.clone(), state.turn)
        };
        let script = Turn { script, number: turn };
        // Only a proxy that hangs lets an upstream wait this long.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        if port == 443 && script.script.tls {
            let connection =
                ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            self.converse(&mut stream, &script)?;
            stream.conn.send_close_notify();
            return stream.flush();
        }
        self.converse(&mut stream, &script)
    }

    fn converse(&self, stream: &mut (impl Read + Write), turn: &Turn) -> io::Result<()> {
        let script = &turn.script;
        if script.first {
            stream.write_all(GREETING)?;
        }
        let mut message = Vec::new();
        let mut answered = false;
        let mut buffer = [0; 16_384];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.note(turn, &buffer[..count]);
            message.extend(&buffer[..count]);
            if answered || !is_whole(&message) {
                continue;
            }
            answered = true;
            stream.write_all(&reply(script, &message))?;
            stream.flush()?;
            if speaks_http(&message) && !script.hold {
                return Ok(());
            }
        }
    }
}

/// A script with its number.
struct Turn {
    script: Upstream,
    number: u64,
}

fn reply(script: &Upstream, message: &[u8]) -> Vec<u8> {
    match &script.reply {
        Some(text) => bytes(text),
        None if speaks_http(message) => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_vec()
        }
        None => GREETING.to_vec(),
    }
}

fn speaks_http(message: &[u8]) -> bool {
    message.first().is_some_and(u8::is_ascii_uppercase) && !message.starts_with(b"SSH-")
}

/// Whether a request is there with its body. What is no HTTP is whole with its first byte.
fn is_whole(message: &[u8]) -> bool {
    if !speaks_http(message) {
        return true;
    }
    let text: String = message.iter().map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
    body.len() >= length.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Characters as bytes: U+0000 to U+00FF stand for 0 to 255.
///
/// # Panics
/// When a character is beyond.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a character for a byte")).collect()
}

/// What a server with this certificate and key speaks TLS with.
///
/// # Errors
/// When they are none.
pub fn tls(server: &Server) -> Result<ServerConfig> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&server.certificate)?.collect();
    let key = PrivateKeyDer::from_pem_file(&server.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, key)?)
}
