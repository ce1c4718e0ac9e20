//! The `Host` of a request to the management plane.
//!
//! A page whose name resolves to this listener would send that name (DNS rebinding); it cannot make a
//! browser send an address. So addresses and `localhost` pass, names only when the operator gave them.

use http::Request;
use http::header::HOST;
use workspace_common::problem::Problem;

use crate::host::{Host, HostPort};

/// Names by which the management plane may be called, besides addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct OwnNames(Vec<Host>);

impl OwnNames {
    /// These names.
    #[must_use]
    pub const fn new(names: Vec<Host>) -> Self {
        Self(names)
    }

    /// Refuses what calls this listener by another name, or by two.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let mut headers = request.headers().get_all(HOST).iter();
        let header = headers.next();
        if headers.next().is_some() {
            return Err(bad("there are two Host headers"));
        }
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let header = header.map(|value| value.to_str().map_err(|_binary| bad("Host is not text")));
        for named in authority.map(Ok).into_iter().chain(header) {
            self.check_name(named?)?;
        }
        Ok(())
    }

    fn check_name(&self, text: &str) -> Result<(), Problem> {
        let at = HostPort::parse_authority(text, Some(80))
            .map_err(|error| bad(&format!("Host is malformed: {error}")))?;
        let known = at.host.is_ip() || at.host.name() == Some("localhost");
        if known || self.0.contains(&at.host) {
            return Ok(());
        }
        let detail =
            "the management API answers to addresses, localhost and the names of --admin-host";
        Err(Problem::new(http::StatusCode::FORBIDDEN, "unknown_host", detail))
    }
}

fn bad(detail: &str) -> Problem {
    Problem::bad_request("bad_host", detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_pass() {
        let names = OwnNames::new(vec!["proxy.ns.svc".parse().unwrap()]);
        for (hosts, passes) in [
            (&[][..], true),
            (&["127.0.0.1:9090"], true),
            (&["10.1.2.3:9090"], true),
            (&["[::1]"], true),
            (&["localhost:9090"], true),
            (&["Proxy.ns.svc.:9090"], true),
            (&["evil.test"], false),
            (&["localhost.evil.test"], false),
            (&["127.1"], false),
            (&[""], false),
            (&["u@127.0.0.1"], false),
            (&["127.0.0.1", "127.0.0.1"], false),
        ] {
            let mut request = Request::builder();
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(names.check(&request).is_ok(), passes, "{hosts:?}");
        }
    }
}
