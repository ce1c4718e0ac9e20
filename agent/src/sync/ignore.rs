//! The `.gitignore` files of a tree, with git's meaning: those of the directories above an entry, the
//! nearest first; the first that has a pattern for it decides, by the last one that matches.
//!
//! They are read when their directory is, and kept within a bound. A tree that is not trusted can
//! only have less of itself transferred by them.

pub mod pattern;
mod wildmatch;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use crate::files::{Name, Root, WorkspacePath, metadata::Kind, resolve::Links};
use pattern::Patterns;

/// The name of the files.
const FILE: &[u8] = b".gitignore";
/// What is read of one, and of how many patterns: each costs time for every entry beneath.
const MAX_FILE: u64 = 256 * 1024;
/// Directories and bytes of patterns that are remembered; beyond it they are read anew.
const MAX_KEPT: usize = 4 * 1024 * 1024;

/// The patterns of a directory's file.
#[derive(Debug)]
struct Rules {
    directory: WorkspacePath,
    patterns: Patterns,
}

/// Those that concern the entries of one directory, the nearest first.
#[derive(Debug, Clone, Default)]
pub struct Chain(Vec<Arc<Rules>>);

/// The files of a tree.
#[derive(Debug)]
pub struct IgnoreFiles {
    root: Arc<Root>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    rules: HashMap<WorkspacePath, Option<Arc<Rules>>>,
    weight: usize,
}

impl Chain {
    /// Whether an entry of the directory is left out.
    pub fn exclude(&self, path: &WorkspacePath, kind: Kind) -> bool {
        let decision = self.0.iter().find_map(|rules| {
            let relative = match rules.directory.as_bytes() {
                b"" => path.as_bytes(),
                above => path.as_bytes().get(above.len() + 1..).unwrap_or_default(),
            };
            rules.patterns.decide(relative, kind)
        });
        decision.unwrap_or(false)
    }
}

impl IgnoreFiles {
    /// The files beneath `root`.
    pub fn new(root: Arc<Root>) -> Self {
        Self { root, kept: Mutex::default() }
    }

    /// Those that concern the entries of a directory.
    pub fn chain(&self, directory: &WorkspacePath) -> Chain {
        let mut chain = Vec::new();
        let mut above = WorkspacePath::root();
        chain.extend(self.rules(&above));
        for name in directory.names() {
            if above.push(name).is_ok() {
                chain.extend(self.rules(&above));
            }
        }
        chain.reverse();
        Chain(chain)
    }

    /// Whether an entry is left out, by itself or with a directory above it.
    pub fn exclude_with_parents(&self, path: &WorkspacePath, kind: Kind) -> bool {
        let mut reached = WorkspacePath::root();
        let depth = path.names().count();
        path.names().enumerate().any(|(index, name)| {
            let chain = self.chain(&reached);
            let kind = if index + 1 == depth { kind } else { Kind::Directory };
            reached.push(name).is_ok() && chain.exclude(&reached, kind)
        })
    }

    fn rules(&self, directory: &WorkspacePath) -> Option<Arc<Rules>> {
        if let Some(known) = self.lock().rules.get(directory) {
            return known.clone();
        }
        let read = self.read(directory).map(Arc::new);
        let mut kept = self.lock();
        kept.weight += directory.as_bytes().len() + 100;
        kept.weight += read.as_ref().map_or(0, |rules| rules.patterns.weight());
        if kept.weight > MAX_KEPT {
            *kept = Kept::default();
        }
        kept.rules.insert(directory.clone(), read.clone());
        read
    }

    /// Nothing where there is no file, or it cannot be read: git goes on without it, too.
    fn read(&self, directory: &WorkspacePath) -> Option<Rules> {
        let name = Name::parse(FILE).ok()?;
        let opened = match directory.is_root() {
            true => self.root.directory().open_file(name),
            false => self.root.open_directory(directory, Links::Refuse).ok()?.open_file(name),
        };
        let mut text = Vec::new();
        opened.ok()?.0.take(MAX_FILE).read_to_end(&mut text).ok()?;
        let patterns = Patterns::parse(&text);
        Some(Rules { directory: directory.clone(), patterns })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
