//! The servers that write down what they understand: scripts of tests/peers, and nginx.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::HOST;
use crate::{
    http::Endpoint,
    peer::{self, Peer},
    process::Daemon,
    proxy::{self, Proxy},
};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Node's http module.
    Node,
    /// Python's h11.
    H11,
    /// nginx.
    Nginx,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::H11, Self::Nginx];

    /// Where it listens: all of them on one port, so that they are sent the same bytes.
    fn address(self) -> &'static str {
        match self {
            Self::Node => "127.0.0.2",
            Self::H11 => "127.0.0.3",
            Self::Nginx => "127.0.0.4",
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(self, port: u16) -> Result<Server> {
        let (address, number) = (self.address(), port.to_string());
        let arguments = ["--address", address, "--port", &number];
        let running = match self {
            Self::Node => Running::Script(Peer::start(&peer::node(), "reader.mjs", &arguments)?),
            Self::H11 => Running::Script(Peer::start(&peer::python(), "reader.py", &arguments)?),
            Self::Nginx => start_nginx(address, port)?,
        };
        Ok(Server { kind: self, port, running })
    }
}

fn start_nginx(address: &str, port: u16) -> Result<Running> {
    let directory = tempfile::tempdir()?;
    let configuration = directory.path().join("nginx.conf");
    fs::write(&configuration, nginx_configuration(address, port, directory.path()))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory.path()).arg("-c").arg(configuration).args(["-e", "error"]);
    let mut daemon = Daemon::spawn("nginx", command, directory.path())?;
    daemon.wait_until_listening(&Endpoint::Tcp(format!("{address}:{port}").parse()?))?;
    Ok(Running::Nginx(Nginx { daemon, directory }))
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    port: u16,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Script(Peer),
    Nginx(Nginx),
}

/// nginx with one worker, which it takes with it when it is told to stop.
#[derive(Debug)]
struct Nginx {
    daemon: Daemon,
    directory: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.daemon.is_running() && self.daemon.signal(Signal::TERM).is_ok() {
            // What does not listen is killed with its value.
            drop(self.daemon.wait());
        }
    }
}

impl Server {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote down so far, a JSON object a request.
    pub fn record(&self) -> Vec<Value> {
        match &self.running {
            Running::Script(peer) => peer.record(),
            Running::Nginx(nginx) => {
                let bytes =
                    fs::read(nginx.directory.path().join("record.jsonl")).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                // The last line may be half written.
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
            }
        }
    }

    /// What it says about itself, for messages.
    pub fn state(&self) -> String {
        match &self.running {
            Running::Script(peer) => peer.daemon.output(),
            Running::Nginx(nginx) => {
                let errors = fs::read_to_string(nginx.directory.path().join("error"));
                nginx.daemon.output() + &errors.unwrap_or_default()
            }
        }
    }

    /// A proxy for which [`HOST`] is this server. What hangs ends soon.
    ///
    /// # Errors
    /// When it does not start.
    pub fn proxy(&self) -> Result<Proxy> {
        let address = self.kind.address();
        proxy::Setup::new()?
            .allow_local(HOST, self.port)
            .policy(|policy| policy["hosts"][HOST] = json!([address]))
            .args(&["--header-timeout", "500ms", "--idle-timeout", "3s"])
            .start()
    }
}

/// nginx has the body in a variable only where it passes it on: to a server of its own, behind.
fn nginx_configuration(address: &str, port: u16, directory: &Path) -> String {
    // nginx takes the path of a socket for one in the directory that it was started in.
    let behind = directory.join("behind.sock").display().to_string();
    format!(
        r#"daemon off;
worker_processes 1;
user root;
pid nginx.pid;
events {{ }}
http {{
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_body_buffer_size 1m;
  client_max_body_size 0;
  large_client_header_buffers 8 128k;
  log_format record escape=json '{{"method":"$request_method","target":"$request_uri",'
    '"host":"$http_host","body":"$request_body","status":"$status"}}';
  server {{
    listen {address}:{port};
    access_log record.jsonl record;
    location / {{ proxy_pass http://unix:{behind}:; }}
  }}
  server {{
    listen unix:{behind};
    access_log off;
    location / {{ return 200 ok; }}
  }}
}}
"#
    )
}
