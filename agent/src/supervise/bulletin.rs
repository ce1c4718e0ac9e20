//! What happens in the workspace, for those who want to hear of it at once.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::broadcast;

use super::task::Outcome;

/// Notices that a subscriber may be behind; one that is further is told how many it has missed.
const BACKLOG: usize = 1024;

/// Something that has happened.
#[derive(Debug, Clone)]
pub struct Notice {
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum What {
    /// A command was started.
    Started {
        /// Its id.
        id: Arc<str>,
        /// Its process id.
        pid: i32,
    },
    /// A command has ended; without an outcome, the agent has lost it.
    Exited {
        /// Its id.
        id: Arc<str>,
        /// Its process id.
        pid: i32,
        /// How.
        outcome: Option<Outcome>,
    },
}

/// Where notices are put up.
#[derive(Debug, Clone)]
pub struct Bulletin(broadcast::Sender<Notice>);

impl Default for Bulletin {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Bulletin {
    /// Tells all subscribers.
    pub fn put_up(&self, what: What) {
        // Nobody has to listen.
        self.0.send(Notice { at: SystemTime::now(), what }).ok();
    }

    /// Everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}
