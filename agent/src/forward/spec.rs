//! Forwards as an operator writes them.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Longest name of a host (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;

/// `127.0.0.1:8080=unix:/run/workspace/proxy.sock`, or `127.0.0.1:3306=connect:mysql.test:3306`:
/// where to listen, and what to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSpec {
    pub(super) listen: SocketAddr,
    pub(super) target: Target,
}

/// What a forward leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP service, through the proxy at `via`, or at the first forward to a socket.
    Connect { to: Destination, via: Option<PathBuf> },
}

/// A TCP service as the proxy is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host: String,
    port: u16,
}

/// Why a text is no forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Not of the form at all.
    #[error(
        "'{0}' is not a forward: write 127.0.0.1:PORT=unix:/path/to.sock or 127.0.0.1:PORT=connect:HOST:PORT[,via=unix:/path/to.sock]"
    )]
    Form(String),
    /// Other machines could use it.
    #[error("'{0}' is not a loopback address: forwards serve the workspace only")]
    NotLoopback(SocketAddr),
    /// The part behind `connect:` names no service.
    #[error(
        "'{0}' is not HOST:PORT: write a name or an address (IPv6 in brackets) and a port from 1 to 65535"
    )]
    Destination(String),
}

impl FromStr for ForwardSpec {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ForwardError::Form(text.to_owned());
        let (listen, target) = text.split_once('=').ok_or_else(form)?;
        let listen: SocketAddr = listen.parse().map_err(|_ignored| form())?;
        let target = if let Some(service) = target.strip_prefix("connect:") {
            parse_connect(service, form)?
        } else {
            Target::Unix(socket(target).ok_or_else(form)?)
        };
        if !listen.ip().is_loopback() {
            return Err(ForwardError::NotLoopback(listen));
        }
        Ok(Self { listen, target })
    }
}

fn parse_connect(text: &str, form: impl Fn() -> ForwardError) -> Result<Target, ForwardError> {
    let (to, via) = match text.split_once(",via=") {
        None => (text, None),
        Some((to, via)) => (to, Some(socket(via).ok_or_else(form)?)),
    };
    Ok(Target::Connect { to: to.parse()?, via })
}

fn socket(text: &str) -> Option<PathBuf> {
    text.strip_prefix("unix:").filter(|path| path.starts_with('/')).map(PathBuf::from)
}

impl FromStr for Destination {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ForwardError::Destination(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_ignored| bad())?;
        if port == 0 || !is_host(host) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Whether it can stand in a request line. What it means is for the proxy to judge.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(is_known)
}

impl Destination {
    /// The name or address, in brackets if it is IPv6.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ForwardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Unix(path) => write!(f, "{}=unix:{}", self.listen, path.display()),
            Target::Connect { to, via } => {
                write!(f, "{}=connect:{to}", self.listen)?;
                via.as_ref().map_or(Ok(()), |via| write!(f, ",via=unix:{}", via.display()))
            }
        }
    }
}

impl ForwardSpec {
    /// The Unix socket that it leads to, if it leads to one.
    pub fn socket(&self) -> Option<&Path> {
        match &self.target {
            Target::Unix(path) => Some(path),
            Target::Connect { .. } => None,
        }
    }

    /// The URL under which commands reach the proxy, if this is the way to one.
    pub fn proxy_url(&self) -> Option<String> {
        self.socket().map(|_| format!("http://{}", self.listen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_parse_and_show_what_was_written() {
        for (text, proxy) in [
            ("127.0.0.1:8080=unix:/run/proxy.sock", Some("http://127.0.0.1:8080")),
            ("127.0.0.1:3306=connect:mysql.test:3306", None),
            ("[::1]:6379=connect:[2001:db8::1]:6379,via=unix:/run/proxy.sock", None),
        ] {
            let forward: ForwardSpec = text.parse().unwrap();
            assert_eq!(forward.to_string(), text);
            assert_eq!(forward.proxy_url().as_deref(), proxy);
        }
    }

    #[test]
    fn other_texts_are_refused_with_how_to_write_them() {
        assert_eq!(
            "0.0.0.0:8080=unix:/a".parse::<ForwardSpec>(),
            Err(ForwardError::NotLoopback("0.0.0.0:8080".parse().unwrap()))
        );
        for bad in [
            "",
            "127.0.0.1:8080",
            "8080=unix:/a",
            "127.0.0.1:1=unix:a",
            "127.0.0.1:1=/a",
            "127.0.0.1:1=connect:a:1,via=/a",
            "127.0.0.1:1=connect:a:1,via=unix:a",
        ] {
            assert!(matches!(bad.parse::<ForwardSpec>(), Err(ForwardError::Form(_))), "{bad}");
        }
        let long = format!("{}:1", "a".repeat(MAX_HOST + 1));
        for bad in
            ["", "a", "a:", "a:0", "a:65536", ":1", "a b:1", "u@a:1", "::1:1", "[a]:1", &long]
        {
            let text = format!("127.0.0.1:1=connect:{bad}");
            let refused = text.parse::<ForwardSpec>();
            assert_eq!(refused, Err(ForwardError::Destination(bad.to_owned())), "{bad}");
        }
    }
}
