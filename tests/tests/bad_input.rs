//! Bad input gets a clear error and harms nothing.

use std::{fs, net::TcpListener, process::Command};

use anyhow::{Result, ensure};
use serde_json::json;
use workspace_tests::{
    agent::{Agent, Setup, refusal, text},
    binaries,
    http::Connection,
    process::free_address,
    proxy,
};

#[test]
fn malformed_requests_to_exec_are_told_what_is_wrong() -> Result<()> {
    let agent = Agent::start()?;
    let json = |body: &str| {
        let client = agent.client.clone().with("content-type", "application/json");
        client.send("POST", "/v1/exec", body.as_bytes())
    };
    let deep = "[".repeat(100_000);
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "\"argv\"",
        &deep,
        r#"{"argv": ["true"], "unknown_key": 1}"#,
        r#"{"argv": []}"#,
        r#"{"argv": [""]}"#,
        r#"{"argv": "true"}"#,
        r#"{"argv": ["true"], "shell": "true"}"#,
        r"{}",
        r#"{"argv": ["a\u0000b"]}"#,
        r#"{"argv": ["true"], "env": {"A=B": "x"}}"#,
        r#"{"argv": ["true"], "env": {"A": "x\u0000y"}}"#,
        r#"{"argv": ["true"], "timeout_ms": -1}"#,
        r#"{"argv": ["true"], "stdin": "x", "stdin_base64": "eA=="}"#,
        r#"{"argv": ["true"], "stdin_base64": "not base64!"}"#,
        r#"{"argv": ["true"], "argv": ["false"]}"#,
    ];
    for body in bodies {
        let answer = json(body)?;
        let shown = &body[..body.len().min(60)];
        ensure!(
            matches!(answer.status(), 400 | 422),
            "{shown}: {} {}",
            answer.status(),
            answer.text()
        );
        let problem = answer.json()?;
        answer.problem_code()?;
        ensure!(!text(&problem, "detail")?.is_empty(), "{shown}: no detail");
    }
    let named = json(r#"{"argv": ["true"], "unknown_key": 1}"#)?;
    ensure!(named.text().contains("unknown_key"), "{}", named.text());
    assert_eq!(agent.shell("true")?["exit_code"], 0);
    Ok(())
}

#[test]
fn an_oversize_request_is_refused_before_it_is_read_whole() -> Result<()> {
    let agent = Agent::start()?;
    let mut connection = Connection::open(agent.client.endpoint())?;
    connection.send(
        b"POST /v1/exec HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
          Content-Length: 99999999999\r\n\r\n",
    )?;
    connection.send(&[b' '; 60_000])?;
    let head = connection.read_head()?;
    assert_eq!(head.status, 413);
    assert_eq!(agent.client.get("/health")?.status(), 200);
    Ok(())
}

#[test]
fn unknown_paths_and_methods_are_refused() -> Result<()> {
    let agent = Agent::start()?;
    assert_eq!(agent.client.get("/v1/nothing")?.status(), 404);
    assert_eq!(agent.client.get("/")?.status(), 404);
    ensure!(matches!(agent.client.get("/v1/exec")?.status(), 404 | 405), "GET of exec");
    ensure!(
        matches!(agent.client.send("DELETE", "/health", b"")?.status(), 404 | 405),
        "DELETE of health"
    );
    Ok(())
}

#[test]
fn what_is_no_http_is_closed_and_harms_nothing() -> Result<()> {
    let agent = Agent::start()?;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut connection = Connection::open(agent.client.endpoint())?;
        connection.send(bytes)?;
        connection.finish_sending()?;
        let answer = connection.read_to_end().unwrap_or_default();
        ensure!(!answer.starts_with(b"HTTP/1.1 2"), "{bytes:?} got a success");
    }
    assert_eq!(agent.client.get("/health")?.status(), 200);
    Ok(())
}

#[test]
fn the_agent_refuses_a_bad_command_line_and_says_which_value() -> Result<()> {
    let long = format!("unix:/tmp/{}", "x".repeat(120));
    let cases: [(&[&str], &str); 8] = [
        (&["--listen", &long], "107"),
        (&["--listen", "unix:relative.sock"], "relative.sock"),
        (&["--listen", "tcp:localhost:1"], "localhost:1"),
        (&["--listen", "udp:127.0.0.1:1"], "udp:127.0.0.1:1"),
        (&["--token-file", "/no/such/token"], "/no/such/token"),
        (&["--forward", "nonsense"], "nonsense"),
        (&["--forward", "0.0.0.0:8080=unix:/tmp/x.sock"], "0.0.0.0"),
        (&["--isolate-net", "perhaps"], "perhaps"),
    ];
    for (arguments, named) in cases {
        let said = Setup::new()?.args(arguments).start_refused()?;
        ensure!(said.contains(named), "{arguments:?}: {said}");
    }
    Ok(())
}

#[test]
fn the_agent_refuses_an_empty_token_file_and_a_root_that_is_missing() -> Result<()> {
    let setup = Setup::new()?;
    let token = setup.directory().join("token");
    fs::write(&token, " \n")?;
    let path = token.to_string_lossy().into_owned();
    let said = setup.args(&["--token-file", &path]).start_refused()?;
    ensure!(said.contains("empty"), "{said}");

    let mut command = Command::new(binaries::agent());
    command.args(["serve", "--listen", "unix:/tmp/never.sock", "--root", "/no/such/root"]);
    let said = refusal(command)?;
    ensure!(said.contains("/no/such/root"), "{said}");
    Ok(())
}

#[test]
fn an_address_in_use_is_refused_and_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let listen = format!("tcp:{}", taken.local_addr()?);
    let said = Setup::new()?.args(&["--listen", &listen]).start_refused()?;
    ensure!(said.contains(&listen), "{said}");
    let said = refusal(proxy::Setup::new()?.command(taken.local_addr()?, free_address()?)?)?;
    ensure!(said.contains(&listen), "{said}");
    Ok(())
}

#[test]
fn the_proxy_refuses_a_policy_it_does_not_understand() -> Result<()> {
    let refused = |change: fn(&mut serde_json::Value)| -> Result<String> {
        let setup = proxy::Setup::new()?.policy(change);
        refusal(setup.command(free_address()?, free_address()?)?)
    };
    let said = refused(|policy| policy["unknown_key"] = json!(1))?;
    ensure!(said.contains("unknown_key"), "{said}");
    let said = refused(|policy| policy["version"] = json!(99))?;
    ensure!(said.contains("version"), "{said}");
    let said = refused(|policy| policy["egress"]["allow"] = json!([{ "host": "*" }]))?;
    ensure!(said.contains('*'), "{said}");
    let said =
        refused(|policy| policy["egress"]["allow"] = json!([{ "host": "https://a.example/x" }]))?;
    ensure!(said.contains("https://a.example/x"), "{said}");
    let said = refused(|policy| {
        policy["egress"]["allow"] = json!([{ "host": "a.example", "ports": [0] }])
    })?;
    ensure!(said.contains("port"), "{said}");
    Ok(())
}

#[test]
fn the_proxy_refuses_a_whitelist_that_means_everything_or_nothing_clear() -> Result<()> {
    for list in [
        "*",
        "*.com",
        ".",
        "..",
        "user@allowed.example",
        "https://allowed.example/simple",
        "al?owed.example",
    ] {
        for variable in [true, false] {
            let mut setup = proxy::Setup::new()?;
            setup = if variable {
                setup.env("PROXY_DOMAIN_WHITELIST", &format!("good.example,{list}"))
            } else {
                setup.args(&["--allow", list])
            };
            let said = refusal(setup.command(free_address()?, free_address()?)?)?;
            // The entry is named, but for what may be a password before the host.
            let named = list.replace("user@", "…@");
            ensure!(said.contains(&named), "{list}: {said}");
        }
    }
    Ok(())
}

#[test]
fn the_proxy_refuses_to_start_without_its_token_or_policy_file() -> Result<()> {
    let setup = proxy::Setup::new()?;
    let command = setup.command(free_address()?, free_address()?)?;
    fs::remove_file(setup.directory().join("admin-token"))?;
    let said = refusal(command)?;
    ensure!(said.contains("admin-token"), "{said}");

    let setup = proxy::Setup::new()?;
    let command = setup.command(free_address()?, free_address()?)?;
    fs::remove_file(setup.directory().join("policy.yaml"))?;
    let said = refusal(command)?;
    ensure!(said.contains("policy.yaml"), "{said}");
    Ok(())
}

#[test]
fn a_connect_to_anything_odd_is_refused_before_any_lookup() -> Result<()> {
    let proxy = proxy::Setup::new()?.args(&["--allow", "allowed.example"]).start()?;
    let cases = [
        ("allowed.example", 400),
        (":443", 400),
        ("allowed.example:", 400),
        ("allowed.example:0", 400),
        ("allowed.example:65536", 400),
        ("allowed.example:+443", 400),
        ("allowed.example:0443", 400),
        ("allowed.example..:443", 400),
        ("[allowed.example]:443", 400),
        ("u:p@allowed.example:443", 400),
        ("allowed.example:443@evil.test:443", 400),
        ("http://allowed.example:443/", 400),
        ("/x", 400),
        ("*", 400),
        ("::1:443", 400),
        ("[fe80::1%25eth0]:443", 400),
        ("allowed.example%00:443", 400),
        ("allowed%2eexample:443", 400),
        ("127.1:443", 400),
        ("2130706433:443", 400),
        ("0x7f.1:443", 400),
        ("evil.test:443", 403),
        ("allowed.example.evil.test:443", 403),
        ("notallowed.example:443", 403),
        ("allowed.example:8443", 403),
        ("127.0.0.1:443", 403),
        ("[::1]:443", 403),
        ("localhost:443", 403),
        ("169.254.169.254:80", 403),
        ("[::ffff:169.254.169.254]:80", 403),
        ("10.0.0.1:443", 403),
    ];
    for (target, status) in cases {
        let mut connection = proxy.connect()?;
        connection
            .send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
        let head = connection.read_head()?;
        assert_eq!(head.status, status, "CONNECT {target}: {head:?}");
    }
    Ok(())
}

#[test]
fn smuggling_attempts_at_the_proxy_are_refused() -> Result<()> {
    let proxy = proxy::Setup::new()?.args(&["--allow", "plain.test"]).start()?;
    let cases = [
        "GET http://plain.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nHost: plain.test\r\n\r\n",
        "GET http://plain.test/ HTTP/1.1\r\n\r\n",
        "POST http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "POST http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET http://user:pass@plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n",
        "GET ftp://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n",
    ];
    for request in cases {
        let mut connection = proxy.connect()?;
        connection.send(request.as_bytes())?;
        let head = connection.read_head()?;
        ensure!((400..500).contains(&head.status), "{request:?}: {head:?}");
    }
    Ok(())
}
