//! The agent under gVisor: what its kernel does differently must not matter. The sandbox has the
//! machine's file system read-only beneath a layer of its own, so agent and client run inside.

use std::process::Command;

use anyhow::{Result, ensure};
use workspace_tests::{binaries, require};

/// Starts an agent, waits until it answers, drives it with the client, stops it. One `name: result`
/// a line.
const SCRIPT: &str = r#"
dir=$(mktemp -d); cd "$dir"; mkdir root local; echo content > local/file; ln -s file local/link
"$AGENT" serve --listen "unix:$dir/agent.sock" --root "$dir/root" --isolate-net required 2> log &
server=$!
export WORKSPACE_AGENT_ADDR="unix:$dir/agent.sock"
until "$AGENT" health > /dev/null 2>&1; do kill -0 $server || { cat log; exit 1; }; done
echo "network: $("$AGENT" exec -- sh -c 'tail -n +3 /proc/net/dev | cut -d: -f1 | xargs')"
echo "capabilities: $("$AGENT" exec -- sh -c 'grep -h ^Cap /proc/self/status | cut -f2 | sort -u')"
"$AGENT" exec -- sh -c 'exit 5'; echo "code: $?"
echo "stdin: $(echo passed | "$AGENT" exec -- cat)"
"$AGENT" exec --timeout 200ms -- sleep 1000; echo "timeout: $?"
"$AGENT" exec -- no-such-command 2> /dev/null; echo "missing: $?"
"$AGENT" push local there > /dev/null && "$AGENT" pull there back > /dev/null
echo "synced: $(cat back/link)"
kill $server; wait $server; echo "stopped: $?"
"#;

#[test]
fn commands_are_isolated_run_and_end_and_trees_are_synced() -> Result<()> {
    require!(Gvisor);
    let output = Command::new("runsc")
        .args(["--network=none", "do", "sh", "-c", SCRIPT])
        .env("AGENT", binaries::agent())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "network: lo",
        "capabilities: 0000000000000000",
        "code: 5",
        "stdin: passed",
        "timeout: 124",
        "missing: 127",
        "synced: content",
        "stopped: 0",
    ] {
        let found = text.lines().any(|line| line == expected);
        ensure!(found, "no '{expected}' in:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
