//! Origins that mean harm: heads without an end, byte by byte, and answers with two readings on a
//! connection that was good before.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
};

use anyhow::{Context as _, Result, ensure};
use workspace_tests::{
    http::Response,
    origin::{Received, tcp_server},
    proxy::{Proxy, Setup},
};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy before an origin.
struct Pair {
    proxy: Proxy,
    host: String,
}

impl Pair {
    fn new(origin: SocketAddr) -> Result<Self> {
        let proxy = Setup::new()?.allow_local("origin.test", origin.port()).start()?;
        Ok(Self { proxy, host: format!("origin.test:{}", origin.port()) })
    }

    fn get(&self) -> Result<Response> {
        self.proxy.client().with("host", &self.host).get(&format!("http://{}/", self.host))
    }

    fn refused(&self) -> Result<()> {
        let answer = self.get()?;
        let code = answer.header("x-proxy-error");
        ensure!((answer.status(), code) == (502, Some("bad_upstream")), "{answer:?}");
        Ok(())
    }
}

/// An origin that answers the requests of each connection in turn, and closes behind the last one.
fn turns(answers: &'static [&'static [u8]]) -> Result<SocketAddr> {
    tcp_server(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone()?);
        for answer in answers {
            if Received::read(&mut reader)?.is_none() {
                return Ok(());
            }
            stream.write_all(answer)?;
        }
        Ok(())
    })
}

/// Writes in segments of one byte.
fn byte_by_byte(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    bytes.iter().try_for_each(|byte| stream.write_all(&[*byte]))
}

#[test]
fn a_large_head_that_comes_byte_by_byte_passes() -> Result<()> {
    let field = format!("X-Filler: {}\r\n", "f".repeat(2000));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nok", field.repeat(80));
    let origin = tcp_server(move |mut stream| {
        Received::read(&mut BufReader::new(stream.try_clone()?))?;
        byte_by_byte(&mut stream, head.as_bytes())
    })?;
    let answer = Pair::new(origin)?.get()?;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.head.headers.iter().filter(|(name, _)| name == "x-filler").count(), 80);
    Ok(())
}

#[test]
fn a_head_without_an_end_is_given_up_and_its_connection_closed() -> Result<()> {
    let (sent, received) = mpsc::channel();
    let origin = tcp_server(move |mut stream| {
        Received::read(&mut BufReader::new(stream.try_clone()?))?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
        let mut count = 0_usize;
        // Ends by an error, when the proxy has closed.
        while stream.write_all(&[b'x'; 4096]).is_ok() {
            count += 4096;
        }
        let _test_is_over = sent.send(count);
        Ok(())
    })?;
    let pair = Pair::new(origin)?;
    pair.refused()?;
    let count = received.recv().context("the origin still sends")?;
    // What was taken, and what the buffers of the kernel held.
    ensure!(count < 64 * 1024 * 1024, "{count} bytes of a head were taken");
    Ok(())
}

#[test]
fn some_interim_answers_pass_and_many_do_not() -> Result<()> {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    for (count, passes) in [(1, true), (16, true), (17, false), (1000, false)] {
        let answer = [HINT.repeat(count).as_bytes(), GOOD].concat();
        let origin = tcp_server(move |mut stream| {
            Received::read(&mut BufReader::new(stream.try_clone()?))?;
            stream.write_all(&answer)?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        })?;
        let pair = Pair::new(origin)?;
        if passes {
            let answer = pair.get()?;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{count}");
        } else {
            pair.refused().with_context(|| format!("{count}"))?;
        }
    }
    Ok(())
}

#[test]
fn each_answer_of_a_connection_is_looked_at() -> Result<()> {
    for bad in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\ncontent-length:2\ncontent-length: 3\n\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    ] {
        let answers: &'static [&'static [u8]] = Box::leak(Box::new([GOOD, bad]));
        let pair = Pair::new(turns(answers)?)?;
        assert_eq!(pair.get()?.status(), 200);
        pair.refused().with_context(|| String::from_utf8_lossy(bad).into_owned())?;
    }
    Ok(())
}

#[test]
fn a_second_answer_that_nobody_asked_for_reaches_nobody() -> Result<()> {
    const TWICE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
        HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let pair = Pair::new(turns(&[TWICE, TWICE])?)?;
    for _ in 0..5 {
        let answer = pair.get()?;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
    Ok(())
}
