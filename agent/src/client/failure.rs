//! Why a subcommand of the command line failed, in words for a person.

use std::{fmt, io, path::PathBuf};

use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use workspace_common::{
    body::{BodyError, collect_limited},
    client::ClientError,
};

use crate::{
    files::path::{PathError, printable},
    sync::{
        exclude::ExcludeError, pack::PackError, removal::LooksLikeAMistake, unpack::UnpackError,
    },
};

/// Longest error answer that is read.
const MAX_PROBLEM: usize = 64 * 1024;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The directory on this side cannot be used.
    #[error("cannot open the directory {path}: {source}")]
    LocalDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path on the other side is not one.
    #[error("the remote path '{path}' is not acceptable: {reason}")]
    RemotePath {
        /// The path, fit for printing.
        path: String,
        /// Why.
        reason: PathError,
    },
    /// An exclude pattern is not a glob.
    #[error(transparent)]
    Exclude(#[from] ExcludeError),
    /// The file with exclude patterns cannot be read.
    #[error("cannot read the exclude patterns in {path}: {source}")]
    Patterns {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Removing so much looks like a mistake.
    #[error(transparent)]
    Removal(#[from] LooksLikeAMistake),
    /// No answer came.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// The agent refused.
    #[error("the agent refused ({status}, {code}): {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The stable code.
        code: String,
        /// The explanation.
        detail: String,
    },
    /// The tree on this side could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The tree from the other side could not be unpacked here.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The answer broke off.
    #[error("the answer of the agent could not be read: {0}")]
    Answer(#[from] BodyError),
    /// The answer is not what this version understands.
    #[error("the agent's answer is not understood: {0}")]
    BadAnswer(#[from] serde_json::Error),
    /// The result could not be printed.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// The command's input could not be read on this side.
    #[error("cannot read standard input: {0}")]
    Input(#[source] io::Error),
    /// Nothing came in time.
    #[error("no answer within {waited:?}")]
    Silent {
        /// How long was waited.
        waited: std::time::Duration,
    },
    /// The reply to a command ended without its last event.
    #[error("the connection broke before the command's end was known; {0}")]
    CutShort(Fate),
    /// The agent has closed the connection to a command and said why.
    #[error("the agent closed the connection ({code}): {reason}")]
    Closed {
        /// The code of RFC 6455.
        code: u16,
        /// The explanation.
        reason: String,
    },
    /// No connection to a command came of it.
    #[error("the answer ({status}) opens no WebSocket; is this the address of a workspace agent?")]
    NoWebSocket {
        /// The HTTP status.
        status: StatusCode,
    },
    /// The agent or the reply is at fault.
    #[error("the command's end is not known: {0}")]
    Lost(String),
    /// Something broke inside.
    #[error("a part of this program ended abnormally: {0}")]
    Internal(#[from] tokio::task::JoinError),
}

/// What becomes of a command whose connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The agent ends it.
    Ended,
    /// It runs on, or did when last heard of.
    RunsOn,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "it has been ended with it",
            Self::RunsOn => "it may run on",
        })
    }
}

impl Failure {
    /// Whether the same may be had by connecting once more.
    pub fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::CutShort(_) | Self::Answer(BodyError::Failed(_)))
    }
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

/// Passes a success on and turns any other answer into [`Failure::Refused`].
///
/// # Errors
/// When the status is not a success.
pub async fn expect_success(answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let content = collect_limited(answer.into_body(), MAX_PROBLEM).await?;
    let problem = serde_json::from_slice(&content).unwrap_or_else(|_| Problem {
        code: "unknown".to_owned(),
        detail: "it gave no explanation; is this the address of a workspace agent?".to_owned(),
    });
    // What comes from the other side is printed on a terminal here.
    let (code, detail) = (printable(problem.code.as_bytes()), printable(problem.detail.as_bytes()));
    Err(Failure::Refused { status, code, detail })
}
