//! Reading what STS answers. Pure: bytes and a status in, credentials or a typed error out.
//!
//! It reads just the elements it needs, by local name and whatever their order and namespace, from a
//! body that the caller has already bounded. Values never reach an error.

use std::time::SystemTime;

use http::StatusCode;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::aws::credentials::{BadCredentials, Credentials};
use crate::aws::schedule::Retry;

/// Elements nested deeper than this are no answer of STS.
const MAX_DEPTH: usize = 16;

/// Why STS gave no credentials.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    /// The web identity token is over its time; a newer one may be in the file already.
    #[error("STS says that the web identity token has expired")]
    ExpiredToken,
    /// STS refused. The code is one of the API's error codes, the text of the message is dropped.
    #[error("STS refused with {code} (HTTP {status})")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Error code, cut to what such codes look like.
        code: String,
    },
    /// The answer is no STS answer at all.
    #[error("the answer of STS (HTTP {status}) cannot be understood: {what}")]
    Malformed {
        /// HTTP status.
        status: StatusCode,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The answer names credentials that cannot be used.
    #[error("the answer of STS cannot be used: {0}")]
    Credentials(#[from] BadCredentials),
}

impl AnswerError {
    /// How soon the call is worth repeating.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::ExpiredToken | Self::Malformed { .. } | Self::Credentials(_) => Retry::Soon,
            Self::Refused { status, code } => retry_of_code(*status, code),
        }
    }
}

/// Error codes of `AssumeRoleWithWebIdentity` (STS API reference) and of the service in common.
fn retry_of_code(status: StatusCode, code: &str) -> Retry {
    match code {
        "IDPCommunicationError" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            Retry::Soon
        }
        "AccessDenied" | "AccessDeniedException" | "IDPRejectedClaim" | "InvalidIdentityToken" => {
            Retry::Slowly
        }
        "MalformedPolicyDocument"
        | "PackedPolicyTooLarge"
        | "RegionDisabledException"
        | "ValidationError" => Retry::Fatal,
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Retry::Soon,
        _ => Retry::Slowly,
    }
}

/// Reads the answer to `AssumeRoleWithWebIdentity`.
///
/// # Errors
/// Anything but a complete set of credentials.
pub fn parse(status: StatusCode, body: &[u8]) -> Result<Credentials, AnswerError> {
    let malformed = |what| AnswerError::Malformed { status, what };
    let text = std::str::from_utf8(body).map_err(|_binary| malformed("it is not UTF-8 text"))?;
    let fields = Fields::read(text).map_err(malformed)?;
    if let Some(code) = fields.error_code {
        return Err(refusal(status, &code));
    }
    if !status.is_success() {
        return Err(AnswerError::Refused { status, code: "no error code".to_owned() });
    }
    let expires = fields.expiration.as_deref().map(parse_time);
    let expires = expires.ok_or_else(|| malformed("it has no Expiration"))?;
    let expires = expires.ok_or_else(|| malformed("its Expiration is no RFC 3339 time"))?;
    let token = fields.session_token.ok_or_else(|| malformed("it has no SessionToken"))?;
    let credentials = Credentials::new(
        fields.access_key_id.unwrap_or_default(),
        fields.secret_access_key.unwrap_or_default(),
        Some(token),
        Some(expires),
    )?;
    Ok(credentials)
}

fn refusal(status: StatusCode, code: &str) -> AnswerError {
    if matches!(code, "ExpiredTokenException" | "ExpiredToken") {
        return AnswerError::ExpiredToken;
    }
    let code = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    AnswerError::Refused { status, code }
}

/// AWS sends whole seconds, stand-ins of AWS send fractions as well.
fn parse_time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text.trim()).ok()
}

/// The elements that matter, each as its text. The secrets are moved on into [`Credentials`].
#[derive(Default)]
struct Fields {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    expiration: Option<String>,
    error_code: Option<String>,
}

impl Fields {
    fn read(text: &str) -> Result<Self, &'static str> {
        let mut reader = Reader::from_str(text);
        let mut fields = Self::default();
        let mut path: Vec<String> = Vec::new();
        let mut content = Zeroizing::new(String::new());
        loop {
            match reader.read_event().map_err(|_broken| "it is not well-formed XML")? {
                Event::Start(start) => {
                    path.push(start.local_name().as_ref().to_owned());
                    if path.len() > MAX_DEPTH {
                        return Err("its elements are nested too deep");
                    }
                    content.clear();
                }
                Event::Text(text) => content.push_str(&text),
                Event::CData(data) => content.push_str(&data),
                Event::GeneralRef(entity) => content.push_str(&resolve(&entity)?),
                Event::End(_) => {
                    fields.take(&path, content.trim());
                    path.pop();
                    content.clear();
                }
                Event::DocType(_) => return Err("it has a document type"),
                Event::Eof if path.is_empty() => return Ok(fields),
                Event::Eof => return Err("it ends inside an element"),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    fn take(&mut self, path: &[String], text: &str) {
        let [.., parent, name] = path else { return };
        let field = match (parent.as_str(), name.as_str()) {
            ("Credentials", "AccessKeyId") => &mut self.access_key_id,
            ("Credentials", "SecretAccessKey") => &mut self.secret_access_key,
            ("Credentials", "SessionToken") => &mut self.session_token,
            ("Credentials", "Expiration") => &mut self.expiration,
            ("Error", "Code") => &mut self.error_code,
            _ => return,
        };
        *field = Some(text.to_owned());
    }
}

fn resolve(entity: &quick_xml::events::BytesRef<'_>) -> Result<String, &'static str> {
    if let Ok(Some(character)) = entity.resolve_char_ref() {
        return Ok(character.to_string());
    }
    resolve_predefined_entity(entity).map(str::to_owned).ok_or("it uses an unknown entity")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser><Credentials>\
        <Expiration>2030-01-02T03:04:05Z</Expiration><SessionToken>tok&amp;en</SessionToken>\
        <SecretAccessKey>sec&#x2f;ret</SecretAccessKey><AccessKeyId>ASIAX</AccessKeyId></Credentials>\
        </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

    fn failure(status: u16, body: &str) -> AnswerError {
        parse(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_err()
    }

    #[test]
    fn credentials_are_read_whatever_the_order_and_namespace() {
        for body in [GOOD.to_owned(), format!("<?xml version=\"1.0\"?>\n{GOOD}")] {
            let credentials = parse(StatusCode::OK, body.as_bytes()).unwrap();
            assert_eq!(credentials.access_key_id().expose(), "ASIAX");
            assert_eq!(credentials.secret_access_key().expose(), "sec/ret");
            assert_eq!(credentials.session_token().unwrap().expose(), "tok&en");
            let since = credentials.expires().unwrap().duration_since(SystemTime::UNIX_EPOCH);
            assert_eq!(since.unwrap(), Duration::from_secs(1_893_553_445));
        }
    }

    #[test]
    fn expiry_times_with_and_without_fraction_are_read() {
        for text in ["2030-01-02T03:04:05Z", "2030-01-02T03:04:05.123456Z"] {
            assert!(
                parse(StatusCode::OK, GOOD.replace("2030-01-02T03:04:05Z", text).as_bytes())
                    .is_ok()
            );
        }
        let garbage = GOOD.replace("2030-01-02T03:04:05Z", "soon");
        assert!(matches!(failure(200, &garbage), AnswerError::Malformed { .. }));
    }

    #[test]
    fn incomplete_and_foreign_answers_are_errors() {
        let empty = GOOD.replace("ASIAX", "");
        assert!(matches!(failure(200, &empty), AnswerError::Credentials(_)));
        for body in [
            "<html><body>Bad gateway</body></html>",
            "<a><b></a>",
            "<a>",
            "{}",
            "",
            "<!DOCTYPE x [<!ENTITY y \"z\">]><x>&y;</x>",
            "<x>&nope;</x>",
        ] {
            assert!(matches!(failure(200, body), AnswerError::Malformed { .. }), "{body}");
        }
        assert!(matches!(failure(200, &"<a>".repeat(40)), AnswerError::Malformed { .. }));
        assert!(matches!(failure(502, "<html></html>"), AnswerError::Refused { .. }));
    }

    #[test]
    fn error_codes_decide_how_soon_to_try_again() {
        let body = |code: &str| {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>a &amp; b</Message></Error></ErrorResponse>"
            )
        };
        assert_eq!(failure(400, &body("ExpiredTokenException")), AnswerError::ExpiredToken);
        let rows = [
            (400, "IDPCommunicationError", Retry::Soon),
            (400, "Throttling", Retry::Soon),
            (503, "ServiceUnavailable", Retry::Soon),
            (403, "AccessDenied", Retry::Slowly),
            (400, "InvalidIdentityToken", Retry::Slowly),
            (418, "Unheard", Retry::Slowly),
            (400, "MalformedPolicyDocument", Retry::Fatal),
            (400, "PackedPolicyTooLarge", Retry::Fatal),
        ];
        for (status, code, retry) in rows {
            assert_eq!(failure(status, &body(code)).retry(), retry, "{code}");
        }
        let long = failure(400, &body(&"x y".repeat(100))).to_string();
        assert!(long.len() < 120, "{long}");
    }
}
