//! The right to connect, as a value.
//!
//! Invariant: the fields are set in [`crate::policy`] alone, and the connector takes nothing else, so
//! that no code path can dial what was not decided.

use std::sync::Arc;

use crate::host::{HostPort, Scheme};
use crate::policy::ranges::RangeMap;
use crate::policy::rule::PrivateException;
use crate::policy::tunnel::TunnelTerms;
use crate::refusal::Refusal;

/// The right to connect to one destination for one request.
#[derive(Clone, Debug)]
pub struct Permit {
    pub(super) at: HostPort,
    pub(super) scheme: Scheme,
    pub(super) rule: Arc<str>,
    pub(super) purpose: Purpose,
    pub(super) judged_path: bool,
    pub(super) would_deny: Option<Refusal>,
    pub(super) tunnel: TunnelTerms,
    pub(super) guard: GuardTerms,
}

/// What the address guard is told besides its own classes.
#[derive(Clone, Debug, Default)]
pub struct GuardTerms {
    /// The exceptions for the host.
    pub exceptions: Vec<PrivateException>,
    /// Ranges refused whatever the exceptions say.
    pub extra_deny: Arc<RangeMap<()>>,
}

/// What a permit is for. Connections are never shared between purposes, so that nothing of a
/// credentialed route can meet a request without credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A tunnel.
    Tunnel,
    /// A forward request by the allow list.
    Forward,
    /// A request on the reverse route of that name.
    Route(Arc<str>),
    /// A signed request to AWS.
    Aws,
}

impl Permit {
    /// The destination.
    #[must_use]
    pub const fn at(&self) -> &HostPort {
        &self.at
    }

    /// The protocol to speak; in a tunnel, the one that is spoken.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The rule that allowed it.
    #[must_use]
    pub const fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Whether the rule looked at the path, which must then be unambiguous.
    #[must_use]
    pub const fn judged_path(&self) -> bool {
        self.judged_path
    }

    /// What it is for.
    #[must_use]
    pub const fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// The refusal that it would have been, were the policy not in report mode.
    #[must_use]
    pub const fn would_deny(&self) -> Option<Refusal> {
        self.would_deny
    }

    /// What is asked of the first words, where it is for a tunnel.
    #[must_use]
    pub const fn tunnel(&self) -> TunnelTerms {
        self.tunnel
    }

    /// What the address guard has to know about this host.
    #[must_use]
    pub const fn guard(&self) -> &GuardTerms {
        &self.guard
    }
}
