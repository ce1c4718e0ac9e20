//! The policy of a running proxy: replaced while it runs, tried out before it counts, explained.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use workspace_tests::{
    binaries,
    dns::NameServer,
    origin::Origin,
    proxy::{Proxy, Setup},
    wait::eventually,
};

/// The policy file of a proxy that was started by a `Setup`.
fn policy_file(proxy: &Proxy) -> PathBuf {
    proxy.socket().with_file_name("policy.yaml")
}

/// A policy that allows this host on port 443.
fn allowing(host: &str) -> String {
    format!("version: 1\negress:\n  allow:\n    - host: {host}\n")
}

/// The code of the policy's answer about a tunnel to a host; `ok` when it allows it.
fn decision(proxy: &Proxy, host: &str) -> Result<String> {
    let question = json!({ "method": "CONNECT", "url": format!("{host}:443") });
    let answer = proxy.admin.json("POST", "/explain", &question)?;
    Ok(answer["code"].as_str().unwrap_or("ok").to_owned())
}

fn becomes(proxy: &Proxy, host: &str, code: &str) -> Result<()> {
    eventually(&format!("{host} is {code}"), || {
        decision(proxy, host).is_ok_and(|found| found == code).then_some(())
    })
    .with_context(|| proxy.daemon.output())
}

#[test]
fn a_hangup_reads_the_policy_again_and_a_bad_one_changes_nothing() -> Result<()> {
    let proxy = Setup::new()?.start()?;
    assert_eq!(decision(&proxy, "one.example")?, "not_allowed");
    fs::write(policy_file(&proxy), allowing("one.example"))?;
    proxy.daemon.signal(Signal::HUP)?;
    becomes(&proxy, "one.example", "ok")?;

    for bad in ["version: 1\negres: {}\n", "version: 1\negress: {allow: [{host: '*.com'}]}\n", "{"]
    {
        let refused = || proxy.daemon.stderr().matches("policy not reloaded").count();
        let before = refused();
        fs::write(policy_file(&proxy), bad)?;
        proxy.daemon.signal(Signal::HUP)?;
        eventually("the bad policy is refused", || (refused() > before).then_some(()))?;
        assert_eq!(decision(&proxy, "one.example")?, "ok", "{bad}");
    }
    let metrics = proxy.admin.get("/metrics")?.text();
    ensure!(metrics.contains("ws_proxy_policy_reloads_total{result=\"refused\"}"), "{metrics}");
    fs::write(policy_file(&proxy), allowing("two.example"))?;
    proxy.daemon.signal(Signal::HUP)?;
    becomes(&proxy, "two.example", "ok")?;
    assert_eq!(decision(&proxy, "one.example")?, "not_allowed");
    Ok(())
}

#[test]
fn a_swapped_link_of_a_config_map_is_noticed() -> Result<()> {
    let proxy = Setup::new()?.start()?;
    let path = policy_file(&proxy);
    let directory = path.parent().context("a directory")?;
    let publish = |version: &str, host: &str| -> Result<()> {
        let own = directory.join(version);
        fs::create_dir(&own)?;
        fs::write(own.join("policy.yaml"), allowing(host))?;
        // As the kubelet does it: a new link, moved over the old one.
        symlink(version, directory.join("..data_tmp"))?;
        Ok(fs::rename(directory.join("..data_tmp"), directory.join("..data"))?)
    };
    publish("..version_1", "one.example")?;
    fs::remove_file(&path)?;
    symlink("..data/policy.yaml", &path)?;
    becomes(&proxy, "one.example", "ok")?;
    publish("..version_2", "two.example")?;
    becomes(&proxy, "two.example", "ok")?;
    assert_eq!(decision(&proxy, "one.example")?, "not_allowed");
    Ok(())
}

#[test]
fn every_request_sees_one_whole_policy_while_it_is_replaced() -> Result<()> {
    let proxy = Setup::new()?.start()?;
    let versions = [("one.example", "two.example"), ("two.example", "one.example")];
    let mut seen = [0; 2];
    for round in 0..20 {
        let (allowed, denied) = versions[round % 2];
        // Both halves of a file that allows one and denies the other.
        let text = format!("{}  deny:\n    - host: {denied}\n", allowing(allowed));
        fs::write(policy_file(&proxy), text)?;
        proxy.daemon.signal(Signal::HUP)?;
        eventually("the new policy is in force", || {
            let first = decision(&proxy, allowed).ok()?;
            let second = decision(&proxy, denied).ok()?;
            (first == "ok" && second == "denied").then_some(())
        })?;
        seen[round % 2] += 1;
    }
    assert_eq!(seen, [10, 10]);
    Ok(())
}

#[test]
fn in_report_mode_a_denied_request_passes_and_is_written_down() -> Result<()> {
    let origin = Origin::saying("answer")?;
    let host = format!("plain.test:{}", origin.port());
    let proxy = Setup::new()?
        .local_host("plain.test", origin.port())
        .policy(|policy| policy["egress"]["mode"] = "report".into())
        .start()?;
    let client = proxy.client().with("host", &host);
    assert_eq!(client.get(&format!("http://{host}/"))?.status(), 200);
    let line = proxy.audited(|line| line["mode"] == "forward")?;
    assert_eq!(
        (&line["decision"], &line["would_deny"], &line["rule"]),
        (&"allow".into(), &"not_allowed".into(), &"report".into()),
        "{line}"
    );
    let metrics = proxy.admin.get("/metrics")?.text();
    ensure!(metrics.contains("ws_proxy_would_deny_total{code=\"not_allowed\"} 1"), "{metrics}");
    // The address guard is no part of the lists.
    let inside = format!("127.0.0.1:{}", origin.port());
    let answer = proxy.client().with("host", &inside).get(&format!("http://{inside}/"))?;
    assert_eq!(answer.header("x-proxy-error"), Some("address_denied"));
    ensure!(proxy.daemon.stderr().contains("report mode"), "{}", proxy.daemon.stderr());
    Ok(())
}

#[test]
fn rules_without_effect_are_told_at_the_start_with_file_and_line() -> Result<()> {
    let proxy = Setup::new()?
        .policy(|policy| {
            policy["egress"]["allow"] =
                json!([{ "host": "**.a.example" }, { "host": "b.a.example" }]);
        })
        .start()?;
    let said = proxy.daemon.stderr();
    let line = said.lines().find(|line| line.contains("adds nothing"));
    let line = line.with_context(|| said.clone())?;
    ensure!(line.contains("policy.yaml:") && line.contains("egress.allow[1]"), "{line}");
    assert_eq!(proxy.admin.get("/policy")?.json()?["allow_rules"], 2);
    Ok(())
}

#[test]
fn explain_asks_no_name_server_unless_told_to() -> Result<()> {
    let dns = NameServer::start()?;
    let address = dns.address().to_string();
    let proxy = Setup::new()?.args(&["--allow", "a.example", "--dns-server", &address]).start()?;
    let ask = |resolve: bool| -> Result<Value> {
        let question = json!({ "method": "GET", "url": "https://a.example/x", "resolve": resolve });
        proxy.admin.json("POST", "/explain", &question)
    };
    let answer = ask(false)?;
    assert_eq!(
        (&answer["decision"], &answer["rule"], &answer["at"]),
        (&"allow".into(), &"a.example".into(), &"--allow[0]".into()),
        "{answer}"
    );
    assert_eq!(dns.asked(), []);
    let inside = workspace_tests::dns::Answer::Addresses(vec!["10.0.0.1".parse()?]);
    dns.script([("a.example".to_owned(), inside)].into(), 0);
    let answer = ask(true)?;
    assert_eq!(
        (&answer["decision"], &answer["code"]),
        (&"deny".into(), &"address_denied".into()),
        "{answer}"
    );
    ensure!(!dns.asked().is_empty(), "nobody was asked");
    Ok(())
}

#[test]
fn explain_asks_a_running_proxy_by_its_policy() -> Result<()> {
    let proxy = Setup::new()?.args(&["--allow", "a.example"]).start()?;
    let ask = |url: &str| {
        Command::new(binaries::proxy())
            .args(["explain", "--connect", &proxy.admin.endpoint().to_string()])
            .arg("--admin-token-file")
            .arg(proxy.socket().with_file_name("admin-token"))
            .args(["CONNECT", url])
            .output()
    };
    for (url, exit, word) in
        [("a.example:443", 0, "allow"), ("b.example:443", 3, "deny"), ("/x", 1, "bad_question")]
    {
        let output = ask(url)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.code() == Some(exit) && said.contains(word), "{url}: {output:?}");
    }
    Ok(())
}
