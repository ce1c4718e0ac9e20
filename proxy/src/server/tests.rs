//! Requests as bytes on real sockets, against a proxy in this process.

mod harness;
mod panics;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::harness::{Origin, Proxy, Then};

#[tokio::test]
async fn odd_requests_are_refused_without_a_connection() {
    let origin = Origin::ok().await;
    let proxy = Proxy::allowing(&[origin.port]);
    let p = origin.port;
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    let connect = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let post = |headers: &str| {
        format!("POST http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n{headers}\r\n")
    };
    for (request, status, code) in [
        (get(&format!("http://plain.test:{p}/"), "Host: evil.test\r\n"), 400, "host_mismatch"),
        (get(&format!("http://plain.test:{p}/"), ""), 400, "host_mismatch"),
        (get(&format!("http://plain.test:{p}/"), "Host: a\r\nHost: b\r\n"), 400, "host_mismatch"),
        (get(&format!("http://u@plain.test:{p}/"), "Host: plain.test\r\n"), 400, "userinfo"),
        (get(&format!("ftp://plain.test:{p}/"), "Host: plain.test\r\n"), 400, "scheme"),
        (get(&format!("plain.test:{p}"), "Host: plain.test\r\n"), 400, "bad_authority"),
        (get("http://other.test/", "Host: other.test\r\n"), 403, "not_allowed"),
        (
            get(&format!("http://evil.test:{p}/"), &format!("Host: evil.test:{p}\r\n")),
            403,
            "denied",
        ),
        (get("http://plain.test:1/", "Host: plain.test:1\r\n"), 403, "port_not_allowed"),
        (
            get(&format!("http://inside.test:{p}/"), &format!("Host: inside.test:{p}\r\n")),
            403,
            "address_denied",
        ),
        (get("/mcp/none", "Host: a\r\n"), 404, "unknown_route"),
        (get("//plain.test/x", "Host: a\r\n"), 404, "unknown_route"),
        (get("/model/x/invoke", "Host: a\r\n"), 404, "unknown_route"),
        (connect("allowed.test"), 400, "bad_authority"),
        (connect("allowed.test:0"), 400, "bad_authority"),
        (connect(&format!("2130706433:{p}")), 400, "numeric_host"),
        (connect(&format!("127.0.0.1:{p}")), 403, "not_allowed"),
        (connect(&format!("inside.test:{p}")), 403, "address_denied"),
        (
            format!("CONNECT allowed.test:{p} HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
            400,
            "connect_body",
        ),
        (
            format!("connect allowed.test:{p} HTTP/1.1\r\nHost: a\r\n\r\n"),
            501,
            "unsupported_method",
        ),
        (
            format!("TRACE http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\r\n"),
            501,
            "unsupported_method",
        ),
        (post("Transfer-Encoding: gzip, chunked\r\n"), 400, "bad_framing"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "bad_framing"),
        (post("Expect: x\r\n"), 417, "expectation_failed"),
    ] {
        let answer = proxy.ask(&request).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{request}");
        assert!(answer.body.contains(&format!("\"code\":\"{code}\"")), "{}", answer.body);
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(proxy.audit().len(), 24);
}

#[tokio::test]
async fn a_forwarded_request_is_cleaned_and_its_answer_too() {
    let origin = Origin::start(
        "HTTP/1.1 302 Found\r\nlocation: https://evil.test/\r\nx-proxy-error: denied\r\n\
         connection: x-hop\r\nx-hop: 1\r\ncontent-length: 2\r\n\r\nok",
        Then::KeepOpen,
    )
    .await;
    let proxy = Proxy::allowing(&[origin.port]);
    let p = origin.port;
    let answer = proxy
        .ask(&format!(
            "GET http://PLAIN.test:{p}/a?q=1 HTTP/1.1\r\nHost: plain.test:{p}\r\nAccept: x\r\n\
             Connection: close, x-mine\r\nX-Mine: 1\r\nProxy-Authorization: Basic x\r\n\r\n"
        ))
        .await;
    let expected = format!("GET /a?q=1 HTTP/1.1\r\naccept: x\r\nhost: plain.test:{p}\r\n\r\n");
    assert_eq!(origin.seen(), [expected]);
    assert_eq!((answer.status, answer.body.as_str()), (302, "ok"));
    assert_eq!(answer.header("location"), Some("https://evil.test/"));
    assert_eq!((answer.header("x-proxy-error"), answer.header("x-hop")), (None, None));
}

#[tokio::test]
async fn a_chunked_upload_arrives_without_its_trailers() {
    let origin = Origin::ok().await;
    let proxy = Proxy::allowing(&[origin.port]);
    let p = origin.port;
    for method in ["POST", "GET"] {
        let answer = proxy
            .ask(&format!(
                "{method} http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\
                 Transfer-Encoding: Chunked\r\nTrailer: authorization\r\n\r\n\
                 5;x=1\r\nhello\r\n0\r\nauthorization: mine\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 200);
        let seen = origin.seen().pop().unwrap();
        assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
        assert!(!seen.contains("authorization"), "{seen}");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_by_itself() {
    let origin = Origin::ok().await;
    let proxy = Proxy::allowing(&[origin.port]);
    let p = origin.port;
    let mut client = proxy.connect();
    client
        .send(&format!(
            "GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\r\n\
             GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n\
             GET http://allowed.test:{p}/ HTTP/1.1\r\nHost: allowed.test:{p}\r\n\r\n"
        ))
        .await;
    for status in [200, 403, 200] {
        assert_eq!(client.answer().await.status, status);
    }
    assert_eq!(proxy.audit().len(), 3);
}

#[tokio::test]
async fn upstream_connections_are_kept_and_a_closed_one_is_replaced() {
    let origin = Origin::ok().await;
    let closing =
        Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::Close).await;
    let proxy = Proxy::allowing(&[origin.port, closing.port]);
    for p in [origin.port, closing.port] {
        for _ in 0..5 {
            let request =
                format!("GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\r\n");
            assert_eq!(proxy.ask(&request).await.status, 200);
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
        let p = origin.port;
        let request =
            format!("GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\r\n");
        let got = proxy.ask(&request).await;
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
    let p = origin.port;
    let mut client = proxy.connect();
    client
        .send(&format!("GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\r\n"))
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert!(!client.rest().await.ends_with("0\r\n\r\n"));
    assert_eq!(proxy.audit()[0]["close_reason"], "upstream_broke");
}

#[tokio::test]
async fn a_tunnel_carries_what_came_with_the_request() {
    let origin = Origin::ok().await;
    let proxy = Proxy::allowing(&[origin.port]);
    let p = origin.port;
    for version in ["1.1", "1.0"] {
        let mut client = proxy.connect();
        client
            .send(&format!(
                "CONNECT allowed.test:{p} HTTP/{version}\r\n\r\nGET /in HTTP/1.1\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.status, 200);
        assert!(client.answer().await.head.starts_with("HTTP/1.1 200"));
        assert_eq!(origin.seen().pop().unwrap(), "GET /in HTTP/1.1\r\n\r\n");
    }
}

#[tokio::test]
async fn no_tunnel_no_200() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let p = gone.local_addr().unwrap().port();
    drop(gone);
    let proxy = Proxy::allowing(&[p]);
    let answer = proxy.ask(&format!("CONNECT allowed.test:{p} HTTP/1.1\r\n\r\n")).await;
    assert_eq!((answer.status, answer.code()), (502, "connect_failed"));
}

#[tokio::test]
async fn tunnels_are_limited_and_given_back() {
    let origin = Origin::ok().await;
    let proxy = Proxy::with(&[origin.port], &["--max-tunnels", "1"]);
    let request = format!("CONNECT allowed.test:{} HTTP/1.1\r\n\r\n", origin.port);
    let mut first = proxy.connect();
    first.send(&request).await;
    assert_eq!(first.answer().await.status, 200);
    let second = proxy.ask(&request).await;
    assert_eq!((second.status, second.code()), (503, "overloaded"));
    assert!(second.header("retry-after").is_some());
    first.0.shutdown().await.unwrap();
    let mut end = Vec::new();
    first.0.read_to_end(&mut end).await.unwrap();
    drop(first);
    let _slot = proxy.context.tunnels.acquire().await.unwrap();
}

fn rule(p: u16, more: &str) -> String {
    format!(
        r#"{{"version": 1, "mcp_servers": {{"gh": {{"real_base_url": "http://plain.test:{p}/v1",
        "headers": {{"Authorization": "Bearer SECRET"}}{more}}}}}}}"#
    )
}

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
    writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // Until every buffer on the way is full.
    let patience = std::time::Duration::from_millis(300);
    while tokio::time::timeout(patience, writer.write_all(chunk.as_bytes()))
        .await
        .is_ok_and(|written| written.is_ok())
    {}
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

#[tokio::test]
async fn a_client_that_goes_away_leaves_one_line() {
    let origin =
        Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Then::KeepOpen).await;
    let proxy = Proxy::allowing(&[origin.port]);
    let p = origin.port;
    let mut client = proxy.connect();
    client
        .send(&format!("GET http://plain.test:{p}/ HTTP/1.1\r\nHost: plain.test:{p}\r\n\r\n"))
        .await;
    client.head().await;
    drop(client);
    proxy.trigger.start();
    proxy.trigger.cut();
    proxy.trigger.finished().await;
    let lines = proxy.audit();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["host"], "plain.test");
}

async fn http2(proxy: &Proxy) -> http2::SendRequest<Empty<bytes::Bytes>> {
    let io = TokioIo::new(proxy.connect().0);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    proxy.context.drain.spawn(async move {
        // Ends with the proxy.
        let _end = connection.await;
    });
    sender
}

#[tokio::test]
async fn http2_clients_get_routes_forwards_and_tunnels() {
    let origin = Origin::ok().await;
    let proxy = Proxy::with(&[origin.port], &["--allow-plain-http-rules"]);
    proxy.rules(&rule(origin.port, ""));
    let p = origin.port;
    let mut sender = http2(&proxy).await;
    for (uri, seen) in [
        ("http://127.0.0.1:8080/mcp/gh/a".to_owned(), "GET /v1/a HTTP/1.1"),
        (format!("http://plain.test:{p}/b"), "GET /b HTTP/1.1"),
    ] {
        let request =
            Request::builder().uri(uri).header("cookie", "a=1").body(Empty::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert!(origin.seen().pop().unwrap().starts_with(seen));
    }
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("allowed.test:{p}"))
        .body(Empty::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tunnel.write_all(b"GET /in HTTP/1.1\r\n\r\n").await.unwrap();
    let mut status = [0; 15];
    tunnel.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}
