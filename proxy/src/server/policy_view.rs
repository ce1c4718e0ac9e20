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
            report
        })
    }
}

impl InForce {
    /// The class of the first address that would be dialled.
    async fn judged(&self, permit: &Permit) -> Result<&'static str, Refusal> {
        let addresses = self.0.exchanger.connector().addresses(permit).await?;
        addresses.first().map(|address| address.class().as_str()).ok_or(Refusal::DnsError)
    }
}

fn add(report: &mut Value, judged: Result<&'static str, Refusal>) {
    let Some(members) = report.as_object_mut() else { return };
    members.remove("note");
    match judged {
        Ok(class) => drop(members.insert("address_class".to_owned(), class.into())),
        Err(refusal) => {
            members.insert("decision".to_owned(), "deny".into());
            members.insert("code".to_owned(), refusal.code().into());
            members.insert("detail".to_owned(), refusal.detail().into());
        }
    }
}
