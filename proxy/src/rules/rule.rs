//! One reverse route: where it leads, with which headers, and what may be asked through it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use http::header::HeaderName;

use super::base_url::BaseUrl;
use super::lease::{Lease, Terms};
use super::path::{self, PathGlobs};
use crate::credential::HeaderInjection;
use crate::refusal::Refusal;

/// Whether values of injected headers are hidden when the upstream sends them back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redaction {
    /// Answers pass unchanged.
    None,
    /// Occurrences in headers of answers are overwritten.
    #[default]
    Headers,
}

impl Redaction {
    /// The word in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Headers => "headers",
        }
    }
}

/// What may be asked through a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The methods, or all but CONNECT and TRACE.
    pub methods: Option<Vec<Method>>,
    /// The paths after the route's prefix, or all.
    pub paths: Option<PathGlobs>,
}

/// A rule in force. `Debug` shows no header value and no path of the base URL.
#[derive(Clone, Debug)]
pub struct McpRule {
    /// The name of the server, as in `/mcp/{name}`.
    pub name: String,
    /// Where it really is.
    pub base: BaseUrl,
    /// The headers to set on its requests.
    pub headers: HeaderInjection,
    /// What may be asked.
    pub grant: Grant,
    /// Headers of the client to remove, beyond the usual credentials.
    pub strip: Vec<HeaderName>,
    /// Largest request body, in bytes.
    pub max_request_bytes: Option<u64>,
    /// Time without a byte in either direction after which a stream is given up.
    pub idle_timeout: Option<Duration>,
    /// What is hidden in answers.
    pub redaction: Redaction,
    terms: Terms,
    lease: Arc<Lease>,
}

/// The parts of a rule that say where it leads.
#[derive(Debug)]
pub struct Route {
    /// The name of the server.
    pub name: String,
    /// Where it really is.
    pub base: BaseUrl,
    /// The headers to set.
    pub headers: HeaderInjection,
}

impl McpRule {
    /// A rule that allows everything on its route until `terms` end it.
    #[must_use]
    pub fn new(route: Route, terms: Terms) -> Self {
        Self {
            name: route.name,
            base: route.base,
            headers: route.headers,
            grant: Grant::default(),
            strip: Vec::new(),
            max_request_bytes: None,
            idle_timeout: None,
            redaction: Redaction::default(),
            terms,
            lease: Arc::new(Lease::new(terms)),
        }
    }

    /// Whether the rule allows `method` on `path`, the path after `/mcp/{name}`.
    ///
    /// # Errors
    /// The method or the path is not allowed, or the path has two readings.
    pub fn permits(&self, method: &Method, path: &str) -> Result<(), Refusal> {
        path::check(path).map_err(|_ambiguous| Refusal::BadPath)?;
        let method_allowed = match &self.grant.methods {
            Some(methods) => methods.contains(method),
            None => !matches!(*method, Method::CONNECT | Method::TRACE),
        };
        if !method_allowed {
            return Err(Refusal::MethodNotAllowed);
        }
        let path = if path.is_empty() { "/" } else { path };
        if self.grant.paths.as_ref().is_some_and(|globs| !globs.matches(path)) {
            return Err(Refusal::PathNotAllowed);
        }
        Ok(())
    }

    /// Whether the rule is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.terms.expires.is_some_and(|end| now >= end)
    }

    /// Until when the rule is in force, and what its end means for streams.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Resolves when streams through this rule are to be cut: it was removed, replaced by one that
    /// leads elsewhere or allows something else, or it expired. Safe to cancel.
    pub async fn revoked(&self) {
        self.lease.ended().await;
    }

    /// Takes over the streams of the rule it replaces, where it leads to the same place with the same
    /// grant. Otherwise those streams end.
    #[must_use]
    pub(super) fn succeeding(mut self, former: Option<&Self>) -> Self {
        let Some(former) = former else { return self };
        if former.base == self.base && former.grant == self.grant {
            former.lease.renew(self.terms);
            self.lease = Arc::clone(&former.lease);
        } else {
            former.lease.withdraw();
        }
        self
    }

    /// Ends the streams of a rule that is gone.
    pub(super) fn withdraw(&self) {
        self.lease.withdraw();
    }
}
