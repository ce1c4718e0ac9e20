//! What a caller may ask of exec: the JSON of `POST /v1/exec` and of `POST /v1/processes`, parsed
//! into a command. Pure.

use std::{collections::BTreeMap, ffi::CString, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use workspace_common::problem::Problem;

use crate::{
    environment::Environment,
    supervise::{
        Request, Stdin,
        process::{ChosenId, Detached},
        spawn::CommandSpec,
    },
};

/// Between TERM and KILL when the caller does not say.
const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(2);
/// The longest time between TERM and KILL that may be asked for.
pub(crate) const MAX_KILL_GRACE_MS: u64 = 600_000;
/// The longest deadline: a week. Without one there is no deadline.
const MAX_TIMEOUT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Kept of each stream when the caller does not say.
const DEFAULT_OUTPUT_BYTES: usize = 1 << 20;
/// The most that may be kept of each stream in one reply. JSON can take six bytes for one, so a reply
/// is bounded at a few hundred MiB; whoever wants more output streams it.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// The body of either call, as written by the caller. Only `POST /v1/processes` takes an `id`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    id: Option<String>,
    argv: Option<Vec<String>>,
    shell: Option<String>,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    stdin_base64: Option<String>,
    #[serde(default)]
    stdin_open: bool,
    timeout_ms: Option<u64>,
    kill_grace_ms: Option<u64>,
    max_output_bytes: Option<usize>,
}

/// A request that can be run.
#[derive(Debug)]
pub struct ExecRequest {
    /// The command.
    pub command: Request,
    /// How much of each stream a buffered reply keeps, in bytes.
    pub max_output_bytes: usize,
}

/// Where commands run and with which environment unless they say otherwise.
#[derive(Debug)]
pub struct Defaults {
    /// Relative working directories begin here.
    pub root: std::path::PathBuf,
    /// The environment that requests add to.
    pub environment: Environment,
}

/// Parses the body of a request.
///
/// # Errors
/// 400 with a code that says what is wrong with it.
pub fn parse(body: &[u8], defaults: &Defaults) -> Result<ExecRequest, Problem> {
    let wire = wire(body)?;
    if wire.id.is_some() {
        let detail = "an id is for POST /v1/processes: nothing can come back to this call";
        return Err(Problem::bad_request("bad_id", detail));
    }
    command(wire, defaults)
}

/// Parses the body of a request for a detached command.
///
/// # Errors
/// 400 with a code that says what is wrong with it.
pub fn parse_detached(body: &[u8], defaults: &Defaults) -> Result<Detached, Problem> {
    let mut wire = wire(body)?;
    let id = match wire.id.take() {
        Some(id) => Some((chosen(id)?, digest(body)?)),
        None => None,
    };
    let ExecRequest { command, max_output_bytes } = command(wire, defaults)?;
    Ok(Detached { id, command, capacity: max_output_bytes })
}

fn wire(body: &[u8]) -> Result<Wire, Problem> {
    serde_json::from_slice(body).map_err(|error| bad_json(&error))
}

fn bad_json(error: &serde_json::Error) -> Problem {
    Problem::bad_request("bad_json", format!("the body is not a request: {error}"))
}

fn chosen(id: String) -> Result<ChosenId, Problem> {
    let detail = || "id must be 1 to 64 of A-Z a-z 0-9 . _ - and not '.' or '..'";
    ChosenId::parse(id).ok_or_else(|| Problem::bad_request("bad_id", detail()))
}

/// Stands for the content of a body, whatever its white space and the order of its keys: comparing
/// keeps neither 16 MiB of input nor anything secret of an environment.
fn digest(body: &[u8]) -> Result<[u8; 32], Problem> {
    // The keys of an object of this type are sorted.
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| bad_json(&error))?;
    Ok(Sha256::digest(value.to_string()).into())
}

fn command(wire: Wire, defaults: &Defaults) -> Result<ExecRequest, Problem> {
    let max_output_bytes = in_range(
        "max_output_bytes",
        wire.max_output_bytes,
        DEFAULT_OUTPUT_BYTES,
        0..=MAX_OUTPUT_BYTES,
    )?;
    let timeout = wire
        .timeout_ms
        .map(|ms| in_range("timeout_ms", Some(ms), ms, 1..=MAX_TIMEOUT_MS))
        .transpose()?
        .map(Duration::from_millis);
    let grace = wire
        .kill_grace_ms
        .map(|ms| in_range("kill_grace_ms", Some(ms), ms, 0..=MAX_KILL_GRACE_MS))
        .transpose()?
        .map_or(DEFAULT_KILL_GRACE, Duration::from_millis);
    let stdin = stdin(&wire)?;
    let spec = CommandSpec {
        argv: argv(wire.argv, wire.shell)?,
        cwd: cwd(wire.cwd, &defaults.root)?,
        env: environment(wire.env, &defaults.environment)?,
        pipe_stdin: !matches!(stdin, Stdin::Null),
    };
    Ok(ExecRequest {
        command: Request { spec, stdin, timeout, kill_grace: grace },
        max_output_bytes,
    })
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: Option<T>,
    default: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, Problem> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (range.start(), range.end());
    Err(Problem::bad_request(
        "out_of_range",
        format!("{name} is {value} and must be between {low} and {high}"),
    ))
}

fn argv(argv: Option<Vec<String>>, shell: Option<String>) -> Result<Vec<CString>, Problem> {
    let words = match (argv, shell) {
        (Some(argv), None) if !argv.is_empty() => argv,
        (None, Some(script)) => vec!["/bin/sh".into(), "-c".into(), script],
        (Some(_), None) => return Err(Problem::bad_request("bad_command", "argv is empty")),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("bad_command", "give argv or shell, not both"));
        }
        (None, None) => return Err(Problem::bad_request("bad_command", "give argv or shell")),
    };
    words.into_iter().map(|word| no_nul("the command", word)).collect()
}

fn no_nul(what: &str, text: String) -> Result<CString, Problem> {
    CString::new(text)
        .map_err(|_nul| Problem::bad_request("bad_command", format!("{what} holds a NUL byte")))
}

fn cwd(cwd: Option<String>, root: &Path) -> Result<std::path::PathBuf, Problem> {
    let cwd = cwd.unwrap_or_default();
    if cwd.contains('\0') {
        return Err(Problem::bad_request("bad_command", "cwd holds a NUL byte"));
    }
    // An absolute path replaces the root, as it would in a shell.
    Ok(root.join(cwd))
}

fn environment(own: BTreeMap<String, String>, base: &Environment) -> Result<Vec<CString>, Problem> {
    let mut environment = base.clone();
    for (name, value) in own {
        environment.set(name, value);
    }
    environment.entries().map_err(|error| Problem::bad_request("bad_environment", error))
}

fn stdin(wire: &Wire) -> Result<Stdin, Problem> {
    let both = || {
        let detail = "give one of stdin, stdin_base64 and stdin_open";
        Err(Problem::bad_request("bad_stdin", detail))
    };
    match (&wire.stdin, &wire.stdin_base64, wire.stdin_open) {
        (None, None, false) => Ok(Stdin::Null),
        (None, None, true) => Ok(Stdin::Open),
        (Some(text), None, false) => Ok(Stdin::Bytes(Bytes::from(text.clone()))),
        (None, Some(text), false) => STANDARD
            .decode(text)
            .map(|bytes| Stdin::Bytes(bytes.into()))
            .map_err(|error| Problem::bad_request("bad_stdin", format!("stdin_base64: {error}"))),
        _ => both(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<ExecRequest, Problem> {
        let defaults = Defaults { root: "/workspace".into(), environment: Environment::default() };
        parse(body.as_bytes(), &defaults)
    }

    fn detached(body: &str) -> Result<Detached, Problem> {
        let defaults = Defaults { root: "/workspace".into(), environment: Environment::default() };
        parse_detached(body.as_bytes(), &defaults)
    }

    #[test]
    fn requests_of_the_same_content_have_the_same_digest() {
        let digest = |body: &str| detached(body).unwrap().id.unwrap().1;
        let one = digest(r#"{"id":"a","argv":["x"],"env":{"A":"1","B":"2"}}"#);
        assert_eq!(one, digest(r#"{ "env": {"B":"2","A":"1"}, "argv":["x"],"id":"a"}"#));
        assert_ne!(one, digest(r#"{"id":"a","argv":["x"],"env":{"A":"1","B":"3"}}"#));
        assert!(detached(r#"{"argv":["x"]}"#).unwrap().id.is_none());
    }

    #[test]
    fn an_id_fits_into_a_path() {
        let long = "a".repeat(65);
        for id in ["", ".", "..", "a/b", "a b", "ä", long.as_str()] {
            let body = format!(r#"{{"id":"{id}","argv":["x"]}}"#);
            assert_eq!(detached(&body).unwrap_err().code, "bad_id", "{id}");
        }
        let longest = "a".repeat(64);
        for id in ["a", "...", "A-1_b.c", longest.as_str()] {
            assert!(detached(&format!(r#"{{"id":"{id}","argv":["x"]}}"#)).is_ok(), "{id}");
        }
    }

    fn code(body: &str) -> &'static str {
        parsed(body).expect_err(body).code
    }

    #[test]
    fn a_full_request_is_understood() {
        let request = parsed(
            r#"{"argv":["ls","-l"],"cwd":"src","env":{"A":"b"},"stdin_base64":"aGk=",
               "timeout_ms":500,"kill_grace_ms":0,"max_output_bytes":10}"#,
        )
        .unwrap();
        assert_eq!(request.max_output_bytes, 10);
        assert_eq!(request.command.timeout, Some(Duration::from_millis(500)));
        assert_eq!(request.command.kill_grace, Duration::ZERO);
        assert_eq!(request.command.spec.cwd, Path::new("/workspace/src"));
        assert_eq!(request.command.spec.env, [CString::new("A=b").unwrap()]);
        assert!(matches!(request.command.stdin, Stdin::Bytes(bytes) if bytes == "hi"));
    }

    #[test]
    fn a_shell_command_goes_to_sh_and_an_absolute_cwd_is_taken_as_it_is() {
        let request = parsed(r#"{"shell":"echo hi","cwd":"/tmp"}"#).unwrap();
        let words: Vec<&str> =
            request.command.spec.argv.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(request.command.spec.cwd, Path::new("/tmp"));
    }

    #[test]
    fn every_mistake_has_its_code() {
        for (body, expected) in [
            ("", "bad_json"),
            ("[]", "bad_json"),
            (r#"{"argv":["a"],"typo":1}"#, "bad_json"),
            (r#"{"argv":["a"],"argv":["b"]}"#, "bad_json"),
            (r#"{"argv":["a"],"id":"b"}"#, "bad_id"),
            ("{}", "bad_command"),
            (r#"{"argv":[]}"#, "bad_command"),
            (r#"{"argv":["a"],"shell":"b"}"#, "bad_command"),
            (r#"{"argv":["a\u0000b"]}"#, "bad_command"),
            (r#"{"argv":["a"],"cwd":"\u0000"}"#, "bad_command"),
            (r#"{"argv":["a"],"env":{"A=B":"c"}}"#, "bad_environment"),
            (r#"{"argv":["a"],"env":{"":"c"}}"#, "bad_environment"),
            (r#"{"argv":["a"],"stdin":"x","stdin_open":true}"#, "bad_stdin"),
            (r#"{"argv":["a"],"stdin_base64":"!"}"#, "bad_stdin"),
            (r#"{"argv":["a"],"timeout_ms":0}"#, "out_of_range"),
            (r#"{"argv":["a"],"kill_grace_ms":600001}"#, "out_of_range"),
            (r#"{"argv":["a"],"max_output_bytes":16777217}"#, "out_of_range"),
        ] {
            assert_eq!(code(body), expected, "{body}");
        }
    }
}
