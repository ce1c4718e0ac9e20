//! Forwards: TCP ports on loopback inside the commands' network, each leading to a Unix socket
//! outside of it. The way from a command to the proxy, in place of socat.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use tokio::{io::copy_bidirectional_with_sizes, sync::Semaphore, time::timeout};
use workspace_common::{
    drain::Drain,
    listen::{BindError, BoundListener, ListenAddr, Listener},
    stream::{Stream, connect_unix},
};

use crate::metrics::Metrics;

/// How long the socket's owner may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffer of each direction of a connection.
const BUFFER: usize = 16 * 1024;
/// Connections of one forward at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// `127.0.0.1:8080=unix:/run/workspace/proxy.sock`: where to listen, and what to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSpec {
    listen: SocketAddr,
    target: PathBuf,
}

/// Why a text is no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Not of the form at all.
    #[error("'{0}' is not a forward: write 127.0.0.1:PORT=unix:/path/to.sock")]
    Form(String),
    /// Other machines could use it.
    #[error("'{0}' is not a loopback address: forwards serve the workspace only")]
    NotLoopback(SocketAddr),
}

impl FromStr for ForwardSpec {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ForwardError::Form(text.to_owned());
        let (listen, target) = text.split_once('=').ok_or_else(form)?;
        let listen: SocketAddr = listen.parse().map_err(|_ignored| form())?;
        let target = target.strip_prefix("unix:").filter(|path| path.starts_with('/'));
        let target = PathBuf::from(target.ok_or_else(form)?);
        if !listen.ip().is_loopback() {
            return Err(ForwardError::NotLoopback(listen));
        }
        Ok(Self { listen, target })
    }
}

impl fmt::Display for ForwardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=unix:{}", self.listen, self.target.display())
    }
}

impl ForwardSpec {
    /// The URL under which commands reach what is behind this forward.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Binds the port in the network that the process is in now.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn bind(&self) -> Result<BoundForward, BindError> {
        let listener = ListenAddr::Tcp(self.listen).bind()?;
        Ok(BoundForward { listener, target: self.target.clone() })
    }
}

/// A forward whose port is bound.
#[derive(Debug)]
pub struct BoundForward {
    listener: BoundListener,
    target: PathBuf,
}

impl BoundForward {
    /// Starts forwarding; connections that are open when the drain begins live on until the cut.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime.
    pub fn start(self, drain: &Drain, metrics: &Arc<Metrics>) -> io::Result<()> {
        let listener = self.listener.into_async()?;
        let forward = Forward {
            target: self.target.into(),
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
    target: Arc<std::path::Path>,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

impl Forward {
    async fn accept_all(self, listener: Listener) {
        loop {
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
            let (client, _) = listener.accept().await;
            let (target, metrics) = (self.target.clone(), self.metrics.clone());
            self.drain.spawn_uncounted(async move {
                relay(client, &target, &metrics).await;
                drop(slot);
            });
        }
    }
}

async fn relay(mut client: Stream, target: &std::path::Path, metrics: &Metrics) {
    let connected = timeout(CONNECT_TIMEOUT, connect_unix(target)).await;
    let mut upstream = match connected.map_err(io::Error::from).and_then(|connected| connected) {
        Ok(upstream) => upstream,
        Err(error) => {
            metrics.forward_failed();
            tracing::warn!(target = %target.display(), %error, "cannot reach what a forward leads to; is the proxy running?");
            return;
        }
    };
    metrics.forward_opened();
    let copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a forwarded connection broke");
    }
    metrics.forward_closed();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_parse_or_say_how_to_write_them() {
        let forward: ForwardSpec = "127.0.0.1:8080=unix:/run/proxy.sock".parse().unwrap();
        assert_eq!(forward.to_string(), "127.0.0.1:8080=unix:/run/proxy.sock");
        assert_eq!(forward.url(), "http://127.0.0.1:8080");
        assert_eq!(
            "0.0.0.0:8080=unix:/a".parse::<ForwardSpec>(),
            Err(ForwardError::NotLoopback("0.0.0.0:8080".parse().unwrap()))
        );
        for bad in ["", "127.0.0.1:8080", "8080=unix:/a", "127.0.0.1:1=unix:a", "127.0.0.1:1=/a"] {
            assert!(matches!(bad.parse::<ForwardSpec>(), Err(ForwardError::Form(_))), "{bad}");
        }
    }
}
