//! The file that is sent: read from any offset on, and hashed on the way, once, whatever is sent
//! again.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use workspace_common::body::Body;

use super::super::failure::Failure;
use crate::files::{
    digest::ContentDigest,
    metadata::PERMISSION_BITS,
    transfer::{self, CHUNK, Outlet},
};

/// An open file of this machine.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    mode: u32,
    hashed: Arc<Mutex<Hashed>>,
}

#[derive(Debug, Default)]
struct Hashed {
    hasher: Sha256,
    /// Bytes that are in it.
    position: u64,
}

impl Hashed {
    /// Takes what is new of these bytes.
    fn update(&mut self, offset: u64, bytes: &[u8]) {
        let known = self.position.checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        if let Some(new) = known.and_then(|known| bytes.get(known..)) {
            self.hasher.update(new);
            self.position = self.position.saturating_add(length(new));
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let fail = |source| Failure::LocalFile { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(fail(io::Error::other(
                "it is not a regular file; push copies directories",
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            size: metadata.len(),
            mode: metadata.permissions().mode() & PERMISSION_BITS,
            hashed: Arc::default(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// The content from an offset to the end, as a body. `progress` is told how far it is.
    pub(super) fn read_from(
        &self,
        offset: u64,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Body {
        let (outlet, body) = transfer::download();
        let (file, hashed, end) = (Arc::clone(&self.file), Arc::clone(&self.hashed), self.size);
        tokio::task::spawn_blocking(move || send(&file, (offset, end), &hashed, outlet, progress));
        body
    }

    /// Makes sure that what the agent has is what was read here.
    pub(super) fn check(&self, sha256: &str) -> Result<(), Failure> {
        let hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        let own = ContentDigest::of(hashed.hasher.clone()).to_string();
        if hashed.position == self.size && own == sha256 {
            return Ok(());
        }
        Err(Failure::Differs { path: self.path.clone() })
    }
}

fn send(
    file: &File,
    (mut offset, end): (u64, u64),
    hashed: &Mutex<Hashed>,
    mut outlet: Outlet,
    mut progress: impl FnMut(u64),
) {
    let mut buffer = vec![0; CHUNK];
    while offset < end {
        let wanted = usize::try_from(end - offset).map_or(CHUNK, |left| left.min(CHUNK));
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        if let Err(error) = file.read_exact_at(chunk, offset) {
            return outlet.fail(error);
        }
        hashed.lock().unwrap_or_else(PoisonError::into_inner).update(offset, chunk);
        if outlet.write_all(chunk).is_err() {
            // Nobody reads any more: the connection is gone.
            return;
        }
        offset += length(chunk);
        progress(offset);
    }
    if outlet.finish().is_err() {
        tracing::debug!("the connection was gone before the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_again_is_hashed_once() {
        let mut hashed = Hashed::default();
        for (offset, bytes) in [(0, "hel"), (0, "hello"), (3, "lo"), (7, "lost"), (5, "\n")] {
            hashed.update(offset, bytes.as_bytes());
        }
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(hashed.position, 6);
        assert_eq!(ContentDigest::of(hashed.hasher).to_string(), sha256);
    }
}
