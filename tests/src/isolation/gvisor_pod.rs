//! A pod under gVisor: three containers of one sandbox, made with the annotations that Kubernetes'
//! runtime gives, the socket directory shared by a mount hint. Processes, mounts and users are apart
//! as in a cluster; they share one kernel of gVisor's, and the pod's network.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    gvisor_spec,
    lab::{Lab, run},
    pod::{self, Files, Protection},
    vectors::Findings,
};
use crate::docker::{WORKSPACE_BASE, docker};

/// runsc up to 2024 looks for a setting of the kernel that newer kernels keep elsewhere, and then
/// takes the namespace for the machine's own and refuses. An empty directory in that place, for
/// itself only, helps it over.
const START: &str = "mount -t tmpfs none /proc/sys/net/core && exec runsc \"$@\"";

/// A running pod.
#[derive(Debug)]
pub struct GvisorPod {
    files: Files,
    directory: TempDir,
    /// Of the network, and of the sandbox.
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
        let mut pod = Self { files, directory, namespace, containers: Vec::new() };
        pod.unpack_image()?;
        pod.launch("pause", &pod.spec().pause())?;
        pod.launch("proxy", &pod.spec().proxy())?;
        pod.launch("workspace", &pod.spec().workspace(protection))?;
        Ok(pod)
    }

    fn spec(&self) -> gvisor_spec::Pod<'_> {
        gvisor_spec::Pod {
            files: &self.files,
            root: self.path("root"),
            sockets: self.path("sockets"),
            namespace: &self.namespace,
        }
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
        if container == "pause" {
            self.namespace.clone()
        } else {
            format!("{}-{container}", self.namespace)
        }
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
}

impl Drop for GvisorPod {
    fn drop(&mut self) {
        // What has ended already is no fault.
        for container in self.containers.iter().rev() {
            drop(self.runsc("end", &["delete", "--force", &self.id(container)]));
        }
    }
}
