//! Real sockets: half-closes, early data, bulk, resets and silence.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;

const LONG: Duration = Duration::from_secs(60);

struct Tunnel {
    client: UnixStream,
    origin: UnixStream,
    counts: ByteCounts,
    ended: JoinHandle<Outcome>,
}

#[expect(clippy::disallowed_methods, reason = "a test has no drain")]
fn tunnel(early: &'static [u8], idle: Duration) -> Tunnel {
    let (client, inner) = UnixStream::pair().unwrap();
    let (upstream, origin) = UnixStream::pair().unwrap();
    let counts = ByteCounts::default();
    let shared = counts.clone();
    let ended = tokio::spawn(async move {
        relay(inner, upstream, Bytes::from_static(early), &shared, idle).await
    });
    Tunnel { client, origin, counts, ended }
}

#[tokio::test]
async fn early_data_arrives_once_and_first() {
    let mut t = tunnel(b"hello ", LONG);
    t.client.write_all(b"world").await.unwrap();
    t.client.shutdown().await.unwrap();
    let mut got = String::new();
    t.origin.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "hello world");
}

#[tokio::test]
async fn after_the_clients_half_close_everything_still_comes_back() {
    let mut t = tunnel(b"", LONG);
    t.client.shutdown().await.unwrap();
    let mut got = Vec::new();
    assert_eq!(t.origin.read_to_end(&mut got).await.unwrap(), 0);
    let content = vec![7u8; 10 * 1024 * 1024];
    let (sent, received) = tokio::join!(
        async {
            t.origin.write_all(&content).await.unwrap();
            t.origin.shutdown().await.unwrap();
        },
        async {
            let mut got = Vec::new();
            t.client.read_to_end(&mut got).await.unwrap();
            got
        }
    );
    let () = sent;
    assert!(received == content);
    assert_eq!(t.ended.await.unwrap(), Outcome::Completed);
    assert_eq!(t.counts.down.load(Ordering::Relaxed), content.len() as u64);
}

#[tokio::test]
async fn after_the_origins_half_close_bytes_still_go_up() {
    let mut t = tunnel(b"", LONG);
    t.origin.shutdown().await.unwrap();
    assert_eq!(t.client.read(&mut [0; 8]).await.unwrap(), 0);
    t.client.write_all(b"late").await.unwrap();
    let mut got = [0; 4];
    t.origin.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"late");
}

#[tokio::test]
async fn a_side_that_goes_away_closes_the_other() {
    let mut t = tunnel(b"", LONG);
    drop(t.origin);
    assert_eq!(t.client.read(&mut [0; 8]).await.unwrap(), 0);
    // The origin cannot take this, which ends the tunnel.
    t.client.write_all(b"x").await.unwrap();
    assert_eq!(t.ended.await.unwrap(), Outcome::UpstreamBroke);
}

#[tokio::test]
async fn silence_ends_a_tunnel() {
    let t = tunnel(b"", Duration::from_millis(1));
    assert_eq!(t.ended.await.unwrap(), Outcome::Idle);
}
