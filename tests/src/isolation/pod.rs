//! What the pods of both runtimes have in common: their files, their command lines, the attack.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::{
    AGENT_PORT, AGENT_TOKEN, FORWARD, MANAGEMENT_PORT, OUTSIDE, PERMITTED, POD, PROXY_SOCKET,
    lab::Lab, vectors::Findings,
};
use crate::{binaries, wait::eventually};

/// Users of the proxy and of the workspace, and the group that the two share.
pub const PROXY_USER: u32 = 1001;
/// The workspace's user.
pub const WORKSPACE_USER: u32 = 1000;
/// The group of both.
pub const GROUP: u32 = 1000;
/// Where the hostile program is in the containers.
pub const HOSTILE: &str = "/usr/local/bin/workspace-hostile";
/// Where the proxy finds its policy.
pub const POLICY_FILE: &str = "/etc/workspace/policy.json";

/// The files that are mounted into the containers of a pod.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    /// Writes tokens, for their users only, and the proxy's policy.
    ///
    /// # Errors
    /// When there is no room for temporary files, or without root.
    pub fn write() -> Result<Self> {
        let files = Self(tempfile::Builder::new().prefix("pod").tempdir()?);
        fs::set_permissions(files.0.path(), fs::Permissions::from_mode(0o755))?;
        for (name, user) in
            [("admin", PROXY_USER), ("cloud", PROXY_USER), ("agent", WORKSPACE_USER)]
        {
            fs::create_dir(files.path(name))?;
            let token = files.path(name).join("token");
            fs::write(&token, format!("token-of-{name}-in-the-proof\n"))?;
            fs::set_permissions(&token, fs::Permissions::from_mode(0o400))?;
            chown(&token, Some(user), Some(GROUP))?;
        }
        fs::create_dir(files.path("policy"))?;
        fs::write(files.path("policy").join("policy.json"), policy())?;
        Ok(files)
    }

    /// A directory of these files: `admin`, `cloud`, `agent`, `policy`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn policy() -> String {
    let (host, port) = PERMITTED.split_once(':').unwrap_or((PERMITTED, "443"));
    let ports: Vec<u16> = port.parse().into_iter().collect();
    let policy = json!({
        "version": 1,
        "egress": {
            "allow": [{ "host": host, "ports": ports }],
            "private_exceptions": [{ "host": host, "cidr": format!("{OUTSIDE}/32"), "ports": ports }],
        },
        "hosts": { host: [OUTSIDE] },
    });
    policy.to_string()
}

/// The proxy's command line in a pod.
pub fn proxy_arguments() -> Vec<String> {
    [
        "serve",
        &format!("--listen=unix:{PROXY_SOCKET},mode=0660"),
        &format!("--admin-listen=tcp:0.0.0.0:{MANAGEMENT_PORT}"),
        &format!("--admin-token-file={}", super::ADMIN_TOKEN),
        &format!("--policy={POLICY_FILE}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Whether the agent protects its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// As we ship it.
    On,
    /// As if there were no such thing.
    Off,
}

/// The agent's command line in a pod.
pub fn agent_arguments(protection: Protection) -> Vec<String> {
    let mode = if protection == Protection::On { "required" } else { "off" };
    [
        "serve",
        &format!("--listen=tcp:0.0.0.0:{AGENT_PORT}"),
        &format!("--token-file={AGENT_TOKEN}"),
        &format!("--forward={FORWARD}=unix:{PROXY_SOCKET}"),
        &format!("--isolate-net={mode}"),
        &format!("--seccomp={mode}"),
        "--root=/workspace",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Runs the hostile program as a command of the agent at `address`, once agent and proxy are there.
///
/// # Errors
/// When they do not come, or the program does not run.
pub fn attack(
    address: &str,
    token: Option<&Path>,
    mut client: impl FnMut(&Path) -> Command,
) -> Result<Findings> {
    let call = |subcommand: &str, client: &mut dyn FnMut(&Path) -> Command| {
        let mut command = client(&binaries::agent());
        command.args([subcommand, "--connect", address]);
        if let Some(token) = token {
            command.arg("--token-file").arg(token);
        }
        command
    };
    eventually("the agent answers", || {
        let output = call("health", &mut client).output().ok()?;
        output.status.success().then_some(())
    })?;
    let output = call("exec", &mut client).args(["-n", "--", HOSTILE, "attack"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the hostile program: {}: {said}", output.status);
    Findings::parse(&String::from_utf8_lossy(&output.stdout))
}

/// [`attack`] from the world, over the pod's address, as an orchestrator calls.
///
/// # Errors
/// As [`attack`].
pub fn attack_pod(lab: &Lab, files: &Files) -> Result<Findings> {
    let health = format!("http://{POD}:{MANAGEMENT_PORT}");
    eventually("the proxy answers", || {
        let mut command = lab.in_world(&binaries::proxy().to_string_lossy());
        let output = command.args(["health", "--connect", &health]).output().ok()?;
        output.status.success().then_some(())
    })?;
    let token = files.path("agent").join("token");
    attack(&format!("http://{POD}:{AGENT_PORT}"), Some(&token), |program| {
        lab.in_world(&program.to_string_lossy())
    })
    .context("the attack in the pod")
}
