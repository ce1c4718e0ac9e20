//! Processes apart from HTTP: a command goes in, and whoever holds its [`process::Process`] reads its
//! output, feeds it, signals it, or has its whole tree ended.
//!
//! An [`Engine`] takes a [`Request`] and gives a [`Start`]. One task owns each process ([`task`], which
//! moves its data by `flow`); [`spawn`] starts it, on a thread of `starter`'s choice, through
//! [`launcher`] where it wants a [`terminal`] or [`limits`]; [`reap`] learns of its end, [`tree`] finds
//! and ends what it has started, with the help of [`cgroup`] and [`alone`], [`stop`] asks for that.
//! [`table`] holds all commands, [`output`] what they wrote, [`reader`] is a place in it, and
//! [`bulletin`] tells what has happened.

pub mod alone;
pub mod bulletin;
pub mod cgroup;
mod engine;
mod flow;
pub mod launcher;
pub mod limits;
pub mod output;
pub mod pipe;
mod proc;
pub mod process;
pub mod reader;
pub mod reap;
mod request;
pub mod spawn;
mod start;
mod starter;
pub mod stop;
pub mod table;
pub mod task;
pub mod terminal;
pub mod tree;

pub use self::{
    engine::{Engine, Settings},
    request::{Request, Stdin},
    start::{Refusal, Start},
};
