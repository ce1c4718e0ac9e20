//! `check-policy` and `explain`: what the policy says, and which rule of it, without a socket or a
//! lookup.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use http::request::Parts;
use http::{HeaderValue, Method, Request, header};
use serde_json::{Value, json};
use thiserror::Error;

use crate::classify::{Routes, Target, classify};
use crate::cli::ExplainArgs;
use crate::config::{ConfigError, Settings, Sources};
use crate::host::HostPort;
use crate::policy::{self, Permit, Policy, Question};
use crate::refusal::Refusal;

/// Exit code for a request that would be refused. 1 is for errors.
pub(crate) const DENIED: u8 = 3;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The policy cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was asked is no request.
    #[error(transparent)]
    Question(#[from] QuestionError),
    /// The standard output is closed.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

/// Why something is no request.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuestionError {
    /// The method is none.
    #[error("'{0}' is not a method")]
    Method(String),
    /// The URL is none.
    #[error("'{0}' is not a URL, and not HOST:PORT either")]
    Url(String),
}

/// Reads a policy file and prints what it holds.
///
/// # Errors
/// Names what is wrong with the file.
pub fn check_policy(file: &Path) -> Result<ExitCode, ExplainError> {
    let sources = Sources { file: Some(file.to_owned()), ..Sources::default() };
    let settings = Settings::load(&sources)?;
    let warnings: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    print(&json!({
        "status": "ok",
        "mode": settings.policy.mode().as_str(),
        "allow_rules": settings.policy.allow_count(),
        "deny_rules": settings.policy.deny_count(),
        "warnings": warnings,
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the decision about one request.
///
/// # Errors
/// When the policy, the method or the URL is malformed. A denial is an answer, not an error.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode, ExplainError> {
    let settings = Settings::load(&Sources::from(&args.policy))?;
    let asked = Asked::parse(&args.method, &args.url)?;
    let verdict = asked.decide(&settings.policy);
    print(&asked.report(&settings.policy, &verdict))?;
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
}

/// A request to be explained.
#[derive(Debug)]
pub struct Asked {
    head: Parts,
    routed: bool,
}

impl Asked {
    /// From a method and a URL, or `HOST:PORT` for CONNECT.
    ///
    /// # Errors
    /// Which of the two is malformed.
    pub fn parse(method: &str, url: &str) -> Result<Self, QuestionError> {
        let bad_url = || QuestionError::Url(url.to_owned());
        let name = Method::from_bytes(method.as_bytes())
            .map_err(|_ignored| QuestionError::Method(method.to_owned()))?;
        let request = Request::builder().method(name).uri(url).body(());
        let mut request = request.map_err(|_ignored| bad_url())?;
        let authority = request.uri().authority().ok_or_else(bad_url)?;
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_ignored| bad_url())?;
        request.headers_mut().insert(header::HOST, host);
        Ok(Self { head: request.into_parts().0, routed: false })
    }

    /// The same, of a proxy that knows to which destinations its reverse routes lead.
    #[must_use]
    pub fn beside_routes(mut self, leads_to: impl Fn(&HostPort) -> bool) -> Self {
        self.routed = matches!(self.target(), Ok(Target::Connect(at)) if leads_to(&at));
        self
    }

    /// What the policy decides.
    ///
    /// # Errors
    /// The refusal that the request would get.
    pub fn decide(&self, policy: &Policy) -> Result<Permit, Refusal> {
        let target = self.target()?;
        policy::decide(policy, &self.question(&target)?)
    }

    /// The decision with the rule behind it.
    #[must_use]
    pub fn report(&self, policy: &Policy, verdict: &Result<Permit, Refusal>) -> Value {
        let mut report = match verdict {
            Ok(permit) => json!({
                "decision": "allow",
                "rule": **permit.rule(),
                "note": "the addresses of the host are judged when it is connected to",
            }),
            Err(refusal) => json!({
                "decision": "deny",
                "code": refusal.code(),
                "detail": refusal.detail(),
            }),
        };
        let would = verdict.as_ref().ok().and_then(Permit::would_deny);
        for (key, value) in [
            ("at", self.place(policy).map(Value::from)),
            ("would_deny", would.map(|refusal| refusal.code().into())),
        ] {
            if let (Some(members), Some(value)) = (report.as_object_mut(), value) {
                members.insert(key.to_owned(), value);
            }
        }
        report
    }

    /// Where the rule stands that decides.
    fn place(&self, policy: &Policy) -> Option<String> {
        let target = self.target().ok()?;
        let question = self.question(&target).ok()?;
        policy::deciding_place(policy, &question).map(|place| place.to_string())
    }

    fn target(&self) -> Result<Target, Refusal> {
        classify(&self.head, Routes::default())
    }

    fn question<'a>(&'a self, target: &'a Target) -> Result<Question<'a>, Refusal> {
        match target {
            Target::Connect(at) => Ok(Question::tunnel(at).beside_route(self.routed)),
            Target::Forward(forward) => {
                let to = (forward.scheme, &forward.at);
                Ok(Question::request(to, &self.head.method, forward.path()))
            }
            Target::Mcp(_) | Target::Bedrock(_) => Err(Refusal::UnknownRoute),
        }
    }
}

fn print(answer: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{answer}")
}

/// Reports what ends the program.
pub fn complain(error: &dyn Display) {
    // With the standard error output closed there is nobody left to tell.
    let _told: io::Result<()> = writeln!(io::stderr(), "workspace-proxy: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_rule_and_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let yaml = "version: 1\negress:\n  allow:\n  - host: '*.a.example'\n  deny:\n  \
                    - host: evil.a.example\n";
        std::fs::write(file.path(), yaml).unwrap();
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        let policy = Settings::load(&sources).unwrap().policy;
        for (url, decision, place) in [
            ("b.a.example:443", "allow", ":4: egress.allow[0]"),
            ("evil.a.example:443", "deny", ":6: egress.deny[0]"),
        ] {
            let asked = Asked::parse("CONNECT", url).unwrap();
            let report = asked.report(&policy, &asked.decide(&policy));
            assert_eq!(report["decision"], decision, "{report}");
            assert!(report["at"].as_str().unwrap().ends_with(place), "{report}");
        }
        let asked = Asked::parse("GET", "http://other.example/").unwrap();
        let report = asked.report(&policy, &asked.decide(&policy));
        assert_eq!((&report["code"], &report["at"]), (&"not_allowed".into(), &Value::Null));
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        assert_eq!(Asked::parse("G T", "a:1").err(), Some(QuestionError::Method("G T".into())));
        for url in ["", "/path", "http://", "a b"] {
            assert_eq!(Asked::parse("GET", url).err(), Some(QuestionError::Url(url.into())));
        }
    }
}
