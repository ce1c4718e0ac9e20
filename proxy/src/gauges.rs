//! Metrics of what is held: rules and AWS credentials. They are read when somebody scrapes, so there is
//! nothing to keep up to date.

use std::time::SystemTime;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, Gauge, IntCounter, IntGauge, Registry};
use tokio::runtime::Handle;

use crate::aws::Aws;
use crate::rules::RuleStore;

const RULES: (&str, &str) = ("ws_proxy_rules", "Rules in force, expired ones excluded");
const REVISION: (&str, &str) = ("ws_proxy_rules_revision", "Changes of the rules since the start");
const EXPIRING: (&str, &str) =
    ("ws_proxy_rules_expiring_seconds", "Seconds until the next rule expires; absent without one");
const AWS_EXPIRY: (&str, &str) = (
    "ws_proxy_aws_credentials_expiry_seconds",
    "Seconds until the AWS credentials expire; absent where they do not",
);
const AWS_READY: (&str, &str) =
    ("ws_proxy_aws_credentials_ready", "Whether requests can be signed for AWS, 1 or 0");
const AWS_FAILURES: (&str, &str) =
    ("ws_proxy_aws_refresh_failures_total", "Attempts to get AWS credentials that failed");

const TASKS: (&str, &str) = ("ws_proxy_tasks", "Tasks that run or wait inside the proxy");

/// All metrics of this module with their help texts, those included that are absent at times.
pub const HELD: [(&str, &str); 7] =
    [TASKS, RULES, REVISION, EXPIRING, AWS_EXPIRY, AWS_READY, AWS_FAILURES];

/// Registers the metrics of `rules` and, where there is one, of `aws`.
///
/// # Errors
/// A name is taken already.
pub fn register(registry: &Registry, rules: RuleStore, aws: Option<Aws>) -> Result<(), Error> {
    let descriptions = HELD
        .into_iter()
        .map(|(name, help)| Desc::new(name.into(), help.into(), Vec::new(), [].into()))
        .collect::<Result<_, _>>()?;
    registry.register(Box::new(Held { rules, aws, descriptions }))
}

struct Held {
    rules: RuleStore,
    aws: Option<Aws>,
    descriptions: Vec<Desc>,
}

impl Collector for Held {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = SystemTime::now();
        let mut families = rules(&self.rules, now);
        families.extend(tasks());
        if let Some(held) = &self.aws {
            families.extend(aws(held, now));
        }
        // A family that cannot be made is left out: a scrape has nobody to tell.
        families.into_iter().filter_map(Result::ok).flatten().collect()
    }
}

type Family = Result<Vec<MetricFamily>, Error>;

/// A number that only grows is a leak. Scrapes are answered inside the runtime.
fn tasks() -> Option<Family> {
    let runtime = Handle::try_current().ok()?;
    Some(whole(TASKS, u64::try_from(runtime.metrics().num_alive_tasks()).unwrap_or(u64::MAX)))
}

fn rules(store: &RuleStore, now: SystemTime) -> Vec<Family> {
    let set = store.snapshot();
    let in_force = || set.rules().filter(|rule| !rule.is_expired(now));
    let mut families = vec![
        whole(RULES, u64::try_from(in_force().count()).unwrap_or(u64::MAX)),
        whole(REVISION, set.revision().number()),
    ];
    if let Some(end) = in_force().filter_map(|rule| rule.terms().expires).min() {
        families.push(seconds(EXPIRING, end, now));
    }
    families
}

fn aws(aws: &Aws, now: SystemTime) -> Vec<Family> {
    let held = aws.credentials();
    let mut families = vec![
        whole(AWS_READY, u64::from(held.is_ready(now))),
        counted(AWS_FAILURES, held.failures()),
    ];
    if let Some(end) = held.expires() {
        families.push(seconds(AWS_EXPIRY, end, now));
    }
    families
}

fn whole((name, help): (&str, &str), value: u64) -> Family {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    Ok(gauge.collect())
}

fn counted((name, help): (&str, &str), value: u64) -> Family {
    let counter = IntCounter::new(name, help)?;
    counter.inc_by(value);
    Ok(counter.collect())
}

/// Seconds from `now` to `end`, negative when it is over.
fn seconds((name, help): (&str, &str), end: SystemTime, now: SystemTime) -> Family {
    let gauge = Gauge::new(name, help)?;
    gauge.set(match end.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    });
    Ok(gauge.collect())
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::aws::environment;
    use crate::aws::sts::fake::transport;
    use crate::rules::{RuleLimits, document};

    #[test]
    fn credentials_are_told_without_anything_of_them() {
        let value = |name: &str| match name {
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("HELD".to_owned()),
            _ => None,
        };
        let config = environment::read(value).unwrap().unwrap();
        let aws = Aws::start(config, transport(), 1, &workspace_common::drain::channel().1);
        let registry = Registry::new();
        let store = RuleStore::new(RuleLimits::default());
        register(&registry, store.clone(), Some(aws)).unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("ws_proxy_aws_credentials_ready 1\n"), "{text}");
        assert!(text.contains("ws_proxy_aws_refresh_failures_total 0\n"), "{text}");
        assert!(!text.contains("expiry_seconds") && !text.contains("HELD"), "{text}");
        assert!(register(&registry, store, None).is_err(), "names are taken");
    }

    #[test]
    fn rules_are_counted_and_their_next_end_is_told() {
        let store = RuleStore::new(RuleLimits::default());
        let registry = Registry::new();
        register(&registry, store.clone(), None).unwrap();
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text().contains("ws_proxy_rules_revision 0\n"));
        assert!(!text().contains("expiring"));
        let body = br#"{"version": 1, "mcp_servers": {
            "old": {"real_base_url": "https://a.test", "expires_at": "2001-01-01T00:00:00Z"},
            "new": {"real_base_url": "https://a.test", "expires_at": "2999-01-01T00:00:00Z"}}}"#;
        let document = document::parse(body, store.limits(), SystemTime::now()).unwrap();
        store.replace(document, None).unwrap();
        let text = text();
        assert!(text.contains("ws_proxy_rules 1\n"), "{text}");
        assert!(text.contains("ws_proxy_rules_revision 1\n"), "{text}");
        assert!(text.contains("\nws_proxy_rules_expiring_seconds "), "{text}");
        assert!(!text.contains("ws_proxy_aws"), "{text}");
    }
}
