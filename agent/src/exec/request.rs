//! What a caller may ask of exec: the JSON of `POST /v1/exec` and of `POST /v1/processes`, parsed
//! into a command. Pure.

mod wire;

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use workspace_common::problem::Problem;

use self::wire::{Wire, WireDisconnect};
use super::query::StartQuery;
use crate::{
    environment::Environment,
    supervise::{
        Request, Stdin,
        limits::Conditions,
        output::{Keeping, record::Keep, spool::SpoolDirectory},
        process::{ChosenId, OnDisconnect},
        spawn::{CommandSpec, Stdio},
        task::Ending,
        terminal::Size,
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
/// The most that may be kept of each stream. JSON can take six bytes for one, so a buffered reply is
/// bounded at a few hundred MiB, for the sake of its reader; whoever wants more output streams it.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// What programs are told of a terminal whose kind the caller does not name.
const DEFAULT_TERM: &CStr = c"TERM=xterm-256color";

/// The call that a request comes by: it decides what is assumed where the request is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Exec, answered at the end.
    Buffered,
    /// Exec, answered as a stream.
    Streamed,
    /// A start without a caller that stays.
    Detached,
}

/// Where commands run and with which environment unless they say otherwise, and what the agent has
/// for them.
#[derive(Debug)]
pub struct Defaults {
    /// Relative working directories begin here.
    pub root: PathBuf,
    /// The environment that requests add to.
    pub environment: Environment,
    /// Where output can be kept whole, if it can.
    pub spool: Option<SpoolDirectory>,
}

/// Parses the body of a request.
///
/// # Errors
/// 400 with a code that says what is wrong with it.
pub(crate) fn parse(
    body: &[u8],
    face: Face,
    query: StartQuery,
    defaults: &Defaults,
) -> Result<Request, Problem> {
    let mut wire: Wire = serde_json::from_slice(body).map_err(|error| bad_json(&error))?;
    let id = match wire.id.take() {
        Some(id) => Some((chosen(id)?, digest(body, query)?)),
        None => None,
    };
    Ok(Request {
        id,
        stdin: stdin(&wire)?,
        ending: ending(&wire, query)?,
        on_disconnect: on_disconnect(wire.on_disconnect, face),
        keeping: keeping(&wire, face, defaults)?,
        spec: spec(wire, defaults)?,
    })
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
fn digest(body: &[u8], query: StartQuery) -> Result<[u8; 32], Problem> {
    // The keys of an object of this type are sorted.
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| bad_json(&error))?;
    Ok(Sha256::digest(format!("{value}{query:?}")).into())
}

fn ending(wire: &Wire, query: StartQuery) -> Result<Ending, Problem> {
    let millis = |name, value: Option<u64>, range| {
        let checked = value.map(|ms| in_range(name, ms, range)).transpose()?;
        Ok::<_, Problem>(checked.map(Duration::from_millis))
    };
    let timeout = millis("timeout_ms", wire.timeout_ms, 1..=MAX_TIMEOUT_MS)?;
    let grace = millis("kill_grace_ms", wire.kill_grace_ms, 0..=MAX_KILL_GRACE_MS)?;
    let kill_grace = grace.unwrap_or(DEFAULT_KILL_GRACE);
    Ok(Ending { timeout, kill_grace, background: query.background })
}

fn on_disconnect(wanted: Option<WireDisconnect>, face: Face) -> OnDisconnect {
    match (wanted, face) {
        (Some(WireDisconnect::Kill), _) | (None, Face::Buffered | Face::Streamed) => {
            OnDisconnect::Kill
        }
        (Some(WireDisconnect::Keep), _) | (None, Face::Detached) => OnDisconnect::Keep,
    }
}

fn keeping(wire: &Wire, face: Face, defaults: &Defaults) -> Result<Keeping, Problem> {
    let wanted = wire.max_output_bytes.unwrap_or(DEFAULT_OUTPUT_BYTES);
    let bytes = in_range("max_output_bytes", wanted, 0..=MAX_OUTPUT_BYTES)?;
    let spool = defaults.spool.clone().filter(|_| wire.spool);
    if wire.spool && spool.is_none() {
        let detail = "the agent has no place to spool output: start it with --spool-dir";
        return Err(Problem::bad_request("no_spool", detail));
    }
    let keep = match face {
        Face::Buffered => Keep::both_ends(bytes),
        Face::Streamed | Face::Detached => Keep::tail(bytes),
    };
    Ok(Keeping { keep, backpressure: wire.backpressure, spool })
}

fn spec(wire: Wire, defaults: &Defaults) -> Result<CommandSpec, Problem> {
    let stdio = stdio(&wire)?;
    let conditions = conditions(&wire)?;
    let mut env = environment(wire.env, &defaults.environment)?;
    if matches!(stdio, Stdio::Terminal(_))
        && !env.iter().any(|e| e.as_bytes().starts_with(b"TERM="))
    {
        env.push(DEFAULT_TERM.to_owned());
    }
    let (argv, cwd) = (argv(wire.argv, wire.shell)?, cwd(wire.cwd, &defaults.root)?);
    Ok(CommandSpec { argv, cwd, env, stdio, conditions })
}

fn stdio(wire: &Wire) -> Result<Stdio, Problem> {
    let Some(tty) = wire.tty else {
        let given = wire.stdin.is_some() || wire.stdin_base64.is_some();
        return Ok(Stdio::Pipes { stdin: given || wire.stdin_open });
    };
    size(tty.rows, tty.cols).map(Stdio::Terminal)
}

/// A size that a terminal can have.
///
/// # Errors
/// 400 for a side of nothing.
pub(crate) fn size(rows: u16, cols: u16) -> Result<Size, Problem> {
    in_range("rows", rows, 1..=u16::MAX)?;
    in_range("cols", cols, 1..=u16::MAX)?;
    Ok(Size { rows, cols })
}

fn conditions(wire: &Wire) -> Result<Conditions, Problem> {
    let nice = wire.nice.map(|nice| in_range("nice", nice, -20..=19)).transpose()?;
    let score = wire.oom_score_adj;
    let oom_score_adj =
        score.map(|score| in_range("oom_score_adj", score, -1000..=1000)).transpose()?;
    let umask = wire.umask.as_deref().map(umask).transpose()?;
    Ok(Conditions { limits: wire.limits.unwrap_or_default(), nice, oom_score_adj, umask })
}

fn umask(text: &str) -> Result<u32, Problem> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        let detail = format!("umask is '{text}' and must be octal digits, as in 022");
        Problem::bad_request("out_of_range", detail)
    })
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, Problem> {
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

fn cwd(cwd: Option<String>, root: &Path) -> Result<PathBuf, Problem> {
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
    let bad = |detail: &str| Err(Problem::bad_request("bad_stdin", detail));
    match (&wire.stdin, &wire.stdin_base64, wire.stdin_open) {
        (None, None, _) if wire.tty.is_some() => Ok(Stdin::Open),
        (_, _, _) if wire.tty.is_some() => bad("the input of a terminal is typed: leave stdin out"),
        (None, None, false) => Ok(Stdin::Null),
        (None, None, true) => Ok(Stdin::Open),
        (Some(text), None, false) => Ok(Stdin::Bytes(Bytes::from(text.clone()))),
        (None, Some(text), false) => STANDARD
            .decode(text)
            .map(|bytes| Stdin::Bytes(bytes.into()))
            .or_else(|error| bad(&format!("stdin_base64: {error}"))),
        _ => bad("give one of stdin, stdin_base64 and stdin_open"),
    }
}

#[cfg(test)]
mod tests;
