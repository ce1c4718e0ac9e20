//! What a rule asks of what is said in a tunnel.

use crate::host::HostPort;
use crate::policy::{Policy, Question, decide};

/// What is asked of the first words in a tunnel. The default is the strict one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelTerms {
    /// Whether they are looked at.
    pub content: Content,
    /// Which server names a TLS handshake may have.
    pub names: ServerNames,
    /// What becomes of an encrypted client hello.
    pub ech: Ech,
    /// Whether it may lead to where a reverse route leads.
    pub past_routes: PastRoutes,
}

/// Whether a tunnel may lead to a destination for which a reverse route holds the credential. A tunnel
/// there goes without it, or with one that the workspace brought along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PastRoutes {
    /// The route has to be used.
    #[default]
    Refused,
    /// The operator wants both.
    Allowed,
}

/// Whether what is said in a tunnel is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// HTTP on port 80, TLS on every other one.
    #[default]
    Checked,
    /// Anything passes: databases, SSH, protocols in which the server speaks first.
    Anything,
}

/// Which server names pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerNames {
    /// The host of the tunnel. To an address: none.
    #[default]
    Strict,
    /// The same, or none.
    Optional,
    /// Every host that a tunnel on this port is allowed to.
    AnyAllowed,
    /// Every name, or none.
    Any,
}

/// What becomes of a client hello that has an encrypted one inside, whose server name nobody but the
/// server can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ech {
    /// It passes, and is written down.
    #[default]
    Audit,
    /// It is refused.
    Deny,
}

/// Whether a tunnel to there would be allowed.
#[must_use]
pub fn is_allowed(policy: &Policy, at: &HostPort) -> bool {
    decide(policy, &Question::tunnel(at)).is_ok()
}
