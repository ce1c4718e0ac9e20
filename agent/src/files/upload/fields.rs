//! The header fields of resumable uploads, as draft-ietf-httpbis-resumable-upload names them. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use workspace_common::problem::Problem;

/// Whether a request brings the last of the content.
pub static COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
/// How much of the content there is.
pub static OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How much of it there will be.
pub static LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// What the agent takes.
pub static LIMIT: HeaderName = HeaderName::from_static("upload-limit");
/// The media type of a part.
pub const PARTIAL_UPLOAD: &str = "application/partial-upload";

/// What a request says about the upload that it is a part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadFields {
    /// `Upload-Complete`.
    pub complete: Option<bool>,
    /// `Upload-Offset`, in bytes.
    pub offset: Option<u64>,
    /// `Upload-Length`, in bytes.
    pub length: Option<u64>,
}

impl UploadFields {
    /// Reads them.
    ///
    /// # Errors
    /// `bad_upload_field` when one has no value that it can have.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            complete: field(headers, &COMPLETE, boolean, "?0 or ?1")?,
            offset: field(headers, &OFFSET, integer, "a number of bytes")?,
            length: field(headers, &LENGTH, integer, "a number of bytes")?,
        })
    }
}

/// A boolean of RFC 9651.
pub fn boolean_value(value: bool) -> HeaderValue {
    HeaderValue::from_static(if value { "?1" } else { "?0" })
}

fn field<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&str) -> Option<T>,
    expected: &str,
) -> Result<Option<T>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let item = text.split(';').next().unwrap_or_default().trim();
    match parse(item) {
        Some(parsed) if values.next().is_none() => Ok(Some(parsed)),
        _ => {
            let text = super::super::path::printable(text.as_bytes());
            let detail = format!("{name} is '{text}', which is not {expected}, once");
            Err(Problem::bad_request("bad_upload_field", detail))
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "?1" => Some(true),
        "?0" => Some(false),
        _ => None,
    }
}

/// An integer of RFC 9651, which has fifteen digits at most, and not a negative one.
fn integer(text: &str) -> Option<u64> {
    let digits = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn fields_are_read_or_refused_by_name() {
        let all = [("upload-complete", "?0"), ("upload-offset", "7"), ("upload-length", "9;a=1")];
        let expected = UploadFields { complete: Some(false), offset: Some(7), length: Some(9) };
        assert_eq!(UploadFields::parse(&headers(&all)), Ok(expected));
        assert_eq!(UploadFields::parse(&HeaderMap::new()), Ok(UploadFields::default()));
        for (name, value) in [
            ("upload-complete", "1"),
            ("upload-complete", "true"),
            ("upload-offset", "-1"),
            ("upload-offset", "+1"),
            ("upload-offset", "1.0"),
            ("upload-length", ""),
            ("upload-length", "1000000000000000"),
        ] {
            let refused = UploadFields::parse(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(refused.code, "bad_upload_field");
            assert!(refused.detail.starts_with(name), "{}", refused.detail);
        }
        let twice = [("upload-offset", "1"), ("upload-offset", "1")];
        assert!(UploadFields::parse(&headers(&twice)).is_err());
    }

    proptest! {
        #[test]
        fn any_value_is_read_or_refused(value in "[ -~]{0,30}") {
            let _either = UploadFields::parse(&headers(&[("upload-offset", &value)]));
        }
    }
}
