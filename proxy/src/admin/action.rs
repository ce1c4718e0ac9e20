//! What can be asked of the management plane: a closed list.

use http::Method;

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `/healthz`: the process answers.
    Alive,
    /// `/readyz`: the proxy can do its work.
    Ready,
    /// `/metrics`.
    Metrics,
    /// `/policy`: what is in force.
    Policy,
    /// `/explain`: what it decides.
    Explain,
    /// `/rules`.
    Rules(RulesAction),
}

/// What to do about the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RulesAction {
    Show,
    Replace,
    Clear,
}

/// Why a request asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAction {
    /// The path is none.
    Path,
    /// The path is one, the method is not.
    Method {
        /// What the path answers, for `Allow`.
        allow: &'static str,
    },
}

impl Action {
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, NoAction> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let read_only =
            |action| if reads { Ok(action) } else { Err(NoAction::Method { allow: READ }) };
        match path {
            "/healthz" => read_only(Self::Alive),
            "/readyz" => read_only(Self::Ready),
            "/metrics" => read_only(Self::Metrics),
            "/policy" => read_only(Self::Policy),
            "/explain" if *method == Method::POST => Ok(Self::Explain),
            "/explain" => Err(NoAction::Method { allow: "POST" }),
            "/rules" => match *method {
                Method::GET | Method::HEAD => Ok(Self::Rules(RulesAction::Show)),
                Method::PUT => Ok(Self::Rules(RulesAction::Replace)),
                Method::DELETE => Ok(Self::Rules(RulesAction::Clear)),
                _ => Err(NoAction::Method { allow: RULES }),
            },
            _ => Err(NoAction::Path),
        }
    }
}

const READ: &str = "GET, HEAD";
const RULES: &str = "GET, HEAD, PUT, DELETE";
