//! The `real_base_url` of a rule: where a reverse route leads.
//!
//! Invariant: joining a client's path to a base can neither change the host nor leave the base path.

use std::fmt;

use http::uri::PathAndQuery;
use thiserror::Error;

use super::path;
use crate::host::{AuthorityError, HostPort, Scheme, SchemeError};
use crate::refusal::Refusal;

/// Longest URL accepted.
const MAX_URL: usize = 2048;

/// Whether rules may lead to origins without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only `https` URLs are taken.
    #[default]
    Refused,
    /// `http` URLs are taken as well, because the operator said so.
    Allowed,
}

/// A parsed base URL. `Debug` shows the origin only: paths of webhooks are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// How to speak to the origin.
    pub scheme: Scheme,
    /// The origin.
    pub host_port: HostPort,
    path: String,
}

/// Why a text is no base URL. Never shows the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BaseUrlError {
    /// Over 2048 bytes.
    #[error("is longer than {MAX_URL} bytes")]
    TooLong,
    /// No `scheme://`.
    #[error("must be an absolute URL such as https://api.example.com/v1")]
    NotAbsolute,
    /// Neither http nor https.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// Plain http is not switched on.
    #[error("must be https: plain http is refused unless the operator allows it for rules")]
    PlainHttp,
    /// The authority does not parse.
    #[error("has a bad host or port: {0}")]
    Authority(#[from] AuthorityError),
    /// A query or fragment.
    #[error("must not have a query or fragment")]
    QueryOrFragment,
    /// Characters that URLs cannot have, or a path with two readings.
    #[error("has a path with a dot segment, encoded separator or forbidden character")]
    Path,
}

impl BaseUrlError {
    /// The stable code for error documents.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::TooLong
            | Self::NotAbsolute
            | Self::Scheme(_)
            | Self::Authority(_)
            | Self::QueryOrFragment
            | Self::Path => "bad_base_url",
        }
    }
}

impl BaseUrl {
    /// Parses a URL of scheme, host, optional port and optional path.
    ///
    /// # Errors
    /// Says which part is at fault.
    pub fn parse(text: &str, plain_http: PlainHttp) -> Result<Self, BaseUrlError> {
        if text.len() > MAX_URL {
            return Err(BaseUrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::NotAbsolute)?;
        let scheme: Scheme = scheme.parse()?;
        if scheme == Scheme::Http && plain_http == PlainHttp::Refused {
            return Err(BaseUrlError::PlainHttp);
        }
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::QueryOrFragment);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host_port = HostPort::parse_authority(authority, Some(scheme.default_port()))?;
        check_path(path)?;
        Ok(Self { scheme, host_port, path: path.to_owned() })
    }

    /// The path and query to send for what a client asked below the route: `rest` is the path after
    /// `/mcp/{server}`, empty or beginning with a slash, and is appended as it is.
    ///
    /// # Errors
    /// [`Refusal::BadPath`] where the path has two readings.
    pub fn join(&self, rest: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
        path::check(rest).map_err(|_ambiguous| Refusal::BadPath)?;
        let separate = !rest.is_empty() && !rest.starts_with('/');
        let base = if rest.is_empty() { &self.path } else { self.path.trim_end_matches('/') };
        let slash = if separate || (base.is_empty() && rest.is_empty()) { "/" } else { "" };
        let joined = match query {
            Some(query) => format!("{base}{slash}{rest}?{query}"),
            None => format!("{base}{slash}{rest}"),
        };
        PathAndQuery::try_from(joined).map_err(|_invalid| Refusal::BadPath)
    }

    /// Scheme, host and port, which may be shown.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.host_port.authority(self.scheme))
    }
}

fn check_path(text: &str) -> Result<(), BaseUrlError> {
    if text.is_empty() {
        return Ok(());
    }
    path::check(text).map_err(|_ambiguous| BaseUrlError::Path)?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    let parsed = PathAndQuery::try_from(text).map_err(|_invalid| BaseUrlError::Path)?;
    // A double slash at the start could be taken for an authority after joining.
    if visible && parsed.path() == text && !text.starts_with("//") {
        Ok(())
    } else {
        Err(BaseUrlError::Path)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        BaseUrl::parse(text, PlainHttp::Refused).unwrap()
    }

    #[test]
    fn paths_join_with_exactly_one_slash_and_never_leave_the_base() {
        let rows = [
            ("https://api.gh.test/v1", "", None, "/v1"),
            ("https://api.gh.test/v1", "/", None, "/v1/"),
            ("https://api.gh.test/v1", "", Some("x=1"), "/v1?x=1"),
            ("https://api.gh.test/v1", "/a", Some("x=1"), "/v1/a?x=1"),
            ("https://api.gh.test/v1/", "/a", None, "/v1/a"),
            ("https://api.gh.test/v1/", "", None, "/v1/"),
            ("https://api.gh.test", "", None, "/"),
            ("https://api.gh.test", "/", None, "/"),
            ("https://api.gh.test/", "/a", None, "/a"),
            ("https://api.gh.test", "/a//b", None, "/a//b"),
            ("https://api.gh.test/v1", "/http://evil.test/", None, "/v1/http://evil.test/"),
            ("https://api.gh.test", ".evil.test/", None, "/.evil.test/"),
            ("https://api.gh.test/v1", "@evil.test", None, "/v1/@evil.test"),
        ];
        for (url, rest, query, expected) in rows {
            assert_eq!(base(url).join(rest, query).unwrap().as_str(), expected, "{url} {rest}");
        }
        for rest in ["/../other", "/%2e%2e/x", "/..%2f", "/./", "/x%00", "/a\\b"] {
            assert_eq!(base("https://api.gh.test/v1").join(rest, None), Err(Refusal::BadPath));
        }
    }

    #[test]
    fn hosts_are_canonical_and_the_port_is_known() {
        let base = base("HTTPS://API.GH.test.:8443/v1");
        assert_eq!(base.origin(), "https://api.gh.test:8443");
        assert_eq!(base.host_port.port, 8443);
        assert!(!format!("{base:?}").contains("v1"));
    }

    #[test]
    fn urls_that_are_more_or_less_than_a_base_are_refused() {
        let long = format!("https://a.test/{}", "x".repeat(MAX_URL));
        let rows = [
            ("api.gh.test", BaseUrlError::NotAbsolute),
            ("ftp://a.test", BaseUrlError::Scheme(SchemeError)),
            ("http://a.test", BaseUrlError::PlainHttp),
            ("https://a.test:8443/v1?key=1", BaseUrlError::QueryOrFragment),
            ("https://a.test/#x", BaseUrlError::QueryOrFragment),
            ("https://u:p@a.test/", BaseUrlError::Authority(AuthorityError::Userinfo)),
            ("https://a.test:0/", BaseUrlError::Authority(AuthorityError::BadPort)),
            ("https://a.test/a/../b", BaseUrlError::Path),
            ("https://a.test/%2e%2e/b", BaseUrlError::Path),
            ("https://a.test/a b", BaseUrlError::Path),
            ("https://a.test//x", BaseUrlError::Path),
            ("https://a.test/a\r\nb", BaseUrlError::Path),
            (long.as_str(), BaseUrlError::TooLong),
        ];
        for (url, error) in rows {
            assert_eq!(BaseUrl::parse(url, PlainHttp::Refused), Err(error), "{url}");
        }
        for url in
            ["https://", "https:///x", "https://a b/", "https://0x7f.1/", "https://a.test\\@b/"]
        {
            let error = BaseUrl::parse(url, PlainHttp::Refused).unwrap_err();
            assert!(matches!(error, BaseUrlError::Authority(_)), "{url}");
        }
        assert!(BaseUrl::parse("http://a.test", PlainHttp::Allowed).is_ok());
    }
}
