//! What the hostile program tries, and what it found.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Name in the program's output and title in the table, in the table's order.
pub const VECTORS: [(&str, &str); 41] = [
    ("tcp_https", "TCP to port 443 of the internet"),
    ("tcp_other", "TCP to another port of the internet"),
    ("udp", "UDP to the internet"),
    ("dns", "a question to the cluster's name server"),
    ("metadata", "the cloud's metadata address"),
    ("internal", "a service inside the cluster"),
    ("management_loopback", "the proxy's management port on loopback"),
    ("management_pod", "the proxy's management port on the pod's address"),
    ("agent_loopback", "the agent's API on loopback"),
    ("agent_pod", "the agent's API on the pod's address"),
    ("agent_socket", "the agent's API on its Unix socket, where it has one"),
    ("neighbour_port", "a loopback port of another container"),
    ("neighbour_abstract", "an abstract socket of another container"),
    ("packet_socket", "a packet socket"),
    ("raw_socket", "a raw socket"),
    ("vsock", "a socket to the hypervisor (vsock)"),
    ("proxy_permitted", "through the proxy: a host on the list"),
    ("proxy_unlisted", "through the proxy: a host on no list"),
    ("proxy_metadata", "through the proxy: the metadata address"),
    ("proxy_management", "through the proxy: its own management port"),
    ("socket_unlink", "deleting the proxy's socket"),
    ("socket_rename", "renaming the proxy's socket"),
    ("socket_replace", "putting a socket of its own in that place"),
    ("admin_token", "the token of the management port"),
    ("cloud_token", "the token for the cloud"),
    ("agent_token", "the agent's own token file, where it has one"),
    ("own_environment", "a secret in its own environment"),
    ("other_environments", "a secret in another process's environment"),
    ("other_roots", "tokens by way of `/proc/PID/root`"),
    ("agent_memory", "the agent's memory"),
    ("agent_environment", "the agent's environment"),
    ("agent_sockets", "the agent's sockets, by its descriptors"),
    ("agent_streams", "the agent's log and pipes, by its descriptors"),
    ("agent_root", "the agent's view of the files"),
    ("ptrace_agent", "tracing the agent (`ptrace`)"),
    ("setns_agent", "the agent's network namespace (`setns`)"),
    ("setns_agent_user", "the agent's user namespace (`setns`)"),
    ("mount", "a mount"),
    ("new_network_namespace", "a new network namespace"),
    ("new_user_namespace", "a new user namespace, with all capabilities inside"),
    ("mount_as_new_root", "a mount from in there"),
];

/// What came of every attempt in one place.
#[derive(Debug, Clone)]
pub struct Findings(BTreeMap<String, (bool, String)>);

impl Findings {
    /// Reads the lines of `workspace-hostile attack`.
    ///
    /// # Errors
    /// When a vector was not tried, or one is not known.
    pub fn parse(output: &str) -> Result<Self> {
        let mut found = BTreeMap::new();
        for line in output.lines() {
            let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            let vector = text("vector");
            ensure!(VECTORS.iter().any(|(known, _)| *known == vector), "what is {line}?");
            found.insert(vector, (line["outcome"] == "reached", text("detail")));
        }
        for (vector, _) in VECTORS {
            ensure!(found.contains_key(vector), "{vector} was not tried:\n{output}");
        }
        Ok(Self(found))
    }

    /// Whether the attempt reached what it wanted.
    pub fn reached(&self, vector: &str) -> bool {
        self.0.get(vector).is_some_and(|(reached, _)| *reached)
    }

    /// Everything that was reached, in the table's order.
    pub fn all_reached(&self) -> Vec<&'static str> {
        VECTORS.iter().map(|(vector, _)| *vector).filter(|vector| self.reached(vector)).collect()
    }

    /// One line an attempt, with the kernel's reason.
    pub fn report(&self) -> String {
        let line = |(vector, _): &(&str, &str)| {
            let (reached, detail) = &self.0[*vector];
            let outcome = if *reached { "reached" } else { "blocked" };
            format!("{vector:24} {outcome}  {detail}\n")
        };
        VECTORS.iter().map(line).collect()
    }
}
