//! The least that a binary has to do. `make test-arm64` runs these tests on arm64 binaries under
//! emulation.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{
    agent::{Agent, text},
    binaries,
    origin::Origin,
    proxy::Setup,
};

#[test]
fn both_binaries_tell_their_version_and_their_usage() -> Result<()> {
    for name in ["workspace-agent", "workspace-proxy"] {
        let said = |argument| -> Result<String> {
            let output = Command::new(binaries::path(name)).arg(argument).output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{name} {argument}: {error}");
            Ok(String::from_utf8(output.stdout)?)
        };
        assert_eq!(said("--version")?.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
        ensure!(said("--help")?.contains("serve"), "{name} --help does not name serve");
    }
    Ok(())
}

#[test]
fn the_agent_runs_a_command() -> Result<()> {
    let agent = Agent::start()?;
    let reply = agent.exec(&json!({ "shell": "cat; exit 3", "stdin": "given" }))?;
    assert_eq!((text(&reply, "stdout")?, &reply["exit_code"]), ("given", &json!(3)));
    let health = agent.cli("health").output()?;
    ensure!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
    Ok(())
}

#[test]
fn the_proxy_permits_one_request_and_refuses_another() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let proxy = Setup::new()?.allow_local("plain.test", origin.port()).start()?;
    let ask = |name: &str| {
        let host = format!("{name}:{}", origin.port());
        proxy.client().with("host", &host).get(&format!("http://{host}/"))
    };
    let permitted = ask("plain.test")?;
    assert_eq!((permitted.status(), permitted.text().as_str()), (200, "answer"));
    let refused = ask("other.test")?;
    assert_eq!((refused.status(), refused.header("x-proxy-error")), (403, Some("not_allowed")));
    assert_eq!(origin.received().len(), 1);
    Ok(())
}
