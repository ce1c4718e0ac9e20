//! Address ranges, found by hashing.
//!
//! A look-up costs one hash for each prefix length that occurs (at most 33 for IPv4 and 129 for
//! IPv6), however many ranges there are.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

/// A value for each of some address ranges.
#[derive(Clone, Debug)]
pub struct RangeMap<T> {
    values: HashMap<IpNet, T>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), lengths_v4: BTreeSet::new(), lengths_v6: BTreeSet::new() }
    }
}

impl<T> RangeMap<T> {
    /// Sets the value of a range, and gives back the one that it had.
    pub fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        let lengths = match net {
            IpNet::V4(_) => &mut self.lengths_v4,
            IpNet::V6(_) => &mut self.lengths_v6,
        };
        lengths.insert(net.prefix_len());
        self.values.insert(net.trunc(), value)
    }

    /// The values of all ranges that hold the address, the narrowest range first.
    pub fn containing(&self, ip: IpAddr) -> impl Iterator<Item = &T> {
        self.covering(IpNet::from(ip))
    }

    /// The values of all ranges that hold the whole range, itself included.
    pub fn covering(&self, net: IpNet) -> impl Iterator<Item = &T> {
        let lengths = match net {
            IpNet::V4(_) => &self.lengths_v4,
            IpNet::V6(_) => &self.lengths_v6,
        };
        let wider = lengths.range(..=net.prefix_len()).rev();
        let nets = wider.filter_map(move |length| IpNet::new(net.addr(), *length).ok());
        nets.filter_map(|net| self.values.get(&net.trunc()))
    }
}

impl<T> FromIterator<(IpNet, T)> for RangeMap<T> {
    fn from_iter<I: IntoIterator<Item = (IpNet, T)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (net, value) in entries {
            // Of two values for a range the later one counts.
            map.insert(net, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_around_an_address_is_found_the_narrowest_first() {
        let ranges =
            ["10.0.0.0/8", "10.20.0.0/16", "10.20.0.7/32", "0.0.0.0/0", "fd00::/8", "::/0"];
        let map: RangeMap<&str> =
            ranges.iter().map(|text| (text.parse().unwrap(), *text)).collect();
        for (ip, expected) in [
            ("10.20.0.7", &["10.20.0.7/32", "10.20.0.0/16", "10.0.0.0/8", "0.0.0.0/0"][..]),
            ("10.21.0.1", &["10.0.0.0/8", "0.0.0.0/0"]),
            ("192.0.2.1", &["0.0.0.0/0"]),
            ("fd12::1", &["fd00::/8", "::/0"]),
            ("2001:db8::1", &["::/0"]),
        ] {
            let found: Vec<&str> = map.containing(ip.parse().unwrap()).copied().collect();
            assert_eq!(found, expected, "{ip}");
        }
        let around: Vec<&str> = map.covering("10.20.0.0/16".parse().unwrap()).copied().collect();
        assert_eq!(around, ["10.20.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]);
    }
}
