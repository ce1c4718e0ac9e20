//! Reverse routes: their credentials, their limits and their end.

use tokio::io::AsyncReadExt as _;

use super::harness::{Origin, Proxy, Then, answer_until_full, rule};

#[tokio::test]
async fn a_route_replaces_the_clients_credentials_by_its_own() {
    let origin = Origin::ok().await;
    let proxy = Proxy::with(&[origin.port], &["--allow-plain-http-rules"]);
    proxy.rules(&rule(origin.port, ""));
    let answer = proxy
        .ask(
            "GET /mcp/gh/a?x=1 HTTP/1.1\r\nHost: evil.test\r\nAUTHORIZATION: mine\r\n\
             authorization: mine2\r\nX-Api-Key: mine3\r\nX_Api_Key: mine4\r\n\
             Connection: authorization, host\r\n\r\n",
        )
        .await;
    assert_eq!(answer.status, 200);
    let expected = format!(
        "GET /v1/a?x=1 HTTP/1.1\r\nhost: plain.test:{}\r\nauthorization: Bearer SECRET\r\n\r\n",
        origin.port
    );
    assert_eq!(origin.seen(), [expected]);
    let line = &proxy.audit()[0];
    assert_eq!(line["injected"][0], "authorization");
    assert!(!line.to_string().contains("SECRET") && !line.to_string().contains("x=1"));
}

#[tokio::test]
async fn a_route_keeps_to_its_limits() {
    let origin = Origin::ok().await;
    let proxy = Proxy::with(&[origin.port], &["--allow-plain-http-rules"]);
    let more =
        r#", "allow_methods": ["GET", "PUT"], "allow_paths": ["/repos/*"], "max_request_bytes": 4"#;
    proxy.rules(&rule(origin.port, more));
    for (request, code) in [
        (
            "POST /mcp/gh/repos/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "method_not_allowed",
        ),
        ("GET /mcp/gh/REPOS/x HTTP/1.1\r\nHost: a\r\n\r\n", "path_not_allowed"),
        ("GET /mcp/gh/repos/../x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_path"),
        (
            "PUT /mcp/gh/repos/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "body_too_large",
        ),
        (
            "PUT /mcp/gh/repos/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "body_too_large",
        ),
        ("GET /mcp/gh/repos/x HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
    ] {
        assert_eq!(proxy.ask(request).await.code(), code, "{request}");
    }
}

#[tokio::test]
async fn the_target_of_a_route_passes_the_guard_like_any_other() {
    let proxy = Proxy::with(&[80], &["--allow-plain-http-rules"]);
    proxy.rules(r#"{"in": {"real_base_url": "http://inside.test/"}, "evil": {"real_base_url": "https://evil.test"}}"#);
    for (request, code) in [
        ("GET /mcp/in HTTP/1.1\r\nHost: a\r\n\r\n", "address_denied"),
        ("GET /mcp/evil HTTP/1.1\r\nHost: a\r\n\r\n", "denied"),
    ] {
        assert_eq!(proxy.ask(request).await.code(), code, "{request}");
    }
}

#[tokio::test]
async fn a_withdrawn_rule_ends_its_streams() {
    let origin = Origin::start(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        Then::KeepOpen,
    )
    .await;
    let proxy = Proxy::with(&[origin.port], &["--allow-plain-http-rules"]);
    proxy.rules(&rule(origin.port, ""));
    let mut client = proxy.connect();
    client.send("GET /mcp/gh/sse HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    let mut event = [0; 10];
    client.0.read_exact(&mut event).await.unwrap();
    assert_eq!(&event, b"5\r\nhello\r\n");
    proxy.rules("{}");
    assert_eq!(client.rest().await, "");
    assert_eq!(proxy.audit()[0]["close_reason"], "rule_revoked");
}

#[tokio::test]
async fn a_withdrawn_rule_ends_an_upload_whose_answer_nobody_reads() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = Proxy::with(&[port], &["--allow-plain-http-rules"]);
    proxy.rules(&rule(port, ""));
    let mut client = proxy.connect();
    client
        .send("POST /mcp/gh/up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await;
    let (mut origin, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"first\r\n") {
        seen.push(origin.read_u8().await.unwrap());
    }
    let (mut reader, mut writer) = origin.split();
    answer_until_full(&mut writer).await;
    proxy.rules("{}");
    let mut late = Vec::new();
    let patience = std::time::Duration::from_secs(10);
    // A connection that is reset has ended as well.
    let _ended = tokio::time::timeout(patience, reader.read_to_end(&mut late)).await.unwrap();
    assert_eq!(late, b"");
}

#[tokio::test]
async fn a_websocket_is_relayed_after_the_proof() {
    const WISH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let origin = Origin::start(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nframes",
        Then::KeepOpen,
    )
    .await;
    let liar = Origin::start(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: AAAA\r\n\r\n",
        Then::KeepOpen,
    )
    .await;
    let proxy = Proxy::allowing(&[origin.port, liar.port]);
    let ask =
        |p| format!("GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n{WISH}\r\n");
    let mut client = proxy.connect();
    client.send(&ask(origin.port)).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    let mut frames = [0; 6];
    client.0.read_exact(&mut frames).await.unwrap();
    assert_eq!(&frames, b"frames");
    assert_eq!(proxy.ask(&ask(liar.port)).await.code(), "bad_upstream");
}
