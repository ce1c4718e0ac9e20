//! What every request needs, made once at start and shared.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use workspace_common::drain::Drain;

use crate::audit::Sinks;
use crate::classify::Routes;
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
    pub sinks: Sinks,
    /// Limits of single requests.
    pub limits: Limits,
    /// One permit for each tunnel that may be open.
    pub tunnels: Arc<Semaphore>,
    /// The stop of the process.
    pub drain: Drain,
}

/// Limits of single requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a tunnel or a response may be silent.
    pub idle_timeout: Duration,
    /// How long the first words in a tunnel may take.
    pub hello_timeout: Duration,
    /// How long a request head may take.
    pub header_timeout: Duration,
}

impl Context {
    /// A place among the tunnels.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] when there is none, [`Refusal::Draining`] when the process stops.
    pub fn tunnel_slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.drain.is_draining() {
            return Err(Refusal::Draining);
        }
        Arc::clone(&self.tunnels).try_acquire_owned().map_err(|_none_left| {
            self.sinks.metrics.limit_hits.with_label_values(&["tunnels"]).inc();
            Refusal::Overloaded
        })
    }
}
