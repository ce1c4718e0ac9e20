use clap::Parser;
use std::io::Write as _;
use std::time::Duration;

use workspace_common::drain;
use workspace_common::listen::ListenAddr;
use workspace_common::serve::{ServeOptions, serve};

use super::*;
use crate::admin::{self, AdminContext, RulesNeeded};
use crate::rules::{RuleLimits, RuleStore};

#[derive(Parser)]
enum Cli {
    Rules(RulesArgs),
    Health(HealthArgs),
}

struct Proxy {
    dir: tempfile::TempDir,
    rules: RuleStore,
    _stop: drain::DrainTrigger,
}

impl Proxy {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "t0ken\n").unwrap();
        let rules = RuleStore::new(RuleLimits::default());
        let context = AdminContext {
            rules: rules.clone(),
            token: Some(BearerToken::load(&dir.path().join("token")).unwrap()),
            metrics: Box::new(String::new),
            readiness: Box::new(Vec::new),
            rules_needed: RulesNeeded::BeforeReady,
            policy: Box::new(admin::tests::Nothing),
            hosts: admin::OwnNames::default(),
        };
        let address = format!("unix:{}", dir.path().join("admin.sock").display());
        let listener = address.parse::<ListenAddr>().unwrap().bind().unwrap().into_async().unwrap();
        let (stop, drain) = drain::channel();
        let options = ServeOptions::new(8, Duration::from_secs(10));
        drain.spawn(serve(listener, options, drain.clone(), admin::service(context)));
        Self { dir, rules, _stop: stop }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs a command line and says how it ended and what it printed.
    async fn run(&self, arguments: &[&str]) -> (ExitCode, String, String) {
        let connect = format!("--connect=unix:{}", self.path("admin.sock"));
        let mut line = vec!["workspace-proxy", arguments[0], connect.as_str()];
        let token = format!("--admin-token-file={}", self.path("token"));
        if arguments[0] == "rules" {
            line.push(&token);
        }
        line.extend(&arguments[1..]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = match Cli::try_parse_from(line).unwrap() {
            Cli::Rules(args) => rules(args, &mut out, &mut err).await,
            Cli::Health(args) => health(args, &mut out, &mut err).await,
        };
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

#[tokio::test]
async fn rules_are_put_shown_and_cleared() {
    let proxy = Proxy::start();
    let file = proxy.path("rules.json");
    let document = r#"{"gh": {"real_base_url": "https://a.test", "headers": {"X-Key": "SECRET"}}}"#;
    std::fs::File::create(&file).unwrap().write_all(document.as_bytes()).unwrap();

    let (code, out, _) = proxy.run(&["rules", "put", &file]).await;
    assert_eq!(code, ExitCode::SUCCESS);
    let revision = proxy.rules.snapshot().revision().to_string();
    assert_eq!(out, format!("revision {revision}, 1 server(s)\n"));

    let (code, out, _) = proxy.run(&["rules", "get"]).await;
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(out.ends_with("  gh -> https://a.test (headers: x-key)\n"), "{out}");
    assert!(!out.contains("SECRET"));

    let (code, _, err) = proxy.run(&["rules", "clear", "--if-match", "00000000-9"]).await;
    assert_eq!(code, ExitCode::from(1));
    assert!(err.contains("revision_conflict") && err.contains(&revision), "{err}");
    let (code, ..) = proxy.run(&["rules", "clear", "--if-match", &revision]).await;
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(proxy.rules.snapshot().is_empty());
}

#[tokio::test]
async fn faults_are_told_with_their_path() {
    let proxy = Proxy::start();
    let file = proxy.path("rules.json");
    std::fs::write(&file, r#"{"gh": {"real_base_url": "http://a.test"}}"#).unwrap();
    let (code, out, err) = proxy.run(&["rules", "put", &file]).await;
    assert_eq!(code, ExitCode::from(1));
    assert!(err.contains("  /gh/real_base_url must be https"), "{err}");
    assert_eq!(out, "");
    let (_, out, _) = proxy.run(&["rules", "put", &file, "--json"]).await;
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["errors"][0]["code"], "plain_http");
}

#[tokio::test]
async fn health_tells_what_is_missing() {
    let proxy = Proxy::start();
    let (code, _, err) = proxy.run(&["health"]).await;
    assert_eq!(code, ExitCode::from(1));
    assert_eq!(err, "not_ready\n  rules: waiting for the orchestrator\n");
    let (code, out, _) = proxy.run(&["health", "--live"]).await;
    assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, "ok\n"));
}

#[tokio::test]
async fn what_cannot_be_reached_or_read_has_its_own_exit_code() {
    let proxy = Proxy::start();
    let (code, _, err) = proxy.run(&["rules", "put", "/nonexistent/rules.json"]).await;
    assert_eq!(code, ExitCode::from(3));
    assert!(err.contains("cannot read /nonexistent/rules.json"), "{err}");
    std::fs::remove_file(proxy.path("admin.sock")).unwrap();
    let (code, _, err) = proxy.run(&["health"]).await;
    assert_eq!(code, ExitCode::from(2));
    assert!(err.contains("cannot connect") && err.contains("--connect"), "{err}");
    std::fs::remove_file(proxy.path("token")).unwrap();
    let (code, _, err) = proxy.run(&["rules", "get"]).await;
    assert_eq!(code, ExitCode::from(3));
    assert!(err.contains("token file"), "{err}");
}
