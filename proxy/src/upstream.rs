//! The way out: from a permit to a connection.

pub mod guard;
