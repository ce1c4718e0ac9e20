//! Policy files and lists, good and bad.

use super::*;
use crate::config::compile::Compiler;
use crate::host::HostPort;
use crate::policy::{Mode, Question, decide};
use crate::refusal::Refusal;

fn compile(yaml: &str) -> Result<Compiler, ConfigError> {
    let wire =
        parse_text(yaml).map_err(|problem| ConfigError::Syntax { path: "test".into(), problem })?;
    let mut compiler = Compiler::default();
    compiler.file("test.yaml".as_ref(), &wire)?;
    Ok(compiler)
}

fn tunnel(policy: &Policy, authority: &str) -> Result<(), Refusal> {
    let at = HostPort::parse_authority(authority, None)?;
    decide(policy, &Question::tunnel(&at)).map(|_| ())
}

fn whitelist(list: &str) -> Sources {
    Sources { domain_whitelist: list.to_owned(), ..Sources::default() }
}

const SAMPLE: &str = r#"
version: 1
egress:
  allow:
    - { host: "allowed.example" }
    - { host: "*.cdn.example", ports: [443, 8443], schemes: [tunnel] }
    - { host: "plain.test", schemes: [http], methods: [GET], paths: ["/simple/**"] }
  deny: [{ host: "evil.cdn.example" }]
  private_exceptions: [{ host: "allowed.example", cidr: "127.0.0.0/8", ports: [443] }]
  extra_deny_cidrs: ["10.100.0.0/16", "10.9.9.9"]
hosts: { Allowed.example: ["127.0.0.1", "::1"] }
bedrock: { region: us-east-1, catchall: true }
"#;

#[test]
fn a_policy_file_is_compiled() {
    let compiler = compile(SAMPLE).unwrap();
    let addresses = &compiler.hosts["allowed.example"];
    assert_eq!(addresses.len(), 2);
    let policy = Policy::new(compiler.parts);
    assert_eq!(policy.allow_count(), 3);
    assert_eq!(tunnel(&policy, "allowed.example:443"), Ok(()));
    assert_eq!(tunnel(&policy, "a.cdn.example:8443"), Ok(()));
    assert_eq!(tunnel(&policy, "evil.cdn.example:443"), Err(Refusal::Denied));
    assert_eq!(tunnel(&policy, "plain.test:80"), Err(Refusal::SchemeNotAllowed));
}

#[test]
fn the_mode_is_enforce_unless_the_file_says_otherwise() {
    assert_eq!(compile("version: 1").unwrap().parts.mode, Mode::Enforce);
    assert_eq!(compile("version: 1\negress: { mode: report }").unwrap().parts.mode, Mode::Report);
}

#[test]
fn json_is_read_as_well_and_an_empty_file_allows_nothing() {
    let json = r#"{"version": 1, "egress": {"allow": [{"host": "a.example"}]}}"#;
    assert_eq!(compile(json).unwrap().parts.allow.len(), 1);
    assert!(compile("\n").unwrap().parts.allow.is_empty());
}

#[test]
fn a_bad_file_is_refused_with_the_entry_named() {
    for (yaml, needle) in [
        ("version: 2", "version 2"),
        ("version: 1\negress: { mode: off }", "mode"),
        (
            "version: 1\negress:\n  allow:\n  - host: a.example\n  - host: '*.com'",
            "test.yaml:5: egress.allow[1]: `*.com`",
        ),
        (
            "version: 1\negress: { private_exceptions: [{ host: '*.com', cidr: 10.0.0.0/8 }] }",
            "too broad",
        ),
        ("egress: {}", "version"),
        ("version: 1\nunknown: 1", "unknown"),
        ("version: 1\negress: { allow: [{ host: a.example, port: 1 }] }", "port"),
        ("version: 1\negress: { allow: [{ host: '*' }] }", "egress.allow[0]: `*`"),
        (
            "version: 1\negress: { allow: [{ host: a.example }, { host: '*.com' }] }",
            "egress.allow[1]: `*.com`",
        ),
        ("version: 1\negress: { allow: [{ host: a.example, ports: [] }] }", "empty"),
        ("version: 1\negress: { allow: [{ host: a.example, ports: [0] }] }", "port 0"),
        ("version: 1\negress: { allow: [{ host: a.example, ports: [70000] }] }", "70000"),
        ("version: 1\negress: { allow: [{ host: a.example, methods: [get] }] }", "capitals"),
        ("version: 1\negress: { allow: [{ host: a.example, paths: [x] }] }", "begin with"),
        (
            "version: 1\negress: { allow: [{ host: a.example, paths: [/x], schemes: [tunnel] }] }",
            "tunnel hides",
        ),
        (
            "version: 1\negress: { allow: [{ host: a.example, schemes: [https], tunnel: true }] }",
            "does not allow",
        ),
        (
            "version: 1\negress: { private_exceptions: [{ host: a.example, cidr: 10.0.0.0/99 }] }",
            "10.0.0.0/99",
        ),
        ("version: 1\nhosts: { a.example: [nowhere] }", "hosts[0]: `a.example`"),
        ("version: 1\nhosts: { 10.0.0.1: [10.0.0.1] }", "not a name"),
    ] {
        let error = compile(yaml).err().expect(yaml).to_string();
        assert!(error.contains(needle), "{yaml}: {error}");
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut yaml = String::from("version: 1\nhosts:\n  a: &a [\"::1\"]\n");
    let mut last = 'a';
    for next in 'b'..='z' {
        let many = vec![format!("*{last}"); 10].join(", ");
        yaml.extend(["  ", &next.to_string(), ": &", &next.to_string(), " [", &many, "]\n"]);
        last = next;
    }
    assert!(compile(&yaml).is_err());
}

#[test]
fn an_empty_list_allows_nothing_and_a_bad_entry_is_named() {
    for list in ["", ",", " , "] {
        let settings = Settings::load(&whitelist(list)).unwrap();
        assert_eq!(settings.policy.allow_count(), 0, "{list:?}");
    }
    for entry in
        ["*", "*.com", "*.co.uk", "*.", ".", "https://a.example/x", "com", "[a-z]*.example"]
    {
        let error = Settings::load(&whitelist(&format!("a.example,{entry}"))).unwrap_err();
        let expected = format!("PROXY_DOMAIN_WHITELIST[1]: `{entry}`");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn the_predecessors_list_and_the_flag_read_a_name_differently() {
    let settings =
        Settings::load(&Sources { allow: vec!["flag.example".into()], ..whitelist("old.example") })
            .unwrap();
    let policy = settings.policy;
    assert_eq!(tunnel(&policy, "flag.example:443"), Ok(()));
    assert_eq!(tunnel(&policy, "sub.flag.example:443"), Err(Refusal::NotAllowed));
    assert_eq!(tunnel(&policy, "flag.example:80"), Err(Refusal::PortNotAllowed));
    assert_eq!(tunnel(&policy, "sub.old.example:443"), Ok(()));
    assert_eq!(tunnel(&policy, "old.example:80"), Ok(()));
}

#[test]
fn as_many_rules_as_promised_fit_and_bombs_do_not() {
    let rule = |n: u32| format!("  - {{host: h{n}.test, ports: [443, 80]}}\n");
    let rules: String = (0..100_000).map(rule).collect();
    let file = format!("version: 1\negress:\n  allow:\n{rules}");
    assert!((file.len() as u64) < MAX_POLICY_BYTES);
    assert_eq!(compile(&file).unwrap().parts.allow.len(), 100_000);

    let addresses = vec!["192.0.2.1"; 2000].join(", ");
    let aliases: String = (0..1000).map(|n| format!("  h{n}.test: *a\n")).collect();
    let bomb = format!("version: 1\nhosts:\n  a.test: &a [{addresses}]\n{aliases}");
    assert!(matches!(compile(&bomb), Err(ConfigError::Syntax { .. })));
}

#[test]
fn a_password_in_an_entry_is_not_repeated() {
    for entry in ["https://user:hunter2@allowed.example/", "user:hunter2@allowed.example"] {
        let sources = Sources { allow: vec![entry.to_owned()], ..Sources::default() };
        let error = Settings::load(&sources).unwrap_err().to_string();
        assert!(error.contains("…@allowed.example") && !error.contains("hunter2"), "{error}");
    }
}
