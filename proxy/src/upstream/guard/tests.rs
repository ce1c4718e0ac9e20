//! The registries as a table, and what exceptions may and may not open.

use proptest::prelude::*;

use super::*;
use crate::policy::{GuardTerms, PrivateException};

fn class(text: &str) -> AddressClass {
    classify(text.parse().unwrap())
}

#[test]
fn addresses_have_the_class_of_their_range() {
    use AddressClass as C;
    for (text, expected) in [
        ("93.184.216.34", C::Public),
        ("100.63.255.255", C::Public),
        ("172.32.0.1", C::Public),
        ("2606:2800:220:1::1", C::Public),
        ("64:ff9b::5db8:d822", C::Public),
        ("127.0.0.1", C::Loopback),
        ("127.255.255.254", C::Loopback),
        ("::1", C::Loopback),
        ("10.1.2.3", C::Private),
        ("172.16.0.1", C::Private),
        ("172.31.255.255", C::Private),
        ("192.168.1.1", C::Private),
        ("fc00::1", C::Private),
        ("fdab::1", C::Private),
        ("::ffff:10.0.0.1", C::Private),
        ("64:ff9b::a00:1", C::Private),
        ("100.64.0.1", C::Shared),
        ("203.0.113.10", C::Test),
        ("198.18.0.1", C::Test),
        ("2001:db8::1", C::Test),
        ("3fff::1", C::Test),
        ("169.254.1.1", C::LinkLocal),
        ("fe80::1", C::LinkLocal),
        ("169.254.169.254", C::Metadata),
        ("169.254.170.2", C::Metadata),
        ("169.254.170.23", C::Metadata),
        ("168.63.129.16", C::Metadata),
        ("100.100.100.200", C::Metadata),
        ("192.0.0.192", C::Metadata),
        ("fd00:ec2::254", C::Metadata),
        ("fd00:ec2::23", C::Metadata),
        ("fd20:ce::254", C::Metadata),
        ("fd00:c1::a9fe:a9fe", C::Metadata),
        ("2001:470:64::a9fe:a9fe", C::Metadata),
        ("224.0.0.1", C::Multicast),
        ("255.255.255.255", C::Multicast),
        ("ff02::1", C::Multicast),
        ("0.0.0.0", C::Reserved),
        ("0.1.2.3", C::Reserved),
        ("240.0.0.1", C::Reserved),
        ("192.88.99.1", C::Reserved),
        ("::", C::Reserved),
        ("::7f00:1", C::Reserved),
        ("100::1", C::Reserved),
        ("fec0::1", C::Reserved),
        ("2001::1", C::Reserved),
        ("2002:5db8:d822::1", C::Reserved),
        ("2606:2800::5efe:5db8:d822", C::Reserved),
    ] {
        assert_eq!(class(text), expected, "{text}");
    }
}

#[test]
fn the_metadata_address_is_found_in_every_ipv6_form() {
    for text in [
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:0:a9:fea9:fe00:0",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:1:1::5601:5601",
        "fd00::5efe:a9fe:a9fe",
        "2606:2800::200:5efe:a9fe:a9fe",
    ] {
        assert_eq!(class(text), AddressClass::Metadata, "{text}");
    }
}

fn any_exception() -> GuardTerms {
    excepting(&[("0.0.0.0/0", None), ("::/0", None)])
}

fn excepting(ranges: &[(&str, Option<u16>)]) -> GuardTerms {
    let exception = |(cidr, port): &(&str, Option<u16>)| {
        PrivateException::for_tests(cidr.parse().unwrap(), *port)
    };
    GuardTerms { exceptions: ranges.iter().map(exception).collect(), ..GuardTerms::default() }
}

fn denying(mut terms: GuardTerms, range: &str) -> GuardTerms {
    terms.extra_deny = std::sync::Arc::new([(range.parse().unwrap(), ())].into_iter().collect());
    terms
}

fn judge(ip: &str, port: u16, terms: &GuardTerms) -> Result<CheckedAddr, Refusal> {
    check(ip.parse().unwrap(), port, terms, &Cluster::default())
}

#[test]
fn an_exception_opens_private_addresses_but_never_metadata() {
    let all = any_exception();
    for text in ["127.0.0.1", "10.0.0.1", "fd12::1", "::1", "100.64.0.1"] {
        assert!(judge(text, 80, &GuardTerms::default()).is_err(), "{text}");
        assert!(judge(text, 80, &all).is_ok(), "{text}");
    }
    for text in ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "64:ff9b::a9fe:a9fe"] {
        assert!(judge(text, 80, &all).is_err(), "{text}");
    }
}

#[test]
fn an_exception_is_for_its_ports_and_range_only() {
    let some = excepting(&[("10.20.0.0/16", Some(443))]);
    let verdict = |ip: &str, port| judge(ip, port, &some).is_ok();
    assert!(verdict("10.20.1.1", 443));
    assert!(!verdict("10.20.1.1", 80));
    assert!(!verdict("10.21.1.1", 443));
}

#[test]
fn cluster_ports_stay_closed_and_extra_ranges_are_denied() {
    let all = any_exception();
    for port in CLUSTER_PORTS {
        assert_eq!(judge("10.100.0.1", port, &all), Err(Refusal::PortDenied));
    }
    let refused = Err(Refusal::AddressDenied(AddressClass::Private));
    assert_eq!(judge("10.100.0.1", 443, &denying(all, "10.100.0.0/16")), refused);
}

#[test]
fn the_api_server_that_the_environment_names_stays_closed() {
    let cluster = Cluster { api_server: Some("10.96.0.1".parse().unwrap()), api_port: Some(8443) };
    let verdict = |ip: &str, port| check(ip.parse().unwrap(), port, &any_exception(), &cluster);
    assert_eq!(verdict("10.96.0.1", 80), Err(Refusal::AddressDenied(AddressClass::Private)));
    assert_eq!(verdict("10.96.0.2", 8443), Err(Refusal::PortDenied));
    assert!(verdict("10.96.0.2", 80).is_ok());
    assert!(verdict("93.184.216.34", 8443).is_ok());
}

#[test]
fn a_mapped_address_is_dialled_in_its_plain_form() {
    let checked = judge("::ffff:93.184.216.34", 443, &GuardTerms::default()).unwrap();
    assert_eq!(checked.socket().to_string(), "93.184.216.34:443");
}

proptest! {
    #[test]
    fn no_embedding_of_a_link_local_address_is_dialled(a in any::<u8>(), b in any::<u8>(), prefix in 0usize..4) {
        let v4 = Ipv4Addr::new(169, 254, a, b);
        let [.., high, low] = v4.to_ipv6_mapped().segments();
        let ip = match prefix {
            0 => v4.to_ipv6_mapped(),
            1 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            2 => Ipv6Addr::new(0x2002, high, low, 1, 0, 0, 0, 1),
            _ => Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        };
        prop_assert!(judge(&ip.to_string(), 443, &any_exception()).is_err());
    }
}

#[test]
fn a_denied_ipv4_range_is_denied_behind_nat64_too() {
    let denied = denying(GuardTerms::default(), "93.184.216.0/24");
    for (ip, open) in [
        ("93.184.216.34", false),
        ("::ffff:93.184.216.34", false),
        ("64:ff9b::93.184.216.34", false),
        ("64:ff9b::93.184.217.34", true),
    ] {
        assert_eq!(judge(ip, 443, &denied).is_ok(), open, "{ip}");
    }
}
