//! The decision as a table.

use super::*;
use crate::policy::tunnel::PastRoutes;
use crate::rules::path::PathGlobs;

fn written<T>(pattern: &str, terms: T) -> (HostPattern, Written<T>) {
    let place = Place::of_list("test", 0);
    (pattern.parse().unwrap(), Written { label: pattern.into(), place, terms })
}

fn allow(pattern: &str, ports: &[u16]) -> (HostPattern, Written<AllowRule>) {
    let rule = AllowRule {
        ports: ports.to_vec(),
        access: vec![Access::Tunnel, Access::Forward(Scheme::Http), Access::Forward(Scheme::Https)],
        methods: None,
        paths: None,
        tunnel: TunnelTerms::default(),
    };
    written(pattern, rule)
}

fn deny(pattern: &str, ports: Option<Vec<u16>>) -> (HostPattern, Written<DenyRule>) {
    written(pattern, DenyRule { ports, access: None, methods: None, paths: None })
}

fn sample() -> Policy {
    let mut limited = allow("api.example", &[80]);
    limited.1.terms.methods = Some(vec![Method::GET]);
    limited.1.terms.paths = Some(PathGlobs::parse(vec!["/simple/**".into()]).unwrap());
    Policy::new(PolicyParts {
        allow: vec![
            allow("allowed.example", &[443]),
            allow("allowed.example", &[8080]),
            allow("*.cdn.example", &[443]),
            allow("203.0.113.0/24", &[443]),
            allow("198.51.100.7", &[443]),
            limited,
        ],
        deny: vec![deny("evil.cdn.example", None), deny("half.cdn.example", Some(vec![80]))],
        ..PolicyParts::default()
    })
}

fn tunnel(policy: &Policy, authority: &str) -> Result<Permit, Refusal> {
    let at = HostPort::parse_authority(authority, None)?;
    decide(policy, &Question::tunnel(&at))
}

#[test]
fn tunnels_are_decided_by_host_and_port() {
    let policy = sample();
    for (authority, expected) in [
        ("allowed.example:443", None),
        ("ALLOWED.example.:443", None),
        ("allowed.example:8080", None),
        ("allowed.example:8443", Some(Refusal::PortNotAllowed)),
        ("cdn.example:443", Some(Refusal::NotAllowed)),
        ("files.cdn.example:443", None),
        ("evil.cdn.example:443", Some(Refusal::Denied)),
        ("EVIL.CDN.EXAMPLE.:443", Some(Refusal::Denied)),
        ("half.cdn.example:443", None),
        ("half.cdn.example:80", Some(Refusal::Denied)),
        ("evilcdn.example:443", Some(Refusal::NotAllowed)),
        ("203.0.113.10:443", None),
        ("198.51.100.7:443", None),
        ("198.51.100.8:443", Some(Refusal::NotAllowed)),
        ("[::1]:443", Some(Refusal::NotAllowed)),
        ("api.example:80", Some(Refusal::SchemeNotAllowed)),
    ] {
        assert_eq!(tunnel(&policy, authority).err(), expected, "{authority}");
    }
}

#[test]
fn an_empty_policy_denies_everything() {
    assert_eq!(tunnel(&Policy::default(), "allowed.example:443").err(), Some(Refusal::NotAllowed));
}

#[test]
fn method_and_path_are_judged_after_the_host() {
    let policy = sample();
    let at = HostPort::parse_authority("api.example:80", None).unwrap();
    let mut cases = vec![
        (Method::GET, "/simple/pkg/x", None),
        (Method::POST, "/simple/pkg/x", Some(Refusal::MethodNotAllowed)),
        (Method::GET, "/other", Some(Refusal::PathNotAllowed)),
        (Method::GET, "/SIMPLE/pkg", Some(Refusal::PathNotAllowed)),
    ];
    for (method, path, expected) in cases.drain(..) {
        let question = Question::request((Scheme::Http, &at), &method, path);
        assert_eq!(decide(&policy, &question).err(), expected, "{method} {path}");
    }
}

#[test]
fn a_route_is_its_own_allow_rule_but_the_deny_list_still_wins() {
    let policy = sample();
    let route = |authority: &str| {
        let at = HostPort::parse_authority(authority, None).unwrap();
        let question = Question::request((Scheme::Https, &at), &Method::GET, "/");
        decide_route(&policy, Purpose::Route("gh".into()), &question)
    };
    assert_eq!(&**route("api.gh.test:443").unwrap().rule(), "gh");
    assert_eq!(route("evil.cdn.example:443").err(), Some(Refusal::Denied));
}

#[test]
fn in_report_mode_everything_passes_and_says_what_would_have_been() {
    let mut policy = sample();
    policy.mode = Mode::Report;
    for (authority, expected) in [
        ("allowed.example:443", None),
        ("other.example:443", Some(Refusal::NotAllowed)),
        ("evil.cdn.example:443", Some(Refusal::Denied)),
        ("allowed.example:1", Some(Refusal::PortNotAllowed)),
    ] {
        assert_eq!(tunnel(&policy, authority).unwrap().would_deny(), expected, "{authority}");
    }
}

#[test]
fn a_deny_rule_for_some_requests_closes_what_hides_them() {
    let mut limited = deny("allowed.example", None);
    limited.1.terms.methods = Some(vec![Method::DELETE]);
    let mut below = deny("allowed.example", None);
    below.1.terms.paths = Some(PathGlobs::parse(vec!["/admin/**".into()]).unwrap());
    let policy = Policy::new(PolicyParts {
        allow: vec![allow("allowed.example", &[443])],
        deny: vec![limited, below],
        ..PolicyParts::default()
    });
    assert_eq!(tunnel(&policy, "allowed.example:443").err(), Some(Refusal::Denied));
    let at = HostPort::parse_authority("allowed.example:443", None).unwrap();
    for (method, path, expected) in [
        (Method::GET, "/x", None),
        (Method::DELETE, "/x", Some(Refusal::Denied)),
        (Method::GET, "/admin/x", Some(Refusal::Denied)),
        (Method::GET, "//admin/x", Some(Refusal::Denied)),
        (Method::GET, "/x/../admin/y", Some(Refusal::Denied)),
    ] {
        let question = Question::request((Scheme::Https, &at), &method, path);
        assert_eq!(decide(&policy, &question).err(), expected, "{method} {path}");
    }
}

#[test]
fn a_tunnel_beside_a_route_needs_a_rule_that_says_so() {
    let mut both = allow("both.example", &[443]);
    both.1.terms.tunnel.past_routes = PastRoutes::Allowed;
    let parts = || PolicyParts {
        allow: vec![
            allow("allowed.example", &[443]),
            both.clone(),
            allow("**.both.example", &[443]),
        ],
        deny: vec![deny("evil.example", None)],
        ..PolicyParts::default()
    };
    let policy = Policy::new(parts());
    let asked = |policy: &Policy, host: &str, routed: bool| {
        let at = HostPort::parse_authority(host, Some(443)).unwrap();
        decide(policy, &Question::tunnel(&at).beside_route(routed))
    };
    for (host, routed, expected) in [
        ("allowed.example", false, None),
        ("allowed.example", true, Some(Refusal::UseRoute)),
        ("unknown.example", true, Some(Refusal::UseRoute)),
        ("evil.example", true, Some(Refusal::Denied)),
        ("both.example", true, None),
        ("both.example:80", true, Some(Refusal::UseRoute)),
    ] {
        assert_eq!(asked(&policy, host, routed).err(), expected, "{host}");
    }
    let report = Policy::new(PolicyParts { mode: Mode::Report, ..parts() });
    let permit = asked(&report, "allowed.example", true).unwrap();
    assert_eq!(permit.would_deny(), Some(Refusal::UseRoute));
}
