//! Query parameters of files and sync: each known one is taken by name, and what is left over is an
//! error, so that a misspelt `recursve=true` is not silently a plain delete.

use workspace_common::problem::Problem;

use super::path::{PathError, WorkspacePath, percent_decode, printable};

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A malformed percent escape.
    #[error("the query has a percent sign without two hexadecimal digits after it")]
    BadEscape,
    /// A parameter that takes one value was given several times.
    #[error("the query parameter '{0}' is given more than once")]
    Repeated(&'static str),
    /// A parameter that this call does not have.
    #[error("there is no query parameter '{0}' here")]
    Unknown(String),
    /// A value that does not parse.
    #[error("the query parameter '{name}' is '{value}', which is not {expected}")]
    BadValue {
        /// The parameter.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A path that is not one.
    #[error("the query parameter '{name}' is not acceptable: {reason}")]
    BadPath {
        /// The parameter.
        name: &'static str,
        /// Why.
        reason: PathError,
    },
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let code = match error {
            QueryError::BadPath { .. } => "bad_path",
            _ => "bad_query",
        };
        Self::bad_request(code, error.to_string())
    }
}

/// The parameters that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// Decodes the part of a URI after `?`, with `+` for a space as HTML forms have it.
    ///
    /// # Errors
    /// [`QueryError::BadEscape`].
    pub fn parse(query: Option<&str>) -> Result<Self, QueryError> {
        let decode = |text: &str| {
            percent_decode(text.replace('+', " ").as_bytes())
                .map_err(|_cause| QueryError::BadEscape)
        };
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        decoded.collect::<Result<_, _>>().map(Self)
    }

    /// Takes every value of a parameter.
    pub fn take_all(&mut self, name: &'static str) -> Vec<Vec<u8>> {
        let taken = self.0.extract_if(.., |(given, _)| given == name.as_bytes());
        taken.map(|(_, value)| value).collect()
    }

    /// Takes the value of a parameter that is given at most once.
    ///
    /// # Errors
    /// [`QueryError::Repeated`].
    pub fn take(&mut self, name: &'static str) -> Result<Option<Vec<u8>>, QueryError> {
        let mut values = self.take_all(name).into_iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(QueryError::Repeated(name));
        }
        Ok(first)
    }

    /// Takes a yes or no: `true`, `false`, or the bare name for yes.
    ///
    /// # Errors
    /// When it is neither, or repeated.
    pub fn take_flag(&mut self, name: &'static str, default: bool) -> Result<bool, QueryError> {
        match self.take(name)?.as_deref() {
            None => Ok(default),
            Some(b"true" | b"") => Ok(true),
            Some(b"false") => Ok(false),
            Some(value) => Err(bad_value(name, value, "'true' or 'false'")),
        }
    }

    /// Takes permission bits in octal.
    ///
    /// # Errors
    /// When it is not octal or has bits beyond 0777.
    pub fn take_mode(&mut self, name: &'static str) -> Result<Option<u32>, QueryError> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        std::str::from_utf8(&value)
            .ok()
            .filter(|text| text.len() <= 5 && text.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|text| u32::from_str_radix(text, 8).ok())
            .filter(|mode| *mode <= super::metadata::PERMISSION_BITS)
            .map(Some)
            .ok_or_else(|| bad_value(name, &value, "an octal mode between 0 and 777"))
    }

    /// Takes a path; the root where none is given.
    ///
    /// # Errors
    /// When it is not a path of the workspace.
    pub fn take_path(&mut self, name: &'static str) -> Result<WorkspacePath, QueryError> {
        WorkspacePath::parse(&self.take(name)?.unwrap_or_default())
            .map_err(|reason| QueryError::BadPath { name, reason })
    }

    /// Takes the levels of a listing, 1 where none are given.
    ///
    /// # Errors
    /// When it is no number from 1 to `most`.
    pub fn take_depth(&mut self, name: &'static str, most: u32) -> Result<usize, QueryError> {
        let Some(value) = self.take(name)? else { return Ok(1) };
        let digits = std::str::from_utf8(&value).ok().filter(|text| !text.starts_with('+'));
        digits
            .and_then(|text| text.parse::<u32>().ok())
            .filter(|depth| (1..=most).contains(depth))
            .and_then(|depth| usize::try_from(depth).ok())
            .ok_or_else(|| bad_value(name, &value, "a number from 1 to 64"))
    }

    /// Takes whether digests are wanted, by the name of the one algorithm that there is.
    ///
    /// # Errors
    /// When it is another one.
    pub fn take_digest(&mut self, name: &'static str) -> Result<bool, QueryError> {
        match self.take(name)?.as_deref() {
            None => Ok(false),
            Some(value) if value == super::digest::ALGORITHM.as_bytes() => Ok(true),
            Some(value) => Err(bad_value(name, value, "'sha-256'")),
        }
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// [`QueryError::Unknown`] with the first parameter that nobody took.
    pub fn finish(self) -> Result<(), QueryError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(QueryError::Unknown(printable(&name))),
        }
    }
}

fn bad_value(name: &'static str, value: &[u8], expected: &'static str) -> QueryError {
    QueryError::BadValue { name, value: printable(value), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_once_and_leftovers_are_named() {
        let mut query = Query::parse(Some("mode=0755&exclude=a+b&exclude=%2a.o&flag&x=1")).unwrap();
        assert_eq!(query.take_mode("mode"), Ok(Some(0o755)));
        assert_eq!(query.take_all("exclude"), [b"a b".to_vec(), b"*.o".to_vec()]);
        assert_eq!(query.take_flag("flag", false), Ok(true));
        assert_eq!(query.take_flag("none", true), Ok(true));
        assert_eq!(query.finish(), Err(QueryError::Unknown("x".into())));
        assert_eq!(Query::parse(None).unwrap().finish(), Ok(()));
    }

    #[test]
    fn values_that_do_not_parse_are_refused() {
        let query = |text| Query::parse(Some(text)).unwrap();
        for mode in ["mode=", "mode=9", "mode=1777", "mode=+77", "mode=-1", "mode=0o7"] {
            assert!(query(mode).take_mode("mode").is_err(), "{mode}");
        }
        assert_eq!(query("mode=1&mode=2").take_mode("mode"), Err(QueryError::Repeated("mode")));
        assert!(query("flag=yes").take_flag("flag", false).is_err());
        assert!(query("path=../x").take_path("path").is_err());
        assert_eq!(Query::parse(Some("a=%f")).unwrap_err(), QueryError::BadEscape);
    }
}
