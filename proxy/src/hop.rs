//! Headers that are about one connection and so end at the proxy (RFC 9110 section 7.6.1).
//!
//! Pure functions over header maps; used in both directions.

use http::header::{COOKIE, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use workspace_common::hop::{remove_false_length, remove_hop_by_hop};

use crate::refusal::{PROXY_STATUS, X_PROXY_ERROR};

/// Makes a client's request headers fit to be sent on. `Host` goes, too: the caller sets the one
/// that the destination is to see.
pub fn clean_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(HOST);
    // The proxy answers expectations itself, after the decision.
    headers.remove(EXPECT);
    join_cookies(headers);
}

/// Whether the transfer coding of an answer is none, or `chunked` once. Another one would be taken off
/// or left on depending on who reads it.
#[must_use]
pub fn is_plainly_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// Makes an origin's response headers fit to be sent back. An origin cannot speak for the proxy.
pub fn clean_response(headers: &mut HeaderMap) {
    remove_false_length(headers);
    remove_hop_by_hop(headers);
    headers.remove(X_PROXY_ERROR);
    headers.remove(PROXY_STATUS);
}

/// HTTP/2 splits cookies over several fields; HTTP/1.1 wants one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().count() < 2 {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(parse).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn nothing_about_the_clients_connection_is_sent_on() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "close, X-Private , authorization"),
            ("x-private", "1"),
            ("authorization", "mine"),
            ("keep-alive", "1"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        clean_request(&mut headers);
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn connection_cannot_nominate_what_the_message_needs() {
        let mut headers = map(&[
            ("connection", "content-length, x-amz-date, content-type"),
            ("content-length", "3"),
            ("x-amz-date", "x"),
            ("content-type", "x"),
        ]);
        clean_request(&mut headers);
        assert_eq!(names(&headers), ["content-length", "content-type", "x-amz-date"]);
    }

    #[test]
    fn cookies_become_one_field() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        clean_request(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn an_answer_has_one_plain_coding_or_none() {
        for (values, expected) in [
            (&[][..], true),
            (&["Chunked"], true),
            (&["gzip, chunked"], false),
            (&["xchunked"], false),
            (&["chunked", "chunked"], false),
        ] {
            let fields: Vec<_> = values.iter().map(|v| ("transfer-encoding", *v)).collect();
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, HeaderValue::from_static(value));
            }
            assert_eq!(is_plainly_coded(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn an_origin_cannot_fake_a_refusal_or_a_length() {
        let mut headers = map(&[
            ("x-proxy-error", "not_allowed"),
            ("proxy-status", "x"),
            ("proxy-authenticate", "Basic"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("connection", "foo"),
            ("foo", "1"),
            ("content-type", "text/plain"),
        ]);
        clean_response(&mut headers);
        assert_eq!(names(&headers), ["content-type"]);
    }
}
