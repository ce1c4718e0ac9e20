//! The index against the patterns themselves.

use proptest::prelude::*;

use super::*;

fn index(patterns: &[&str]) -> HostIndex<usize> {
    let parse = |(at, text): (usize, &&str)| (text.parse().unwrap(), at);
    HostIndex::new(patterns.iter().enumerate().map(parse).collect())
}

#[test]
fn the_rules_of_a_name_come_in_the_order_of_writing_the_closest_name_first() {
    let patterns = [
        "**.example",
        "a.example",
        "*.a.example",
        "**.a.example",
        "a.example",
        "10.0.0.0/8",
        "10.0.0.1",
        "10.0.0.1/32",
    ];
    let index = index(&patterns);
    for (host, expected) in [
        ("a.example", &[1, 3, 4, 0][..]),
        ("b.a.example", &[2, 3, 0]),
        ("example", &[0]),
        ("xa.example", &[0]),
        ("10.0.0.1", &[6, 7, 5]),
        ("10.0.0.2", &[5]),
        ("other.test", &[]),
    ] {
        let host = Host::parse(host).unwrap();
        let found: Vec<usize> = index.matching(&host).map(|hit| *hit.rule).collect();
        assert_eq!(found, expected, "{host}");
        for hit in index.matching(&host) {
            let written: HostPattern = patterns[*hit.rule].parse().unwrap();
            assert_eq!(
                hit.pattern.parse::<HostPattern>().unwrap().to_string(),
                written.to_string()
            );
        }
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let name = proptest::collection::vec("[ab]", 1..4).prop_map(|labels| labels.join("."));
    let prefix = prop_oneof![Just(""), Just("*."), Just("**.")];
    prop_oneof![
        4 => (prefix, name).prop_map(|(prefix, name)| format!("{prefix}{name}")),
        1 => (0u8..4, 24u8..=32).prop_map(|(last, length)| format!("10.0.0.{last}/{length}")),
    ]
}

proptest! {
    #[test]
    fn what_is_found_is_what_matches(
        patterns in proptest::collection::vec(pattern(), 0..40),
        hosts in proptest::collection::vec("[ab](\\.[ab]){0,3}|10\\.0\\.0\\.[0-5]", 1..20),
    ) {
        let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let index = index(&texts);
        for host in hosts {
            let host = Host::parse(&host).unwrap();
            let mut found: Vec<usize> = index.matching(&host).map(|hit| *hit.rule).collect();
            found.sort_unstable();
            let matches = |text: &&str| text.parse::<HostPattern>().unwrap().matches(&host);
            let expected: Vec<usize> =
                (0..texts.len()).filter(|at| matches(&texts[*at])).collect();
            prop_assert_eq!(found, expected, "{}", host);
        }
    }

    #[test]
    fn what_covers_takes_in_every_host_of_the_other(patterns in proptest::collection::vec(pattern(), 1..20)) {
        let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let parsed: Vec<HostPattern> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let index = index(&texts);
        for (at, inner) in parsed.iter().enumerate() {
            let found: Vec<usize> = index.covering(inner).copied().collect();
            prop_assert!(found.contains(&at), "{} does not cover itself", inner);
            for outer in found {
                prop_assert!(samples(inner).iter().all(|host| parsed[outer].matches(host)),
                    "{} covers {}", parsed[outer], inner);
            }
        }
    }
}

/// Hosts that a pattern takes in.
fn samples(pattern: &HostPattern) -> Vec<Host> {
    let below = |base: &Host| Host::parse(&format!("x.{base}")).unwrap();
    match pattern {
        HostPattern::Exact(host) => vec![host.clone()],
        HostPattern::Below(base) => vec![below(base)],
        HostPattern::AtOrBelow(base) => vec![base.clone(), below(base)],
        HostPattern::Range(net) => vec![ends(*net).0.into(), ends(*net).1.into()],
    }
}

fn ends(net: IpNet) -> (IpAddr, IpAddr) {
    (net.network(), net.broadcast())
}
