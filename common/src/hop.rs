//! Headers that are about one connection and so end at whoever passes a message on (RFC 9110
//! sections 7.6.1 and 7.8). Pure functions over header maps.

use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body;

/// Whether a header is removed even where `Connection` does not nominate it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Headers that a `Connection` header cannot take out of a message: removing them would change what
/// the message means or break its signature.
fn is_essential(name: &str) -> bool {
    matches!(
        name,
        "host" | "content-length" | "content-type" | "content-encoding" | "cache-control"
    ) || name.starts_with("x-amz-")
}

/// Removes what is about the connection, and what `Connection` says is.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them, and those that do have few.
    let always: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    if always.is_empty() {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| !is_essential(name.as_str()))
        .collect();
    for name in always.iter().chain(&nominated) {
        headers.remove(name);
    }
}

/// Makes a length that contradicts the framing go: with both, it is a lie about the decoded body.
pub fn remove_false_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Says how the body of a request is framed: hyper sends none with GET unless told so, and one of
/// unknown length goes out in chunks whatever the method.
pub fn frame<B: Body>(headers: &mut HeaderMap, body: &B) {
    if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Whether the one protocol offered in `Upgrade` is this one.
pub fn offers_only(headers: &HeaderMap, protocol: &str) -> bool {
    let mut offered = headers.get_all(UPGRADE).iter();
    let first = offered.next().and_then(|value| value.to_str().ok());
    first.is_some_and(|value| value.eq_ignore_ascii_case(protocol)) && offered.next().is_none()
}

/// Whether `Connection` says that `Upgrade` is meant for the receiver.
pub fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_goes_but_for_what_the_message_needs() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private , authorization"),
            ("connection", "content-length, x-amz-date"),
            ("x-private", "1"),
            ("authorization", "mine"),
            ("content-length", "3"),
            ("x-amz-date", "x"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "x-amz-date"]);
    }

    #[test]
    fn only_one_offer_counts() {
        for (values, expected) in [
            (&["WebSocket"][..], true),
            (&["h2c"], false),
            (&["websocket, h2c"], false),
            (&["websocket", "h2c"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(UPGRADE, HeaderValue::from_static(value));
            }
            assert_eq!(offers_only(&headers, "websocket"), expected, "{values:?}");
        }
    }
}
