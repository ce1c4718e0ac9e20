//! The proof of isolation: a laboratory with an outside world, pods in it, and a hostile program in
//! each workspace. What the program finds is compared with the table of SECURITY.md.
//!
//! The constants are shared with `workspace-hostile`, which runs inside.

pub mod docker_pod;
pub mod gvisor_pod;
mod gvisor_spec;
pub mod lab;
pub mod pod;
pub mod table;
pub mod vectors;

/// Some host of the internet; 203.0.113.0/24 is set aside for documentation (RFC 5737).
pub const OUTSIDE: &str = "203.0.113.1";
/// The name server of the cluster.
pub const NAME_SERVER: &str = "10.99.0.53";
/// A service inside the cluster's network.
pub const INTERNAL: &str = "10.99.0.1";
/// The metadata service of a cloud.
pub const METADATA: &str = "169.254.169.254";
/// The pod's address, and that of the node's end of its link (RFC 5737, too).
pub const POD: &str = "198.51.100.2";
/// The other end of the pod's link.
pub const NODE: &str = "198.51.100.1";

/// Where the proxy is managed.
pub const MANAGEMENT_PORT: u16 = 9090;
/// Where the agent is called.
pub const AGENT_PORT: u16 = 8080;
/// Where another container of the pod listens on loopback.
pub const NEIGHBOUR_PORT: u16 = 7000;
/// The abstract socket of that container.
pub const ABSTRACT: &str = "workspace-neighbour";
/// The agent's forward to the proxy.
pub const FORWARD: &str = "127.0.0.1:3128";

/// What the proxy lets through, and what it does not.
pub const PERMITTED: &str = "world.test:443";
/// A host on no list.
pub const UNLISTED: &str = "other.test:443";

/// The proxy's socket in the workspace.
pub const PROXY_SOCKET: &str = "/run/workspace/proxy.sock";
/// The agent's socket, where it has one.
pub const AGENT_SOCKET: &str = "/run/workspace/agent.sock";
/// Mounted in the proxy only.
pub const ADMIN_TOKEN: &str = "/run/secrets/admin/token";
/// Mounted in the proxy only.
pub const CLOUD_TOKEN: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
/// Mounted in the workspace.
pub const AGENT_TOKEN: &str = "/run/secrets/agent/token";
/// In the environment of other containers.
pub const SECRET: &str = "secret-of-another-container";
