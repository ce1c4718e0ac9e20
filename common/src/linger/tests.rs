use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::*;
use crate::{
    body::{self, Body},
    drain::{self, Drain},
    serve::serve_connection,
};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";

/// A client of a server that has answered this when it has read the body, if it does.
async fn answered(drain: &Drain, reads: bool, request: &[u8]) -> (UnixStream, String) {
    let (mut client, server) = UnixStream::pair().unwrap();
    let handler = move |request: Request<Received>| async move {
        if reads {
            body::collect_limited(request.into_body(), 2_000_000).await.unwrap();
        }
        Response::new(body::full("."))
    };
    drain.spawn(serve_connection(server, Duration::from_secs(3600), drain.clone(), handler));
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n.") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    (client, String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn whoever_is_in_the_middle_of_an_upload_may_go_on_and_finds_the_answer() {
    let (_trigger, drain) = drain::channel();
    let (mut client, answer) = answered(&drain, false, HEAD).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // More than the socket holds: somebody takes it.
    client.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed in order");
}

#[tokio::test]
async fn one_who_never_leaves_is_left() {
    let (trigger, drain) = drain::channel();
    let (_client, _answer) = answered(&drain, false, HEAD).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    trigger.start();
    trigger.finished().await;
    assert!(began.elapsed() <= PATIENCE + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn after_a_whole_request_nobody_is_waited_for() {
    let (trigger, drain) = drain::channel();
    let whole = [HEAD, &vec![b'x'; 1_000_000]].concat();
    let (_client, _answer) = answered(&drain, true, &whole).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    trigger.start();
    trigger.finished().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_upgraded_connection_closes_one_side_at_a_time() {
    let (_trigger, drain) = drain::channel();
    let (mut client, server) = UnixStream::pair().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let talking = drain.clone();
    let handler = move |mut request: Request<Received>| {
        let tell = tell.clone();
        talking.spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
            let mut upgraded = hyper_util::rt::TokioIo::new(upgraded);
            upgraded.write_all(b"said").await.unwrap();
            upgraded.shutdown().await.unwrap();
            let mut heard = String::new();
            upgraded.read_to_string(&mut heard).await.unwrap();
            tell.send(heard).await.unwrap();
        });
        let mut response: Response<Body> = Response::new(body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        async move { response }
    };
    drain.spawn(serve_connection(server, PATIENCE, drain.clone(), handler));
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
        .await
        .unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("\r\n\r\nsaid"), "{heard}");
    client.write_all(b"answered").await.unwrap();
    drop(client);
    assert_eq!(told.recv().await.unwrap(), "answered");
}
