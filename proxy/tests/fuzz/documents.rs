//! Policy files and documents sent to `/rules`.

use std::time::SystemTime;

use workspace_proxy::config::wire::PolicyWire;
use workspace_proxy::config::{Settings, Sources};
use workspace_proxy::host::HostPort;
use workspace_proxy::policy::{Question, decide};
use workspace_proxy::rules::{RuleLimits, RuleStore, document, view};

use crate::inputs;

/// Whether a rule of the file names the host, judged by the text of the rule and without the code
/// under test: what YAML makes of quotes and escapes is not what stands in the file.
fn is_named(wire: &PolicyWire, at: &HostPort) -> bool {
    let host = at.host.to_string();
    wire.egress.allow.iter().any(|rule| {
        let text = rule.value.host.to_ascii_lowercase();
        let base = text.trim_start_matches(['*', '.']).trim_end_matches('.');
        let below =
            host.strip_suffix(base).is_some_and(|front| front.is_empty() || front.ends_with('.'));
        let range = text.parse::<ipnet::IpNet>().ok().zip(at.host.ip());
        let address = text.trim_matches(['[', ']']).parse().ok() == at.host.ip() && at.host.is_ip();
        (below && !base.is_empty()) || address || range.is_some_and(|(net, ip)| net.contains(&ip))
    })
}

#[test]
fn policy_files() {
    let hosts = ["unrelated.invalid:443", "10.0.0.1:443", "[::1]:80", "a.example:443"];
    let asked: Vec<HostPort> =
        hosts.iter().map(|text| HostPort::parse_authority(text, None).unwrap()).collect();
    inputs::run("policy", |input| {
        let Ok(settings) = Settings::compile(&Sources::default(), Some(input)) else { return };
        for at in &asked {
            let question = Question::tunnel(at);
            let Ok(permit) = decide(&settings.policy, &question) else { continue };
            // What passes was named: no mutation turns a narrow rule into one for everything.
            let report = permit.would_deny().is_some();
            let named = || is_named(&serde_saphyr::from_str(input).unwrap(), at);
            assert!(report || named(), "{at} passes by {input:?}");
        }
    });
}

/// A value of a header, which cannot be taken for a name, so that no answer can repeat it as one.
const VALUE: &str = "hunter2 hunter2";

#[test]
fn rules_documents() {
    let now = humantime::parse_rfc3339("2030-01-01T00:00:00Z").unwrap();
    inputs::run_bytes("rules", |input, _random| {
        let limits = RuleLimits::default();
        let Ok(document) = document::parse(input, &limits, now) else { return };
        let shown = format!("{document:?}");
        assert!(!shown.contains(VALUE), "{input:?}");
        let store = RuleStore::new(limits);
        if store.replace(document, None).is_ok() {
            in_force(&store, now, input);
        }
    });
}

/// What every set of rules keeps to that is in force.
fn in_force(store: &RuleStore, now: SystemTime, input: &[u8]) {
    let set = store.snapshot();
    assert!(set.len() <= 256, "{input:?}");
    for rule in set.rules() {
        assert!(rule.base.origin().starts_with("https://"), "{input:?}");
        assert!((1..=64).contains(&rule.name.len()), "{input:?}");
    }
    assert!(!view::of_set(&set, now).to_string().contains(VALUE), "{input:?}");
}
