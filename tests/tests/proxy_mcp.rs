//! `/mcp/{server}`: the official MCP SDK on both ends, the credential added in between.

use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    sync::{Mutex, mpsc},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    agent::{self, text},
    ca::Ca,
    http::Connection,
    origin::Origin,
    peer::{self, Peer},
    process::free_address,
    proxy::{Proxy, Setup},
    require,
};

const SECRET: &str = "Bearer secret-of-the-mcp-server";

/// An MCP server behind TLS, and a proxy with a rule for it.
struct World {
    server: Peer,
    proxy: Proxy,
    _ca: Ca,
}

impl World {
    fn start() -> Result<Self> {
        let ca = Ca::new()?;
        let files = ca.server("mcp.test")?;
        let (certificate, key) = (files.certificate.to_string_lossy(), files.key.to_string_lossy());
        let arguments = ["--certificate", &certificate, "--key", &key];
        let server = Peer::start(&peer::python(), "mcp_server.py", &arguments)?;
        let proxy = Setup::new()?
            .local_host("mcp.test", server.port())
            .args(&["--upstream-ca", &ca.certificate().to_string_lossy()])
            .start()?;
        let base = format!("https://mcp.test:{}", server.port());
        let rule = json!({ "peer": { "real_base_url": base, "headers": { "Authorization": SECRET, "X-Tenant": "t1" } } });
        proxy.admin.json("PUT", "/rules", &rule)?;
        Ok(Self { server, proxy, _ca: ca })
    }

    /// Every request the server saw carried the rule's headers, exactly once.
    fn saw_the_secret(&self) -> Result<()> {
        let requests = self.server.record();
        ensure!(requests.len() >= 3, "only {} requests arrived", requests.len());
        for request in requests {
            assert_eq!(values(&request, "authorization"), [SECRET], "{request}");
            assert_eq!(values(&request, "x-tenant"), ["t1"], "{request}");
            assert_eq!(values(&request, "host"), [format!("mcp.test:{}", self.server.port())]);
        }
        Ok(())
    }
}

fn values(request: &Value, name: &str) -> Vec<String> {
    let fields = request["headers"].as_array().cloned().unwrap_or_default();
    let wanted = fields.iter().filter(|field| field[0] == name);
    wanted.filter_map(|field| field[1].as_str().map(str::to_owned)).collect()
}

fn check(reply: &Value) {
    assert_eq!(reply["tools"], json!(["count", "greet"]));
    assert_eq!((&reply["greet"], &reply["count"]), (&json!("hello, proxy"), &json!("1 2 3 4 5")));
}

#[test]
fn the_sdks_client_talks_to_the_sdks_server_through_the_route() -> Result<()> {
    require!(Openssl, PythonPackages);
    let world = World::start()?;
    let url = format!("{}/mcp/peer/mcp", world.proxy.url());
    let output =
        Command::new(peer::python()).arg(peer::script("mcp_client.py")).arg(url).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check(&serde_json::from_slice(&output.stdout)?);
    world.saw_the_secret()?;
    let line = world.proxy.audited(|line| line["mode"] == "route")?;
    assert_eq!(line["host"], "mcp.test", "{line}");
    let injected = line["injected"].to_string().to_lowercase();
    ensure!(injected.contains("authorization") && injected.contains("x-tenant"), "{line}");
    ensure!(!world.proxy.daemon.output().contains(SECRET), "an output holds the secret");
    Ok(())
}

#[test]
fn a_command_in_the_workspace_uses_the_route_and_never_has_the_secret() -> Result<()> {
    require!(Openssl, PythonPackages);
    let world = World::start()?;
    let address = free_address()?;
    let forward = format!("{address}=unix:{}", world.proxy.socket().display());
    let agent = agent::Setup::new()?.args(&["--forward", &forward]).start()?;
    let reply = agent.exec(&json!({
        "argv": [peer::python(), peer::script("mcp_client.py"), format!("http://{address}/mcp/peer/mcp")],
        "env": { "NO_PROXY": "127.0.0.1" },
    }))?;
    assert_eq!(reply["exit_code"], 0, "{reply}");
    check(&serde_json::from_str(text(&reply, "stdout")?)?);
    world.saw_the_secret()?;
    let seen = agent.shell(
        "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; true",
    )?;
    ensure!(!text(&seen, "stdout")?.contains(SECRET), "the workspace can see the secret");
    Ok(())
}

/// A plain upstream behind the rule `up`, for what the SDK would never send.
fn plain(origin: &Origin) -> Result<Proxy> {
    let proxy = Setup::new()?
        .local_host("up.test", origin.port())
        .policy(|policy| policy["rules"]["allow_plain_http"] = json!(true))
        .start()?;
    let base = format!("http://up.test:{}/v1", origin.port());
    let rule = json!({ "up": { "real_base_url": base, "headers": { "Authorization": SECRET } } });
    proxy.admin.json("PUT", "/rules", &rule)?;
    Ok(proxy)
}

#[test]
fn the_clients_own_credentials_are_removed_first() -> Result<()> {
    let origin = Origin::saying("ok")?;
    let proxy = plain(&origin)?;
    let client = proxy
        .client()
        .with("AUTHORIZATION", "Bearer mine")
        .with("authorization", "Basic bWluZQ==")
        .with("Cookie", "session=mine")
        .with("X-Api-Key", "mine")
        .with("Proxy-Authorization", "Basic bWluZQ==")
        .with("Host", "evil.test");
    assert_eq!(client.get("/mcp/up/x")?.status(), 200);
    let seen = &origin.received()[0];
    assert_eq!(seen.all("authorization"), [SECRET]);
    for name in ["cookie", "x-api-key", "proxy-authorization"] {
        ensure!(seen.all(name).is_empty(), "{name} went on: {seen:?}");
    }
    assert_eq!(seen.header("host"), format!("up.test:{}", origin.port()));
    Ok(())
}

#[test]
fn the_path_is_joined_to_the_base_and_never_leaves_it() -> Result<()> {
    let origin = Origin::saying("ok")?;
    let proxy = plain(&origin)?;
    for (asked, sent) in [
        ("/mcp/up", "/v1"),
        ("/mcp/up/", "/v1/"),
        ("/mcp/up?x=1", "/v1?x=1"),
        ("/mcp/up/a?x=1", "/v1/a?x=1"),
        ("/mcp/up/.evil.test/", "/v1/.evil.test/"),
        ("/mcp/up/@evil.test", "/v1/@evil.test"),
    ] {
        let before = origin.received().len();
        assert_eq!(proxy.client().get(asked)?.status(), 200, "{asked}");
        assert_eq!(origin.received()[before].line, format!("GET {sent} HTTP/1.1"));
    }
    let before = origin.received().len();
    for (asked, status) in [
        ("/mcp/up/../other", 400),
        ("/mcp/up/%2e%2e/x", 400),
        ("/mcp/up/..%2fx", 400),
        ("/mcp/up/./x", 400),
        ("/mcp/up/a%5cb", 400),
        ("/mcp/up/x%00", 400),
        ("/mcp/up/x%0d%0aX:1", 400),
        ("/mcp/unknown/x", 404),
        ("/mcp/", 404),
        ("/mcp", 404),
        ("/MCP/up/x", 404),
    ] {
        assert_eq!(proxy.client().get(asked)?.status(), status, "{asked}");
    }
    assert_eq!(origin.received().len(), before, "a refused request went on");
    Ok(())
}

#[test]
fn a_redirect_goes_to_the_client_and_the_secret_goes_nowhere() -> Result<()> {
    let elsewhere = Origin::saying("should not be asked")?;
    let location = format!("http://up.test:{}/?t=1", elsewhere.port());
    let redirect = location.clone();
    let origin = Origin::start(move |_, stream| {
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {redirect}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())
    })?;
    let proxy = plain(&origin)?;
    let answer = proxy.client().get("/mcp/up/x")?;
    assert_eq!((answer.status(), answer.header("location")), (302, Some(location.as_str())));
    ensure!(elsewhere.received().is_empty(), "the redirect was followed");
    Ok(())
}

#[test]
fn an_upstream_that_echoes_the_secret_in_a_header_is_redacted() -> Result<()> {
    let origin = Origin::start(|request, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Echo: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            request.header("authorization")
        );
        stream.write_all(head.as_bytes())
    })?;
    let proxy = plain(&origin)?;
    let base = format!("http://up.test:{}", origin.port());
    let server = json!({ "real_base_url": base, "headers": { "Authorization": SECRET }, "redact_response": "headers" });
    proxy.admin.json("PUT", "/rules", &json!({ "version": 1, "mcp_servers": { "up": server } }))?;
    let answer = proxy.client().get("/mcp/up/x")?;
    ensure!(
        !format!("{:?}", answer.head).contains("secret-of-the-mcp-server"),
        "{:?}",
        answer.head
    );
    Ok(())
}

#[test]
fn a_rule_removed_is_a_route_removed() -> Result<()> {
    let origin = Origin::saying("ok")?;
    let proxy = plain(&origin)?;
    assert_eq!(proxy.client().get("/mcp/up/x")?.status(), 200);
    proxy.admin.json("PUT", "/rules", &json!({}))?;
    let answer = proxy.client().get("/mcp/up/x")?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (404, Some("unknown_route")));
    Ok(())
}

#[test]
fn a_rule_grants_its_own_route_and_no_tunnel() -> Result<()> {
    let origin = Origin::saying("ok")?;
    let proxy = plain(&origin)?;
    let target = format!("up.test:{}", origin.port());
    let mut connection: Connection = proxy.connect()?;
    connection.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
    assert_eq!(connection.read_head()?.status, 403);
    let forward = proxy.client().with("host", &target).get(&format!("http://{target}/v1/x"))?;
    assert_eq!(forward.status(), 403);
    Ok(())
}

#[test]
fn a_route_to_an_internal_address_needs_an_exception_of_the_policy() -> Result<()> {
    let origin = Origin::saying("ok")?;
    let proxy = Setup::new()?
        .policy(|policy| {
            policy["rules"]["allow_plain_http"] = json!(true);
            policy["hosts"]["up.test"] = json!(["127.0.0.1"]);
        })
        .start()?;
    let base = format!("http://up.test:{}", origin.port());
    proxy.admin.json("PUT", "/rules", &json!({ "up": { "real_base_url": base } }))?;
    let answer = proxy.client().get("/mcp/up/x")?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (403, Some("address_denied")));
    ensure!(origin.received().is_empty(), "it was asked all the same");
    Ok(())
}

#[test]
fn an_upstream_with_a_certificate_of_nobody_we_trust_is_refused() -> Result<()> {
    require!(Openssl, PythonPackages);
    let (ca, other) = (Ca::new()?, Ca::new()?);
    let files = ca.server("mcp.test")?;
    let (certificate, key) = (files.certificate.to_string_lossy(), files.key.to_string_lossy());
    let server = Peer::start(
        Path::new("python3"),
        "tls_origin.py",
        &["--certificate", &certificate, "--key", &key],
    )?;
    ensure!(fs::metadata(other.certificate())?.is_file(), "no authority");
    let proxy = Setup::new()?
        .local_host("mcp.test", server.port())
        .args(&["--upstream-ca", &other.certificate().to_string_lossy()])
        .start()?;
    let base = format!("https://mcp.test:{}", server.port());
    proxy.admin.json(
        "PUT",
        "/rules",
        &json!({ "peer": { "real_base_url": base, "headers": { "Authorization": SECRET } } }),
    )?;
    let answer = proxy.client().get("/mcp/peer/x")?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (502, Some("tls_failed")));
    ensure!(server.record().is_empty(), "the upstream saw a request");
    Ok(())
}

#[test]
fn events_pass_one_by_one_on_a_route() -> Result<()> {
    let (next, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        for number in 0..3 {
            stream.write_all(format!("data: {number}\n\n").as_bytes())?;
            // The next event is not even made before the client has this one.
            if wait.lock().expect("no panic").recv().is_err() {
                break;
            }
        }
        Ok(())
    })?;
    let setup = Setup::new()?.local_host("events.test", origin.port());
    let proxy = setup.args(&["--allow-plain-http-rules"]).start()?;
    let base = format!("http://events.test:{}/v1", origin.port());
    let headers = json!({ "Authorization": SECRET });
    proxy.admin.json(
        "PUT",
        "/rules",
        &json!({ "e": { "real_base_url": base, "headers": headers } }),
    )?;
    let mut connection = proxy.connect()?;
    connection.send(b"GET /mcp/e/events HTTP/1.1\r\nHost: evil.test\r\n\r\n")?;
    assert_eq!(connection.read_head()?.header("content-type"), Some("text/event-stream"));
    for number in 0..3 {
        let event = connection.read_chunk()?.context("the stream ended")?;
        assert_eq!(String::from_utf8(event)?, format!("data: {number}\n\n"));
        next.send(())?;
    }
    let seen = &origin.received()[0];
    assert_eq!(seen.header("host"), format!("events.test:{}", origin.port()));
    assert_eq!(
        (seen.line.as_str(), seen.header("authorization")),
        ("GET /v1/events HTTP/1.1", SECRET)
    );
    Ok(())
}

#[test]
fn explain_knows_that_a_tunnel_beside_a_route_is_refused() -> Result<()> {
    let proxy = Setup::new()?.args(&["--allow", "api.test,other.test"]).start()?;
    let rule =
        json!({ "real_base_url": "https://api.test", "headers": { "Authorization": SECRET } });
    proxy.admin.json("PUT", "/rules", &json!({ "api": rule }))?;
    for (method, url, code) in [
        ("CONNECT", "api.test:443", json!("use_route")),
        ("CONNECT", "other.test:443", Value::Null),
        ("GET", "https://api.test/", Value::Null),
    ] {
        let question = json!({ "method": method, "url": url });
        let answer = proxy.admin.json("POST", "/explain", &question)?;
        assert_eq!(answer["code"], code, "{method} {url}: {answer}");
    }
    Ok(())
}
