//! What runsc is told of each container of a pod, as Kubernetes' runtime would (the OCI runtime
//! specification, with annotations).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    CLOUD_TOKEN, SECRET,
    pod::{self, Files, GROUP, HOSTILE, PROXY_USER, Protection, WORKSPACE_USER},
};
use crate::binaries;

/// The user of the container that holds the network.
const NOBODY: u32 = 65535;

/// What the specifications of a pod have in common.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    /// Tokens and the policy.
    pub(super) files: &'a Files,
    /// The unpacked image, the source of the sockets' volume, and the pod's network namespace.
    pub(super) root: PathBuf,
    pub(super) sockets: PathBuf,
    pub(super) namespace: &'a str,
}

impl Pod<'_> {
    /// The first container, which holds the network.
    pub(super) fn pause(&self) -> Value {
        let hostile = bind(&binaries::hostile(), HOSTILE);
        self.container((NOBODY, NOBODY), vec![HOSTILE.into(), "neighbour".into()], vec![hostile])
    }

    /// The proxy.
    pub(super) fn proxy(&self) -> Value {
        let mounts = vec![
            self.volume("rw"),
            bind(&self.files.path("admin"), "/run/secrets/admin"),
            bind(&self.files.path("cloud"), CLOUD_TOKEN.trim_end_matches("/token")),
            bind(&self.files.path("policy"), "/etc/workspace"),
        ];
        let command = [vec!["workspace-proxy".to_owned()], pod::proxy_arguments()].concat();
        self.container((PROXY_USER, GROUP), command, mounts)
    }

    /// The workspace.
    pub(super) fn workspace(&self, protection: Protection) -> Value {
        let root = json!({
            "destination": "/workspace", "type": "tmpfs", "source": "tmpfs",
            "options": ["rw", "nosuid", "nodev", "mode=0750", "uid=1000", "gid=1000"],
        });
        let mounts = vec![
            self.volume("ro"),
            bind(&self.files.path("agent"), "/run/secrets/agent"),
            bind(&binaries::hostile(), HOSTILE),
            root,
        ];
        let command =
            [vec!["workspace-agent".to_owned()], pod::agent_arguments(protection)].concat();
        self.container((WORKSPACE_USER, GROUP), command, mounts)
    }

    /// The volume with the proxy's socket; the hint below makes it one directory for all.
    fn volume(&self, mode: &str) -> Value {
        json!({
            "destination": "/run/workspace", "type": "tmpfs",
            "source": self.sockets, "options": [mode],
        })
    }

    fn container(&self, user: (u32, u32), command: Vec<String>, own: Vec<Value>) -> Value {
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] }),
        ];
        mounts.extend(own);
        let kind = if user.0 == NOBODY { "sandbox" } else { "container" };
        let mut environment =
            vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        if user.0 != WORKSPACE_USER {
            environment.push(format!("SECRET={SECRET}"));
        }
        let none: [&str; 0] = [];
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": user.0, "gid": user.1 },
                "args": command,
                "env": environment,
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": none, "effective": none, "inheritable": none,
                    "permitted": none, "ambient": none,
                },
            },
            "root": { "path": self.root, "readonly": true },
            "mounts": mounts,
            "annotations": {
                "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.sandbox-id": self.namespace,
                "dev.gvisor.spec.mount.sockets.source": self.sockets,
                "dev.gvisor.spec.mount.sockets.type": "tmpfs",
                "dev.gvisor.spec.mount.sockets.share": "pod",
                // Owner and mode belong here, but runsc knows them only since 2024.
                "dev.gvisor.spec.mount.sockets.options": "rw",
            },
            "linux": { "namespaces": [
                { "type": "pid" },
                { "type": "network", "path": format!("/run/netns/{}", self.namespace) },
                { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ] },
        })
    }
}

fn bind(source: &Path, target: &str) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", "ro"] })
}
