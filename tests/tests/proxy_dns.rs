//! Lookups of a running proxy: after the decision, once for a connection, and kept as long as the
//! answer says.

use std::collections::BTreeMap;

use anyhow::Result;
use workspace_tests::{
    dns::{Answer, NameServer},
    proxy::{Proxy, Setup},
};

/// Asks for a tunnel to a host that has a private address, and so goes as far as the lookup.
fn look_up(proxy: &Proxy, host: &str) -> Result<()> {
    let mut connection = proxy.connect()?;
    connection
        .send(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").as_bytes())?;
    assert_eq!(connection.read_head()?.header("x-proxy-error"), Some("address_denied"), "{host}");
    Ok(())
}

#[test]
fn an_answer_is_kept_as_long_as_its_time_to_live_says() -> Result<()> {
    let dns = NameServer::start()?;
    let address = dns.address().to_string();
    // Both families: that there is none of one kind may not be kept without a record that says so.
    let addresses = ["10.0.0.1".parse()?, "fd00::1".parse()?];
    let inside = || Answer::Addresses(addresses.to_vec());
    for (host, ttl, more) in [("kept.test", 300, false), ("fleeting.test", 0, true)] {
        let proxy = Setup::new()?.args(&["--dns-server", &address, "--allow", host]).start()?;
        dns.script(BTreeMap::from([(host.to_owned(), inside())]), ttl);
        look_up(&proxy, host)?;
        let first = dns.asked().len();
        for _ in 0..5 {
            look_up(&proxy, host)?;
        }
        let all = dns.asked().len();
        assert_eq!(all > first, more, "{host}: {first} questions, then {all}");
        // Another spelling is the same name.
        look_up(&proxy, &format!("{}.", host.to_uppercase()))?;
        assert_eq!(dns.asked().len() > all, more, "{host}");
    }
    Ok(())
}
