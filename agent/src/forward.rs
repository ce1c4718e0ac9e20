//! Forwards: TCP ports on loopback inside the commands' network, each leading to a Unix socket
//! outside of it, in place of socat: the way from a command to the proxy; or through the proxy on
//! to one TCP service, for programs that know of no proxy.

pub mod connect;
pub mod spec;

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    sync::Semaphore,
    time::timeout,
};
use workspace_common::{
    drain::Drain,
    listen::{BindError, BoundListener, ListenAddr, Listener},
    stream::{Stream, connect_unix},
};

use self::{
    connect::{ConnectError, Tunnel},
    spec::{ForwardSpec, Target},
};
use crate::metrics::Metrics;

/// How long the socket's owner may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffer of each direction of a connection.
const BUFFER: usize = 16 * 1024;
/// Connections of one forward at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Why forwards cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The port is taken.
    #[error("--forward {forward}: {source}")]
    Bind {
        /// The forward as it was written.
        forward: String,
        /// What the kernel said.
        source: BindError,
    },
    /// It leads through the proxy, and no proxy is known.
    #[error(
        "--forward {0} has no proxy to go through: append ,via=unix:/path/to/proxy.sock, or add a forward to the proxy's socket"
    )]
    NoProxy(String),
}

/// Binds the ports in the network that the process is in now.
///
/// # Errors
/// When one of them is taken, or leads through a proxy that is not named.
pub fn bind_all(forwards: &[ForwardSpec]) -> Result<Vec<BoundForward>, SetUpError> {
    let proxy = forwards.iter().find_map(ForwardSpec::socket);
    forwards.iter().map(|forward| bind(forward, proxy)).collect()
}

fn bind(forward: &ForwardSpec, proxy: Option<&Path>) -> Result<BoundForward, SetUpError> {
    let way = match &forward.target {
        Target::Unix(path) => Way::Socket(path.clone()),
        Target::Connect { to, via } => {
            let via = via.as_deref().or(proxy);
            let via = via.ok_or_else(|| SetUpError::NoProxy(forward.to_string()))?.to_owned();
            Way::Tunnel(Tunnel { via, to: to.clone() })
        }
    };
    let listener = ListenAddr::Tcp(forward.listen)
        .bind()
        .map_err(|source| SetUpError::Bind { forward: forward.to_string(), source })?;
    Ok(BoundForward { listener, way })
}

/// What is at the other end of a forward, with everything it takes to get there.
#[derive(Debug)]
enum Way {
    Socket(std::path::PathBuf),
    Tunnel(Tunnel),
}

/// A forward whose port is bound.
#[derive(Debug)]
pub struct BoundForward {
    listener: BoundListener,
    way: Way,
}

impl BoundForward {
    /// The port that commands connect to.
    pub fn port(&self) -> Option<u16> {
        match self.listener.address() {
            ListenAddr::Tcp(address) => Some(address.port()),
            ListenAddr::Unix { .. } => None,
        }
    }

    /// Starts forwarding; connections that are open when the drain begins live on until the cut.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime.
    pub fn start(self, drain: &Drain, metrics: &Arc<Metrics>) -> io::Result<()> {
        let listener = self.listener.into_async()?;
        let forward = Forward {
            way: Arc::new(self.way),
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            metrics: metrics.clone(),
            drain: drain.clone(),
        };
        // Commands may still be saving their work during the drain; the runtime's end ends this.
        drain.spawn_uncounted(forward.accept_all(listener));
        Ok(())
    }
}

#[derive(Debug)]
struct Forward {
    way: Arc<Way>,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

impl Forward {
    async fn accept_all(self, listener: Listener) {
        loop {
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
            let (client, _) = listener.accept().await;
            let (way, metrics, drain) =
                (self.way.clone(), self.metrics.clone(), self.drain.clone());
            self.drain.spawn_uncounted(async move {
                serve(client, &way, &metrics, &drain).await;
                drop(slot);
            });
        }
    }
}

async fn serve(client: Stream, way: &Way, metrics: &Metrics, drain: &Drain) {
    match way {
        Way::Socket(path) => match dial(path).await {
            Ok(upstream) => relay(client, upstream, metrics).await,
            Err(error) => {
                metrics.forward_failed();
                tracing::warn!(target = %path.display(), %error, "cannot reach what a forward leads to; is the proxy running?");
            }
        },
        Way::Tunnel(tunnel) => match tunnel.open(drain).await {
            Ok(upstream) => relay(client, upstream, metrics).await,
            Err(error) => report(tunnel, &error, metrics),
        },
    }
}

/// Losing `client` afterwards closes its connection: no protocol has a word for this.
fn report(tunnel: &Tunnel, error: &ConnectError, metrics: &Metrics) {
    let to = &tunnel.to;
    if let ConnectError::Refused { status, code } = error {
        metrics.forward_refused();
        let status = status.as_u16();
        tracing::warn!(
            host = to.host(),
            port = to.port(),
            status,
            code,
            "the proxy refuses what a forward leads to"
        );
    } else {
        metrics.forward_failed();
        tracing::warn!(host = to.host(), port = to.port(), via = %tunnel.via.display(), %error, "cannot reach what a forward leads to");
    }
}

/// Connects to the socket, whose owner has a time to accept.
async fn dial(path: &Path) -> io::Result<Stream> {
    let connected = timeout(CONNECT_TIMEOUT, connect_unix(path)).await;
    connected.map_err(io::Error::from).and_then(|connected| connected).map(Stream::Unix)
}

async fn relay<U>(mut client: Stream, mut upstream: U, metrics: &Metrics)
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    metrics.forward_opened();
    let copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a forwarded connection broke");
    }
    metrics.forward_closed();
}
