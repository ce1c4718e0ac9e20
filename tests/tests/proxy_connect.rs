//! CONNECT tunnels: decided, dialled, and only then opened.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use workspace_tests::{
    ca::Ca,
    http::{Client, Connection, Endpoint, Head},
    origin::tcp_server,
    peer::Peer,
    process::{Daemon, free_address},
    proxy::{Proxy, Setup},
    require,
    wait::eventually,
};

/// Asks for a tunnel over an open connection.
fn connect(connection: &mut Connection, target: &str) -> Result<Head> {
    connection.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
    connection.read_head()
}

struct Curl<'a> {
    proxy: &'a Proxy,
    ca: &'a Path,
}

impl Curl<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("curl");
        for name in ["no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY"] {
            command.env_remove(name);
        }
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--proxy",
            &self.proxy.url(),
        ]);
        Ok(command.arg("--cacert").arg(self.ca).args(arguments).output()?)
    }
}

fn tls_origin(ca: &Ca, name: &str) -> Result<Peer> {
    let server = ca.server(name)?;
    let (certificate, key) = (server.certificate.to_string_lossy(), server.key.to_string_lossy());
    let arguments = ["--certificate", &certificate, "--key", &key];
    Peer::start(Path::new("python3"), "tls_origin.py", &arguments)
}

#[test]
fn curl_reaches_an_allowed_tls_server_through_a_tunnel() -> Result<()> {
    require!(Curl, Openssl, Python);
    let ca = Ca::new()?;
    let origin = tls_origin(&ca, "allowed.test")?;
    let proxy = Setup::new()?.allow_local("allowed.test", origin.port()).start()?;
    let url = format!("https://allowed.test:{}/path?query=hidden", origin.port());
    let output = Curl { proxy: &proxy, ca: &ca.certificate() }.run(&[&url])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!("tls allowed.test:{} /path?query=hidden\n", origin.port());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    let line = proxy.audited(|line| line["mode"] == "connect")?;
    assert_eq!(
        (&line["decision"], &line["host"]),
        (&"allow".into(), &"allowed.test".into()),
        "{line}"
    );
    Ok(())
}

#[test]
fn curl_is_denied_another_host_with_a_code_that_says_why() -> Result<()> {
    require!(Curl, Openssl, Python);
    let ca = Ca::new()?;
    let origin = tls_origin(&ca, "allowed.test")?;
    let proxy = Setup::new()?.allow_local("allowed.test", origin.port()).start()?;
    let curl = Curl { proxy: &proxy, ca: &ca.certificate() };
    let url = format!("https://other.test:{}/", origin.port());
    let output = curl.run(&["--verbose", &url])?;
    ensure!(!output.status.success(), "it was not denied");
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    ensure!(said.contains("http/1.1 403") && said.contains("x-proxy-error: not_allowed"), "{said}");
    let line = proxy.audited(|line| line["decision"] == "deny")?;
    assert_eq!(
        (&line["code"], &line["host"]),
        (&"not_allowed".into(), &"other.test".into()),
        "{line}"
    );
    ensure!(origin.record().is_empty(), "the upstream saw something");
    Ok(())
}

#[test]
fn a_tunnel_for_one_host_carries_no_tls_for_another() -> Result<()> {
    require!(Curl, Openssl, Python);
    let ca = Ca::new()?;
    let origin = tls_origin(&ca, "other.test")?;
    let proxy = Setup::new()?.allow_local("allowed.test", origin.port()).start()?;
    // curl asks for a tunnel to the one and speaks TLS for the other inside.
    let route = format!("other.test:443:allowed.test:{}", origin.port());
    let curl = Curl { proxy: &proxy, ca: &ca.certificate() };
    let output = curl.run(&["--connect-to", &route, "https://other.test/"])?;
    ensure!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    ensure!(origin.record().is_empty(), "the upstream saw a request");
    let line = proxy.audited(|line| line["mode"] == "connect")?;
    assert_eq!(
        (&line["decision"], &line["code"]),
        (&"deny".into(), &"sni_mismatch".into()),
        "{line}"
    );
    Ok(())
}

#[test]
fn curl_speaks_http_2_with_nginx_through_a_tunnel() -> Result<()> {
    require!(Curl, Openssl, Nginx);
    let (ca, port) = (Ca::new()?, free_address()?.port());
    let files = ca.server("nginx.test")?;
    let directory = tempfile::tempdir()?;
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}}\n\
         http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl http2;\n\
         ssl_certificate {}; ssl_certificate_key {};\n\
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         location / {{ return 200 \"$server_protocol $ssl_server_name\"; }} }} }}\n",
        files.certificate.display(),
        files.key.display()
    );
    let path = directory.path().join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(directory.path()).arg("-c").arg(path);
    let mut nginx = Daemon::spawn("nginx", command, directory.path())?;
    nginx.wait_until_listening(&Endpoint::Tcp(([127, 0, 0, 1], port).into()))?;
    let proxy = Setup::new()?.allow_local("nginx.test", port).start()?;
    let curl = Curl { proxy: &proxy, ca: &ca.certificate() };
    let output = curl.run(&["--http2", &format!("https://nginx.test:{port}/")])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "HTTP/2.0 nginx.test", "{said}");
    Ok(())
}

#[test]
fn a_denial_is_a_problem_document_that_names_nothing_allowed() -> Result<()> {
    let proxy = Setup::new()?.args(&["--allow", "allowed.example"]).start()?;
    let mut connection = proxy.connect()?;
    connection.send(b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n")?;
    let answer = connection.read_response("CONNECT")?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (403, Some("not_allowed")));
    assert_eq!(answer.problem_code()?, "not_allowed");
    ensure!(answer.header("proxy-status").is_some(), "no Proxy-Status");
    ensure!(!answer.text().contains("allowed.example"), "{}", answer.text());
    Ok(())
}

#[test]
fn nothing_is_allowed_without_a_list_or_with_an_empty_one() -> Result<()> {
    for list in [None, Some(""), Some(","), Some(" , ")] {
        let mut setup = Setup::new()?;
        if let Some(list) = list {
            setup = setup.env("PROXY_DOMAIN_WHITELIST", list);
        }
        let proxy = setup.start()?;
        let head = connect(&mut proxy.connect()?, "allowed.example:443")?;
        assert_eq!(head.status, 403, "{list:?}");
    }
    Ok(())
}

#[test]
fn an_internal_address_is_refused_unless_the_policy_excepts_it() -> Result<()> {
    let upstream = tcp_server(|_| Ok(()))?;
    let port = upstream.port();
    let target = format!("internal.test:{port}");
    let allowed = format!("internal.test:{port}");
    let setup = Setup::new()?.args(&["--allow", &allowed]).policy(|policy| {
        policy["hosts"]["internal.test"] = serde_json::json!(["127.0.0.1"]);
    });
    let head = connect(&mut setup.start()?.connect()?, &target)?;
    assert_eq!((head.status, head.header("x-proxy-error")), (403, Some("address_denied")));

    let excepted = Setup::new()?.allow_local("internal.test", port).start()?;
    assert_eq!(connect(&mut excepted.connect()?, &target)?.status, 200);
    // The exception is for one port, and a name does not grant an address.
    let other = connect(&mut excepted.connect()?, &format!("127.0.0.1:{port}"))?;
    assert_eq!(other.status, 403);
    Ok(())
}

#[test]
fn metadata_addresses_stay_refused_whatever_the_policy_says() -> Result<()> {
    let proxy = Setup::new()?
        .policy(|policy| {
            policy["hosts"]["metadata.test"] = serde_json::json!(["169.254.169.254"]);
            policy["egress"]["allow"] = serde_json::json!([{ "host": "metadata.test", "ports": [80] }]);
            policy["egress"]["private_exceptions"] =
                serde_json::json!([{ "host": "metadata.test", "cidr": "0.0.0.0/0", "ports": [80] }]);
        })
        .start();
    // Refusing such an exception at start would do as well.
    if let Ok(proxy) = proxy {
        assert_eq!(connect(&mut proxy.connect()?, "metadata.test:80")?.status, 403);
    }
    Ok(())
}

#[test]
fn a_destination_that_refuses_is_a_502_and_never_a_200() -> Result<()> {
    let nobody = free_address()?.port();
    let proxy = Setup::new()?.allow_local("nobody.test", nobody).start()?;
    let head = connect(&mut proxy.connect()?, &format!("nobody.test:{nobody}"))?;
    assert_eq!((head.status, head.header("x-proxy-error")), (502, Some("connect_failed")));
    Ok(())
}

/// Sends back what it received once the client has finished; keeps both half-closes apart.
fn half_closer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    bytes.reverse();
    stream.write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)
}

/// What no reader takes for TLS.
const GREETING: &[u8] = b"SSH-2.0-client\r\n";

#[test]
fn bytes_and_both_half_closes_pass_a_tunnel() -> Result<()> {
    let upstream = tcp_server(half_closer)?;
    let proxy = Setup::new()?.allow_raw("echo.test", upstream.port()).start()?;
    for endpoint in [Endpoint::Unix(proxy.socket()), Endpoint::Tcp(proxy.tcp)] {
        let mut connection = Connection::open(&endpoint)?;
        assert_eq!(
            connect(&mut connection, &format!("echo.test:{}", upstream.port()))?.status,
            200
        );
        let mut data = GREETING.to_vec();
        data.extend((0..2_000_000_u32).map(|i| (i % 251) as u8));
        connection.send(&data)?;
        connection.finish_sending()?;
        let mut back = connection.read_to_end()?;
        back.reverse();
        ensure!(back == data, "{} of {} bytes came back", back.len(), data.len());
    }
    Ok(())
}

#[test]
fn what_is_sent_along_with_the_connect_arrives_exactly_once() -> Result<()> {
    let upstream = tcp_server(half_closer)?;
    let proxy = Setup::new()?.allow_raw("echo.test", upstream.port()).start()?;
    let target = format!("echo.test:{}", upstream.port());
    let mut bytes = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes();
    bytes.extend(GREETING);
    let mut connection = proxy.connect()?;
    connection.send(&bytes)?;
    connection.finish_sending()?;
    assert_eq!(connection.read_head()?.status, 200);
    let mut back = connection.read_to_end()?;
    back.reverse();
    assert_eq!(back, GREETING);
    Ok(())
}

#[test]
fn a_client_that_goes_away_closes_the_upstream() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let proxy = Setup::new()?.allow_raw("held.test", port).start()?;
    let mut connection = proxy.connect()?;
    assert_eq!(connect(&mut connection, &format!("held.test:{port}"))?.status, 200);
    let (mut upstream, _): (TcpStream, SocketAddr) = listener.accept()?;
    connection.send(GREETING)?;
    upstream.read_exact(&mut [0; 4])?;
    drop(connection);
    let mut rest = Vec::new();
    // Its end, in order or by a reset, is what is waited for; a hang would be the failure.
    drop(upstream.read_to_end(&mut rest));
    // A tunnel lives while either direction does, so the upstream has to close as well.
    drop(upstream);
    let line = proxy.audited(|line| line["mode"] == "connect")?;
    ensure!(line["bytes_up"].as_u64() > Some(0), "{line}");
    Ok(())
}

#[test]
fn the_lists_of_flag_variable_and_policy_all_allow() -> Result<()> {
    let upstream = tcp_server(|_| Ok(()))?;
    let port = upstream.port();
    let proxy = Setup::new()?
        .local_host("flag.test", port)
        .local_host("sub.variable.test", port)
        .allow_local("policy.test", port)
        .local_host("none.test", port)
        .args(&["--allow", &format!("flag.test:{port}")])
        .env("PROXY_DOMAIN_WHITELIST", &format!("else.test, variable.test:{port}"))
        .start()?;
    for (host, status) in
        [("flag.test", 200), ("sub.variable.test", 200), ("policy.test", 200), ("none.test", 403)]
    {
        let head = connect(&mut proxy.connect()?, &format!("{host}:{port}"))?;
        assert_eq!(head.status, status, "{host}");
    }
    Ok(())
}

#[test]
fn a_deny_entry_wins_over_every_allow() -> Result<()> {
    let upstream = tcp_server(|_| Ok(()))?;
    let port = upstream.port();
    let proxy = Setup::new()?
        .allow_local("evil.cdn.test", port)
        .allow_local("files.cdn.test", port)
        .policy(|policy| {
            policy["egress"]["deny"] = serde_json::json!([{ "host": "evil.cdn.test" }])
        })
        .start()?;
    assert_eq!(connect(&mut proxy.connect()?, &format!("files.cdn.test:{port}"))?.status, 200);
    for name in ["evil.cdn.test", "EVIL.cdn.TEST."] {
        let head = connect(&mut proxy.connect()?, &format!("{name}:{port}"))?;
        assert_eq!((head.status, head.header("x-proxy-error")), (403, Some("denied")), "{name}");
    }
    Ok(())
}

#[test]
fn every_request_leaves_one_audit_line_and_metrics_count_it() -> Result<()> {
    let proxy = Setup::new()?.start()?;
    for number in 0..5 {
        connect(&mut proxy.connect()?, &format!("host{number}.test:443"))?;
    }
    eventually("five lines are there", || (proxy.audit().len() >= 5).then_some(()))?;
    assert_eq!(proxy.audit().len(), 5);
    let metrics = Client::new(proxy.admin.endpoint().clone())
        .with_token(workspace_tests::proxy::ADMIN_TOKEN)
        .get("/metrics")?
        .text();
    ensure!(metrics.contains("ws_proxy_requests_total"), "{metrics}");
    ensure!(!metrics.contains("host0.test"), "a host is a label");
    Ok(())
}
