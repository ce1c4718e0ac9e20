//! Credentials on requests: the client's are removed, the route's are put in.
//!
//! Pure editing of headers. Whether a request may have a credential is decided elsewhere; signatures
//! for AWS are made in [`crate::aws`].
//!
//! Invariant: a header of a route replaces every copy and every spelling that the client sent, and
//! its value is marked sensitive from then on.

mod injection;

use http::HeaderMap;
use http::header::{self, HeaderName};

pub use self::injection::{BadHeader, HeaderInjection};

/// Headers by which clients present credentials. They are meant for the proxy at most, never for an
/// upstream that gets the route's credential.
pub const CLIENT_CREDENTIALS: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-goog-iam-authorization-token"),
];

/// Removes the client's credential headers and those named in `extra`, in every spelling: letter case
/// is no difference in HTTP, and `_` is none to the many servers that read `X_Api_Key` as
/// `X-Api-Key`.
pub fn strip_client_credentials(headers: &mut HeaderMap, extra: &[HeaderName]) {
    remove_where(headers, |name| {
        CLIENT_CREDENTIALS.iter().chain(extra).any(|listed| same_header(listed, name))
    });
}

/// Whether two header names are the same to a server that takes `_` for `-`. [`HeaderName`] is in
/// lower case already.
fn same_header(one: &HeaderName, other: &HeaderName) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let (one, other) = (one.as_str().bytes().map(fold), other.as_str().bytes().map(fold));
    one.eq(other)
}

fn remove_where(headers: &mut HeaderMap, listed: impl Fn(&HeaderName) -> bool) {
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| listed(name)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn clients_credentials_go_in_every_spelling_and_number() {
        let mut headers = HeaderMap::new();
        let gone = ["AUTHORIZATION", "Cookie", "x_api_key", "API_KEY", "x-Amz_Security-Token"];
        for name in gone {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name.clone(), HeaderValue::from_static("one"));
            headers.append(name, HeaderValue::from_static("two"));
        }
        headers.insert("x-tenant", HeaderValue::from_static("gone"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        strip_client_credentials(&mut headers, &[HeaderName::from_static("x-tenant")]);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }
}
