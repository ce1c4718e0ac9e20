//! A network of its own for each test: a world, and a link from it to a pod. Nothing of it is
//! visible on the machine outside.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{INTERNAL, METADATA, NAME_SERVER, NODE, OUTSIDE, POD};
use crate::{binaries, process::Daemon, wait::eventually};

/// What a default-deny policy with the usual exceptions lets out of a pod: name service, and TLS to
/// what is no internal address. It stands where a cluster enforces it, at the node's end of the link.
const POLICY: &str = "
table inet pod {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    ip daddr 10.99.0.53 udp dport 53 accept
    ip daddr != { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16 } tcp dport 443 accept
  }
}
";

/// A world with every address that a pod could want.
#[derive(Debug)]
pub struct Lab {
    name: String,
    world: Option<Daemon>,
    directory: TempDir,
}

impl Lab {
    /// Makes the world, with its services running.
    ///
    /// # Errors
    /// When the kernel refuses, or a service does not start.
    pub fn start() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("proof-{}-{number}", std::process::id());
        let directory = tempfile::tempdir()?;
        let mut lab = Self { name, world: None, directory };
        let world = lab.world_namespace();
        run("ip", &["netns", "add", &world])?;
        run("ip", &["-n", &world, "link", "set", "lo", "up"])?;
        for address in [OUTSIDE, NAME_SERVER, INTERNAL, METADATA] {
            run("ip", &["-n", &world, "address", "add", &format!("{address}/32"), "dev", "lo"])?;
        }
        let mut command = lab.in_world(&binaries::hostile().to_string_lossy());
        command.arg("world");
        let daemon = Daemon::spawn("world", command, lab.directory.path())?;
        eventually("the world is there", || daemon.stdout().contains("ready").then_some(()))
            .with_context(|| daemon.output())?;
        lab.world = Some(daemon);
        Ok(lab)
    }

    fn world_namespace(&self) -> String {
        format!("{}-world", self.name)
    }

    /// The name of the pod's network namespace.
    pub fn pod_namespace(&self) -> String {
        format!("{}-pod", self.name)
    }

    /// Makes an empty namespace for the pod.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make_pod_namespace(&self) -> Result<()> {
        run("ip", &["netns", "add", &self.pod_namespace()])
    }

    /// Takes the network namespace of a process for the pod's.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn adopt_pod_namespace(&self, pid: u32) -> Result<()> {
        run("ip", &["netns", "attach", &self.pod_namespace(), &pid.to_string()])
    }

    /// Links the pod's namespace with the world.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn link(&self) -> Result<()> {
        let (pod, world) = (self.pod_namespace(), self.world_namespace());
        let link = ["link", "add", "name", "eth0", "netns", &pod, "type", "veth", "peer", "name"];
        run("ip", &[&link[..], &["eth0", "netns", &world]].concat())?;
        for (namespace, address) in [(&pod, POD), (&world, NODE)] {
            let address = format!("{address}/24");
            run("ip", &["-n", namespace, "address", "add", &address, "dev", "eth0"])?;
            run("ip", &["-n", namespace, "link", "set", "eth0", "up"])?;
        }
        run("ip", &["-n", &pod, "link", "set", "lo", "up"])?;
        run("ip", &["-n", &pod, "route", "add", "default", "via", NODE])
    }

    /// Enforces the policy on what the pod sends.
    ///
    /// # Errors
    /// When nft refuses it.
    pub fn enforce_policy(&self) -> Result<()> {
        let mut nft = self.in_world("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        nft.stdin.take().context("a pipe")?.write_all(POLICY.as_bytes())?;
        ensure!(nft.wait()?.success(), "nft refuses the policy");
        Ok(())
    }

    /// A program to run in the world, from where the pod can be called.
    pub fn in_world(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.world_namespace(), program]).stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.world = None;
        for namespace in [self.pod_namespace(), self.world_namespace()] {
            // The pod's does not exist in every test.
            drop(Command::new("ip").args(["netns", "delete", &namespace]).output());
        }
    }
}

/// Runs a program that has to succeed.
///
/// # Errors
/// When it does not, with what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {}: {said}", output.status);
    Ok(())
}
