//! The image, run as the README says: no network, read-only root, no capabilities, user 1000, one
//! mounted directory.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::{
    agent::text,
    docker::{self, Container, WORKSPACE_BASE, WORKSPACE_PROXY, no_images},
    http::{Client, Endpoint},
    origin::Origin,
    proxy::{Proxy, Setup},
    require,
    wait::eventually,
};

/// A directory that both sides may write their socket into.
fn sockets() -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    Ok(directory)
}

struct World {
    container: Container,
    sockets: TempDir,
}

impl World {
    fn start(options: &[&str]) -> Result<Self> {
        let sockets = sockets()?;
        let container = Container::start(WORKSPACE_BASE, sockets.path(), options, &[])?;
        let world = Self { container, sockets };
        eventually("the agent in the container answers", || {
            world.client().get("/health").ok().filter(|answer| answer.status() == 200).map(drop)
        })
        .map_err(|error| error.context(world.container.logs()))?;
        Ok(world)
    }

    fn socket(&self) -> PathBuf {
        self.sockets.path().join("agent.sock")
    }

    fn client(&self) -> Client {
        Client::new(Endpoint::Unix(self.socket()))
    }

    fn shell(&self, line: &str) -> Result<Value> {
        self.client().json("POST", "/v1/exec", &json!({ "shell": line }))
    }

    fn stdout(&self, line: &str) -> Result<String> {
        Ok(text(&self.shell(line)?, "stdout")?.trim().to_owned())
    }
}

/// A proxy outside whose socket is in the mounted directory.
fn proxy_beside(world: &World, origin: &Origin) -> Result<Proxy> {
    let listen = format!("unix:{},mode=0666", world.sockets.path().join("proxy.sock").display());
    Setup::new()?.allow_local("plain.test", origin.port()).args(&["--listen", &listen]).start()
}

#[test]
fn a_direct_connection_fails_and_the_proxied_one_works() -> Result<()> {
    require!(Docker);
    if no_images() {
        return Ok(());
    }
    let world = World::start(&[])?;
    let origin = Origin::saying("through the proxy")?;
    let _proxy = proxy_beside(&world, &origin)?;

    assert_eq!(world.stdout("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")?, "lo");
    let dial = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}'", origin.port());
    let direct = world.shell(&dial)?;
    ensure!(direct["exit_code"] != 0, "{direct}");

    let request = format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; \
         printf \"GET http://plain.test:{0}/ HTTP/1.1\\r\\nHost: plain.test:{0}\\r\\nConnection: close\\r\\n\\r\\n\" >&3; cat <&3'",
        origin.port()
    );
    let answer = world.stdout(&request)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("through the proxy"),
        "{answer}"
    );
    let denied = world.stdout(&request.replace("plain.test", "other.test"))?;
    ensure!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    Ok(())
}

#[test]
fn the_container_has_no_privilege_to_lose() -> Result<()> {
    require!(Docker);
    if no_images() {
        return Ok(());
    }
    let world = World::start(&[])?;
    assert_eq!(world.stdout("id -u; id -g")?, "1000\n1000");
    let status = world.stdout("cat /proc/self/status")?;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        ensure!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    ensure!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(world.stdout("find / -xdev -type f -perm /6000 2>/dev/null; true")?, "");
    assert_eq!(world.stdout("touch /usr/x 2>/dev/null || echo read-only")?, "read-only");
    assert_eq!(world.stdout("touch x && echo writable")?, "writable");
    Ok(())
}

#[test]
fn the_image_says_that_it_is_healthy() -> Result<()> {
    require!(Docker);
    if no_images() {
        return Ok(());
    }
    World::start(&["--health-interval", "1s"])?.container.wait_until_healthy()
}

#[test]
fn the_same_image_runs_the_proxy() -> Result<()> {
    require!(Docker);
    if no_images() {
        return Ok(());
    }
    // As a sidecar: the proxy's user, in the workspace's group.
    let health = ["--health-cmd", "workspace-proxy health", "--health-interval", "1s"];
    let options = ["--entrypoint", "workspace-proxy", "--user", "1001:1000"];
    proxy_answers(WORKSPACE_BASE, &[options, health].concat())
}

#[test]
fn the_image_from_scratch_runs_the_proxy() -> Result<()> {
    require!(Docker);
    if no_images() {
        return Ok(());
    }
    proxy_answers(WORKSPACE_PROXY, &["--health-interval", "1s"])
}

#[test]
fn the_image_from_scratch_has_no_shell() -> Result<()> {
    require!(Docker);
    if no_images() {
        return Ok(());
    }
    for shell in ["sh", "/bin/sh", "/bin/busybox"] {
        let output = docker::run(&["run", "--rm", "--entrypoint", shell, WORKSPACE_PROXY])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(127), "{shell}: {said}");
    }
    Ok(())
}

/// A proxy in a container refuses what its whitelist lacks, and its own health check says that it
/// is well.
fn proxy_answers(image: &str, options: &[&str]) -> Result<()> {
    let sockets = sockets()?;
    // No port is open in the image: the management listener is a socket here, and the check is told.
    let admin = "unix:/run/workspace/admin.sock";
    let listen = "unix:/run/workspace/proxy.sock,mode=0666";
    let connect = format!("WORKSPACE_PROXY_CONNECT={admin}");
    let options = [options, &["--env", &connect]].concat();
    let command =
        ["serve", "--listen", listen, "--admin-listen", admin, "--allow", "allowed.example"];
    let container = Container::start(image, sockets.path(), &options, &command)?;
    let socket: &Path = &sockets.path().join("proxy.sock");
    let client = Client::new(Endpoint::Unix(socket.to_owned())).with("host", "other.test");
    let answer =
        eventually("the proxy in the container answers", || client.get("http://other.test/").ok())
            .map_err(|error| error.context(container.logs()))?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (403, Some("not_allowed")));
    container.wait_until_healthy()
}
