use proptest::prelude::*;

use super::*;

const MAX_HEAD: usize = 64 * 1024;

fn whole(bytes: &[u8]) -> Result<Follows, Refusal> {
    let end = find_end(bytes, 0, MAX_HEAD)?.ok_or(Refusal::BadBody)?;
    check(&bytes[..end])
}

fn with(fields: &str) -> Result<Follows, Refusal> {
    whole(format!("POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").as_bytes())
}

#[test]
fn what_follows_is_known() {
    for (fields, follows) in [
        ("", Follows::Sized(0)),
        ("Content-Length: 7\r\n", Follows::Sized(7)),
        ("content-length:\t007 \r\n", Follows::Sized(7)),
        ("Transfer-Encoding: Chunked\r\n", Follows::Chunked),
        ("Upgrade: WebSocket\r\n", Follows::Opaque),
        ("Upgrade: h2c\r\n", Follows::Sized(0)),
        ("Upgrade: websocket\r\nContent-Length: 3\r\n", Follows::Sized(3)),
        ("X: \u{fc} \t y\r\nX_Y:\r\n", Follows::Sized(0)),
    ] {
        assert_eq!(with(fields), Ok(follows), "{fields:?}");
    }
    assert_eq!(whole(b"CONNECT a.test:443 HTTP/1.0\r\n\r\n"), Ok(Follows::Opaque));
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\ncontent-length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 1000000000000000000\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert_eq!(with(fields), Err(Refusal::BadFraming), "{fields:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(whole(old), Err(Refusal::BadFraming));
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let head = format!("CONNECT a.test:443 HTTP/1.1\r\n{fields}\r\n\r\n");
        assert_eq!(whole(head.as_bytes()), Err(Refusal::ConnectBody), "{fields}");
    }
}

#[test]
fn heads_that_a_lenient_reader_would_repair_are_refused() {
    for head in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\u{0}b\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\u{7f}\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /\u{20}x HTTP/1.1\r\n\r\n",
        "GET\t/ HTTP/1.1\r\n\r\n",
        "GET /\u{e4} HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "G\u{cb}T / HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
    ] {
        assert_eq!(whole(head.as_bytes()), Err(Refusal::BadRequest), "{head:?}");
    }
    let fragment = b"GET http://a.test#@b.test/ HTTP/1.1\r\n\r\n";
    assert_eq!(whole(fragment), Err(Refusal::BadPath));
    for method in ["get", "GE!T", "connect", "!"] {
        let head = format!("{method} / HTTP/1.1\r\n\r\n");
        assert_eq!(whole(head.as_bytes()), Err(Refusal::UnsupportedMethod), "{method}");
    }
}

#[test]
fn a_head_has_bounds() {
    let many = "X: y\r\n".repeat(MAX_FIELDS);
    assert_eq!(with(&many), Err(Refusal::HeadTooLarge), "Host is one of them");
    assert_eq!(find_end(&[b'a'; MAX_HEAD], 0, MAX_HEAD), Ok(None));
    assert_eq!(find_end(&[b'a'; MAX_HEAD + 1], 0, MAX_HEAD), Err(Refusal::UriTooLong));
    let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD));
    assert_eq!(find_end(long.as_bytes(), MAX_HEAD, MAX_HEAD), Err(Refusal::HeadTooLarge));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_passes_has_one_kind_of_line_end(bytes in "[GET /:a\r\nhtp0-9.]{0,80}") {
        let head = format!("GET / HTTP/1.1\r\n{bytes}\r\n\r\n");
        if let Ok(Some(end)) = find_end(head.as_bytes(), 0, MAX_HEAD)
            && check(&head.as_bytes()[..end]).is_ok()
        {
            let bare = String::from_utf8(head.as_bytes()[..end].to_vec()).unwrap().replace("\r\n", "");
            prop_assert!(!bare.contains(['\r', '\n']));
        }
    }

    #[test]
    fn any_cut_finds_the_same_end(cut in 1usize..60) {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
        let cut = cut.min(head.len());
        let first = find_end(&head[..cut], 0, MAX_HEAD).unwrap();
        let end = match first {
            Some(end) => Some(end),
            None => find_end(head, cut, MAX_HEAD).unwrap(),
        };
        prop_assert_eq!(end, Some(27));
    }
}
