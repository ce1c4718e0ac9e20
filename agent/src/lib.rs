//! placeholder
pub mod files;
