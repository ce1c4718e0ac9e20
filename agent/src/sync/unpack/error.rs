//! Why an archive was not unpacked.

use http::StatusCode;
use workspace_common::problem::Problem;

use crate::{
    files::{FileError, WorkspacePath},
    sync::archive::ReadError,
};

/// Why an archive was not unpacked whole. What came before the failing entry stays.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is refused or cut.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// An entry could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// More members than allowed.
    #[error("the archive has more than {0} entries; the limit was reached at '{1}'")]
    TooManyEntries(u64, WorkspacePath),
    /// More content than allowed.
    #[error("the archive has more than {0} bytes of content; the limit was reached at '{1}'")]
    TooManyBytes(u64, WorkspacePath),
}

impl From<UnpackError> for Problem {
    fn from(error: UnpackError) -> Self {
        let detail = error.to_string();
        match error {
            UnpackError::File(error) => error.into(),
            UnpackError::Archive(ReadError::Truncated(_) | ReadError::Stream(_)) => {
                Self::bad_request("archive_cut", detail)
            }
            UnpackError::Archive(ReadError::Refused { .. }) => {
                Self::bad_request("bad_archive", detail)
            }
            UnpackError::TooManyEntries(..) | UnpackError::TooManyBytes(..) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "archive_too_large", detail)
            }
        }
    }
}
