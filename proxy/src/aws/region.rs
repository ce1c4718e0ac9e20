//! AWS regions, signing names and partitions. Pure text rules, no list of regions that would age.
//!
//! Invariant: a [`Region`] or [`Service`] holds nothing but lower-case letters, digits and hyphens,
//! so it can stand in a host name and in a credential scope without quoting.

use std::fmt;

use thiserror::Error;

/// Longest region or signing name accepted; the longest in use today have half of that.
const MAX_NAME: usize = 64;

/// A region such as `us-east-1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region(String);

/// The name a service has in a `SigV4` credential scope, such as `bedrock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service(String);

/// Why a text is no region or service name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no AWS name: use lower-case letters, digits and hyphens, at most 64 of them")]
pub struct NameError {
    text: String,
}

impl Region {
    /// Reads a region name.
    ///
    /// # Errors
    /// The text holds something that no region name has.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        parse_name(text).map(Self)
    }

    /// The name as AWS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS suffix of service endpoints in the region's partition (AWS endpoint rules,
    /// `dnsSuffix` of each partition).
    #[must_use]
    pub fn dns_suffix(&self) -> &'static str {
        self.partition().0
    }

    /// The suffix of endpoints that answer on IPv6 as well (`dualStackDnsSuffix`).
    #[must_use]
    pub fn dual_stack_suffix(&self) -> &'static str {
        self.partition().1
    }

    /// Whether the region is one of AWS GovCloud, where plain endpoints are the FIPS ones.
    #[must_use]
    pub fn is_gov_cloud(&self) -> bool {
        self.0.starts_with("us-gov-")
    }

    fn partition(&self) -> (&'static str, &'static str) {
        const PARTITIONS: [(&str, &str, &str); 6] = [
            ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
            ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
            ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
            ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
            ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
            ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
        ];
        PARTITIONS
            .iter()
            .find(|(prefix, ..)| self.0.starts_with(prefix))
            .map_or(("amazonaws.com", "api.aws"), |(_, dns, dual)| (dns, dual))
    }
}

impl Service {
    /// Reads a signing name.
    ///
    /// # Errors
    /// The text holds something that no signing name has.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        parse_name(text).map(Self)
    }

    /// The signing name of every Bedrock endpoint, runtime and control plane alike.
    #[must_use]
    pub fn bedrock() -> Self {
        Self("bedrock".to_owned())
    }

    /// The name as it stands in a credential scope.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the service is of the S3 family, which signs the decoded path once and never
    /// normalises it (`disableDoubleEncoding` in the SDKs' endpoint rules).
    #[must_use]
    pub fn is_s3_family(&self) -> bool {
        matches!(self.0.as_str(), "s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_name(text: &str) -> Result<String, NameError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let shaped = (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if shaped {
        return Ok(text.to_owned());
    }
    Err(NameError { text: text.chars().take(MAX_NAME).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_the_prefix_of_the_region() {
        let rows = [
            ("us-east-1", "amazonaws.com", "api.aws"),
            ("us-gov-west-1", "amazonaws.com", "api.aws"),
            ("cn-north-1", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu", "api.amazonwebservices.eu"),
            ("us-iso-east-1", "c2s.ic.gov", "api.aws.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov", "api.aws.scloud"),
        ];
        for (region, dns, dual) in rows {
            let region = Region::parse(region).unwrap();
            assert_eq!(region.dns_suffix(), dns, "{region}");
            assert_eq!(region.dual_stack_suffix(), dual, "{region}");
        }
    }

    #[test]
    fn names_that_could_change_a_host_or_a_scope_are_refused() {
        for text in ["", "US-EAST-1", "us-east-1.evil.test", "a/b", "us east", "-a", "a-", "a\r\n"]
        {
            assert!(Region::parse(text).is_err(), "{text:?}");
            assert!(Service::parse(text).is_err(), "{text:?}");
        }
        assert!(Region::parse(&"a".repeat(65)).is_err());
    }
}
