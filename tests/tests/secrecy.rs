//! Secrets in every place where one can be, through successes and refusals of every kind, at the most
//! talkative log level; and then a search for each of them in everything that the proxy lets out.

use std::{cell::RefCell, fs, io::Write as _};

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use workspace_tests::{
    http::{Client, Response},
    origin::{self, Origin, Received},
    proxy::{ADMIN_TOKEN, Proxy, Setup},
    upstream_proxy::Scripted,
    wait::eventually,
};

/// A secret that no other place has. The sign in it looks different in every encoding.
fn secret(place: &str) -> String {
    format!("s3cr3t+of+{place}+0451")
}

/// What the proxy let out, by where it was found.
#[derive(Default)]
struct Found(RefCell<Vec<(String, String)>>);

impl Found {
    fn keep(&self, place: &str, text: impl Into<String>) {
        self.0.borrow_mut().push((place.to_owned(), text.into()));
    }

    /// Keeps an answer of the proxy itself; those of origins are for the workspace to see.
    fn answer(&self, place: &str, answer: &Response) {
        let headers = format!("{:?}", answer.head.headers);
        self.keep(place, headers + &answer.text());
    }
}

/// The forms in which a secret could be found: as it is, percent-encoded, in hexadecimal, and in
/// base64 wherever it begins in what was encoded.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex];
    // In a query the sign stands for a blank, which has an encoding of its own.
    forms.extend(["%2B", "%20", " "].map(|sign| secret.replace('+', sign)));
    for before in 0..3 {
        let padded = ["x".repeat(before).as_str(), secret].concat();
        let encoded = STANDARD_NO_PAD.encode(&padded);
        // The characters at both ends depend on the neighbours.
        let core = &encoded[if before == 0 { 0 } else { before + 1 }..encoded.len() - 2];
        forms.extend([core.to_owned(), core.replace('+', "-").replace('/', "_")]);
    }
    forms
}

#[test]
fn the_search_finds_every_form() {
    let secret = secret("nowhere");
    for text in [
        secret.clone(),
        format!("a={}", secret.replace('+', "%2B")),
        STANDARD_NO_PAD.encode(format!("user:{secret}")),
        STANDARD_NO_PAD.encode(format!("me:{secret}\n")),
        STANDARD_NO_PAD.encode(format!("a:{secret}")),
    ] {
        assert!(forms(&secret).iter().any(|form| text.contains(form)), "{text}");
    }
}

/// Says back everything that it was told.
fn echo(request: &Received, stream: &mut std::net::TcpStream) -> std::io::Result<()> {
    let told = format!("{:?}{}", request.headers, secret("origin-body"));
    let head = format!(
        "HTTP/1.1 200 {}\r\nSet-Cookie: {}\r\nX-Told: {}\r\nContent-Length: {}\r\n\r\n",
        secret("origin-reason"),
        secret("origin-cookie"),
        request.header("authorization"),
        told.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(told.as_bytes())
}

/// A request with a secret in every place that a workspace fills.
fn full(method: &str, url: &str, host: &str) -> String {
    format!(
        "{method} {url} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nCookie: a={}\r\n\
         Proxy-Authorization: Basic {}\r\nX-Api-Key: {}\r\nX-Any: {}\r\nContent-Length: {}\r\n\r\n{}",
        secret("authorization"),
        secret("cookie"),
        STANDARD_NO_PAD.encode(format!("me:{}", secret("proxy-authorization"))),
        secret("api-key"),
        secret("any"),
        secret("body").len(),
        secret("body"),
    )
}

/// The places whose secrets [`full`] sends, and those of URLs.
const WORKSPACE: [&str; 11] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "api-key",
    "any",
    "body",
    "query",
    "userinfo",
    "path",
    "server-name",
    "sni",
];

fn send(proxy: &Proxy, request: &str) -> Result<Response> {
    let mut connection = proxy.connect()?;
    connection.send(request.as_bytes())?;
    connection.read_response("GET")
}

/// What a workspace asks for: allowed, refused in every way, broken.
fn ask_as_workspace(proxy: &Proxy, port: u16, found: &Found) -> Result<()> {
    let (q, p) = (secret("query"), secret("path"));
    let own = format!("origin.test:{port}");
    for (url, host, expected) in [
        (format!("http://{own}/{p}?q={q}"), own.as_str(), "none"),
        (format!("/mcp/tool/{p}?q={q}"), "a", "none"),
        (format!("http://denied.test/{p}?q={q}"), "denied.test", "not_allowed"),
        (format!("http://evil.test/{p}?q={q}"), "evil.test", "denied"),
        (format!("http://me:{}@{own}/", secret("userinfo")), own.as_str(), "userinfo"),
        (format!("http://{own}/{p}/../?q={q}"), "other.test", "host_mismatch"),
        (format!("ftp://{own}/{p}?q={q}"), own.as_str(), "scheme"),
        (format!("/mcp/{}/{p}?q={q}", secret("server-name")), "a", "unknown_route"),
        (format!("/mcp/tool/../{p}?q={q}"), "a", "bad_path"),
        (format!("/mcp/gone/{p}?q={q}"), "a", "upstream_proxy_denied"),
        (format!("http://gone.test/{p}?q={q}"), "gone.test", "upstream_proxy_denied"),
        (format!("https://{own}/{p}?q={q}"), own.as_str(), "tls_failed"),
        (
            format!("http://10.0.0.1:{port}/{p}?q={q}"),
            &format!("10.0.0.1:{port}"),
            "address_denied",
        ),
        (format!("/bedrock/model/{p}/invoke?q={q}"), "a", "credentials_unavailable"),
        (format!("http://{own}/{p}#{q}"), own.as_str(), "bad_path"),
    ] {
        for method in ["GET", "POST"] {
            let answer = send(proxy, &full(method, &url, host))?;
            assert_eq!(answer.header("x-proxy-error").unwrap_or("none"), expected, "{url}");
            if expected != "none" {
                found.answer(&url.replace(&p, "…"), &answer);
            }
        }
    }
    // A name that nobody knows: dns_error or dns_timeout, and many words of the resolver in the log.
    let url = format!("http://unknown.test/{p}?q={q}");
    found.answer("an unknown name", &send(proxy, &full("GET", &url, "unknown.test"))?);
    let bad_head = full("GET", "/", "a").replace("X-Any: ", "X-Any : ");
    found.answer("a malformed head", &send(proxy, &bad_head)?);
    found.answer("a long head", &send(proxy, &bad_head.replace("X-Any", &"a".repeat(70_000)))?);
    let mut tunnel = proxy.connect()?;
    tunnel.send(format!("CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n\r\n").as_bytes())?;
    assert_eq!(tunnel.read_head()?.status, 200);
    let hello = workspace_tests::hello::Hello { sni: Some(secret("sni")), ..Default::default() };
    tunnel.send(&hello.bytes())?;
    drop(tunnel.read_to_end());
    Ok(())
}

/// Another host with a route: the refusal names it, and nothing of the rule besides.
fn ask_beside_a_route(proxy: &Proxy, found: &Found) -> Result<()> {
    // A tunnel has no body: the head alone.
    let request = full("CONNECT", "gone.test:80", "gone.test:80");
    let head = request.lines().filter(|line| !line.starts_with("Content-Length"));
    let head: String =
        head.take_while(|line| !line.is_empty()).map(|l| format!("{l}\r\n")).collect();
    let refused = send(proxy, &format!("{head}\r\n"))?;
    assert_eq!(refused.header("x-proxy-error"), Some("use_route"), "{}", refused.text());
    found.answer("a tunnel beside a route", &refused);
    Ok(())
}

/// The same over HTTP/2, whose library has words of its own.
fn ask_over_http2(proxy: &Proxy, port: u16) -> Result<()> {
    let url = format!("http://origin.test:{port}/{}?q={}", secret("path"), secret("query"));
    let mut command = std::process::Command::new("curl");
    for name in ["authorization", "cookie", "x-api-key"] {
        command.args(["--header", &format!("{name}: {}", secret("any"))]);
    }
    let route = format!("http://a/mcp/tool/{}", secret("path"));
    let socket = proxy.socket();
    command.args(["--silent", "--http2-prior-knowledge", "--max-time", "30", "--unix-socket"]);
    let output = command.arg(&socket).args(["--data", &secret("body"), &route, &url]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Documents that are refused, and one that is in force.
fn push_rules(proxy: &Proxy, port: u16, found: &Found) -> Result<()> {
    let s = secret("rule");
    let rule = |base: String| json!({ "real_base_url": base, "headers": { "Authorization": format!("Bearer {s}") } });
    let good = json!({
        "tool": rule(format!("http://origin.test:{port}/{}", secret("base-path"))),
        "gone": rule("http://gone.test/".to_owned()),
    });
    let text = good.to_string();
    for bad in [
        text[..text.len() - 1].to_owned(),
        text.replace("Bearer ", "Bearer \\u0000"),
        text.replace(
            "http://origin.test",
            &format!("http://me:{}@origin.test", secret("rule-userinfo")),
        ),
        text.replace("\"headers\"", "\"headrs\""),
        text.replace("{\"Authorization\":", "[").replace("\"}", "\"]"),
        text.replace("\"Authorization\"", "\"Host\""),
        format!("{{\"a\": \"{s}\"}}"),
        format!("\"{s}\""),
        text.replace("\"tool\"", "\"gone\""),
    ] {
        let answer = proxy.admin.send("PUT", "/rules", bad.as_bytes())?;
        ensure!((400..500).contains(&answer.status()), "{bad}: {}", answer.text());
        found.answer("PUT /rules, refused", &answer);
    }
    let answer = proxy.admin.send("PUT", "/rules", text.as_bytes())?;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    found.answer("PUT /rules", &answer);
    Ok(())
}

fn ask_as_orchestrator(proxy: &Proxy, found: &Found) -> Result<()> {
    let stranger = Client::new(proxy.admin.endpoint().clone()).with_token(&secret("wrong-token"));
    for path in ["/rules", "/policy", "/metrics", "/readyz", "/healthz", "/nothing"] {
        found.answer(path, &proxy.admin.get(path)?);
        found.answer(path, &stranger.get(path)?);
    }
    let question = json!({ "method": "GET", "url": format!("http://a.test/{}", secret("path")), "resolve": true });
    found.answer("/explain", &proxy.admin.send_json("POST", "/explain", &question)?);
    found.answer("/explain", &proxy.admin.send("POST", "/explain", secret("body").as_bytes())?);
    Ok(())
}

/// A company's proxy that refuses, and says back the credential that it was shown.
fn company() -> Result<Scripted> {
    let shown = STANDARD_NO_PAD.encode(format!("corp:{}", secret("upstream-auth")));
    Scripted::start(move |mut stream| {
        let said = format!("HTTP/1.1 403 {shown}\r\nX-Shown: {shown}\r\n\r\n{shown}");
        stream.write_all(said.as_bytes())
    })
}

/// STS that refuses, and says the token back.
fn sts() -> Result<Origin> {
    Origin::start(|request, stream| {
        let told = String::from_utf8_lossy(&request.body).into_owned();
        let answer = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{told}</Message></Error></ErrorResponse>"
        );
        origin::respond(stream, 403, "text/xml", answer.as_bytes())
    })
}

/// A policy that cannot be read, with a password in it.
fn reload_badly(proxy: &Proxy) -> Result<()> {
    let file = proxy.socket().with_file_name("policy.yaml");
    let good = fs::read_to_string(&file)?;
    let s = secret("policy");
    for bad in [
        format!("version: 1\nupstream_proxy: \"http://me:{s}@proxy.test:3128\"\n"),
        format!("version: 1\negress: {{allow: [{{host: \"https://me:{s}@a.test/\"}}]}}\n"),
    ] {
        let refused = || proxy.daemon.stderr().matches("policy not reloaded").count();
        let before = refused();
        fs::write(&file, bad)?;
        proxy.daemon.signal(Signal::HUP)?;
        eventually("the bad policy is refused", || (refused() > before).then_some(()))?;
    }
    fs::write(&file, good)?;
    Ok(())
}

#[test]
fn no_secret_is_let_out() -> Result<()> {
    workspace_tests::require!(Curl);
    let origin = Origin::start(echo)?;
    let (company, sts, files) = (company()?, sts()?, TempDir::new()?);
    let file = |name: &str, content: String| -> Result<String> {
        let path = files.path().join(name);
        fs::write(&path, content)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let auth = file("auth", format!("corp:{}", secret("upstream-auth")))?;
    let token = file("token", secret("web-identity"))?;
    let setup = Setup::new()?
        .allow_local("origin.test", origin.port())
        .policy(|policy| {
            let allow = policy["egress"]["allow"].as_array_mut().expect("a list");
            // A rule holds a credential for the same place.
            allow[0]["tunnel"] = json!(true);
            allow.push(json!({ "host": "gone.test", "ports": [80] }));
            allow.push(json!({ "host": "unknown.test", "ports": [80] }));
            allow.push(json!({ "host": "10.0.0.1", "ports": [origin.port()] }));
            policy["egress"]["deny"] = json!([{ "host": "evil.test" }]);
        })
        .args(&["--upstream-proxy", &company.url(), "--upstream-proxy-auth-file", &auth])
        .args(&["--upstream-proxy-bypass", "origin.test,unknown.test,127.0.0.1"])
        .args(&["--allow-plain-http-rules", "--log-level", "trace", "--bedrock"])
        .args(&["--dns-server", "127.0.0.1:9", "--dns-timeout", "1s"])
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/workspace")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ENDPOINT_URL_STS", &format!("http://{}", sts.address()));
    let (mut proxy, found) = (setup.start()?, Found::default());
    eventually("STS was asked", || (!sts.received().is_empty()).then_some(()))?;

    push_rules(&proxy, origin.port(), &found)?;
    ask_as_workspace(&proxy, origin.port(), &found)?;
    ask_beside_a_route(&proxy, &found)?;
    ask_over_http2(&proxy, origin.port())?;
    ask_as_orchestrator(&proxy, &found)?;
    reload_badly(&proxy)?;
    ensure!(
        origin.received().iter().any(|seen| seen.header("authorization").contains(&secret("rule")))
    );
    ensure!(!company.asked().is_empty(), "the upstream proxy was not asked");

    for name in ["cmdline", "environ", "status", "mountinfo"] {
        let content = fs::read(format!("/proc/{}/{name}", proxy.daemon.pid()))?;
        found.keep(name, String::from_utf8_lossy(&content));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.daemon.pid()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap_or_default().split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"], "its memory could be written to a disk");
    proxy.daemon.signal(Signal::TERM)?;
    ensure!(proxy.daemon.wait()?.success());
    ensure!(proxy.audit().len() > 30, "little was asked");
    ensure!(proxy.daemon.stderr().contains("DEBUG"), "the log was not talkative");
    found.keep("stdout", proxy.daemon.stdout());
    found.keep("stderr", proxy.daemon.stderr());

    let others = [
        "origin-body",
        "origin-reason",
        "origin-cookie",
        "rule",
        "rule-userinfo",
        "base-path",
        "wrong-token",
        "upstream-auth",
        "web-identity",
        "policy",
    ];
    let secrets = WORKSPACE.iter().chain(&others).map(|place| secret(place));
    for secret in secrets.chain([ADMIN_TOKEN.to_owned()]) {
        for (place, text) in found.0.borrow().iter() {
            for form in forms(&secret) {
                ensure!(!text.contains(&form), "{secret} is in {place} as {form}:\n{text}");
            }
        }
    }
    Ok(())
}

/// Static keys are in the environment because their owner put them there; they are nowhere else.
#[test]
fn static_keys_of_aws_stay_in_the_environment() -> Result<()> {
    let upstream = Origin::saying("{}")?;
    let endpoint = format!("http://bedrock.test:{}", upstream.port());
    let (mut proxy, found) = (
        Setup::new()?
            .local_host("bedrock.test", upstream.port())
            .args(&["--bedrock-endpoint", &endpoint, "--aws-region", "us-east-1"])
            .args(&["--log-level", "trace", "--log-format", "json"])
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE0451")
            .env("AWS_SECRET_ACCESS_KEY", &secret("aws-key"))
            .env("AWS_SESSION_TOKEN", &secret("aws-session"))
            .start()?,
        Found::default(),
    );
    let answer = send(
        &proxy,
        &full("POST", &format!("/bedrock/model/m/invoke?q={}", secret("query")), "a"),
    )?;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let sent = upstream.received();
    assert_eq!(sent[0].header("x-amz-security-token"), secret("aws-session"));
    for path in ["/metrics", "/readyz", "/rules"] {
        found.answer(path, &proxy.admin.get(path)?);
    }
    proxy.daemon.signal(Signal::TERM)?;
    ensure!(proxy.daemon.wait()?.success());
    found.keep("outputs", proxy.daemon.output());
    let signature = sent[0].header("authorization").rsplit('=').next().unwrap_or("none").to_owned();
    let named = ["aws-key", "aws-session", "query", "body", "cookie"].map(secret);
    for secret in named.into_iter().chain([signature, "AKIAEXAMPLE0451".to_owned()]) {
        for (place, text) in found.0.borrow().iter() {
            for form in forms(&secret) {
                ensure!(!text.contains(&form), "{secret} is in {place} as {form}:\n{text}");
            }
        }
    }
    Ok(())
}
