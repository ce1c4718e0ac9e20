//! Tables of spellings, good and bad.

use proptest::prelude::*;

use super::*;

#[test]
fn names_become_lower_case_without_a_trailing_dot() {
    for (text, expected) in [
        ("allowed.example", "allowed.example"),
        ("ALLOWED.Example.", "allowed.example"),
        ("localhost", "localhost"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("1e100.net", "1e100.net"),
        ("203.0.113.10", "203.0.113.10"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(Host::parse(text).unwrap().to_string(), expected, "{text}");
    }
}

#[test]
fn what_is_no_host_name_is_refused() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = format!("{}example", "a.".repeat(124));
    for (text, expected) in [
        ("", HostError::Empty),
        (".", HostError::BadLabel),
        ("..", HostError::BadLabel),
        ("allowed.example..", HostError::BadLabel),
        (".cdn.example", HostError::BadLabel),
        ("-.cdn.example", HostError::BadLabel),
        ("a-.example", HostError::BadLabel),
        (&long_label, HostError::BadLabel),
        (&long_name, HostError::TooLong),
        ("a b.example", HostError::BadCharacter),
        ("a\0.example", HostError::BadCharacter),
        ("a%00.example", HostError::BadCharacter),
        ("a%2eexample", HostError::BadCharacter),
        ("a\\b.example", HostError::BadCharacter),
        ("a\u{3002}example", HostError::BadCharacter),
        ("b\u{fc}cher.test", HostError::BadCharacter),
        ("*.example.com", HostError::BadCharacter),
        ("::1", HostError::BadCharacter),
        ("fe80::1%eth0", HostError::BadCharacter),
        ("xn--999999999.example", HostError::BadALabel),
        ("xn--.example", HostError::BadLabel),
        ("xn--a.example", HostError::BadALabel),
        ("[allowed.example]", HostError::BadIpv6),
        ("[::ffff:allowed.example]", HostError::BadIpv6),
        ("[fe80::1%25eth0]", HostError::BadIpv6),
        ("[::1%lo]", HostError::BadIpv6),
        ("[::1", HostError::BadIpv6),
        ("[127.0.0.1]", HostError::BadIpv6),
    ] {
        assert_eq!(Host::parse(text), Err(expected), "{text}");
    }
}

#[test]
fn numbers_that_a_resolver_would_read_as_an_address_are_refused() {
    for text in [
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "0X7F000001",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0x",
        "00000127.1",
        "127.0.0.0x1",
        "127.0.0.1.",
        "256.1",
        "256.256.256.256",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.08",
        "allowed.example.1",
    ] {
        assert_eq!(Host::parse(text), Err(HostError::Numeric), "{text}");
    }
}

#[test]
fn an_authority_needs_a_plain_port() {
    for (text, expected) in [
        ("allowed.example", AuthorityError::MissingPort),
        ("allowed.example:", AuthorityError::BadPort),
        ("allowed.example:0", AuthorityError::BadPort),
        ("allowed.example:080", AuthorityError::BadPort),
        ("allowed.example:+80", AuthorityError::BadPort),
        ("allowed.example:-80", AuthorityError::BadPort),
        ("allowed.example:65536", AuthorityError::BadPort),
        ("allowed.example:443443", AuthorityError::BadPort),
        ("allowed.example:4 3", AuthorityError::BadPort),
        ("allowed.example:\u{661}", AuthorityError::BadPort),
        (":443", AuthorityError::Host(HostError::Empty)),
        ("u:p@allowed.example:443", AuthorityError::Userinfo),
        ("a.test:443@169.254.169.254:80", AuthorityError::Userinfo),
        ("::1:443", AuthorityError::Host(HostError::BadCharacter)),
        ("[::1]443", AuthorityError::Host(HostError::BadIpv6)),
        ("http://a.test:443", AuthorityError::Host(HostError::BadCharacter)),
        ("/x", AuthorityError::MissingPort),
        ("*", AuthorityError::MissingPort),
    ] {
        assert_eq!(HostPort::parse_authority(text, None), Err(expected), "{text}");
    }
}

#[test]
fn an_authority_shows_its_port_only_where_it_is_not_the_default() {
    let at = HostPort::parse_authority("[::1]:8443", None).unwrap();
    assert_eq!(at.to_string(), "[::1]:8443");
    let plain = HostPort::parse_authority("Plain.Test", Some(443)).unwrap();
    assert_eq!(plain.authority(Scheme::Https), "plain.test");
    assert_eq!(plain.authority(Scheme::Http), "plain.test:443");
}

proptest! {
    #[test]
    fn the_canonical_form_parses_to_itself(text in "\\PC{0,40}") {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
        }
    }

    #[test]
    fn every_authority_is_parsed_or_refused(text in "[a-z0-9.:@\\[\\]%/-]{0,30}") {
        if let Ok(at) = HostPort::parse_authority(&text, Some(443)) {
            prop_assert_eq!(HostPort::parse_authority(&at.to_string(), None), Ok(at));
        }
    }
}
