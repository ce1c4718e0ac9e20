//! What the management plane shows of the policy.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::admin::PolicyView;
use crate::context::Context;
use crate::explain::Asked;
use crate::policy::Permit;
use crate::refusal::Refusal;

/// The policy in force of a running proxy.
#[derive(Debug)]
pub struct InForce(pub Arc<Context>);

impl PolicyView for InForce {
    fn summary(&self) -> Value {
        let policy = self.0.policy.current();
        json!({
            "mode": policy.mode().as_str(),
            "allow_rules": policy.allow_count(),
            "deny_rules": policy.deny_count(),
            "revision": self.0.policy.revision(),
        })
    }

    fn explain(
        &self,
        asked: Asked,
        resolve: bool,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + '_>> {
        Box::pin(async move {
            let policy = self.0.policy.current();
            let asked = asked.beside_routes(|at| self.0.route_to(at).is_some());
            let verdict = asked.decide(&policy);
            let mut report = asked.report(&policy, &verdict);
            if let (true, Ok(permit)) = (resolve, &verdict) {
                add(&mut report, self.judged(permit).await);
            }
            if let Ok(permit) = &verdict {
                self.name_way_out(&mut report, permit);
            }
            report
        })
    }
}

impl InForce {
    /// The class of the first address that would be dialled; nothing where the upstream proxy looks
    /// the name up.
    async fn judged(&self, permit: &Permit) -> Result<Option<&'static str>, Refusal> {
        let connector = self.0.exchanger.connector();
        let host = &permit.at().host;
        if connector.via(host).is_some_and(|via| connector.leaves_lookup_to(&via, host)) {
            return Ok(None);
        }
        let addresses = connector.addresses(permit).await?;
        let first = addresses.first().ok_or(Refusal::DnsError)?;
        Ok(Some(first.class().as_str()))
    }

    /// The upstream proxy that a connection would lead through.
    fn name_way_out(&self, report: &mut Value, permit: &Permit) {
        let via = self.0.exchanger.connector().via(&permit.at().host);
        if let (Some(members), Some(via)) = (report.as_object_mut(), via) {
            members.insert("via".to_owned(), via.at().to_string().into());
        }
    }
}

fn add(report: &mut Value, judged: Result<Option<&'static str>, Refusal>) {
    let Some(members) = report.as_object_mut() else { return };
    members.remove("note");
    match judged {
        Ok(Some(class)) => drop(members.insert("address_class".to_owned(), class.into())),
        Ok(None) => {}
        Err(refusal) => {
            members.insert("decision".to_owned(), "deny".into());
            members.insert("code".to_owned(), refusal.code().into());
            members.insert("detail".to_owned(), refusal.detail().into());
        }
    }
}
