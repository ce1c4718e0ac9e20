//! A minimal HTTP/1.1 client over Unix sockets and TCP, for requests that no well-behaved client
//! would send as well as for ordinary ones.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// Either kind of connection.
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn open(endpoint: &Endpoint) -> io::Result<Self> {
        // Only a server that hangs makes a test wait this long.
        let patience = Some(Duration::from_secs(60));
        match endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                Ok(Self::Unix(stream))
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The status line and the header fields of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status line and header fields.
    pub head: Head,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("{} with a body that is no JSON: {}", self.status(), self.text())
        })
    }

    /// The stable code of a problem+json body.
    ///
    /// # Errors
    /// When the answer is no problem document with a code.
    pub fn problem_code(&self) -> Result<String> {
        ensure!(
            self.header("content-type") == Some("application/problem+json"),
            "{} is no problem document: {}",
            self.status(),
            self.text()
        );
        let code = self.json()?["code"].as_str().context("a problem without a code")?.to_owned();
        Ok(code)
    }
}

/// One connection, kept between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Stream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(endpoint: &Endpoint) -> Result<Self> {
        let stream =
            Stream::open(endpoint).with_context(|| format!("cannot connect to {endpoint}"))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Sends the end of the stream and keeps reading.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn finish_sending(&mut self) -> Result<()> {
        Ok(self.stream.get_ref().shutdown_write()?)
    }

    /// Reads the head of an answer, past any 100 Continue.
    ///
    /// # Errors
    /// When the peer closes or sends no HTTP.
    pub fn read_head(&mut self) -> Result<Head> {
        loop {
            let head = self.read_one_head()?;
            if head.status != 100 {
                return Ok(head);
            }
        }
    }

    fn read_one_head(&mut self) -> Result<Head> {
        let status_line = self.read_line()?.context("the peer closed before it answered")?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("no status line: {status_line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?.context("the peer closed inside the header")?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) =
                line.split_once(':').with_context(|| format!("no header field: {line:?}"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// One line without its end; `None` at the end of the stream.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read_line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Exactly `length` bytes.
    ///
    /// # Errors
    /// When the stream ends before.
    pub fn read_exact(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Everything up to the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The next chunk of a chunked body; `None` after the last one.
    ///
    /// # Errors
    /// When the framing is broken, as in a body that was cut.
    pub fn read_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.read_line()?.context("the chunked body was cut")?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).with_context(|| format!("no chunk size: {line:?}"))?;
        let bytes = self.read_exact(size)?;
        ensure!(self.read_line()?.is_some_and(|line| line.is_empty()), "a chunk without its end");
        Ok((size > 0).then_some(bytes))
    }

    /// Reads a whole answer to a request with `method`.
    ///
    /// # Errors
    /// When the peer closes early or sends no HTTP.
    pub fn read_response(&mut self, method: &str) -> Result<Response> {
        let head = self.read_head()?;
        let body = self.read_body(method, &head)?;
        Ok(Response { head, body })
    }

    fn read_body(&mut self, method: &str, head: &Head) -> Result<Vec<u8>> {
        let opened = method == "CONNECT" && head.status == 200;
        if opened || method == "HEAD" || matches!(head.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        if head.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.read_chunk()? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        match head.header("content-length") {
            Some(length) => self.read_exact(length.parse()?),
            None => self.read_to_end(),
        }
    }
}

/// A server, and the header fields that go with every request to it.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client of the server at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, headers: Vec::new() }
    }

    /// The same with one more header field in every request.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// The server's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One request with its answer, over a connection of its own.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, method: &str, target: &str, body: &[u8]) -> Result<Response> {
        let mut connection = Connection::open(&self.endpoint)?;
        // A server may answer and close before it has taken the whole body.
        let sent = connection.send(&self.request(method, target, body));
        connection.read_response(method).or_else(|error| sent.and(Err(error)))
    }

    /// The bytes of a request.
    pub fn request(&self, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
        let host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !host {
            head += "Host: localhost\r\n";
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// `GET`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, target: &str) -> Result<Response> {
        self.send("GET", target, b"")
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send_json(&self, method: &str, target: &str, body: &Value) -> Result<Response> {
        self.clone().with("content-type", "application/json").send(
            method,
            target,
            body.to_string().as_bytes(),
        )
    }

    /// A request that has to succeed, with its JSON answer.
    ///
    /// # Errors
    /// When the answer is not a success, with the answer in the message.
    pub fn json(&self, method: &str, target: &str, body: &Value) -> Result<Value> {
        let response = self.send_json(method, target, body)?;
        if !(200..300).contains(&response.status()) {
            bail!("{method} {target} answered {}: {}", response.status(), response.text());
        }
        response.json()
    }
}
