//! CONNECT, from the 200 to the end.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{Origin, Proxy};

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
