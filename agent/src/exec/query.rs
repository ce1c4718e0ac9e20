//! The query parameters of the calls about commands. Pure.

use std::str::FromStr;

use workspace_common::problem::Problem;

use super::request::MAX_KILL_GRACE_MS;
use crate::supervise::{reader::From, task::Background};

/// Refuses every parameter.
///
/// # Errors
/// 400 when there is one.
pub(crate) fn none(query: Option<&str>) -> Result<(), Problem> {
    parameters(query, |_name, _value| Ok(false))
}

/// The parameters of both calls that start a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StartQuery {
    pub(crate) background: Background,
}

impl StartQuery {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        parameters(query, |name, value| {
            match (name, value) {
                ("background", "kill") => parsed.background = Background::Kill,
                ("background", "keep") => parsed.background = Background::Keep,
                ("background", other) => {
                    return Err(bad(&format!("background is '{other}' and must be kill or keep")));
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(parsed)
    }
}

/// The parameters of `GET …/output`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputQuery {
    pub(crate) from: From,
    pub(crate) follow: bool,
}

impl OutputQuery {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        parameters(query, |name, value| {
            match name {
                "follow" => parsed.follow = read(name, value)?,
                _ => return offset(&mut parsed.from, name, value),
            }
            Ok(true)
        })?;
        Ok(parsed)
    }
}

/// The parameters of `GET …/attach`.
pub(crate) fn attach(query: Option<&str>) -> Result<From, Problem> {
    let mut from = From::default();
    parameters(query, |name, value| offset(&mut from, name, value))?;
    Ok(from)
}

fn offset(from: &mut From, name: &str, value: &str) -> Result<bool, Problem> {
    match name {
        "stdout_from" => from.stdout = read(name, value)?,
        "stderr_from" => from.stderr = read(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The parameters of `DELETE`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EndQuery {
    pub(crate) grace_ms: Option<u64>,
}

impl EndQuery {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        parameters(query, |name, value| {
            if name == "grace_ms" {
                parsed.grace_ms = Some(read(name, value)?);
            }
            Ok(name == "grace_ms")
        })?;
        match parsed.grace_ms {
            Some(ms) if ms > MAX_KILL_GRACE_MS => Err(Problem::bad_request(
                "out_of_range",
                format!("grace_ms is {ms} and must be at most {MAX_KILL_GRACE_MS}"),
            )),
            _ => Ok(parsed),
        }
    }
}

/// Hands every parameter to `take`, which says whether it knows it.
fn parameters<'q>(
    query: Option<&'q str>,
    mut take: impl FnMut(&'q str, &'q str) -> Result<bool, Problem>,
) -> Result<(), Problem> {
    let mut seen = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if seen.contains(&name) {
            return Err(bad(&format!("'{name}' is given twice")));
        }
        seen.push(name);
        if !take(name, value)? {
            return Err(bad(&format!("'{name}' is no parameter of this call")));
        }
    }
    Ok(())
}

fn read<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_malformed| bad(&format!("'{value}' is no value for '{name}'")))
}

fn bad(detail: &str) -> Problem {
    Problem::bad_request("bad_query", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_once_and_unknown_ones_refused() {
        let query = OutputQuery::parse(Some("stderr_from=7&follow=true")).unwrap();
        assert_eq!(query, OutputQuery { from: From { stdout: 0, stderr: 7 }, follow: true });
        assert_eq!(attach(Some("stdout_from=7")).unwrap(), From { stdout: 7, stderr: 0 });
        assert_eq!(attach(Some("follow=true")).unwrap_err().code, "bad_query");
        assert_eq!(OutputQuery::parse(None).unwrap(), OutputQuery::default());
        for query in ["x=1", "follow", "follow=1", "stdout_from=-1", "follow=true&follow=true"] {
            assert_eq!(OutputQuery::parse(Some(query)).unwrap_err().code, "bad_query", "{query}");
        }
        assert_eq!(EndQuery::parse(Some("grace_ms=0")).unwrap().grace_ms, Some(0));
        assert_eq!(EndQuery::parse(Some("grace_ms=600001")).unwrap_err().code, "out_of_range");
        assert_eq!(EndQuery::parse(Some("grace=1")).unwrap_err().code, "bad_query");
        assert_eq!(StartQuery::parse(None).unwrap().background, Background::Keep);
        let query = StartQuery::parse(Some("background=kill")).unwrap();
        assert_eq!(query.background, Background::Kill);
        for query in ["background=", "background=Kill", "x=1"] {
            assert_eq!(StartQuery::parse(Some(query)).unwrap_err().code, "bad_query", "{query}");
        }
        assert_eq!(none(Some("a=b")).unwrap_err().code, "bad_query");
    }
}
