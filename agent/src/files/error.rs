//! Why a file operation failed: one closed list of kinds, each with its stable code and status.

use std::io;

use http::StatusCode;
use rustix::io::Errno;
use workspace_common::problem::Problem;

use super::path::{PathError, WorkspacePath};

/// What kind of failure it was. The code is part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileErrorKind {
    /// Nothing has this name.
    NotFound,
    /// The path names a directory where a file is needed.
    IsADirectory,
    /// Something on the path, or at its end, is not a directory.
    NotADirectory,
    /// The directory still has entries.
    NotEmpty,
    /// A link leads out of the root, or is absolute.
    OutsideRoot,
    /// A link stands where only a real directory or file may be.
    Link,
    /// Links lead in a circle, or through too many steps.
    TooManyLinks,
    /// The path itself is not acceptable.
    BadPath(PathError),
    /// A socket, FIFO or device.
    NotRegular,
    /// The kernel's permissions forbid it.
    PermissionDenied,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The disk or the quota is full.
    NoSpace,
    /// A file would be larger than allowed.
    TooLarge,
    /// The directory tree is deeper than this program walks.
    TooDeep,
    /// The file changed while it was read.
    Changed,
    /// The sender went away before the end.
    Cut,
    /// The sender was silent for too long.
    Stalled,
    /// The agent has too many files open.
    Busy,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// The content is not what the sender said it would be.
    DigestMismatch,
    /// Something has the name already.
    Exists,
    /// A directory would be moved beneath itself.
    IntoItself,
    /// Both names lie on different file systems.
    OtherFileSystem,
    /// Anything else that the kernel says.
    Io(Errno),
}

impl FileErrorKind {
    /// The stable code and the status of the answer.
    fn code_and_status(self) -> (&'static str, StatusCode) {
        match self {
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::IsADirectory => ("is_a_directory", StatusCode::CONFLICT),
            Self::NotADirectory => ("not_a_directory", StatusCode::CONFLICT),
            Self::NotEmpty => ("directory_not_empty", StatusCode::CONFLICT),
            Self::OutsideRoot => ("outside_root", StatusCode::FORBIDDEN),
            Self::Link => ("is_a_link", StatusCode::CONFLICT),
            Self::TooManyLinks => ("too_many_links", StatusCode::CONFLICT),
            Self::BadPath(_) => ("bad_path", StatusCode::BAD_REQUEST),
            Self::NotRegular => ("not_a_regular_file", StatusCode::CONFLICT),
            Self::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
            Self::ReadOnly => ("read_only", StatusCode::FORBIDDEN),
            Self::NoSpace => ("no_space", StatusCode::INSUFFICIENT_STORAGE),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooDeep => ("too_deep", StatusCode::CONFLICT),
            Self::Changed => ("changed_while_read", StatusCode::CONFLICT),
            Self::Cut => ("upload_cut", StatusCode::BAD_REQUEST),
            Self::Stalled => ("upload_stalled", StatusCode::REQUEST_TIMEOUT),
            Self::Busy => ("too_many_open_files", StatusCode::SERVICE_UNAVAILABLE),
            Self::PreconditionFailed => ("precondition_failed", StatusCode::PRECONDITION_FAILED),
            Self::DigestMismatch => ("digest_mismatch", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Exists => ("already_exists", StatusCode::CONFLICT),
            Self::IntoItself => ("into_itself", StatusCode::CONFLICT),
            Self::OtherFileSystem => ("other_file_system", StatusCode::CONFLICT),
            Self::Io(_) => ("io_error", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::NotFound,
            Errno::ISDIR => Self::IsADirectory,
            Errno::NOTDIR => Self::NotADirectory,
            Errno::NOTEMPTY | Errno::EXIST => Self::NotEmpty,
            Errno::XDEV => Self::OutsideRoot,
            Errno::LOOP => Self::TooManyLinks,
            Errno::NAMETOOLONG => Self::BadPath(PathError::NameTooLong),
            Errno::NXIO | Errno::NODEV => Self::NotRegular,
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied,
            Errno::ROFS => Self::ReadOnly,
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
            Errno::FBIG => Self::TooLarge,
            Errno::MFILE | Errno::NFILE => Self::Busy,
            other => Self::Io(other),
        }
    }
}

/// What it means, to be read after "cannot do this with that: ".
impl std::fmt::Display for FileErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "there is no such entry",
            Self::IsADirectory => "it is a directory",
            Self::NotADirectory => "it, or something on the way to it, is not a directory",
            Self::NotEmpty => "the directory is not empty",
            Self::OutsideRoot => {
                "a symbolic link on the way leads out of the root (absolute links count as such)"
            }
            Self::Link => "a symbolic link stands in the way, and links are not followed here",
            Self::TooManyLinks => "the symbolic links on the way do not end",
            Self::BadPath(reason) => return reason.fmt(f),
            Self::NotRegular => "it is not a regular file",
            Self::PermissionDenied => "permission denied",
            Self::ReadOnly => "the file system is read-only",
            Self::NoSpace => "no space is left",
            Self::TooLarge => "it is larger than allowed",
            Self::TooDeep => "the directories are nested too deeply",
            Self::Changed => "it changed while it was read; try again",
            Self::Cut => "the upload ended early; the former content is unchanged",
            Self::Stalled => "the upload made no progress; the former content is unchanged",
            Self::Busy => "too many files are open; try again",
            Self::PreconditionFailed => {
                "a condition of the request does not hold (If-Match, If-None-Match, \
                 If-Unmodified-Since); look at what is there now"
            }
            Self::DigestMismatch => {
                "the content does not have the SHA-256 that Repr-Digest announced; \
                 the former content is unchanged"
            }
            Self::Exists => "something has this name already",
            Self::IntoItself => "a directory cannot be moved beneath itself",
            Self::OtherFileSystem => "the other name lies on another file system",
            Self::Io(errno) => return errno.fmt(f),
        })
    }
}

/// A failed file operation: what was tried, with which entry, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} '{path}': {kind}")]
pub struct FileError {
    action: &'static str,
    path: WorkspacePath,
    kind: FileErrorKind,
}

impl FileError {
    /// A failure of a known kind. `action` fits between "cannot" and the path.
    pub fn new(action: &'static str, path: &WorkspacePath, kind: FileErrorKind) -> Self {
        Self { action, path: path.clone(), kind }
    }

    /// A failure that the kernel reported.
    pub fn from_errno(action: &'static str, path: &WorkspacePath, errno: Errno) -> Self {
        Self::new(action, path, FileErrorKind::from_errno(errno))
    }

    /// A failure that came through the standard library.
    pub fn from_io(action: &'static str, path: &WorkspacePath, error: &io::Error) -> Self {
        let kind = match (Errno::from_io_error(error), error.kind()) {
            (Some(errno), _) => FileErrorKind::from_errno(errno),
            (None, io::ErrorKind::UnexpectedEof) => FileErrorKind::Cut,
            (None, io::ErrorKind::TimedOut) => FileErrorKind::Stalled,
            (None, io::ErrorKind::StorageFull) => FileErrorKind::NoSpace,
            (None, _) => FileErrorKind::Io(Errno::IO),
        };
        Self::new(action, path, kind)
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> FileErrorKind {
        self.kind
    }

    /// The entry that it happened with.
    pub fn path(&self) -> &WorkspacePath {
        &self.path
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let (code, status) = error.kind.code_and_status();
        Self::new(status, code, error.to_string())
    }
}
