//! Limits as they are written.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A time such as `500ms`, `30s`, `5m`; never zero.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct TimeLimit(Duration);

impl TimeLimit {
    /// The time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<humantime::Duration>();
        let time: Duration =
            parsed.map_err(|e| format!("`{text}` is no time such as 30s: {e}"))?.into();
        if time.is_zero() {
            return Err("a time of zero would refuse everything".to_owned());
        }
        Ok(Self(time))
    }
}

impl TryFrom<String> for TimeLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The most bytes that a request head may have, between 1 KiB and 1 MiB: ordinary clients need the
/// one, and each connection may hold the other.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "u32")]
pub struct HeadSize(u32);

impl HeadSize {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }
}

impl Default for HeadSize {
    fn default() -> Self {
        Self(64 * 1024)
    }
}

impl TryFrom<u32> for HeadSize {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, String> {
        if (1024..=1024 * 1024).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(format!("a head of {bytes} bytes: give 1024 to 1048576"))
        }
    }
}

impl FromStr for HeadSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes =
            text.parse::<u32>().map_err(|e| format!("`{text}` is no number of bytes: {e}"))?;
        bytes.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_parsed() {
        assert_eq!("1500ms".parse(), Ok(TimeLimit(Duration::from_millis(1500))));
        assert!("0s".parse::<TimeLimit>().is_err());
        assert!("soon".parse::<TimeLimit>().is_err());
        assert_eq!("4096".parse(), Ok(HeadSize(4096)));
        assert!("1023".parse::<HeadSize>().is_err());
        assert!("64KiB".parse::<HeadSize>().is_err());
    }
}
