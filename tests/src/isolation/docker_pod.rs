//! A pod of Docker containers under runc: one that holds the network, the proxy, the workspace.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    CLOUD_TOKEN, SECRET,
    lab::Lab,
    pod::{self, Files, GROUP, HOSTILE, PROXY_USER, Protection, WORKSPACE_USER},
    vectors::Findings,
};
use crate::{
    binaries,
    docker::{Container, WORKSPACE_BASE},
};

/// What every container of a restricted pod has.
const RESTRICTED: [&str; 5] = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=256",
    "--tmpfs=/tmp",
];

/// A running pod.
#[derive(Debug)]
pub struct DockerPod {
    files: Files,
    // In the order in which they have to end: the one that holds the network last.
    containers: Vec<Container>,
    _sockets: TempDir,
}

impl DockerPod {
    /// Starts the three containers and links their network with the world.
    ///
    /// # Errors
    /// When docker refuses.
    pub fn start(lab: &Lab, protection: Protection) -> Result<Self> {
        let files = Files::write()?;
        let sockets = tempfile::tempdir()?;
        fs::set_permissions(sockets.path(), fs::Permissions::from_mode(0o770))?;
        chown(sockets.path(), Some(PROXY_USER), Some(GROUP))?;
        let pause = start_pause()?;
        lab.adopt_pod_namespace(pause.pid()?)?;
        lab.link()?;
        let network = format!("--network=container:{}", pause.id());
        let proxy = start_proxy(&network, &files, sockets.path())?;
        let workspace = start_workspace(&network, &files, sockets.path(), protection)?;
        Ok(Self { files, containers: vec![workspace, proxy, pause], _sockets: sockets })
    }

    /// Runs the hostile program in the workspace.
    ///
    /// # Errors
    /// When a container does not work.
    pub fn attack(&self, lab: &Lab) -> Result<Findings> {
        pod::attack_pod(lab, &self.files).map_err(|error| {
            let logs: Vec<String> = self.containers.iter().map(Container::logs).collect();
            error.context(logs.join("---\n"))
        })
    }
}

fn start_pause() -> Result<Container> {
    let hostile = mount(&binaries::hostile(), HOSTILE, "ro");
    let secret = format!("--env=SECRET={SECRET}");
    let entry = format!("--entrypoint={HOSTILE}");
    let own = ["--network=none", "--user=65535:65535", &hostile, &secret, &entry];
    Container::run(&[&RESTRICTED[..], &own, &[WORKSPACE_BASE, "neighbour"]].concat())
}

fn start_proxy(network: &str, files: &Files, sockets: &Path) -> Result<Container> {
    let mounts = [
        mount(sockets, "/run/workspace", "rw"),
        mount(&files.path("admin"), "/run/secrets/admin", "ro"),
        mount(&files.path("cloud"), CLOUD_TOKEN.trim_end_matches("/token"), "ro"),
        mount(&files.path("policy"), "/etc/workspace", "ro"),
    ];
    let (user, secret) = (format!("--user={PROXY_USER}:{GROUP}"), format!("--env=SECRET={SECRET}"));
    let own = [network, "--entrypoint=workspace-proxy", &user, &secret];
    start(&own, &mounts, &pod::proxy_arguments())
}

fn start_workspace(
    network: &str,
    files: &Files,
    sockets: &Path,
    protection: Protection,
) -> Result<Container> {
    let mounts = [
        mount(sockets, "/run/workspace", "ro"),
        mount(&files.path("agent"), "/run/secrets/agent", "ro"),
        mount(&binaries::hostile(), HOSTILE, "ro"),
    ];
    let profile = files.path("seccomp.json");
    fs::write(&profile, profile_text())?;
    let user = format!("--user={WORKSPACE_USER}:{GROUP}");
    let profile = format!("--security-opt=seccomp={}", profile.display());
    let root = "--tmpfs=/workspace:uid=1000,gid=1000,mode=0750";
    start(&[network, &user, &profile, root], &mounts, &pod::agent_arguments(protection))
}

fn start(own: &[&str], mounts: &[String], command: &[String]) -> Result<Container> {
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Container::run(&[&RESTRICTED[..], own, &mounts, &[WORKSPACE_BASE], &command].concat())
}

fn mount(source: &Path, target: &str, mode: &str) -> String {
    format!("--volume={}:{target}:{mode}", source.display())
}

/// A seccomp profile that allows `unshare` for a user and a network namespace and nothing else of
/// that kind, which is all that the agent needs.
fn profile_text() -> String {
    const OTHER_NAMESPACES: [u64; 6] =
        [0x80, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x2000_0000];
    const USER_AND_NETWORK: [u64; 2] = [0x1000_0000, 0x4000_0000];
    let flags = |call: &str, flags: &[u64]| -> Vec<Value> {
        let with_flag = |flag: &u64| {
            let flag =
                json!({ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" });
            json!({ "names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [flag] })
        };
        flags.iter().map(with_flag).collect()
    };
    let never = json!({
        "names": ["setns", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen",
            "fsconfig", "fsmount", "fspick", "mount_setattr", "bpf", "keyctl", "add_key",
            "request_key", "kexec_load", "init_module", "finit_module", "delete_module", "reboot",
            "perf_event_open", "userfaultfd"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 1,
    });
    let mut rules = vec![never];
    rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
    rules.extend(flags("unshare", &OTHER_NAMESPACES));
    // The first of the others is a bit of the signal's number here.
    rules.extend(flags("clone", &[&OTHER_NAMESPACES[1..], &USER_AND_NETWORK].concat()));
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": rules,
    })
    .to_string()
}
