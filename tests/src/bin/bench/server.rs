//! The servers under load: the agent, and its peer (tests/peers/exec_server.py): the same calls,
//! answered by Python's asyncio behind uvicorn.

use anyhow::Result;
use workspace_tests::{
    agent::Agent,
    http::{Client, Endpoint},
    peer::{self, Peer},
    tools::Tool,
};

/// The peer's name in the table.
pub(crate) const PYTHON: &str = "Python asyncio, uvicorn";

/// A running server, whatever it is.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) endpoint: Endpoint,
    /// Its process.
    pub(crate) pid: u32,
}

impl Server {
    pub(crate) fn of_agent(agent: &Agent) -> Self {
        Self { endpoint: agent.client.endpoint().clone(), pid: agent.daemon.pid() }
    }

    /// The bytes of an exec that wants this form of answer.
    pub(crate) fn exec_request(&self, body: &[u8], accept: &str) -> Vec<u8> {
        let client = Client::new(self.endpoint.clone()).with("accept", accept);
        client.with("content-type", "application/json").request("POST", "/v1/exec", body)
    }
}

/// The peer, or why there is none.
#[derive(Debug)]
pub(crate) struct Python(Result<(Server, Peer), String>);

impl Python {
    /// Starts it, where its packages are installed.
    pub(crate) fn start() -> Result<Self> {
        if Tool::PythonPackages.missing().is_some() {
            return Ok(Self(Err("not installed (make test-deps)".to_owned())));
        }
        let peer = Peer::start(&peer::python(), "exec_server.py", &[])?;
        let socket = workspace_tests::agent::text(&peer.ready, "socket")?;
        let server = Server { endpoint: Endpoint::Unix(socket.into()), pid: peer.daemon.pid() };
        Ok(Self(Ok((server, peer))))
    }

    /// The server, or why there is none.
    pub(crate) fn server(&self) -> Result<&Server, String> {
        self.0.as_ref().map(|(server, _peer)| server).map_err(String::clone)
    }
}
