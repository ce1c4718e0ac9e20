//! A scripted upstream on loopback: it keeps what it receives and answers what the test tells it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method, target and version.
    pub line: String,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Received {
    /// All values of a header field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The first value of a header field, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    /// Reads one request; `None` when the client closed instead.
    ///
    /// # Errors
    /// When the connection breaks or what arrives is no HTTP.
    pub fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let field = read_line(stream)?;
            let Some((name, value)) = field.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut received = Self { line, headers, body: Vec::new() };
        received.body = received.read_body(stream)?;
        Ok(Some(received))
    }

    fn read_body(&self, stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding") == "chunked" {
            loop {
                let size = usize::from_str_radix(&read_line(stream)?, 16).unwrap_or(0);
                let start = body.len();
                body.resize(start + size, 0);
                stream.read_exact(&mut body[start..])?;
                read_line(stream)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        body.resize(self.header("content-length").parse().unwrap_or(0), 0);
        stream.read_exact(&mut body)?;
        Ok(body)
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// A running upstream. It serves until the test's process ends.
#[derive(Debug, Clone)]
pub struct Origin {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Origin {
    /// Starts an upstream; `answer` writes the bytes of each answer. The connection closes behind
    /// every answer.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn start<A>(answer: A) -> Result<Self>
    where
        A: Fn(&Received, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let origin = Self { address: listener.local_addr()?, received: Arc::default() };
        let (received, answer) = (Arc::clone(&origin.received), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (received, answer) = (Arc::clone(&received), Arc::clone(&answer));
                // A client that goes away early is the client's affair.
                thread::spawn(move || drop(serve(stream, &received, &*answer)));
            }
        });
        Ok(origin)
    }

    /// An upstream that answers every request with 200 and this body.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn saying(body: &'static str) -> Result<Self> {
        Self::start(move |_, stream| respond(stream, 200, "text/plain", body.as_bytes()))
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve<A>(mut stream: TcpStream, received: &Mutex<Vec<Received>>, answer: &A) -> io::Result<()>
where
    A: Fn(&Received, &mut TcpStream) -> io::Result<()>,
{
    stream.set_nodelay(true)?;
    let Some(request) = Received::read(&mut BufReader::new(stream.try_clone()?))? else {
        return Ok(());
    };
    received.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    answer(&request, &mut stream)
}

/// Writes a whole answer.
///
/// # Errors
/// When the client has gone.
pub fn respond(stream: &mut TcpStream, status: u16, kind: &str, body: &[u8]) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// A plain TCP server: `serve` has each connection.
///
/// # Errors
/// When the kernel has no port left.
pub fn tcp_server<S>(serve: S) -> Result<SocketAddr>
where
    S: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || drop(serve(stream)));
        }
    });
    Ok(address)
}

/// Reads up to the end of the stream.
///
/// # Errors
/// When the connection breaks.
pub fn drain(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}
