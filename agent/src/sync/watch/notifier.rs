//! Notifications of changes beneath a directory (inotify(7)): one watch a directory.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    files::{Root, WorkspacePath, resolve::Links},
    sync::changes::snapshot::Snapshot,
};

/// Bytes of notifications that are read at once.
const BUFFER: usize = 16 * 1024;

/// A directory that is watched: by which watch, and how it was then.
#[derive(Debug, Clone, Copy)]
struct Cover {
    watch: i32,
    stamp: u64,
}

/// Notifications of one tree.
#[derive(Debug)]
pub(super) struct Notifier {
    descriptor: AsyncFd<OwnedFd>,
    covers: Mutex<HashMap<WorkspacePath, Cover>>,
}

impl Notifier {
    /// Begins, where the kernel has notifications to give.
    pub(super) fn start() -> Option<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; this one's does not"
        )]
        let descriptor = AsyncFd::new(descriptor).ok()?;
        Some(Self { descriptor, covers: Mutex::default() })
    }

    /// Watches the top and every directory of a snapshot; gives the number of new watches. Blocks.
    ///
    /// # Errors
    /// When there are no more to be had, or the tree cannot be watched.
    pub(super) fn cover(&self, root: &Root, tree: &Arc<Snapshot>) -> Result<usize, Errno> {
        let mut covers = self.covers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut added = 0;
        let mut next = HashMap::new();
        for (path, stamp) in std::iter::once((WorkspacePath::root(), 0)).chain(tree.directories()) {
            let before = covers.get(&path).copied();
            if let Some(cover) = before.filter(|cover| stamp != 0 && cover.stamp == stamp) {
                next.insert(path, cover);
                continue;
            }
            // It is new, or has changed: another directory may have taken the name.
            let Some(watch) = self.add(root, &path)? else { continue };
            added += usize::from(before.is_none_or(|before| before.watch != watch));
            next.insert(path, Cover { watch, stamp });
        }
        *covers = next;
        Ok(added)
    }

    /// Watches a directory, which may have gone meanwhile. It is named by its descriptor: a link in
    /// its place is not followed.
    fn add(&self, root: &Root, path: &WorkspacePath) -> Result<Option<i32>, Errno> {
        let Ok(directory) = root.open_directory(path, Links::Refuse) else { return Ok(None) };
        let name = format!("/proc/self/fd/{}", directory.fd()?.as_raw_fd());
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        inotify::add_watch(self.descriptor.get_ref(), name, events).map(Some)
    }

    /// Resolves when something has happened. Safe to cancel.
    pub(super) async fn told(&self) {
        // Whether it is readable is known until it was read to its end, see `forget`.
        if self.descriptor.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what was told so far.
    pub(super) fn forget(&self) {
        let read =
            self.descriptor.try_io(Interest::READABLE, |descriptor| -> std::io::Result<()> {
                let mut buffer = [0_u8; BUFFER];
                loop {
                    rustix::io::read(descriptor, &mut buffer)?;
                }
            });
        if let Err(error) = read
            && error.kind() != std::io::ErrorKind::WouldBlock
        {
            tracing::debug!(%error, "notifications could not be read");
        }
    }
}
