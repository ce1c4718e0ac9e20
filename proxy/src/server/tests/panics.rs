//! One connection's panic ends one connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;
use workspace_common::serve::Welcome;
use workspace_common::stream::Peer;

use super::harness::{Origin, Proxy, get};
use crate::host::{HostPort, Scheme};
use crate::policy::{self, Question};
use crate::service::{self, Inside};
use crate::strict::Strict;

/// A client's end whose next read panics once it is lit.
struct Fuse {
    stream: UnixStream,
    lit: Arc<AtomicBool>,
}

impl AsyncRead for Fuse {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        assert!(!self.lit.load(Ordering::SeqCst), "a connection panics, as the test wants it");
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Fuse {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn the_others_go_on_and_the_request_leaves_its_line() {
    let origin = Origin::ok().await;
    // Takes the request and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (p, s) = (origin.port, silent.local_addr().unwrap().port());
    let proxy = Proxy::allowing(&[p, s]);
    let mut other = proxy.connect();
    other.send(&get(p)).await;
    assert_eq!(other.answer().await.status, 200);

    let (mut client, stream) = UnixStream::pair().unwrap();
    let lit = Arc::<AtomicBool>::default();
    let fuse = Fuse { stream, lit: Arc::clone(&lit) };
    let at = HostPort::parse_authority(&format!("plain.test:{s}"), None).unwrap();
    let question = Question::request((Scheme::Http, &at), &Method::GET, "/");
    let permit = Arc::new(policy::decide(&proxy.context.policy.current(), &question).unwrap());
    let peer = Peer::Unix { uid: Some(1000), pid: None };
    let limits = service::head_limits(&proxy.context, Welcome::Served);
    let inside = Inside { client: Strict::new(fuse, limits), permit, peer };
    let serving = service::inside(Arc::clone(&proxy.context), inside);
    let serving = proxy.context.drain.spawn(serving);
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).await.unwrap();
    let (mut upstream, _) = silent.accept().await.unwrap();
    assert_eq!(upstream.read_u8().await.unwrap(), b'G');
    lit.store(true, Ordering::SeqCst);
    client.write_all(b"G").await.unwrap();
    assert!(serving.await.unwrap_err().is_panic());

    other.send(&get(p)).await;
    assert_eq!(other.answer().await.status, 200, "on a connection that stood before");
    assert_eq!(proxy.ask(&get(p)).await.status, 200, "on a new one");
    let lines = proxy.audit();
    let codes: Vec<&str> = lines.iter().map(|line| line["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ok", "panicked", "ok", "ok"]);
    assert_eq!((&lines[1]["host"], &lines[1]["decision"]), (&"plain.test".into(), &"error".into()));
    let counted = r#"ws_proxy_requests_total{code="panicked",decision="error",mode="forward"} 1"#;
    assert!(proxy.context.sinks.metrics.text().contains(counted));
    // A task that panicked is a task that has ended: the process stops as ever.
    proxy.cut().await;
}
