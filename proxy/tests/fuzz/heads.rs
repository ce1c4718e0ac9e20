//! What is read from a socket piece by piece: the verdict must not depend on the pieces.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use workspace_proxy::refusal::Refusal;
use workspace_proxy::strict::head;
use workspace_proxy::tunnel::client_hello::ClientHello;
use workspace_proxy::tunnel::hello;
use workspace_proxy::upstream::via::answer;

use crate::inputs::{self, cuts};

/// Reads a head as it comes in, and judges it.
fn in_pieces<T>(
    input: &[u8],
    ends: &[usize],
    find_end: impl Fn(&[u8], usize) -> Result<Option<usize>, Refusal>,
    judge: impl Fn(&[u8]) -> Result<T, Refusal>,
) -> Option<Result<T, Refusal>> {
    let mut seen = 0;
    for end in ends {
        match find_end(&input[..*end], seen) {
            Ok(None) => seen = *end,
            Ok(Some(end)) => return Some(judge(&input[..end])),
            Err(refusal) => return Some(Err(refusal)),
        }
    }
    None
}

/// What passes has one kind of line end and no other control character than a tab.
fn has_one_reading(input: &[u8], end: usize) {
    let bare = String::from_utf8_lossy(&input[..end]).replace("\r\n", "");
    assert!(!bare.contains(|c: char| c.is_ascii_control() && c != '\t'), "{input:?}");
}

#[test]
fn request_heads() {
    let find_end = |bytes: &[u8], seen| head::find_end(bytes, seen, 65_536);
    inputs::run_bytes("request_heads", |input, random| {
        let ends = cuts(input.len(), random);
        let whole = in_pieces(input, &[input.len()], find_end, head::check);
        let pieces = in_pieces(input, &ends, find_end, head::check);
        assert_eq!(whole, pieces, "{input:?} cut at {ends:?}");
        if let (Some(Ok(_)), Ok(Some(end))) = (whole, find_end(input, 0)) {
            has_one_reading(input, end);
        }
    });
}

#[test]
fn answers_of_upstream_proxies() {
    inputs::run_bytes("upstream_answers", |input, random| {
        let ends = cuts(input.len(), random);
        let whole = in_pieces(input, &[input.len()], answer::find_end, answer::judge);
        let pieces = in_pieces(input, &ends, answer::find_end, answer::judge);
        assert_eq!(whole, pieces, "{input:?} cut at {ends:?}");
        if let (Some(Ok(())), Ok(Some(end))) = (whole, answer::find_end(input, 0)) {
            has_one_reading(input, end);
            assert!(input.starts_with(b"HTTP/1.") && input[9] == b'2', "{input:?}");
        }
    });
}

/// A client that sends these pieces, and then nothing more.
struct Pieces<'a> {
    input: &'a [u8],
    at: usize,
    ends: &'a [usize],
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let at = self.at;
        if let Some(end) = self.ends.iter().find(|end| **end > at) {
            let end = *end.min(&(at + buffer.remaining()));
            buffer.put_slice(&self.input[at..end]);
            self.at = end;
        }
        Poll::Ready(Ok(()))
    }
}

fn read_hello(input: &[u8], ends: &[usize]) -> Result<Option<ClientHello>, Refusal> {
    let early = Bytes::copy_from_slice(&input[..ends[0]]);
    let mut client = Pieces { input, at: ends[0], ends };
    // Nothing in here waits for a clock.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let heard = runtime.block_on(hello::read(&mut client, early, Duration::from_secs(60)));
    heard.map(|heard| heard.map(|(_bytes, hello)| hello))
}

#[test]
fn client_hellos() {
    inputs::run_bytes("client_hellos", |input, random| {
        let ends = cuts(input.len(), random);
        let whole = read_hello(input, &[input.len()]);
        assert_eq!(whole, read_hello(input, &ends), "{input:?} cut at {ends:?}");
        // Nothing has been heard yet, and a byte at a time makes no difference either.
        assert_eq!(whole, read_hello(input, &[0, input.len()]), "{input:?}");
        if let Ok(Some(hello)) = &whole {
            let name = hello.server_name.as_deref().unwrap_or("-");
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{input:?}");
        }
    });
}
