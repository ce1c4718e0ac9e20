//! The running binary is closed to processes of its own user, in the mode that changes least about
//! the process: commands have the agent's uid, and its memory holds the token.

use std::{
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::{Command, Stdio},
};

/// Who runs the agent when the test itself is root, to whom nothing is closed.
const SOMEBODY: u32 = 1000;

#[test]
fn commands_cannot_read_the_agents_memory_or_environment() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // Where it was built somebody else may not be let in.
    let binary = dir.path().join("agent");
    std::fs::copy(env!("CARGO_BIN_EXE_workspace-agent"), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.args(["serve", "--isolate-net", "off", "--root"]).arg(dir.path()).arg("--listen");
    command.arg(format!("unix:{}", dir.path().join("s").display())).stderr(Stdio::piped());
    let mut uid = rustix::process::getuid().as_raw();
    if uid == 0 {
        uid = SOMEBODY;
        command.uid(SOMEBODY).gid(SOMEBODY);
    }
    let mut agent = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(agent.stderr.take().unwrap()).read_line(&mut line).unwrap();
    // The files of a process that is not dumpable belong to root (proc(5)).
    let owner = std::fs::metadata(format!("/proc/{}/mem", agent.id())).map(|file| file.uid());
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(line.contains("listening"), "{line}");
    assert_ne!(owner.unwrap(), uid);
}
