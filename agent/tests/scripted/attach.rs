//! `attach` and `exec -t`, in a real terminal.

use http::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_agent::exec::frame::Kind;

use super::{
    agent::{Scripted, Socket},
    ended, signal, start,
    terminal::Terminal,
    text,
};

const ATTACH: &str = "/v1/processes/shell/attach";

/// A client that is attached to a command with a terminal.
struct Attached {
    agent: Scripted,
    terminal: Terminal,
    child: std::process::Child,
    socket: Socket,
}

impl Attached {
    async fn start() -> Self {
        let mut agent = Scripted::start();
        let terminal = Terminal::new(30, 100);
        let child = terminal.start(agent.cli("attach", &["shell"]));
        let mut socket = agent.call("GET", ATTACH).await.upgrade().await;
        assert!(terminal.is_as_before());
        socket.event(&json!({"event": "attached", "id": "shell", "pid": 1, "tty": true})).await;
        let size = socket.next().await.unwrap();
        assert_eq!(size, json!({"resize": {"rows": 30, "cols": 100}}));
        assert!(terminal.is_raw());
        Self { agent, terminal, child, socket }
    }

    /// The exit code and what was shown. The terminal has to be what it was.
    async fn ended(self) -> (Option<i32>, String) {
        let status = ended(self.child).await.status;
        assert!(self.terminal.is_as_before(), "the terminal was left in raw mode");
        drop(self.agent);
        (status.code(), self.terminal.screen())
    }
}

fn exited(code: u8) -> Value {
    json!({"event": "exited", "id": "shell", "exit_code": code, "signal": null})
}

#[tokio::test]
async fn every_key_is_the_commands_and_its_end_is_ours() {
    let mut attached = Attached::start().await;
    attached.socket.output(Kind::Pty, 0, b"$ ").await;
    attached.terminal.keys(b"ls\r\x03\x1a\x04\x10x");
    attached.socket.input(b"ls\r\x03\x1a\x04\x10x").await;
    attached.terminal.resize(50, 132);
    signal(&attached.child, Signal::WINCH);
    let size = attached.socket.next().await.unwrap();
    assert_eq!(size, json!({"resize": {"rows": 50, "cols": 132}}));
    attached.socket.output(Kind::Pty, 2, b"a\r\nb\r\n").await;
    attached.socket.event(&exited(7)).await;
    assert_eq!(attached.ended().await, (Some(7), "$ a\r\nb\r\n".to_owned()));
}

#[tokio::test]
async fn the_detach_keys_leave_the_command() {
    let mut attached = Attached::start().await;
    attached.terminal.keys(b"a\x10");
    attached.socket.input(b"a").await;
    attached.terminal.keys(b"\x11");
    assert_eq!(attached.socket.next().await, Some(json!({"close": 1000})));
    let (code, screen) = attached.ended().await;
    assert_eq!(code, Some(0));
    assert!(screen.contains("detached from shell\r\n"), "{screen:?}");
}

#[tokio::test]
async fn the_terminal_is_restored_when_a_signal_comes() {
    for (sent, code) in [
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::QUIT, 131),
        (Signal::USR1, 138),
        (Signal::TERM, 143),
    ] {
        let mut attached = Attached::start().await;
        signal(&attached.child, sent);
        // It is not the command's.
        assert_eq!(attached.socket.next().await, None);
        assert_eq!(attached.ended().await.0, Some(code));
    }
}

#[tokio::test]
async fn the_terminal_is_restored_when_the_connection_breaks_or_is_refused_half_way() {
    let Attached { agent, terminal, child, socket } = Attached::start().await;
    drop(socket);
    let status = ended(child).await.status;
    assert!(terminal.is_as_before());
    drop(agent);
    let screen = terminal.screen();
    assert_eq!(status.code(), Some(125));
    assert!(
        screen.contains("the connection broke") && screen.contains("it may run on"),
        "{screen}"
    );

    let mut attached = Attached::start().await;
    attached.socket.close(1008, "no such \u{1b}wish").await;
    let (code, screen) = attached.ended().await;
    assert_eq!(code, Some(125));
    assert!(screen.contains("(1008): no such \\u{1b}wish"), "{screen}");
}

#[tokio::test]
async fn a_gap_begins_a_line_of_its_own_in_raw_mode() {
    let mut attached = Attached::start().await;
    attached.socket.event(&json!({"event": "gap", "stream": "pty", "from": 0, "to": 5})).await;
    attached.socket.output(Kind::Pty, 5, b"rest").await;
    attached.socket.event(&exited(0)).await;
    let said = "workspace-agent: 5 bytes of pty are kept no more\r\nrest".to_owned();
    assert_eq!(attached.ended().await, (Some(0), said));
}

#[tokio::test]
async fn without_a_terminal_input_ends_with_its_end_and_the_detach_keys_are_bytes() {
    let mut agent = Scripted::start();
    let mut command = agent.cli("attach", &["shell"]);
    let input = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(input.path(), b"\x10\x11").unwrap();
    command.stdin(std::fs::File::open(input.path()).unwrap());
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut socket = agent.call("GET", ATTACH).await.upgrade().await;
    socket.event(&json!({"event": "attached", "id": "shell", "pid": 1, "tty": false})).await;
    socket.input(b"\x10\x11").await;
    assert_eq!(socket.next().await, Some(json!({"eof": true})));
    socket.output(Kind::Stdout, 0, b"out").await;
    socket.event(&exited(0)).await;
    let output = ended(child).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "out"));
}

#[tokio::test]
async fn without_input_the_terminal_stays_as_it_is() {
    let mut agent = Scripted::start();
    let mut terminal = Terminal::new(24, 80);
    let child = terminal.start(agent.cli("attach", &["--no-stdin", "shell"]));
    let mut socket = agent.call("GET", ATTACH).await.upgrade().await;
    socket.event(&json!({"event": "attached", "id": "shell", "pid": 1, "tty": true})).await;
    assert_eq!(socket.next().await, Some(json!({"resize": {"rows": 24, "cols": 80}})));
    assert!(terminal.is_as_before());
    terminal.keys(b"x\r");
    socket.event(&exited(0)).await;
    assert_eq!(ended(child).await.status.code(), Some(0));
    // No input came before the end.
    assert_eq!(socket.next().await, None);
}

#[tokio::test]
async fn a_command_with_a_terminal_is_started_and_attached_to_from_its_first_byte() {
    let mut agent = Scripted::start();
    let terminal = Terminal::new(40, 120);
    let child = terminal.start(agent.cli("exec", &["-it", "--id", "shell", "sh", "-l"]));
    let mut call = agent.call("POST", "/v1/processes").await;
    assert_eq!(
        call.json().await,
        json!({
            "argv": ["sh", "-l"], "env": {"TERM": "vt100"}, "id": "shell",
            "tty": {"rows": 40, "cols": 120}, "on_disconnect": "kill",
        })
    );
    call.reply(&json!({"id": "shell", "pid": 1}));
    let target = format!("{ATTACH}?stdout_from=0");
    let mut socket = agent.call("GET", &target).await.upgrade().await;
    socket.event(&json!({"event": "attached", "id": "shell", "pid": 1, "tty": true})).await;
    socket.next().await.unwrap();
    assert!(terminal.is_raw());
    socket.event(&exited(0)).await;
    assert_eq!(ended(child).await.status.code(), Some(0));
    assert!(terminal.is_as_before());
}

#[tokio::test]
async fn a_command_that_cannot_be_attached_to_is_not_left_behind() {
    let mut agent = Scripted::start();
    let child = start(agent.cli("exec", &["-t", "sh"]));
    let mut call = agent.call("POST", "/v1/processes").await;
    assert_eq!(call.json().await["tty"], json!({"rows": 24, "cols": 80}));
    call.reply(&json!({"id": "a", "pid": 1}));
    let call = agent.call("GET", "/v1/processes/a/attach?stdout_from=0").await;
    call.refuse(StatusCode::SERVICE_UNAVAILABLE, "draining");
    agent.call("DELETE", "/v1/processes/a").await.reply(&json!({"killed": 1, "survivors": 0}));
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("draining"), "{output:?}");
}

#[tokio::test]
async fn something_else_at_the_address_is_no_agent() {
    let mut agent = Scripted::start();
    let child = start(agent.cli("attach", &["shell"]));
    agent.call("GET", ATTACH).await.reply(&json!({"ok": true}));
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("opens no WebSocket"), "{output:?}");
}
