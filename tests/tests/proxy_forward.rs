//! Absolute-form requests: judged one by one, cleaned, and streamed.

use std::{
    io::{Read, Write},
    process::Command,
    sync::{Mutex, mpsc},
};

use anyhow::{Context, Result, ensure};
use workspace_tests::{
    http::{Client, Response},
    origin::{Origin, respond, tcp_server},
    proxy::{Proxy, Setup},
    require,
    wait::eventually,
};

fn forward(proxy: &Proxy, origin: &Origin) -> (Client, String) {
    let host = format!("plain.test:{}", origin.port());
    (proxy.client().with("host", &host), format!("http://{host}"))
}

fn start(origin: &Origin) -> Result<Proxy> {
    Setup::new()?.allow_local("plain.test", origin.port()).start()
}

#[test]
fn a_request_passes_with_its_method_path_query_and_body() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    let answer = client.send("POST", &format!("{base}/a/b?c=d&e"), b"the body")?;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "answer"));
    let seen = &origin.received()[0];
    assert_eq!(seen.line, "POST /a/b?c=d&e HTTP/1.1");
    assert_eq!(seen.header("host"), format!("plain.test:{}", origin.port()));
    assert_eq!(seen.body, b"the body");
    Ok(())
}

#[test]
fn the_clients_proxy_credentials_and_hop_by_hop_headers_stay_behind() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    client
        .with("proxy-authorization", "Basic c2VjcmV0OnNlY3JldA==")
        .with("proxy-connection", "keep-alive")
        .with("connection", "keep-alive, x-mine")
        .with("x-mine", "1")
        .with("keep-alive", "timeout=5")
        .with("te", "trailers")
        .with("x-kept", "yes")
        .get(&base)?;
    let seen = &origin.received()[0];
    for name in ["proxy-authorization", "proxy-connection", "x-mine", "keep-alive"] {
        ensure!(seen.all(name).is_empty(), "{name} went on: {seen:?}");
    }
    assert_eq!(seen.header("x-kept"), "yes");
    ensure!(!proxy.daemon.output().contains("c2VjcmV0"), "the log holds a credential");
    Ok(())
}

#[test]
fn an_upstream_cannot_fake_a_denial_of_the_proxy() -> Result<()> {
    let origin = Origin::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nX-Proxy-Error: not_allowed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        )
    })?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    let answer = client.get(&base)?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (200, None));
    Ok(())
}

#[test]
fn requests_on_one_connection_are_judged_one_by_one() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    let denied = proxy.client().with("host", "other.test");
    let mut connection = proxy.connect()?;
    for _ in 0..3 {
        connection.send(&client.request("GET", &base, b""))?;
        assert_eq!(connection.read_response("GET")?.status(), 200);
        connection.send(&denied.request("GET", "http://other.test/", b""))?;
        let answer: Response = connection.read_response("GET")?;
        assert_eq!((answer.status(), answer.problem_code()?.as_str()), (403, "not_allowed"));
    }
    Ok(())
}

#[test]
fn events_pass_one_by_one_while_the_stream_is_open() -> Result<()> {
    let (next, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
        )?;
        for number in 0..3 {
            stream.write_all(format!("data: {number}\n\n").as_bytes())?;
            // The next event is not even made before the client has this one.
            if wait.lock().expect("no panic").recv().is_err() {
                break;
            }
        }
        Ok(())
    })?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    let mut connection = proxy.connect()?;
    connection.send(&client.request("GET", &base, b""))?;
    let head = connection.read_head()?;
    let chunked = head.header("transfer-encoding") == Some("chunked");
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        let bytes = if chunked {
            connection.read_chunk()?.context("the stream ended")?
        } else {
            connection.read_exact(event.len())?
        };
        assert_eq!(String::from_utf8(bytes)?, event);
        next.send(())?;
    }
    Ok(())
}

#[test]
fn an_upload_streams_to_the_upstream_before_it_is_complete() -> Result<()> {
    let (seen, wait) = mpsc::channel();
    let seen = Mutex::new(seen);
    let upstream = tcp_server(move |mut stream| {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !bytes.ends_with(b"first part") {
            let count = stream.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..count]);
            if count == 0 {
                return Ok(());
            }
        }
        seen.lock().expect("no panic").send(()).expect("the test waits");
        stream.read_exact(&mut buffer[..5])?;
        respond(&mut stream, 200, "text/plain", b"all")
    })?;
    let proxy = Setup::new()?.allow_local("plain.test", upstream.port()).start()?;
    let host = format!("plain.test:{}", upstream.port());
    let mut connection = proxy.connect()?;
    let head = format!(
        "PUT http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 15\r\n\r\nfirst part"
    );
    connection.send(head.as_bytes())?;
    wait.recv_timeout(workspace_tests::wait::DEADLINE)?;
    connection.send(b" rest")?;
    assert_eq!(connection.read_response("PUT")?.text(), "all");
    Ok(())
}

#[test]
fn a_client_that_goes_away_cancels_the_upstream_request() -> Result<()> {
    let (gone, wait) = mpsc::channel();
    let gone = Mutex::new(gone);
    let origin = Origin::start(move |_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 0\n\n")?;
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        gone.lock().expect("no panic").send(()).expect("the test waits");
        Ok(())
    })?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    let mut connection = proxy.connect()?;
    connection.send(&client.request("GET", &base, b""))?;
    assert_eq!(connection.read_head()?.status, 200);
    drop(connection);
    wait.recv_timeout(workspace_tests::wait::DEADLINE).context("the upstream was not told")?;
    let line = proxy.audited(|line| line["mode"] == "forward")?;
    assert_eq!(line["close_reason"], "cancelled", "{line}");
    Ok(())
}

#[test]
fn an_upstream_that_breaks_off_is_never_a_clean_end() -> Result<()> {
    let origin = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
    })?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    ensure!(client.get(&base).is_err(), "a torn answer looked whole");
    Ok(())
}

#[test]
fn an_upstream_that_speaks_no_http_is_a_502() -> Result<()> {
    let upstream = tcp_server(|mut stream| {
        stream.read_exact(&mut [0; 16])?;
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")
    })?;
    let proxy = Setup::new()?.allow_local("plain.test", upstream.port()).start()?;
    let host = format!("plain.test:{}", upstream.port());
    let answer = proxy.client().with("host", &host).get(&format!("http://{host}/"))?;
    assert_eq!((answer.status(), answer.header("x-proxy-error")), (502, Some("bad_upstream")));
    Ok(())
}

#[test]
fn the_audit_line_has_the_host_and_never_the_query() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    client
        .with("cookie", "session=hidden-cookie")
        .get(&format!("{base}/path?token=hidden-query"))?;
    let line = proxy.audited(|line| line["mode"] == "forward")?;
    assert_eq!(
        (&line["host"], &line["status"], &line["method"]),
        (&"plain.test".into(), &200.into(), &"GET".into())
    );
    for hidden in ["hidden-query", "hidden-cookie", "127.0.0.1:"] {
        ensure!(!line.to_string().contains(hidden), "{hidden} is in {line}");
    }
    ensure!(!proxy.daemon.output().contains("hidden-"), "{}", proxy.daemon.output());
    Ok(())
}

#[test]
fn methods_and_paths_can_be_limited() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let rule = serde_json::json!([{
        "host": "plain.test", "ports": [origin.port()], "methods": ["GET"], "paths": ["/simple/**"],
    }]);
    let proxy = Setup::new()?
        .local_host("plain.test", origin.port())
        .policy(|policy| policy["egress"]["allow"] = rule)
        .start()?;
    let (client, base) = forward(&proxy, &origin);
    assert_eq!(client.get(&format!("{base}/simple/x"))?.status(), 200);
    assert_eq!(client.send("POST", &format!("{base}/simple/x"), b"")?.status(), 403);
    assert_eq!(client.get(&format!("{base}/other"))?.status(), 403);
    for path in ["/simple/../other", "/simple/%2e%2e/other"] {
        ensure!(client.get(&format!("{base}{path}"))?.status() >= 400, "{path} passed");
    }
    assert_eq!(origin.received().len(), 1);
    Ok(())
}

#[test]
fn curl_fetches_a_plain_page_through_the_proxy() -> Result<()> {
    require!(Curl);
    let origin = Origin::saying("plain answer")?;
    let proxy = start(&origin)?;
    let url = format!("http://plain.test:{}/", origin.port());
    let output = Command::new("curl")
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .args(["--silent", "--show-error", "--max-time", "30", "--proxy", &proxy.url(), &url])
        .output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "plain answer");
    Ok(())
}

#[test]
fn an_unknown_path_of_the_proxy_itself_is_no_route() -> Result<()> {
    let proxy = Setup::new()?.start()?;
    for path in ["/", "/anything", "/mcp/unknown/x", "//evil.test/x"] {
        let answer = proxy.client().get(path)?;
        assert_eq!(
            (answer.status(), answer.header("x-proxy-error")),
            (404, Some("unknown_route")),
            "{path}"
        );
    }
    Ok(())
}

#[test]
fn a_hundred_clients_at_once_all_get_their_answer() -> Result<()> {
    let origin = Origin::start(|request, stream| {
        respond(stream, 200, "text/plain", request.line.as_bytes())
    })?;
    let proxy = start(&origin)?;
    let (client, base) = forward(&proxy, &origin);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..100)
            .map(|number| {
                let (client, base) = (&client, &base);
                scope.spawn(move || client.get(&format!("{base}/{number}")))
            })
            .collect();
        for (number, run) in runs.into_iter().enumerate() {
            let answer = run.join().expect("no panic")?;
            assert_eq!(answer.text(), format!("GET /{number} HTTP/1.1"));
        }
        anyhow::Ok(())
    })?;
    eventually("a line for each", || (proxy.audit().len() >= 100).then_some(()))?;
    assert_eq!(proxy.audit().len(), 100);
    Ok(())
}
