//! The accept loop of both binaries: one task a connection, HTTP/1.1 and cleartext HTTP/2 told
//! apart by the first bytes, a limit on connections, a limit on the time headers may take.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, pending},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    body::Body,
    drain::Drain,
    linger::{Lingering, Received},
    listen::Listener,
    presence::Presence,
    stream::{Peer, Stream},
};

/// Largest request head: line and headers together. Beyond it the answer is 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What every listener of a binary has in common.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    connections: Arc<Semaphore>,
    spare: Option<Arc<Semaphore>>,
    header_timeout: Duration,
    on_malformed: Option<OnMalformed>,
}

/// What a request head may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// How long a client may take to send one. The same time ends a kept-alive connection on which
    /// nothing comes.
    pub timeout: Duration,
    /// Bytes of request line and headers together.
    pub size: usize,
}

impl From<Duration> for HeadLimits {
    fn from(timeout: Duration) -> Self {
        Self { timeout, size: MAX_HEAD_BYTES }
    }
}

/// How a connection is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// There was a place for it.
    Served,
    /// All places are taken. It is to be told so and to go; there are not many places for that either.
    TurnedAway,
}

/// A request head that never became a request: it was answered with an error status, its connection
/// was closed, and the handler heard nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It is no HTTP (400).
    NoHttp,
    /// Line or headers are too long or too many (414 or 431).
    TooLarge,
}

#[derive(Clone)]
struct OnMalformed(Arc<dyn Fn(Peer, Malformed) + Send + Sync>);

impl fmt::Debug for OnMalformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnMalformed")
    }
}

impl ServeOptions {
    /// At most `max_connections` at once, over all listeners that share this value (further ones
    /// wait), each of which may take `header_timeout` to send a request head. The same time ends a
    /// kept-alive connection on which nothing comes.
    pub fn new(max_connections: usize, header_timeout: Duration) -> Self {
        let permits = max_connections.min(Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(permits));
        Self { connections, spare: None, header_timeout, on_malformed: None }
    }

    /// Further ones are [turned away](Welcome::TurnedAway), so many at a time; those beyond wait.
    #[must_use]
    pub fn turning_away(mut self, places: usize) -> Self {
        self.spare = Some(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))));
        self
    }

    /// Has `hook` told of what was refused before it was a request.
    #[must_use]
    pub fn on_malformed(mut self, hook: impl Fn(Peer, Malformed) + Send + Sync + 'static) -> Self {
        self.on_malformed = Some(OnMalformed(Arc::new(hook)));
        self
    }
}

/// Accepts connections until the drain begins and serves each with `handler`.
///
/// When the drain begins, idle connections are closed and busy ones finish their request; at the
/// cut they are dropped. A handler may require the [`Presence`] of its client.
pub async fn serve<H, F>(listener: Listener, options: ServeOptions, drain: Drain, handler: H)
where
    H: Fn(Request<Received>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (timeout, connection_drain) = (options.header_timeout, drain.clone());
    let serve_one = move |stream: Stream, peer, _served| {
        let stream = stream.for_bulk();
        let handler = handler.clone();
        let (presence, missed) = Presence::watch(&stream);
        let handler = move |mut request: Request<Received>| {
            request.extensions_mut().insert(presence.clone());
            handler(request, peer)
        };
        serve_until(missed, stream, timeout.into(), connection_drain.clone(), handler)
    };
    serve_each(listener, options, drain, serve_one).await;
}

/// [`serve`] for who has something to do around each connection: `serve_one` is to end in
/// [`serve_connection`].
pub async fn serve_each<S, F>(listener: Listener, options: ServeOptions, drain: Drain, serve_one: S)
where
    S: Fn(Stream, Peer, Welcome) -> F,
    F: Future<Output = Option<Malformed>> + Send + 'static,
{
    loop {
        let (stream, peer, place) = tokio::select! {
            () = drain.started() => return,
            accepted = accept(&listener, &options) => match accepted {
                Some(accepted) => accepted,
                None => return,
            },
        };
        let serving = serve_one(stream, peer, place.welcome);
        let on_malformed = options.on_malformed.clone();
        drain.spawn(async move {
            if let (Some(malformed), Some(OnMalformed(hook))) = (serving.await, on_malformed) {
                hook(peer, malformed);
            }
            drop(place);
        });
    }
}

/// The next connection, with a place for it. The place comes after the connection: a listener to which
/// nobody comes must not hold one.
async fn accept(listener: &Listener, options: &ServeOptions) -> Option<(Stream, Peer, Place)> {
    let (stream, peer) = listener.accept().await;
    Some((stream, peer, options.place().await?))
}

/// A place for one connection.
struct Place {
    welcome: Welcome,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// The places are never closed, so there is one in the end.
    async fn of(places: &Arc<Semaphore>, welcome: Welcome) -> Option<Self> {
        Some(Self { welcome, _permit: Arc::clone(places).acquire_owned().await.ok()? })
    }
}

impl ServeOptions {
    async fn place(&self) -> Option<Place> {
        let served = Place::of(&self.connections, Welcome::Served);
        let Some(spare) = &self.spare else { return served.await };
        tokio::select! {
            biased;
            place = served => place,
            place = Place::of(spare, Welcome::TurnedAway) => place,
        }
    }
}

/// Serves one connection of any byte stream until it closes, drains or is cut, or brings no first
/// request in time. Says what its last bytes were, where they were no request.
pub async fn serve_connection<I, H, F>(
    io: I,
    limits: impl Into<HeadLimits>,
    drain: Drain,
    handler: H,
) -> Option<Malformed>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Received>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    serve_until(pending(), io, limits.into(), drain, handler).await
}

/// [`serve_connection`] until its client is missed.
async fn serve_until<I, H, F>(
    missed: impl Future<Output = ()>,
    io: I,
    limits: HeadLimits,
    drain: Drain,
    handler: H,
) -> Option<Malformed>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Received>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let builder = connection_builder(limits);
    let heard = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&heard);
    let io = Lingering::new(io);
    let standing = io.standing();
    let service = service_fn(move |request: Request<Incoming>| {
        hears.store(true, Ordering::Relaxed);
        let (method, standing) = (request.method().clone(), standing.clone());
        let answer = handler(standing.request(request));
        async move {
            let response = answer.await;
            standing.answer(&method, &response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let (mut connection, mut missed) = (pin!(connection), pin!(missed));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = missed.as_mut() => return None,
        () = silence(&heard, limits.timeout) => return None,
        () = drain.started() => {
            // Nothing is cut short here, and a client that is silent must not hold the stop up.
            if !heard.load(Ordering::Relaxed) {
                return None;
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = missed.as_mut() => return None,
                () = drain.cut() => return None,
            }
        }
    };
    let error = ended.err()?;
    tracing::debug!(%error, "connection ended with an error");
    malformed(error.downcast_ref()?)
}

/// Resolves when no request has come within `patience`. hyper's own limit begins only when it has
/// told the versions of HTTP apart, for which it needs a byte at least.
async fn silence(heard: &AtomicBool, patience: Duration) {
    tokio::time::sleep(patience).await;
    if heard.load(Ordering::Relaxed) {
        pending().await
    }
}

fn malformed(error: &hyper::Error) -> Option<Malformed> {
    if error.is_parse_too_large() {
        Some(Malformed::TooLarge)
    } else if error.is_parse() {
        Some(Malformed::NoHttp)
    } else {
        None
    }
}

fn connection_builder(limits: HeadLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // A client that closes its side has gone: the handler is dropped, and what it runs ends.
        .half_close(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.timeout)
        // The library takes no less than this.
        .max_buf_size(limits.size.max(8192));
    let list = u32::try_from(limits.size).unwrap_or(u32::MAX);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(list);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
        sync::oneshot,
    };

    use super::*;
    use crate::{body, drain, listen::ListenAddr};

    fn listener(dir: &tempfile::TempDir) -> Listener {
        let address: ListenAddr =
            format!("unix:{}", dir.path().join("s").display()).parse().unwrap();
        address.bind().unwrap().into_async().unwrap()
    }

    async fn exchange(dir: &tempfile::TempDir, request: &str) -> String {
        let mut client = UnixStream::connect(dir.path().join("s")).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        // Whoever brings no request in time is not answered, and what it did bring is lost to a reset.
        let mut answer = Vec::new();
        while client.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn requests_are_answered_until_the_drain_and_the_busy_one_finishes() {
        let dir = tempfile::tempdir().unwrap();
        let (trigger, drain) = drain::channel();
        let (entered_tx, mut entered) = tokio::sync::mpsc::channel::<oneshot::Sender<()>>(1);
        let handler = move |_request, _peer| {
            let entered = entered_tx.clone();
            async move {
                let (release, released) = oneshot::channel();
                entered.send(release).await.unwrap();
                released.await.unwrap();
                Response::new(body::full("done"))
            }
        };
        let options = ServeOptions::new(8, Duration::from_secs(5));
        let serving = drain.spawn(serve(listener(&dir), options, drain.clone(), handler));
        let request = exchange(&dir, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let steer = async {
            let release = entered.recv().await.unwrap();
            trigger.start();
            serving.await.unwrap();
            release.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(request, steer);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        trigger.finished().await;
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (_trigger, drain) = drain::channel();
        let options = ServeOptions::new(1, Duration::from_millis(50));
        let handler = |_request, _peer| async { Response::new(body::empty()) };
        drain.spawn(serve(listener(&dir), options, drain.clone(), handler));
        for start in ["", "PRI * HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HT"] {
            // Returns when the server has closed; each needs the one place that the last one had.
            exchange(&dir, start).await;
        }
    }

    #[tokio::test]
    async fn without_a_place_a_connection_is_turned_away_and_beyond_that_it_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (_trigger, drain) = drain::channel();
        let options = ServeOptions::new(1, Duration::from_secs(3600)).turning_away(1);
        let served = drain.clone();
        let serve_one = move |stream: Stream, _peer, welcome: Welcome| {
            let handler =
                move |_request| async move { Response::new(body::full(format!("{welcome:?}"))) };
            serve_connection(stream, Duration::from_secs(3600), served.clone(), handler)
        };
        drain.spawn(serve_each(listener(&dir), options, drain.clone(), serve_one));
        let path = dir.path().join("s");
        let mut answers = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        for client in &mut clients[..2] {
            answers.push(answer_of(client).await);
        }
        assert_eq!(answers, ["Served", "TurnedAway"]);
        // The third gets the place of the first.
        drop(clients.remove(0));
        assert_eq!(answer_of(&mut clients[1]).await, "Served");
    }

    /// The body of a short answer on a connection that stays open.
    async fn answer_of(client: &mut UnixStream) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"Served") && !bytes.ends_with(b"TurnedAway") {
            assert!(client.read_buf(&mut bytes).await.unwrap() > 0);
        }
        let text = String::from_utf8(bytes).unwrap();
        text.rsplit("\r\n").next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_connection_without_a_request_does_not_hold_the_stop_up() {
        let dir = tempfile::tempdir().unwrap();
        let (trigger, drain) = drain::channel();
        let options = ServeOptions::new(8, Duration::from_secs(3600));
        let handler = |_request, _peer| async { Response::new(body::empty()) };
        drain.spawn(serve(listener(&dir), options, drain.clone(), handler));
        let mut clients = Vec::new();
        for start in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HT"] {
            let mut client = UnixStream::connect(dir.path().join("s")).await.unwrap();
            client.write_all(start.as_bytes()).await.unwrap();
            clients.push(client);
        }
        // Connections are accepted in order: when this is answered, the others have been.
        exchange(&dir, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        trigger.start();
        trigger.finished().await;
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (_trigger, drain) = drain::channel();
        let (report, mut reported) = tokio::sync::mpsc::unbounded_channel();
        let options = ServeOptions::new(8, Duration::from_secs(5))
            .on_malformed(move |_peer, what| report.send(what).unwrap());
        let handler = |_request, _peer| async { Response::new(body::empty()) };
        drain.spawn(serve(listener(&dir), options, drain.clone(), handler));
        let oversize = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(MAX_HEAD_BYTES));
        for (request, status, what) in [
            (oversize.as_str(), "431", Malformed::TooLarge),
            ("GET / HTTP/1.1\r\nno header\r\n\r\n", "400", Malformed::NoHttp),
            // The second request of a connection.
            ("GET / HTTP/1.1\r\n\r\n\x05\x01\r\n\r\n", "200", Malformed::NoHttp),
        ] {
            let answer = exchange(&dir, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert_eq!(reported.recv().await, Some(what));
        }
        let answer = exchange(&dir, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(reported.try_recv().is_err());
    }
}
