//! What becomes of requests before and on their way out.

use super::harness::{Origin, Proxy, Then, get};

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
async fn a_client_that_goes_away_leaves_one_line() {
    let origin =
        Origin::start("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Then::KeepOpen).await;
    let proxy = Proxy::allowing(&[origin.port]);
    let mut client = proxy.connect();
    client.send(&get(origin.port)).await;
    client.head().await;
    drop(client);
    proxy.cut().await;
    let lines = proxy.audit();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["host"], "plain.test");
}
