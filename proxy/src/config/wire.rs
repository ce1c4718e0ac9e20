//! The policy file as it is written: YAML or JSON, version 1, unknown keys refused.

pub mod tunnel;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::config::wire::tunnel::{EchWire, SniWire, TlsWire};
use crate::host::Scheme;
use crate::limits::LimitArgs;
use crate::policy::{Access, Mode};
use crate::upstream::via::Names;

/// The whole file. An empty file is an empty policy, which denies everything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyWire {
    /// Version of the format: 1.
    pub version: u32,
    /// Who may be reached.
    #[serde(default)]
    pub egress: EgressWire,
    /// Names with fixed addresses, as in a hosts file; no name server is asked about them. The
    /// address guard judges these addresses like any other.
    #[serde(default)]
    pub hosts: BTreeMap<String, Spanned<Vec<String>>>,
    /// URL of the proxy that everything leaves through.
    pub upstream_proxy: Option<String>,
    /// Hosts and ranges that are connected to directly all the same.
    #[serde(default)]
    pub upstream_proxy_bypass: Vec<Spanned<String>>,
    /// Who looks names up when there is one.
    pub upstream_proxy_names: Option<Names>,
    /// The Bedrock route. It exists where this section does, or a flag asks for it; credentials in the
    /// environment alone open nothing.
    pub bedrock: Option<BedrockWire>,
    /// Bounds on what rules documents may ask for.
    #[serde(default)]
    pub rules: RulesWire,
    /// Limits and times, where no flag says otherwise.
    #[serde(default)]
    pub limits: LimitArgs,
}

impl Default for PolicyWire {
    fn default() -> Self {
        Self {
            version: 1,
            egress: EgressWire::default(),
            hosts: BTreeMap::new(),
            upstream_proxy: None,
            upstream_proxy_bypass: Vec::new(),
            upstream_proxy_names: None,
            bedrock: None,
            rules: RulesWire::default(),
            limits: LimitArgs::default(),
        }
    }
}

/// Destinations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressWire {
    /// Whether denials count.
    pub mode: ModeWire,
    /// What becomes of encrypted client hellos.
    pub ech: EchWire,
    /// What may be reached.
    pub allow: Vec<Spanned<AllowWire>>,
    /// What may not, whatever `allow` says.
    pub deny: Vec<Spanned<DenyWire>>,
    /// Internal addresses that named hosts may have.
    pub private_exceptions: Vec<Spanned<ExceptionWire>>,
    /// Address ranges refused whatever else is said: service, pod and node ranges of a cluster.
    pub extra_deny_cidrs: Vec<Spanned<String>>,
}

/// Whether the lists are enforced.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ModeWire {
    /// What they do not allow is refused.
    #[default]
    Enforce,
    /// It passes, and is written down.
    Report,
}

impl ModeWire {
    /// The domain type.
    #[must_use]
    pub const fn mode(self) -> Mode {
        match self {
            Self::Enforce => Mode::Enforce,
            Self::Report => Mode::Report,
        }
    }
}

/// One allow rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowWire {
    /// `example.com`, `*.example.com` (below it), `**.example.com` (both), an address or a range.
    pub host: String,
    /// Ports; 443 when absent, 80 where `schemes` is `[http]` alone.
    pub ports: Option<Vec<u16>>,
    /// Ways of access; all when absent.
    pub schemes: Option<Vec<SchemeWire>>,
    /// Methods in capitals; all when absent. Excludes tunnels.
    pub methods: Option<Vec<String>>,
    /// Globs over the path: `*` within a segment, `**` across; all when absent. Excludes tunnels.
    pub paths: Option<Vec<String>>,
    /// Whether a tunnel must carry TLS (HTTP on port 80).
    pub tls: Option<TlsWire>,
    /// Which server names its TLS handshake may have.
    pub sni: Option<SniWire>,
    /// Whether tunnels are allowed although a reverse route with a credential leads there.
    pub tunnel: Option<bool>,
}

/// A way of access.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SchemeWire {
    /// Plain HTTP, absolute-form.
    Http,
    /// `https://` in absolute-form: the proxy makes the TLS connection.
    Https,
    /// CONNECT.
    Tunnel,
}

impl SchemeWire {
    /// The domain type.
    #[must_use]
    pub const fn access(self) -> Access {
        match self {
            Self::Http => Access::Forward(Scheme::Http),
            Self::Https => Access::Forward(Scheme::Https),
            Self::Tunnel => Access::Tunnel,
        }
    }
}

/// One deny rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenyWire {
    /// As in an allow rule, and as broad as wanted.
    pub host: String,
    /// Ports; all when absent.
    pub ports: Option<Vec<u16>>,
    /// Ways of access; all when absent.
    pub schemes: Option<Vec<SchemeWire>>,
    /// Methods in capitals; all when absent. Closes tunnels as well, which hide the method.
    pub methods: Option<Vec<String>>,
    /// Globs over the path; all when absent. Closes tunnels as well, which hide the path.
    pub paths: Option<Vec<String>>,
}

/// One exception to the address guard.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionWire {
    /// The host that may resolve there. The exception allows no host by itself.
    pub host: String,
    /// The range it may resolve into. Metadata and link-local addresses stay denied.
    pub cidr: String,
    /// Ports; all when absent.
    pub ports: Option<Vec<u16>>,
}

/// The Bedrock route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BedrockWire {
    /// AWS region, such as `us-east-1`, unless the environment names it.
    pub region: Option<String>,
    /// Whether any path that is no other route is a Bedrock path, as the predecessor had it.
    pub catchall: Option<bool>,
    /// Base URL to use in place of the region's own: a VPC endpoint, or a test.
    pub endpoint: Option<String>,
}

/// Bounds on rules documents.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesWire {
    /// Whether a rule's base URL may be `http://`.
    pub allow_plain_http: bool,
}
