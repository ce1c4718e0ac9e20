//! Another proxy on the way out: what is asked of it, what its answers mean, what goes around it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::{
    ca::Ca,
    http::Response,
    origin::{self, Origin},
    peer::Peer,
    proxy::{Proxy, Setup},
    require,
    upstream_proxy::{Scripted, Tinyproxy, secured},
    wait::eventually,
    world,
};

/// Nobody listens there: whoever asks it is told nothing.
const NO_NAME_SERVER: [&str; 4] = ["--dns-server", "127.0.0.1:9", "--dns-timeout", "1s"];

/// A proxy that leaves through another one and can look no name up.
fn leaving_through(url: &str) -> Result<Setup> {
    Ok(Setup::new()?.args(&NO_NAME_SERVER).args(&["--upstream-proxy", url]))
}

/// Allows a host without giving it an address.
fn allow(setup: Setup, host: &str, port: u16, more: &Value) -> Setup {
    setup.policy(|policy| {
        let mut rule = json!({ "host": host, "ports": [port] });
        for (key, value) in more.as_object().into_iter().flatten() {
            rule[key] = value.clone();
        }
        policy["egress"]["allow"].as_array_mut().expect("a list").push(rule);
    })
}

fn get(proxy: &Proxy, url: &str) -> Result<Response> {
    let authority = url.split('/').nth(2).context("a URL")?;
    let mut connection = proxy.connect()?;
    connection.send(format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())?;
    connection.read_response("GET")
}

fn code(answer: &Response) -> &str {
    answer.header("x-proxy-error").unwrap_or("none")
}

/// tinyproxy looks `localhost` up itself; this proxy cannot.
#[test]
fn everything_leaves_through_a_real_proxy_with_its_credential() -> Result<()> {
    require!(Openssl, Python, Tinyproxy);
    let tinyproxy = Tinyproxy::start("corp-user", "corp-password")?;
    let directory = TempDir::new()?;
    let auth = directory.path().join("auth");
    fs::write(&auth, "corp-user:wrong-password\n")?;
    let plain = Origin::saying("through the company")?;
    let ca = Ca::new()?;
    let files = ca.server("localhost")?;
    let (certificate, key) = (files.certificate.to_string_lossy(), files.key.to_string_lossy());
    let arguments = ["--certificate", &certificate, "--key", &key];
    let secure = Peer::start(Path::new("python3"), "tls_origin.py", &arguments)?;
    let setup = leaving_through(&tinyproxy.url())?
        .args(&["--upstream-proxy-auth-file", &auth.to_string_lossy(), "--allow-plain-http-rules"])
        .args(&["--upstream-ca", &ca.certificate().to_string_lossy()]);
    let setup = allow(setup, "localhost", plain.port(), &json!({}));
    let proxy = allow(setup, "localhost", secure.port(), &json!({})).start()?;
    let (http, https) = (
        format!("http://localhost:{}/a", plain.port()),
        format!("https://localhost:{}/b", secure.port()),
    );

    let refused = get(&proxy, &http)?;
    assert_eq!((refused.status(), code(&refused)), (502, "upstream_proxy_auth"));
    // The file is read for each connection: nothing has to be told of the new password.
    fs::write(&auth, "corp-user:corp-password\n")?;
    assert_eq!(get(&proxy, &http)?.text(), "through the company");
    assert_eq!(get(&proxy, &https)?.text(), format!("tls localhost:{} /b\n", secure.port()));
    let rules =
        json!({ "tool": { "real_base_url": format!("http://localhost:{}/base", plain.port()) } });
    proxy.admin.json("PUT", "/rules", &rules)?;
    assert_eq!(proxy.client().get("/mcp/tool/x")?.text(), "through the company");

    let log = tinyproxy.log();
    for port in [plain.port(), secure.port()] {
        ensure!(log.contains(&format!("CONNECT localhost:{port} ")), "{log}");
    }
    ensure!(!log.contains("GET "), "a request was shown to the upstream proxy: {log}");
    for seen in plain.received() {
        ensure!(seen.all("proxy-authorization").is_empty(), "{seen:?}");
    }
    let via = tinyproxy.url().replace("http://", "");
    proxy.audited(|line| line["mode"] == "route" && line["via"] == via.as_str())?;
    let line = proxy.audited(|line| line["code"] == "upstream_proxy_auth")?;
    assert_eq!((&line["via"], &line["decision"]), (&json!(via), &json!("error")), "{line}");
    ensure!(!proxy.daemon.output().contains("corp-password"), "{}", proxy.daemon.output());
    Ok(())
}

#[test]
fn bad_answers_have_codes_of_their_own() -> Result<()> {
    for (answer, status, expected) in [
        (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], 502, "upstream_proxy_auth"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno!!!", 502, "upstream_proxy_denied"),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", 502, "upstream_proxy_failed"),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", 504, "upstream_proxy_timeout"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 502, "upstream_proxy_bad_answer"),
        (b"HTTP/1.1 200 OK\n\n", 502, "upstream_proxy_bad_answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 502, "upstream_proxy_bad_answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 502, "upstream_proxy_bad_answer"),
        (&[b'H'; 100_000], 502, "upstream_proxy_bad_answer"),
        (b"HTTP/1.1 200 OK\r\nx: y", 504, "upstream_proxy_timeout"),
        (b"", 504, "upstream_proxy_timeout"),
    ] {
        let upstream = Scripted::answering(answer)?;
        let setup = leaving_through(&upstream.url())?.args(&["--connect-timeout", "1s"]);
        let proxy = allow(setup, "a.test", 80, &json!({})).start()?;
        let answer = get(&proxy, "http://a.test/")?;
        assert_eq!((answer.status(), code(&answer)), (status, expected));
        let mut tunnel = proxy.connect()?;
        tunnel.send(b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n")?;
        assert_eq!(tunnel.read_head()?.status, status, "no 200 without a tunnel");
        assert_eq!(upstream.asked()[0], "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n");
    }
    Ok(())
}

#[test]
fn an_upstream_proxy_that_leaves_or_is_not_there() -> Result<()> {
    let leaving = Scripted::start(|_stream| Ok(()))?;
    let gone = format!("http://{}", workspace_tests::process::free_address()?);
    for (url, expected) in [
        (leaving.url(), "upstream_proxy_bad_answer"),
        (gone, "upstream_proxy_unreachable"),
        ("http://no-such-proxy.test:3128".to_owned(), "upstream_proxy_unreachable"),
        ("http://169.254.169.254:80".to_owned(), "upstream_proxy_unreachable"),
    ] {
        let proxy = allow(leaving_through(&url)?, "a.test", 80, &json!({})).start()?;
        let answer = get(&proxy, "http://a.test/")?;
        assert_eq!((answer.status(), code(&answer)), (502, expected), "{url}");
    }
    Ok(())
}

#[test]
fn what_comes_right_behind_the_answer_belongs_to_the_tunnel() -> Result<()> {
    let upstream = Scripted::answering(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nspeaks first")?;
    let setup = leaving_through(&upstream.url())?;
    let proxy = allow(setup, "db.test", 3306, &json!({ "tls": "none" })).start()?;
    let mut tunnel = proxy.connect()?;
    tunnel.send(b"CONNECT db.test:3306 HTTP/1.1\r\nHost: db.test:3306\r\n\r\n")?;
    let head = tunnel.read_head()?;
    assert_eq!((head.status, head.header("via")), (200, None), "its words are not passed on");
    assert_eq!(tunnel.read_exact(12)?, b"speaks first");
    Ok(())
}

#[test]
fn an_upstream_proxy_behind_tls_is_verified() -> Result<()> {
    require!(Openssl);
    let (ca, other) = (Ca::new()?, Ca::new()?);
    let tls = world::tls(&ca.server("proxy.test")?)?;
    let at = secured(tls.into(), b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\nspeaks first")?;
    for (ca, status) in [(&ca, 200), (&other, 502)] {
        let setup = leaving_through(&format!("https://proxy.test:{}", at.port()))?
            .args(&["--upstream-ca", &ca.certificate().to_string_lossy()])
            .policy(|policy| policy["hosts"]["proxy.test"] = json!(["127.0.0.1"]));
        let proxy = allow(setup, "db.test", 3306, &json!({ "tls": "none" })).start()?;
        let mut tunnel = proxy.connect()?;
        tunnel.send(b"CONNECT db.test:3306 HTTP/1.1\r\nHost: db.test:3306\r\n\r\n")?;
        let head = tunnel.read_head()?;
        assert_eq!(head.status, status, "{:?}", head.headers);
        if status == 200 {
            assert_eq!(tunnel.read_exact(12)?, b"speaks first");
        } else {
            assert_eq!(head.header("x-proxy-error"), Some("upstream_proxy_unreachable"));
        }
    }
    Ok(())
}

#[test]
fn names_are_its_to_look_up_and_addresses_stay_ours_to_judge() -> Result<()> {
    let origin = Origin::saying("hello")?;
    let port = origin.port();
    let upstream = Scripted::leading_to(origin.address())?;
    let setup = leaving_through(&upstream.url())?
        .local_host("pinned.test", port)
        .args(&["--upstream-proxy-bypass", "direct.test,192.0.2.0/24"])
        .local_host("direct.test", port);
    let hosts =
        ["name.test", "pinned.test", "direct.test", "10.1.2.3", "198.51.100.7", "192.0.2.9"];
    let proxy = hosts.iter().fold(setup, |s, host| allow(s, host, port, &json!({}))).start()?;
    for (host, expected) in [
        ("name.test", "none"),
        ("other.test", "not_allowed"),
        ("pinned.test", "none"),
        ("direct.test", "none"),
        // Literal addresses pass the guard here, with or without an upstream proxy.
        ("10.1.2.3", "address_denied"),
        ("198.51.100.7", "address_denied"),
        ("192.0.2.9", "address_denied"),
        ("169.254.169.254", "not_allowed"),
    ] {
        let answer = get(&proxy, &format!("http://{host}:{port}/"))?;
        assert_eq!(code(&answer), expected, "{host}");
    }
    let asked: Vec<String> =
        upstream.asked().iter().filter_map(|head| head.lines().next().map(str::to_owned)).collect();
    // A name with fixed addresses is sent as one of them, and what goes around is not sent at all.
    let expected = [
        format!("CONNECT name.test:{port} HTTP/1.1"),
        format!("CONNECT 127.0.0.1:{port} HTTP/1.1"),
    ];
    assert_eq!(asked, expected);
    let direct = proxy.audited(|line| line["host"] == "direct.test")?;
    assert_eq!((&direct["via"], &direct["addr_class"]), (&Value::Null, &json!("loopback")));
    let named = proxy.audited(|line| line["host"] == "name.test")?;
    assert_eq!((&named["addr_class"], &named["ms_dns"]), (&Value::Null, &Value::Null), "{named}");
    Ok(())
}

#[test]
fn with_names_here_a_judged_address_is_sent() -> Result<()> {
    let origin = Origin::saying("hello")?;
    let port = origin.port();
    let upstream = Scripted::leading_to(origin.address())?;
    let setup = Setup::new()?
        .args(&["--upstream-proxy", &upstream.url(), "--upstream-proxy-names", "here"])
        .allow_local("good.test", port)
        .policy(|policy| policy["hosts"]["bad.test"] = json!(["10.1.2.3"]));
    let proxy = allow(setup, "bad.test", port, &json!({})).start()?;
    assert_eq!(get(&proxy, &format!("http://good.test:{port}/"))?.text(), "hello");
    let refused = get(&proxy, &format!("http://bad.test:{port}/"))?;
    assert_eq!(code(&refused), "address_denied");
    let asked = upstream.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    ensure!(asked[0].starts_with(&format!("CONNECT 127.0.0.1:{port} ")), "{asked:?}");
    Ok(())
}

#[test]
fn the_policy_file_says_it_too_and_a_reload_changes_it() -> Result<()> {
    let origin = Origin::saying("hello")?;
    let port = origin.port();
    let (first, second) =
        (Scripted::leading_to(origin.address())?, Scripted::leading_to(origin.address())?);
    let url = first.url();
    let setup = Setup::new()?.policy(|policy| policy["upstream_proxy"] = json!(url));
    let proxy = allow(setup, "name.test", port, &json!({})).start()?;
    let target = format!("http://name.test:{port}/");
    assert_eq!(get(&proxy, &target)?.text(), "hello");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 0));

    let file = proxy.socket().with_file_name("policy.yaml");
    fs::write(&file, fs::read_to_string(&file)?.replace(&first.url(), &second.url()))?;
    proxy.daemon.signal(Signal::HUP)?;
    eventually("the other one is asked", || {
        get(&proxy, &target).ok()?;
        (!second.asked().is_empty()).then_some(())
    })?;
    let question = json!({ "method": "GET", "url": target, "resolve": true });
    let explained = proxy.admin.json("POST", "/explain", &question)?;
    assert_eq!(explained["via"], json!(second.url().replace("http://", "")), "{explained}");
    assert_eq!(explained["address_class"], Value::Null, "nobody here looked it up: {explained}");
    Ok(())
}

#[test]
fn calls_to_sts_leave_through_it_as_well() -> Result<()> {
    let sts = Origin::start(|_request, stream| {
        let end = humantime::format_rfc3339_seconds(
            std::time::SystemTime::now() + std::time::Duration::from_secs(3600),
        );
        let answer = format!(
            "<R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><S><Credentials><AccessKeyId>ASIAX</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{end}</Expiration>\
             </Credentials></S></R>"
        );
        origin::respond(stream, 200, "text/xml", answer.as_bytes())
    })?;
    let upstream = Scripted::leading_to(sts.address())?;
    let directory = TempDir::new()?;
    let token = directory.path().join("token");
    fs::write(&token, "web-identity")?;
    let proxy = leaving_through(&upstream.url())?
        .args(&["--bedrock", "--aws-region", "us-east-1"])
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/workspace")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token.to_string_lossy())
        .env("AWS_ENDPOINT_URL_STS", "http://sts.test:8000")
        .start()?;
    eventually("the credentials are there", || {
        let answer = proxy.admin.get("/readyz").ok()?;
        answer.text().contains("\"aws\":\"ready\"").then_some(())
    })?;
    ensure!(upstream.asked()[0].starts_with("CONNECT sts.test:8000 HTTP/1.1\r\n"));
    Ok(())
}

#[test]
fn mistakes_are_told_at_the_start_and_hold_no_password() -> Result<()> {
    let directory = TempDir::new()?;
    let auth = directory.path().join("auth");
    fs::write(&auth, "hunter2")?;
    let auth = auth.to_string_lossy().into_owned();
    let (url, flag) = ("http://proxy.test:3128", "--upstream-proxy-auth-file");
    for (arguments, expected) in [
        (vec!["--upstream-proxy", url, flag, &auth], "must hold one line"),
        (vec!["--upstream-proxy", url, flag, "/nonexistent/auth"], "/nonexistent/auth"),
        (
            vec!["--upstream-proxy", "http://me:hunter2@proxy.test:3128"],
            "--upstream-proxy-auth-file",
        ),
    ] {
        let error = format!("{:#}", Setup::new()?.args(&arguments).start().unwrap_err());
        ensure!(error.contains(expected), "{error}");
        ensure!(!error.contains("hunter2"), "{error}");
    }
    let url = "http://me:hunter2@proxy.test:3128";
    let setup = Setup::new()?.policy(|policy| policy["upstream_proxy"] = json!(url));
    let error = format!("{:#}", setup.start().unwrap_err());
    ensure!(error.contains("--upstream-proxy-auth-file") && !error.contains("hunter2"), "{error}");
    Ok(())
}
