//! What becomes of the answers of origins, and of the connections that brought them.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::harness::{Origin, Proxy, Then, answer_until_full, get};

#[tokio::test]
async fn upstream_connections_are_kept_and_a_closed_one_is_replaced() {
    let origin = Origin::ok().await;
    let closing =
        Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::Close).await;
    let proxy = Proxy::allowing(&[origin.port, closing.port]);
    for p in [origin.port, closing.port] {
        for _ in 0..5 {
            assert_eq!(proxy.ask(&get(p)).await.status, 200);
        }
    }
    assert!(origin.connections() < 5, "{}", origin.connections());
    assert_eq!(closing.connections(), 5);
}

#[tokio::test]
async fn malformed_answers_become_an_error_or_a_visible_cut() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\nx y: z\r\n\r\n",
        "nonsense\r\n\r\n",
        "",
    ] {
        let origin = Origin::start(answer, Then::Close).await;
        let proxy = Proxy::allowing(&[origin.port]);
        let got = proxy.ask(&get(origin.port)).await;
        assert_eq!((got.status, got.code()), (502, "bad_upstream"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_looks_broken_to_the_client() {
    let origin = Origin::start(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        Then::Close,
    )
    .await;
    let proxy = Proxy::allowing(&[origin.port]);
    let mut client = proxy.connect();
    client.send(&get(origin.port)).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert!(!client.rest().await.ends_with("0\r\n\r\n"));
    assert_eq!(proxy.audit()[0]["close_reason"], "upstream_broke");
}

#[tokio::test]
async fn an_upload_goes_on_behind_an_answer_that_nobody_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let p = listener.local_addr().unwrap().port();
    let proxy = Proxy::allowing(&[p]);
    let mut client = proxy.connect();
    client
        .send(&format!(
            "POST http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        ))
        .await;
    let (mut origin, _) = listener.accept().await.unwrap();
    let (mut reader, mut writer) = origin.split();
    let mut seen = Vec::new();
    while !seen.ends_with(b"first\r\n") {
        seen.push(reader.read_u8().await.unwrap());
    }
    answer_until_full(&mut writer).await;
    client.send("4\r\nlast\r\n0\r\n\r\n").await;
    let mut rest = [0; 14];
    timeout(Duration::from_secs(10), reader.read_exact(&mut rest)).await.unwrap().unwrap();
    assert_eq!(&rest, b"4\r\nlast\r\n0\r\n\r\n");
}

/// A request that asks for a WebSocket has a connection to the origin with a task of its own, which
/// may see the cut first, and hears of it in more than one way: hence the rounds.
#[tokio::test]
async fn what_the_stop_cuts_before_its_answer_is_not_the_origins_fault() {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for more in ["", UPGRADE].repeat(30) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let p = listener.local_addr().unwrap().port();
        let proxy = Proxy::allowing(&[p]);
        let mut client = proxy.connect();
        client
            .send(&format!(
                "GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n{more}\r\n"
            ))
            .await;
        let (mut origin, _) = listener.accept().await.unwrap();
        assert_eq!(origin.read_u8().await.unwrap(), b'G', "the request has left");
        proxy.cut().await;
        let lines = proxy.audit();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["code"], "draining", "{more:?}");
    }
}
