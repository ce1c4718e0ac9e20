//! Addresses to listen on: `unix:/path[,mode=0660]` and `tcp:IP:PORT`, parsed once and bound
//! synchronously, before the asynchronous runtime starts.
//!
//! Invariant: a socket file is replaced only when nobody answers on it, and it has its final
//! permissions before the first client can connect.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    },
};

use crate::stream::{Peer, Stream};

/// `sun_path` of unix(7) holds 108 bytes, one of them the final NUL.
const MAX_UNIX_PATH: usize = 107;
/// Pause after accept(2) failed for want of descriptors or memory; retrying at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Permission bits of a socket file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixMode(u32);

impl UnixMode {
    /// Owner and group may connect. Others may not, unless asked for.
    pub const DEFAULT: Self = Self(0o660);
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A Unix domain socket with the permissions of its file.
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Permission bits of the socket file.
        mode: UnixMode,
    },
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
}

/// Why a text is not an address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddrError {
    /// Neither `unix:` nor `tcp:`.
    #[error("'{0}' is not an address: write unix:/path[,mode=0660] or tcp:IP:PORT")]
    Scheme(String),
    /// The part behind `tcp:` is not IP:PORT.
    #[error("'{0}' is not IP:PORT: names are not resolved here, and IPv6 needs brackets")]
    Tcp(String),
    /// The path is empty or relative.
    #[error("socket path '{0}' must be absolute")]
    Relative(String),
    /// The kernel has no room for such a path.
    #[error("socket path '{path}' has {length} bytes; the kernel takes at most {MAX_UNIX_PATH}")]
    TooLong {
        /// The path as given.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// An option other than `mode=`.
    #[error("'{0}' is not a socket option: only mode=OCTAL is")]
    Option(String),
    /// The mode is not three or four octal digits.
    #[error("'{0}' is not a mode: write octal permission bits such as 0660")]
    Mode(String),
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("unix:") {
            parse_unix(rest)
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            rest.parse().map(Self::Tcp).map_err(|_ignored| ListenAddrError::Tcp(rest.to_owned()))
        } else {
            Err(ListenAddrError::Scheme(text.to_owned()))
        }
    }
}

fn parse_unix(text: &str) -> Result<ListenAddr, ListenAddrError> {
    let (path, mode) = match text.split_once(',') {
        None => (text, UnixMode::DEFAULT),
        Some((path, option)) => (path, parse_mode(option)?),
    };
    if !path.starts_with('/') {
        return Err(ListenAddrError::Relative(path.to_owned()));
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(ListenAddrError::TooLong { path: path.to_owned(), length: path.len() });
    }
    Ok(ListenAddr::Unix { path: PathBuf::from(path), mode })
}

fn parse_mode(option: &str) -> Result<UnixMode, ListenAddrError> {
    let digits =
        option.strip_prefix("mode=").ok_or_else(|| ListenAddrError::Option(option.to_owned()))?;
    let bad = || ListenAddrError::Mode(digits.to_owned());
    if !matches!(digits.len(), 3 | 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    match u32::from_str_radix(digits, 8) {
        Ok(bits) if bits <= 0o777 => Ok(UnixMode(bits)),
        _ => Err(bad()),
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers on the socket.
    #[error("{0} is in use: another process answers there; stop it or choose another path")]
    InUse(ListenAddr),
    /// The path exists and is no socket, so it is not ours to remove.
    #[error("{0} exists and is not a socket; move it away or choose another path")]
    NotASocket(ListenAddr),
    /// Any other refusal of the kernel.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address asked for.
        address: ListenAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ListenAddr {
    /// Whether only this machine can connect: a Unix socket or a loopback address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp(address) => address.ip().is_loopback(),
        }
    }

    /// Binds and listens. Needs no runtime; call it before threads and namespaces are made.
    ///
    /// # Errors
    /// When the address is taken, or the kernel refuses it.
    pub fn bind(&self) -> Result<BoundListener, BindError> {
        match self {
            Self::Unix { path, mode } => self.bind_unix(path, *mode),
            Self::Tcp(address) => TcpListener::bind(address)
                .and_then(|listener| {
                    let address = Self::Tcp(listener.local_addr()?);
                    Ok(BoundListener { socket: Socket::Tcp(listener), address })
                })
                .map_err(|source| self.io_error(source)),
        }
    }

    fn bind_unix(&self, path: &Path, mode: UnixMode) -> Result<BoundListener, BindError> {
        self.remove_stale(path)?;
        let listener = listen_unix(path, mode).map_err(|source| self.io_error(source))?;
        let file = SocketFile::of(path).map_err(|source| self.io_error(source))?;
        Ok(BoundListener { socket: Socket::Unix(listener, file), address: self.clone() })
    }

    /// Removes a socket that nobody listens on any more; refuses to touch anything else.
    fn remove_stale(&self, path: &Path) -> Result<(), BindError> {
        let metadata = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| self.io_error(source))?,
        };
        if !metadata.file_type().is_socket() {
            return Err(BindError::NotASocket(self.clone()));
        }
        match probe(path) {
            Err(Errno::CONNREFUSED) => {
                std::fs::remove_file(path).map_err(|source| self.io_error(source))
            }
            Err(Errno::NOENT) => Ok(()),
            Ok(()) | Err(_) => Err(BindError::InUse(self.clone())),
        }
    }

    fn io_error(&self, source: io::Error) -> BindError {
        if source.kind() == io::ErrorKind::AddrInUse {
            return BindError::InUse(self.clone());
        }
        BindError::Io { address: self.clone(), source }
    }
}

/// Asks whether somebody listens, without waiting for a place in a full queue (then it is EAGAIN).
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path.as_os_str().as_bytes())?)
}

/// Binds, sets the permissions, and only then listens: a connect before listen(2) is refused, so no
/// client ever meets the permissions of the umask.
fn listen_unix(path: &Path, mode: UnixMode) -> io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path.as_os_str().as_bytes())?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode.0))?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// The file of a bound socket, removed when the listener goes, unless somebody replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

/// Device and inode: what tells this file from a successor of the same name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = identity(&self.path).is_ok_and(|now| now == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "cannot remove the socket file");
        }
    }
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// A listening socket that no runtime drives yet.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socket,
    address: ListenAddr,
}

impl BoundListener {
    /// The address bound, with the port the kernel chose.
    pub fn address(&self) -> &ListenAddr {
        &self.address
    }

    /// Hands the socket to the running tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking or registered.
    pub fn into_async(self) -> io::Result<Listener> {
        let accept = match self.socket {
            Socket::Unix(socket, file) => {
                socket.set_nonblocking(true)?;
                Accept::Unix(tokio::net::UnixListener::from_std(socket)?, file)
            }
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Accept::Tcp(tokio::net::TcpListener::from_std(socket)?)
            }
        };
        Ok(Listener { accept, address: self.address })
    }
}

#[derive(Debug)]
enum Accept {
    Unix(
        tokio::net::UnixListener,
        #[expect(dead_code, reason = "removes the file on drop")] SocketFile,
    ),
    Tcp(tokio::net::TcpListener),
}

/// A listening socket inside the runtime.
#[derive(Debug)]
pub struct Listener {
    accept: Accept,
    address: ListenAddr,
}

impl Listener {
    /// The address bound.
    pub fn address(&self) -> &ListenAddr {
        &self.address
    }

    /// The next connection, however long it takes: what goes wrong with one that came is no reason
    /// to stop listening. Safe to cancel: no connection is lost.
    pub async fn accept(&self) -> (Stream, Peer) {
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_the_clients_doing(&error) => {}
                Err(error) => {
                    let address = &self.address;
                    tracing::warn!(%address, %error, "cannot accept connections; raise the limit of open files?");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.accept {
            Accept::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                let peer = Peer::of_unix(&stream);
                Ok((Stream::Unix(stream), peer))
            }
            Accept::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::tcp(stream), Peer::Tcp(address)))
            }
        }
    }
}

/// Whether only the one connection failed: its client hung up before it was accepted (accept(2)).
/// Anything else is a want of descriptors or memory, which retrying at once would not mend.
fn is_the_clients_doing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

#[cfg(test)]
mod tests;
