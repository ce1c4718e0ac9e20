//! Conditional requests (RFC 9110 section 13): what a request says about the state it was made for,
//! and whether that is the state that is there. Pure: the callers look, and say when.

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};
use workspace_common::problem::Problem;

use super::metadata::{FileTime, Metadata};

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// What is between the quotation marks.
    pub opaque: String,
    /// Whether it stands for equivalent states, not for one.
    pub weak: bool,
}

impl Tag {
    /// Reads `"opaque"` or `W/"opaque"`, and nothing beside it.
    pub fn parse(text: &str) -> Option<Self> {
        let (weak, quoted) = match text.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let opaque = quoted.strip_prefix('"')?.strip_suffix('"')?;
        let permitted = |c: char| c == '!' || ('#'..='~').contains(&c) || !c.is_ascii();
        opaque.chars().all(permitted).then(|| Self { opaque: opaque.to_owned(), weak })
    }

    /// Whether it names exactly the state with this tag (RFC 9110 section 8.8.3.2).
    pub fn is_strongly(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    fn is_weakly(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Tags {
    /// `*`: any state at all.
    Any,
    /// One of these.
    Listed(Vec<Tag>),
}

/// A header field that is not what it has to be. To ignore it would do what its sender wanted to
/// prevent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is '{value}', which is neither * nor a list of entity tags in quotation marks")]
pub struct ConditionError {
    field: HeaderName,
    value: String,
}

impl From<ConditionError> for Problem {
    fn from(error: ConditionError) -> Self {
        Self::bad_request("bad_condition", error.to_string())
    }
}

/// What a request does with the state, if it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `GET` and `HEAD`.
    Read,
    /// Everything else.
    Write,
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Proceed,
    /// The reader has this state already: 304.
    NotModified,
    /// 412.
    Failed,
}

/// The state that the path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its tag; directories have none.
    pub tag: Option<Tag>,
    /// When it was last changed, in seconds since 1970.
    pub modified: i64,
}

impl From<&Metadata> for State {
    fn from(metadata: &Metadata) -> Self {
        Self { tag: metadata.tag(), modified: metadata.modified.seconds }
    }
}

/// The conditions of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preconditions {
    matching: Option<Tags>,
    none_matching: Option<Tags>,
    unmodified_since: Option<i64>,
    modified_since: Option<i64>,
}

impl Preconditions {
    /// Reads them. A date that is none is ignored, as the standard wants it.
    ///
    /// # Errors
    /// When a list of tags is none.
    pub fn parse(headers: &HeaderMap) -> Result<Self, ConditionError> {
        Ok(Self {
            matching: tags(headers, &header::IF_MATCH)?,
            none_matching: tags(headers, &header::IF_NONE_MATCH)?,
            unmodified_since: date(headers, &header::IF_UNMODIFIED_SINCE),
            modified_since: date(headers, &header::IF_MODIFIED_SINCE),
        })
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing may be there, in whatever state.
    pub fn want_absence(&self) -> bool {
        self.none_matching == Some(Tags::Any)
    }

    /// Holds them against what is there, in the order of RFC 9110 section 13.2.2.
    pub fn judge(&self, access: Access, state: Option<&State>) -> Verdict {
        let expected = match &self.matching {
            Some(tags) => tags.include(state, Tag::is_strongly),
            None => self.is_unmodified(state),
        };
        if !expected {
            return Verdict::Failed;
        }
        let known = match &self.none_matching {
            Some(tags) => tags.include(state, Tag::is_weakly),
            None => access == Access::Read && self.is_not_newer(state),
        };
        match (known, access) {
            (false, _) => Verdict::Proceed,
            (true, Access::Read) => Verdict::NotModified,
            (true, Access::Write) => Verdict::Failed,
        }
    }

    fn is_unmodified(&self, state: Option<&State>) -> bool {
        let compared = self.unmodified_since.zip(state);
        compared.is_none_or(|(date, state)| state.modified <= date)
    }

    fn is_not_newer(&self, state: Option<&State>) -> bool {
        let compared = self.modified_since.zip(state);
        compared.is_some_and(|(date, state)| state.modified <= date)
    }
}

impl Tags {
    fn include(&self, state: Option<&State>, same: fn(&Tag, &Tag) -> bool) -> bool {
        match (self, state) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Listed(tags), Some(state)) => {
                state.tag.as_ref().is_some_and(|current| tags.iter().any(|tag| same(tag, current)))
            }
        }
    }
}

fn tags(headers: &HeaderMap, field: &HeaderName) -> Result<Option<Tags>, ConditionError> {
    if !headers.contains_key(field) {
        return Ok(None);
    }
    let lines = headers.get_all(field).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let value = lines.collect::<Vec<_>>().join(",");
    parse_tags(&value).map(Some).ok_or_else(|| ConditionError {
        field: field.clone(),
        value: super::path::printable(value.as_bytes()),
    })
}

/// Reads `*` or a list of tags. A comma may stand inside of a tag.
fn parse_tags(value: &str) -> Option<Tags> {
    let blank = [' ', '\t', ','];
    let mut rest = value.trim_matches(blank);
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut listed = Vec::new();
    while !rest.is_empty() {
        let opening = rest.find('"')?;
        let closing = opening + 1 + rest.get(opening + 1..)?.find('"')?;
        listed.push(Tag::parse(rest.get(..=closing)?)?);
        let behind = rest.get(closing + 1..)?.trim_start_matches([' ', '\t']);
        if !behind.is_empty() && !behind.starts_with(',') {
            return None;
        }
        rest = behind.trim_start_matches(blank);
    }
    (!listed.is_empty()).then_some(Tags::Listed(listed))
}

/// The date of a header field in seconds since 1970, if it has a valid one.
pub(super) fn date(headers: &HeaderMap, field: &HeaderName) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(field)?.to_str().ok()?).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Whether the value of `If-Range` names exactly the state that is there (RFC 9110 section 13.1.5).
/// A date does where it is the file's and at least a second has passed since, so that nothing else
/// can have the same.
pub(super) fn range_is_of(headers: &HeaderMap, state: &State, now: FileTime) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    let tag = value.to_str().ok().and_then(|text| Tag::parse(text.trim()));
    match (tag, date(headers, &header::IF_RANGE)) {
        (Some(tag), _) => state.tag.as_ref().is_some_and(|current| tag.is_strongly(current)),
        (None, Some(date)) => date == state.modified && date < now.seconds,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests;
