//! The peers from packages, each set up for one way to one origin and without a log.

mod envoy;

use std::{
    env, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
};

use anyhow::Result;
use rustix::process::Signal;
use tempfile::TempDir;
use workspace_tests::{
    http::Endpoint,
    process::{Daemon, free_address},
};

use super::{
    ENVOY, HAPROXY, MITMPROXY, NGINX,
    contender::{CREDENTIAL, Running, Way},
    origin::SECURE_HOST,
};

/// What 20,000 descriptors are enough for.
const HAPROXY_CONNECTIONS: usize = 9_700;

/// Starts a peer, or says why there is none.
pub(super) type Start = fn(&Way, SocketAddr) -> Result<Result<Running, String>>;

/// Those that can go this way.
pub(super) fn of(way: &Way) -> &'static [(&'static str, Start)] {
    match way {
        Way::Tunnel => &[
            (HAPROXY, haproxy),
            (ENVOY, envoy::start),
            ("squid", squid),
            ("tinyproxy", tinyproxy),
            (MITMPROXY, mitmproxy),
        ],
        Way::Forward => &[
            (NGINX, nginx_reverse),
            (ENVOY, envoy::start),
            ("squid", squid),
            ("tinyproxy", tinyproxy),
            (MITMPROXY, mitmproxy),
        ],
        Way::Route => &[
            (NGINX, nginx_reverse),
            (HAPROXY, haproxy),
            (ENVOY, envoy::start),
            (MITMPROXY, mitmproxy),
        ],
        Way::SecureRoute(_) => &[(NGINX, nginx_reverse)],
    }
}

/// A peer that is told to stop and waited for, so that it takes its workers with it.
#[derive(Debug)]
pub(crate) struct Ended {
    daemon: Daemon,
    _directory: TempDir,
}

impl Ended {
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.daemon.is_running() && self.daemon.signal(Signal::TERM).is_ok() {
            // What does not listen is killed with its value.
            drop(self.daemon.wait());
        }
    }
}

/// Tunnels are plain TCP to it. Pipes are few, so that their descriptors are left for tunnels.
fn haproxy(way: &Way, origin: SocketAddr) -> Result<Result<Running, String>> {
    let address = free_address()?;
    let mode = if *way == Way::Tunnel {
        "mode tcp\n  option splice-auto".to_owned()
    } else {
        format!(
            "mode http\n  http-reuse always\n  http-request set-header Authorization '{CREDENTIAL}'"
        )
    };
    let text = format!(
        "global\n  maxconn {HAPROXY_CONNECTIONS}\n  maxpipes 64\ndefaults\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\nlisten all\n  bind {address}\n  {mode}\n  \
         server one {origin}\n"
    );
    let peer = start(address, "haproxy", &text, |file| vec!["-db".into(), "-f".into(), file]);
    Ok(peer?.map(|peer| Running::plain(address, Some(peer))))
}

fn squid(way: &Way, origin: SocketAddr) -> Result<Result<Running, String>> {
    let address = free_address()?;
    let text = format!(
        "http_port {address}\nhttp_access allow all\ncache deny all\naccess_log none\n\
         cache_log /dev/null\npid_filename none\npinger_enable off\nnetdb_filename none\n\
         cache_mem 8 MB\nmax_filedescriptors 20000\nshutdown_lifetime 0 seconds\nvia off\n"
    );
    let peer = start(address, "squid", &text, |file| vec!["-N".into(), "-f".into(), file]);
    Ok(peer?.map(|peer| Running::forward(address, peer, way, origin)))
}

fn tinyproxy(way: &Way, origin: SocketAddr) -> Result<Result<Running, String>> {
    let address = free_address()?;
    let (ip, port) = (address.ip(), address.port());
    let text = format!(
        "Port {port}\nListen {ip}\nMaxClients 15000\nTimeout 600\nLogLevel Critical\nAllow {ip}\n"
    );
    let peer = start(address, "tinyproxy", &text, |file| vec!["-d".into(), "-c".into(), file]);
    let running = |peer| Running::forward(address, peer, way, origin);
    Ok(peer?.map(|peer| match way {
        Way::Tunnel => running(peer),
        Way::Forward | Way::Route | Way::SecureRoute(_) => running(peer).closing(),
    }))
}

fn mitmproxy(way: &Way, origin: SocketAddr) -> Result<Result<Running, String>> {
    let address = free_address()?;
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let more = match way {
        // Tunnels are passed on as they are.
        Way::Tunnel => vec!["--ignore-hosts".to_owned(), ".*".to_owned()],
        Way::Forward => Vec::new(),
        Way::Route | Way::SecureRoute(_) => {
            let header = format!("/~q/authorization/{CREDENTIAL}");
            vec![
                "--mode".to_owned(),
                format!("reverse:http://{origin}"),
                "--modify-headers".to_owned(),
                header,
            ]
        }
    };
    let peer = start(address, "mitmdump", "", |_file| {
        let common = ["-q", "--listen-host", &ip, "--listen-port", &port, "--set", "confdir=."];
        common.into_iter().map(str::to_owned).chain(more).collect()
    });
    Ok(peer?.map(|peer| match way {
        Way::Tunnel | Way::Forward => Running::forward(address, peer, way, origin),
        Way::Route | Way::SecureRoute(_) => Running::plain(address, Some(peer)),
    }))
}

/// Reverse, with a header added.
fn nginx_reverse(way: &Way, origin: SocketAddr) -> Result<Result<Running, String>> {
    if !is_installed("nginx") {
        return Ok(Err("not installed".to_owned()));
    }
    let address = free_address()?;
    let (scheme, trust) = match way {
        Way::SecureRoute(authority) => {
            let file = authority.display();
            let name = format!("proxy_ssl_name {SECURE_HOST}; proxy_ssl_server_name on;");
            let verify = format!("proxy_ssl_verify on; proxy_ssl_trusted_certificate {file};");
            ("https", name + &verify)
        }
        Way::Tunnel | Way::Forward | Way::Route => ("http", String::new()),
    };
    let upstream =
        format!("upstream one {{ server {origin}; keepalive 64; keepalive_requests 100000000; }}");
    let server = format!(
        "listen {address}; location / {{ proxy_pass {scheme}://one; proxy_http_version 1.1; {trust}
         proxy_set_header Connection ''; proxy_set_header Authorization '{CREDENTIAL}'; }}"
    );
    Ok(Ok(Running::plain(address, Some(nginx(address, &upstream, &server)?))))
}

/// nginx with as many workers as there are processors, and one server.
pub(crate) fn nginx(address: SocketAddr, upstream: &str, server: &str) -> Result<Ended> {
    let text = format!(
        "daemon off; worker_processes auto; pid nginx.pid; user root; error_log stderr crit;
         events {{ worker_connections 4096; }}
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path body;
         proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
         {upstream} server {{ {server} }} }}"
    );
    let started = start(address, "nginx", &text, |file| {
        let directory = Path::new(&file).parent().unwrap_or(Path::new("/"));
        let directory = directory.to_string_lossy().into_owned();
        vec!["-p".into(), directory, "-e".into(), "stderr".into(), "-c".into(), file]
    })?;
    started.map_err(anyhow::Error::msg)
}

/// Starts a program with a configuration file and waits until it listens.
fn start(
    address: SocketAddr,
    program: &str,
    configuration: &str,
    arguments: impl FnOnce(String) -> Vec<String>,
) -> Result<Result<Ended, String>> {
    if !is_installed(program) {
        return Ok(Err("not installed".to_owned()));
    }
    let directory = tempfile::tempdir()?;
    // Some give up root's rights first.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    // Envoy goes by the ending.
    let file = directory.path().join("configuration.yaml");
    fs::write(&file, configuration)?;
    let mut command = Command::new(program);
    command.args(arguments(file.to_string_lossy().into_owned())).current_dir(directory.path());
    let mut daemon = Daemon::spawn(program, command, directory.path())?;
    daemon.wait_until_listening(&Endpoint::Tcp(address))?;
    Ok(Ok(Ended { daemon, _directory: directory }))
}

/// Whether it is on the `PATH`. Asking it for its version would be no way to know: `-v` starts mitmdump.
pub(super) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
