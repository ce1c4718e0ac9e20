//! One set of AWS credentials, as held in memory.
//!
//! Invariant: the only ways to the values are `Secret::expose` calls, of which the signer has the
//! single one outside tests.

use std::time::SystemTime;

use thiserror::Error;
use workspace_common::secret::Secret;

/// Longest value accepted for any part. Session tokens run to a few kilobytes.
const MAX_PART: usize = 16 * 1024;

/// An access key with its secret, for some time or for ever.
#[derive(Clone, Debug)]
pub struct Credentials {
    access_key_id: Secret<String>,
    secret_access_key: Secret<String>,
    session_token: Option<Secret<String>>,
    expires: Option<SystemTime>,
}

/// A part of the credentials is missing or cannot be sent in a header. The value is not shown.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the {part} is empty, too long or holds characters other than visible ASCII")]
pub struct BadCredentials {
    part: &'static str,
}

impl Credentials {
    /// Takes the parts over.
    ///
    /// # Errors
    /// A part is empty, longer than 16 kB or not visible ASCII.
    pub fn new(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
        expires: Option<SystemTime>,
    ) -> Result<Self, BadCredentials> {
        let session_token = match session_token {
            Some(token) => Some(part("session token", token)?),
            None => None,
        };
        Ok(Self {
            access_key_id: part("access key id", access_key_id)?,
            secret_access_key: part("secret access key", secret_access_key)?,
            session_token,
            expires,
        })
    }

    /// The access key id. Not secret in itself, but it identifies an account, so it is not shown.
    #[must_use]
    pub const fn access_key_id(&self) -> &Secret<String> {
        &self.access_key_id
    }

    /// The signing secret.
    #[must_use]
    pub const fn secret_access_key(&self) -> &Secret<String> {
        &self.secret_access_key
    }

    /// The token that goes with temporary credentials.
    #[must_use]
    pub const fn session_token(&self) -> Option<&Secret<String>> {
        self.session_token.as_ref()
    }

    /// When AWS stops accepting them; `None` for long-lived keys.
    #[must_use]
    pub const fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

fn part(part: &'static str, value: String) -> Result<Secret<String>, BadCredentials> {
    let value = Secret::new(value);
    let text = value.expose();
    let sendable =
        (1..=MAX_PART).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if sendable { Ok(value) } else { Err(BadCredentials { part }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_values_is_shown() {
        let credentials = Credentials::new(
            "AKIDVALUE".into(),
            "secretvalue".into(),
            Some("tokenvalue".into()),
            None,
        )
        .unwrap();
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("value") && !shown.contains("VALUE"), "{shown}");
    }

    #[test]
    fn parts_that_cannot_be_sent_are_refused_by_name() {
        let make = |id: &str, secret: &str, token: Option<&str>| {
            Credentials::new(id.into(), secret.into(), token.map(Into::into), None)
        };
        assert_eq!(make("", "s", None).unwrap_err(), BadCredentials { part: "access key id" });
        assert_eq!(
            make("k", "s s", None).unwrap_err(),
            BadCredentials { part: "secret access key" }
        );
        assert_eq!(
            make("k", "s", Some("t\r\n")).unwrap_err(),
            BadCredentials { part: "session token" }
        );
        assert!(make("k", "s", Some(&"t".repeat(MAX_PART + 1))).is_err());
    }
}
