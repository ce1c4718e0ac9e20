//! What the policy file says about tunnels.

use serde::Deserialize;

use crate::policy::tunnel::{Content, Ech, ServerNames};

/// `tls` of an allow rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TlsWire {
    /// TLS, or HTTP on port 80.
    #[default]
    Required,
    /// Anything.
    None,
}

impl TlsWire {
    /// The domain type.
    #[must_use]
    pub const fn content(self) -> Content {
        match self {
            Self::Required => Content::Checked,
            Self::None => Content::Anything,
        }
    }
}

/// `sni` of an allow rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SniWire {
    /// The host of the tunnel.
    #[default]
    Strict,
    /// The same, or none.
    Optional,
    /// Every host that a tunnel on this port is allowed to.
    AnyAllowed,
    /// Every name, or none.
    Any,
}

impl SniWire {
    /// The domain type.
    #[must_use]
    pub const fn names(self) -> ServerNames {
        match self {
            Self::Strict => ServerNames::Strict,
            Self::Optional => ServerNames::Optional,
            Self::AnyAllowed => ServerNames::AnyAllowed,
            Self::Any => ServerNames::Any,
        }
    }
}

/// `egress.ech`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum EchWire {
    /// Encrypted client hellos are written down.
    #[default]
    Audit,
    /// They are refused.
    Deny,
}

impl EchWire {
    /// The domain type.
    #[must_use]
    pub const fn ech(self) -> Ech {
        match self {
            Self::Audit => Ech::Audit,
            Self::Deny => Ech::Deny,
        }
    }
}
