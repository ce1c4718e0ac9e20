//! The kinds of requests, by the words of audit lines and metrics.

use serde::Serialize;

/// What a request asks of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It could not be told.
    #[default]
    Unknown,
    /// A tunnel.
    Connect,
    /// A request to forward.
    Forward,
    /// The reverse route of a rule.
    Route,
    /// The Bedrock route.
    Aws,
}

impl Mode {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Connect => "connect",
            Self::Forward => "forward",
            Self::Route => "route",
            Self::Aws => "aws",
        }
    }
}
