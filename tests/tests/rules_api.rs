//! The management listener: rules go in, values never come out.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    http::{Client, Connection, Endpoint},
    origin::Origin,
    proxy::{ADMIN_TOKEN, Proxy, Setup},
};

const SECRET: &str = "secret-value-of-a-rule";

fn server(base: &str) -> Value {
    json!({ "real_base_url": base, "headers": { "Authorization": format!("Bearer {SECRET}") } })
}

fn proxy() -> Result<Proxy> {
    Setup::new()?.start()
}

fn names(proxy: &Proxy) -> Result<String> {
    let shown = proxy.admin.get("/rules")?;
    assert_eq!(shown.status(), 200);
    ensure!(!shown.text().contains(SECRET), "GET /rules shows a value");
    Ok(shown.text())
}

#[test]
fn the_predecessors_map_is_taken_shown_by_name_and_cleared() -> Result<()> {
    let proxy = proxy()?;
    let put = proxy.admin.send_json(
        "PUT",
        "/rules",
        &json!({ "one": server("https://one.example/api") }),
    )?;
    assert_eq!(put.status(), 200, "{}", put.text());
    ensure!(put.json()?["revision"] != Value::Null, "{}", put.text());
    let shown = names(&proxy)?;
    for part in ["\"one\"", "one.example", "authorization"] {
        ensure!(shown.to_lowercase().contains(part), "{part} is missing: {shown}");
    }
    // A PUT replaces the whole set.
    proxy.admin.json("PUT", "/rules", &json!({ "two": server("https://two.example") }))?;
    ensure!(!names(&proxy)?.contains("\"one\""), "the old rule is still there");
    proxy.admin.json("PUT", "/rules", &json!({}))?;
    ensure!(!names(&proxy)?.contains("\"two\""), "{{}} did not clear");
    Ok(())
}

#[test]
fn the_versioned_document_is_taken_and_delete_clears() -> Result<()> {
    let proxy = proxy()?;
    let document = json!({
        "version": 1,
        "ttl_seconds": 600,
        "mcp_servers": { "gh": { "real_base_url": "https://api.gh.example/v1", "headers": { "X-Key": SECRET } } },
    });
    let put = proxy.admin.send_json("PUT", "/rules", &document)?;
    assert_eq!(put.status(), 200, "{}", put.text());
    ensure!(names(&proxy)?.contains("\"gh\""), "the rule is not there");
    let deleted = proxy.admin.send("DELETE", "/rules", b"")?;
    ensure!((200..300).contains(&deleted.status()), "{}", deleted.text());
    ensure!(!names(&proxy)?.contains("\"gh\""), "the rule is still there");
    Ok(())
}

#[test]
fn one_bad_rule_means_that_nothing_is_applied() -> Result<()> {
    let proxy = proxy()?;
    proxy.admin.json("PUT", "/rules", &json!({ "old": server("https://old.example") }))?;
    let bad = [
        server("not a url"),
        server("ftp://a.example"),
        server("https://user:pass@a.example"),
        server("https://a.example/?query=1"),
        server("https://a.example/a/../b"),
        json!({ "headers": {} }),
        json!({ "real_base_url": "https://a.example", "unknown_key": 1 }),
        json!({ "real_base_url": "https://a.example", "headers": { "Host": "evil.test" } }),
        json!({ "real_base_url": "https://a.example", "headers": { "Transfer-Encoding": "x" } }),
        json!({ "real_base_url": "https://a.example", "headers": { "X-Key": format!("{SECRET}\r\nX: y") } }),
        json!({ "real_base_url": "https://a.example", "headers": { "X-Key": "a", "x-key": "b" } }),
        json!({ "real_base_url": "https://a.example", "headers": { "bad name": "x" } }),
    ];
    for rule in bad {
        let document = json!({ "good": server("https://good.example"), "bad": rule });
        let answer = proxy.admin.send_json("PUT", "/rules", &document)?;
        ensure!(
            matches!(answer.status(), 400 | 422),
            "{rule}: {} {}",
            answer.status(),
            answer.text()
        );
        ensure!(!answer.text().contains(SECRET), "the answer shows a value");
        let shown = names(&proxy)?;
        ensure!(
            shown.contains("\"old\"") && !shown.contains("\"good\""),
            "{rule} was half applied: {shown}"
        );
    }
    Ok(())
}

#[test]
fn documents_that_are_no_rules_are_refused() -> Result<()> {
    let proxy = proxy()?;
    proxy.admin.json("PUT", "/rules", &json!({ "old": server("https://old.example") }))?;
    let twice =
        r#"{"a":{"real_base_url":"https://a.example"},"a":{"real_base_url":"https://b.example"}}"#;
    let deep = "[".repeat(50_000);
    let bodies = ["", "{", "null", "[]", "1", r#"{"version":99,"mcp_servers":{}}"#, twice, &deep];
    for body in bodies {
        let client = proxy.admin.clone().with("content-type", "application/json");
        let answer = client.send("PUT", "/rules", body.as_bytes())?;
        let shown = &body[..body.len().min(50)];
        ensure!(
            matches!(answer.status(), 400 | 413 | 422),
            "{shown}: {} {}",
            answer.status(),
            answer.text()
        );
    }
    ensure!(names(&proxy)?.contains("\"old\""), "the old rule is gone");
    Ok(())
}

#[test]
fn a_document_over_the_limit_is_refused_before_it_is_read() -> Result<()> {
    let proxy = proxy()?;
    let mut connection = Connection::open(proxy.admin.endpoint())?;
    let request = format!(
        "PUT /rules HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: 5000000\r\n\r\n"
    );
    connection.send(request.as_bytes())?;
    assert_eq!(connection.read_head()?.status, 413);
    Ok(())
}

#[test]
fn a_document_with_too_many_servers_is_refused() -> Result<()> {
    let proxy = proxy()?;
    let servers = (0..1000).map(|number| (format!("s{number}"), server("https://a.example")));
    let document = Value::Object(servers.collect());
    let answer = proxy.admin.send_json("PUT", "/rules", &document)?;
    ensure!(matches!(answer.status(), 400 | 413 | 422), "{} {}", answer.status(), answer.text());
    ensure!(!names(&proxy)?.contains("\"s0\""), "it was applied");
    Ok(())
}

#[test]
fn only_the_right_token_may_manage() -> Result<()> {
    let proxy = proxy()?;
    let anyone = Client::new(proxy.admin.endpoint().clone());
    let wrong = ADMIN_TOKEN.replace('m', "n");
    let clients = [
        anyone.clone(),
        anyone.clone().with_token(&wrong),
        anyone.clone().with_token(&ADMIN_TOKEN[1..]),
        anyone.clone().with_token(""),
        anyone.clone().with_token(ADMIN_TOKEN).with_token(ADMIN_TOKEN),
    ];
    for client in clients {
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(client.send(method, "/rules", b"{}")?.status(), 401);
        }
    }
    for open in ["/healthz", "/readyz"] {
        assert_eq!(anyone.get(open)?.status(), 200, "{open}");
    }
    assert_eq!(proxy.admin.get("/metrics")?.status(), 200);
    Ok(())
}

#[test]
fn a_revision_that_has_passed_is_refused() -> Result<()> {
    let proxy = proxy()?;
    proxy.admin.json("PUT", "/rules", &json!({ "one": server("https://one.example") }))?;
    let etag = proxy.admin.get("/rules")?.header("etag").unwrap_or_default().to_owned();
    ensure!(!etag.is_empty(), "GET /rules has no ETag");
    let conditional = proxy.admin.clone().with("if-match", &etag);
    conditional.json("PUT", "/rules", &json!({ "two": server("https://two.example") }))?;
    let late = conditional.send_json(
        "PUT",
        "/rules",
        &json!({ "three": server("https://three.example") }),
    )?;
    ensure!(matches!(late.status(), 409 | 412), "{} {}", late.status(), late.text());
    ensure!(names(&proxy)?.contains("\"two\""), "the late one was applied");
    Ok(())
}

#[test]
fn the_workspaces_side_has_no_way_to_the_management_side() -> Result<()> {
    let upstream = Origin::saying("x")?;
    let proxy = Setup::new()?.allow_local("allowed.test", upstream.port()).start()?;
    let workspace = proxy.client().with_token(ADMIN_TOKEN);
    for path in ["/rules", "/metrics", "/policy"] {
        ensure!(
            !(200..300).contains(&workspace.get(path)?.status()),
            "{path} is served to the workspace"
        );
    }
    let Endpoint::Tcp(admin) = proxy.admin.endpoint().clone() else { anyhow::bail!("not on TCP") };
    for target in [
        admin.to_string(),
        format!("localhost:{}", admin.port()),
        format!("allowed.test:{}", admin.port()),
    ] {
        let mut connection = proxy.connect()?;
        connection
            .send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
        assert_eq!(connection.read_head()?.status, 403, "CONNECT {target}");
    }
    Ok(())
}

#[test]
fn the_proxy_never_dials_its_own_listeners_whatever_the_policy_says() -> Result<()> {
    use workspace_tests::{agent, process::free_address};
    let (tcp, admin) = (free_address()?, free_address()?);
    let setup =
        Setup::new()?.allow_local("self.test", admin.port()).allow_local("own.test", tcp.port());
    let mut daemon = workspace_tests::process::Daemon::spawn(
        "proxy",
        setup.command(tcp, admin)?,
        setup.directory(),
    )?;
    let refused_at_start = daemon.wait_until_listening(&Endpoint::Tcp(admin)).is_err();
    if refused_at_start {
        return agent::refusal(setup.command(tcp, admin)?).map(drop);
    }
    for target in [format!("self.test:{}", admin.port()), format!("own.test:{}", tcp.port())] {
        let mut connection = Connection::open(&Endpoint::Tcp(tcp))?;
        connection
            .send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
        let head = connection.read_head()?;
        assert_eq!(
            (head.status, head.header("x-proxy-error")),
            (403, Some("self_connection")),
            "{target}"
        );
    }
    Ok(())
}
