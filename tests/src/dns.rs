//! A scripted name server on UDP and TCP: it answers what the test tells it and keeps what it was
//! asked. Names that nobody scripted do not exist.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::Result;

/// What the server says about a name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These addresses, those of the family that was asked for.
    Addresses(Vec<IpAddr>),
    /// One list after the other, a list a question of a family; the last one stays.
    InTurn(Vec<Vec<IpAddr>>),
    /// An alias first, and the addresses of what it leads to.
    Alias(String, Vec<IpAddr>),
    /// The name exists and has no address.
    Empty,
    /// The name does not exist.
    NoSuchName,
    /// The server failed.
    Failure,
    /// Nothing comes back.
    Silence,
}

/// A question as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, without the root's dot.
    pub name: String,
    /// The record type: 1 is A, 28 is AAAA.
    pub kind: u16,
}

#[derive(Debug, Default)]
struct Script {
    answers: BTreeMap<String, Answer>,
    asked: Vec<Question>,
    ttl: u32,
}

/// A running name server. It serves until the test's process ends.
#[derive(Debug, Clone)]
pub struct NameServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// Largest reply over UDP; a longer one is cut and asked for again over TCP.
const UDP_LIMIT: usize = 512;

impl NameServer {
    /// Starts a server on loopback.
    ///
    /// # Errors
    /// When the kernel has no port left.
    pub fn start() -> Result<Self> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address)?;
        let server = Self { address, script: Arc::default() };
        let by_udp = server.clone();
        thread::spawn(move || by_udp.serve_udp(&udp));
        let by_tcp = server.clone();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let server = by_tcp.clone();
                // A resolver that goes away early is its own affair.
                thread::spawn(move || drop(server.serve_tcp(stream)));
            }
        });
        Ok(server)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the script and forgets what was asked. Records may be kept for `ttl` seconds.
    pub fn script(&self, answers: BTreeMap<String, Answer>, ttl: u32) {
        *self.lock() = Script { answers, asked: Vec::new(), ttl };
    }

    /// What was asked since the script was set.
    pub fn asked(&self) -> Vec<Question> {
        self.lock().asked.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let Some(mut reply) = self.reply(&packet[..length]) else { continue };
            if reply.len() > UDP_LIMIT {
                reply.truncate(UDP_LIMIT);
                reply[2] |= 0x02;
                // Truncated: no record is whole.
                reply[6..8].fill(0);
                let end = question_end(&reply).unwrap_or(12);
                reply.truncate(end);
            }
            drop(socket.send_to(&reply, from));
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut packet)?;
            if let Some(reply) = self.reply(&packet) {
                let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
                stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())?;
            }
        }
    }

    fn reply(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let end = question_end(packet)?;
        let question = Question {
            name: name_at(packet)?,
            kind: u16::from_be_bytes([packet[end - 4], packet[end - 3]]),
        };
        let mut script = self.lock();
        let before = script.asked.iter().filter(|earlier| **earlier == question).count();
        script.asked.push(question.clone());
        let answer = script.answers.get(&question.name).cloned().unwrap_or(Answer::NoSuchName);
        let (code, records) = records(&answer, question.kind, before, script.ttl)?;
        let count = u16::try_from(records.len()).unwrap_or(u16::MAX).to_be_bytes();
        let header =
            [packet[0], packet[1], 0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0];
        let mut reply = [&header, &packet[12..end]].concat();
        reply.extend(records.concat());
        Some(reply)
    }
}

/// The response code and the records; nothing where the server stays silent.
fn records(answer: &Answer, kind: u16, before: usize, ttl: u32) -> Option<(u8, Vec<Vec<u8>>)> {
    let question = [0xc0, 12];
    let found = match answer {
        Answer::Silence => return None,
        Answer::Failure => return Some((2, Vec::new())),
        Answer::NoSuchName => return Some((3, Vec::new())),
        Answer::Empty => Vec::new(),
        Answer::Addresses(ips) => addresses(&question, ips, kind, ttl),
        Answer::InTurn(lists) => {
            let ips = lists.get(before).or(lists.last()).map_or(&[][..], Vec::as_slice);
            addresses(&question, ips, kind, ttl)
        }
        Answer::Alias(target, ips) => {
            let target = encoded(target);
            let mut found = vec![record(&question, CNAME, ttl, &target)];
            found.extend(addresses(&target, ips, kind, ttl));
            found
        }
    };
    Some((0, found))
}

fn addresses(name: &[u8], ips: &[IpAddr], kind: u16, ttl: u32) -> Vec<Vec<u8>> {
    let wanted = |ip: &&IpAddr| kind == if ip.is_ipv4() { A } else { AAAA };
    let content = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    ips.iter().filter(wanted).map(|ip| record(name, kind, ttl, &content(ip))).collect()
}

fn record(name: &[u8], kind: u16, ttl: u32, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(content);
    bytes
}

fn encoded(name: &str) -> Vec<u8> {
    let label = |label: &str| {
        let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
        [&[length], label.as_bytes()].concat()
    };
    let mut bytes: Vec<u8> = name.split('.').flat_map(label).collect();
    bytes.push(0);
    bytes
}

/// Where the question's type and class end.
fn question_end(packet: &[u8]) -> Option<usize> {
    let name = packet.get(12..)?.split_inclusive(|byte| *byte == 0).next()?;
    let end = 12 + name.len() + 4;
    (packet.len() >= end).then_some(end)
}

fn name_at(packet: &[u8]) -> Option<String> {
    let mut rest = packet.get(12..)?;
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            return Some(labels.join("."));
        }
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = after;
    }
}
