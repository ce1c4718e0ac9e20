//! Files of the workspace over HTTP: `GET`, `HEAD`, `PUT` and `DELETE` on `/v1/files/{path}`.
//!
//! [`Root`] is where every operation starts; the modules below it know no HTTP.

pub mod directory;
pub mod error;
pub mod metadata;
pub mod path;
pub mod remove;
pub mod resolve;
pub mod root;
pub mod temporary;
pub mod walk;

pub use error::{FileError, FileErrorKind};
pub use path::{Name, WorkspacePath};
pub use root::Root;
