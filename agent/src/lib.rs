//! placeholder
pub mod files;
pub mod sync;
