//! What is sent: proper requests in odd forms, the rows of the table of bad inputs, and mutations of
//! both. All of it follows from a fixed seed.

use anyhow::Result;

use super::HOST;
use crate::{
    bad_inputs::{self, Action},
    world::bytes,
};

const SEED: u64 = 0x0123_4567_89ab_cdef;
const PROPER: usize = 150;
const MUTANTS: usize = 450;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"];
/// Targets, as they are written behind the authority.
const TARGETS: [&str; 9] = [
    "/",
    "",
    "/a?b=c&b=d",
    "?q",
    "/a%20b%C3%A9",
    "/a;p=1/b",
    "/x?y=/../z//%2e",
    "/~u/(v)!*'$,=:@",
    "/a%3Fb?%00",
];
const FIELDS: [&str; 9] = [
    "",
    "X-Blanks: \t inside  stay \t \r\n",
    "Accept: a\r\nAccept: b\r\n",
    "X-Empty:\r\n",
    "Expect: 100-continue\r\n",
    "TE: trailers\r\n",
    "Connection: x-hop\r\nX-Hop: 1\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "X-Request: GET / HTTP/1.1\r\nCookie: a=b; c=\"d\"\r\n",
];
/// Bodies that look like requests, in case that their length is lost.
const BODIES: [&str; 4] = [
    "",
    "x",
    "GET /smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n",
    "0\r\n\r\nPOST /s HTTP/1.1\r\n\r\n",
];
/// What mutations put in: separators of heads and chunks, and fields that frame a body.
const PIECES: [&str; 18] = [
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "0",
    "\u{b}",
    "\u{85}",
    "\r\n\r\n",
    "\r\nTransfer-Encoding: chunked",
    "\r\nContent-Length: 3",
    "\r\nConnection: close",
    "#",
    "%",
];

/// The bytes of one connection.
#[derive(Debug, Clone)]
pub struct Input {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What every server has to understand: method, target and body; unknown for what is broken.
    pub meant: Option<Vec<(String, String, String)>>,
}

/// Everything that is sent, in order. `port` is that of the servers.
///
/// # Errors
/// When the table of bad inputs cannot be read.
pub fn all(port: u16) -> Result<Vec<Input>> {
    let authority = format!("{HOST}:{port}");
    let mut random = Random(SEED);
    let mut inputs: Vec<Input> = (0..PROPER).map(|_| proper(&mut random, &authority)).collect();
    let table = bad_inputs::load()?.into_iter().filter_map(|row| sent(&row.action, &authority));
    inputs.extend(table.map(|bytes| broken(bytes, &authority)));
    let mutants: Vec<Input> = (0..MUTANTS)
        .map(|_| {
            let model = &inputs[random.below(inputs.len())];
            let mut bytes = model.bytes.clone();
            for _ in 0..=random.below(2) {
                mutate(&mut random, &mut bytes);
            }
            Input { bytes, meant: None }
        })
        .collect();
    inputs.extend(mutants);
    Ok(inputs)
}

/// The raw requests of the table, for the host that stands behind every proxy here.
fn sent(action: &Action, authority: &str) -> Option<Vec<u8>> {
    let Action::Send(text) = action else { return None };
    // The name of a port of the proxy stands in braces.
    let usable = text.contains(HOST) && !text.contains('{') && text.len() < 20_000;
    usable.then(|| bytes(&text.replace(&format!("{HOST}:80"), HOST).replace(HOST, authority)))
}

/// A last request ends the connection, unless what is before takes it for something else.
fn broken(mut bytes: Vec<u8>, authority: &str) -> Input {
    let last = format!(
        "GET http://{authority}/last HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    );
    bytes.extend(last.into_bytes());
    Input { bytes, meant: None }
}

/// One to three requests, one behind the other.
fn proper(random: &mut Random, authority: &str) -> Input {
    let count = 1 + random.below(3);
    let (mut bytes, mut meant) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let method = *random.pick(&METHODS);
        let target = *random.pick(&TARGETS);
        let body = if matches!(method, "GET" | "HEAD") { "" } else { *random.pick(&BODIES) };
        let close = if number == count { "Connection: close\r\n" } else { "" };
        let fields = random.pick(&FIELDS);
        let framed = framed(random, method, body);
        let head = format!("{method} http://{authority}{target} HTTP/1.1\r\nHost: {authority}\r\n");
        bytes.extend(format!("{head}{close}{fields}{framed}").into_bytes());
        let slash = if target.starts_with('/') { "" } else { "/" };
        meant.push((method.to_owned(), format!("{slash}{target}"), body.to_owned()));
    }
    Input { bytes, meant: Some(meant) }
}

/// The end of the head and the body, framed in one of the ways that there are.
fn framed(random: &mut Random, method: &str, body: &str) -> String {
    if body.is_empty() && matches!(method, "GET" | "HEAD" | "OPTIONS") {
        return "\r\n".to_owned();
    }
    if random.below(2) == 0 {
        return format!("Content-Length: {}\r\n\r\n{body}", body.len());
    }
    let mut chunks = String::from("Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + random.below(rest.len()));
        let size = match random.below(3) {
            0 => format!("{:x}", chunk.len()),
            1 => format!("{:X}", chunk.len()),
            _ => format!("000{:x}", chunk.len()),
        };
        chunks += &format!("{size}\r\n{chunk}\r\n");
        rest = after;
    }
    chunks + "0\r\n\r\n"
}

/// Puts something in, takes something out, doubles a line, or changes the case of a letter.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    match random.below(4) {
        0 => {
            let piece = crate::world::bytes(random.pick::<&str>(&PIECES));
            bytes.splice(at..at, piece);
        }
        1 => {
            let end = (at + 1 + random.below(4)).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => {
            let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
            let end = bytes[at..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(bytes.len(), |n| at + n + 1);
            let line = bytes[start..end].to_vec();
            bytes.splice(start..start, line);
        }
        _ => bytes[at] ^= 0x20,
    }
}

/// Numbers that are the same in every run (xorshift).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
