//! A pod under gVisor: three containers of one sandbox, made with the annotations that Kubernetes'
//! runtime gives, the socket directory shared by a mount hint. Processes, mounts and users are apart
//! as in a cluster; they share one kernel of gVisor's, and the pod's network.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    CLOUD_TOKEN, SECRET,
    lab::{Lab, run},
    pod::{self, Files, GROUP, HOSTILE, PROXY_USER, Protection, WORKSPACE_USER},
    vectors::Findings,
};
use crate::{
    binaries,
    docker::{WORKSPACE_BASE, docker},
};

/// runsc up to 2024 looks for a setting of the kernel that newer kernels keep elsewhere, and then
/// takes the namespace for the machine's own and refuses. An empty directory in that place, for
/// itself only, helps it over.
const START: &str = "mount -t tmpfs none /proc/sys/net/core && exec runsc \"$@\"";

/// A running pod.
#[derive(Debug)]
pub struct GvisorPod {
    files: Files,
    directory: TempDir,
    name: String,
    namespace: String,
    /// In the order of their start.
    containers: Vec<&'static str>,
}

impl GvisorPod {
    /// Starts the three containers in a namespace that is linked with the world.
    ///
    /// # Errors
    /// When runsc refuses, or the image cannot be unpacked.
    pub fn start(lab: &Lab, protection: Protection) -> Result<Self> {
        lab.make_pod_namespace()?;
        lab.link()?;
        let namespace = lab.pod_namespace();
        let (files, directory) = (Files::write()?, tempfile::tempdir()?);
        let name = namespace.clone();
        let mut pod = Self { files, directory, name, namespace, containers: Vec::new() };
        pod.unpack_image()?;
        pod.launch("pause", &pod.pause())?;
        pod.launch("proxy", &pod.proxy())?;
        pod.launch("workspace", &pod.workspace(protection))?;
        Ok(pod)
    }

    /// Runs the hostile program in the workspace.
    ///
    /// # Errors
    /// When a container does not work.
    pub fn attack(&self, lab: &Lab) -> Result<Findings> {
        pod::attack_pod(lab, &self.files).map_err(|error| error.context(self.logs()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn unpack_image(&self) -> Result<()> {
        let (id, archive) = (docker(&["create", WORKSPACE_BASE])?, self.path("image.tar"));
        let archive = archive.to_string_lossy();
        let exported = docker(&["export", "--output", &archive, &id]);
        docker(&["rm", &id])?;
        exported?;
        let root = self.path("root");
        fs::create_dir(&root)?;
        run("tar", &["-xf", &archive, "-C", &root.to_string_lossy()])
    }

    /// runsc makes no place to mount to in a root that is read-only.
    fn make_mount_points(&self, spec: &Value) -> Result<()> {
        for mount in spec["mounts"].as_array().into_iter().flatten() {
            let target = mount["destination"].as_str().unwrap_or_default();
            let place = self.path("root").join(target.trim_start_matches('/'));
            let source = mount["source"].as_str().unwrap_or_default();
            if mount["type"] == "bind" && Path::new(source).is_file() {
                fs::create_dir_all(place.parent().unwrap_or(&place))?;
                File::options().create(true).append(true).open(place)?;
            } else {
                fs::create_dir_all(place)?;
            }
        }
        Ok(())
    }

    fn launch(&mut self, container: &'static str, spec: &Value) -> Result<()> {
        self.make_mount_points(spec)?;
        let bundle = self.path(container);
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), spec.to_string())?;
        let id = self.id(container);
        self.containers.push(container);
        self.runsc(container, &["create", "--bundle", &bundle.to_string_lossy(), &id])?;
        self.runsc(container, &["start", &id])
    }

    fn id(&self, container: &str) -> String {
        if container == "pause" { self.name.clone() } else { format!("{}-{container}", self.name) }
    }

    /// Runs runsc from inside the pod's network. The containers keep its outputs, so that these are
    /// files: nobody would ever see the end of a pipe.
    fn runsc(&self, container: &str, arguments: &[&str]) -> Result<()> {
        let output = File::options().create(true).append(true).open(self.log(container))?;
        let status = Command::new("unshare")
            .args(["--mount", "nsenter", &format!("--net=/run/netns/{}", self.namespace)])
            .args(["sh", "-c", START, "runsc", "--root"])
            .arg(self.path("state"))
            .arg("--network=sandbox")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("cannot run runsc")?;
        ensure!(status.success(), "runsc {arguments:?}: {status}:\n{}", self.logs());
        Ok(())
    }

    fn log(&self, container: &str) -> PathBuf {
        self.path(&format!("{container}.log"))
    }

    fn logs(&self) -> String {
        let log = |container: &&str| {
            let text = fs::read_to_string(self.log(container)).unwrap_or_default();
            format!("--- {container}\n{text}")
        };
        self.containers.iter().map(log).collect()
    }

    fn pause(&self) -> Value {
        let hostile = bind(&binaries::hostile(), HOSTILE);
        self.container((65535, 65535), vec![HOSTILE.into(), "neighbour".into()], vec![hostile])
    }

    fn proxy(&self) -> Value {
        let mounts = vec![
            self.sockets("rw"),
            bind(&self.files.path("admin"), "/run/secrets/admin"),
            bind(&self.files.path("cloud"), CLOUD_TOKEN.trim_end_matches("/token")),
            bind(&self.files.path("policy"), "/etc/workspace"),
        ];
        let command = [vec!["workspace-proxy".to_owned()], pod::proxy_arguments()].concat();
        self.container((PROXY_USER, GROUP), command, mounts)
    }

    fn workspace(&self, protection: Protection) -> Value {
        let root = json!({
            "destination": "/workspace", "type": "tmpfs", "source": "tmpfs",
            "options": ["rw", "nosuid", "nodev", "mode=0750", "uid=1000", "gid=1000"],
        });
        let mounts = vec![
            self.sockets("ro"),
            bind(&self.files.path("agent"), "/run/secrets/agent"),
            bind(&binaries::hostile(), HOSTILE),
            root,
        ];
        let command =
            [vec!["workspace-agent".to_owned()], pod::agent_arguments(protection)].concat();
        self.container((WORKSPACE_USER, GROUP), command, mounts)
    }

    /// The volume with the proxy's socket; the hint below makes it one directory for all.
    fn sockets(&self, mode: &str) -> Value {
        json!({
            "destination": "/run/workspace", "type": "tmpfs",
            "source": self.path("sockets"), "options": [mode],
        })
    }

    fn container(&self, user: (u32, u32), command: Vec<String>, own: Vec<Value>) -> Value {
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] }),
        ];
        mounts.extend(own);
        let kind = if user.0 == 65535 { "sandbox" } else { "container" };
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
            "root": { "path": self.path("root"), "readonly": true },
            "mounts": mounts,
            "annotations": {
                "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.sandbox-id": self.name,
                "dev.gvisor.spec.mount.sockets.source": self.path("sockets"),
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

impl Drop for GvisorPod {
    fn drop(&mut self) {
        // What has ended already is no fault.
        for container in self.containers.iter().rev() {
            drop(self.runsc("end", &["delete", "--force", &self.id(container)]));
        }
    }
}
