//! Clients that speak HTTP/2.

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{Origin, Proxy, rule};

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
