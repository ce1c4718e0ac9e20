//! The `exec` subcommand against the running agent, both of them the real binary.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

#[test]
fn input_that_cannot_be_read_ends_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", dir.path().join("s").display());
    let mut serve = Command::new(env!("CARGO_BIN_EXE_workspace-agent"));
    serve.args(["serve", "--isolate-net", "off", "--listen", &address, "--root"]).arg(dir.path());
    let mut agent = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(agent.stderr.take().unwrap()).read_line(&mut line).unwrap();
    // The command's own deadline turns waiting for ever into another exit code.
    let mut exec = Command::new(env!("CARGO_BIN_EXE_workspace-agent"));
    exec.args(["exec", "--connect", &address, "--timeout", "5s", "cat"]);
    // read(2) of a directory is an error.
    let exec = exec.stdin(File::open(dir.path()).unwrap()).output().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(exec.status.code(), Some(125), "{exec:?}");
    let errors = String::from_utf8_lossy(&exec.stderr);
    assert!(errors.contains("cannot read standard input"), "{errors}");
}
