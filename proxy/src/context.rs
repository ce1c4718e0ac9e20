//! What every request needs, made once at start and shared.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use workspace_common::drain::Drain;

use crate::audit::Sinks;
use crate::classify::Routes;
use crate::host::HostPort;
use crate::limits::Limits;
use crate::limits::rate::HostRate;
use crate::policy::Permit;
use crate::policy::live::LivePolicy;
use crate::refusal::Refusal;
use crate::reverse::BedrockRoute;
use crate::rules::RuleStore;
use crate::upstream::exchange::Exchanger;

/// The shared state of the proxy.
#[derive(Debug)]
pub struct Context {
    /// Who may be reached.
    pub policy: LivePolicy,
    /// Which reverse routes exist.
    pub routes: Routes,
    /// The way out.
    pub exchanger: Exchanger,
    /// The rules of reverse routes.
    pub rules: RuleStore,
    /// The Bedrock route, where AWS is configured.
    pub bedrock: Option<BedrockRoute>,
    /// Where records and counts go.
    pub sinks: Arc<Sinks>,
    /// What is bounded.
    pub limits: Limits,
    /// How often each host may be asked, where that is limited.
    pub host_rate: Option<HostRate>,
    /// One permit for each tunnel that may be open.
    pub tunnels: Arc<Semaphore>,
    /// The stop of the process.
    pub drain: Drain,
}

impl Context {
    /// The path of the reverse route that leads to a destination and adds its credential.
    #[must_use]
    pub fn route_to(&self, at: &HostPort) -> Option<String> {
        let rules = self.rules.snapshot();
        let rule = rules.leading_to(at, SystemTime::now()).map(|name| format!("/mcp/{name}"));
        let signs = || self.bedrock.as_ref().is_some_and(|route| route.leads_to(at));
        rule.or_else(|| signs().then(|| "/bedrock".to_owned()))
    }

    /// A place among the tunnels.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] when there is none, [`Refusal::Draining`] when the process stops.
    pub fn tunnel_slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.drain.is_draining() {
            return Err(Refusal::Draining);
        }
        Arc::clone(&self.tunnels).try_acquire_owned().map_err(|_none_left| Refusal::Overloaded)
    }

    /// Counts a request that is permitted against the rate of its host.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] when there have been too many.
    pub fn admit(&self, permit: &Permit) -> Result<(), Refusal> {
        let admitted =
            self.host_rate.as_ref().map(|rate| rate.admit(&permit.at().host, Instant::now()));
        // Nobody has to wait for more than a second, which is what the answer says.
        admitted.unwrap_or(Ok(())).map_err(|_wait| Refusal::RateLimited)
    }
}
