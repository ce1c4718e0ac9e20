//! Why a part of an upload is refused.

use http::{HeaderValue, Response, StatusCode, header};
use workspace_common::{body::Body, problem::Problem};

use super::{
    super::error::FileError,
    fields::{COMPLETE, OFFSET, boolean_value},
    record::UploadId,
};

/// Why something about an upload cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is no such upload.
    #[error("there is no upload '{0}': it was cancelled, or left alone for too long")]
    Unknown(String),
    /// Another request is sending.
    #[error("another request is sending to upload '{0}'; ask for its offset, and try again")]
    Busy(UploadId),
    /// The part is not the next one.
    #[error("the upload has {expected} bytes, and the part begins at {given}")]
    Offset {
        /// How much there is.
        expected: u64,
        /// Where the part begins.
        given: u64,
    },
    /// The content is not as long as was said.
    #[error("the upload was announced with {announced} bytes and would have {found}")]
    Length {
        /// What was said.
        announced: u64,
        /// What would be.
        found: u64,
    },
    /// Too many have begun and not ended.
    #[error(
        "{0} uploads are unfinished, which is the limit (--max-uploads); finish or cancel some"
    )]
    TooMany(usize),
    /// They take too much room.
    #[error("unfinished uploads may have {0} bytes together (--upload-space)")]
    NoSpace(u64),
    /// The file is at fault.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let (code, status) = match error {
            UploadError::Unknown(_) => ("no_such_upload", StatusCode::NOT_FOUND),
            UploadError::Busy(_) => ("upload_busy", StatusCode::CONFLICT),
            UploadError::Offset { .. } => ("upload_offset_mismatch", StatusCode::CONFLICT),
            UploadError::Length { .. } => ("upload_length_mismatch", StatusCode::BAD_REQUEST),
            UploadError::TooMany(_) => ("too_many_uploads", StatusCode::TOO_MANY_REQUESTS),
            UploadError::NoSpace(_) => ("upload_space_used", StatusCode::INSUFFICIENT_STORAGE),
            UploadError::File(error) => return error.into(),
        };
        Self::new(status, code, error.to_string())
    }
}

/// The answer to a part that is refused: a wrong offset comes with the right one, and what may go
/// later with the time to wait.
pub(super) fn refusal(error: UploadError) -> Response<Body> {
    let offset = match error {
        UploadError::Offset { expected, .. } => Some(expected),
        _ => None,
    };
    let busy = matches!(error, UploadError::Busy(_));
    let mut response = Problem::from(error).response();
    let headers = response.headers_mut();
    if let Some(offset) = offset {
        headers.insert(&OFFSET, offset.into());
        headers.insert(&COMPLETE, boolean_value(false));
    }
    if busy {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
