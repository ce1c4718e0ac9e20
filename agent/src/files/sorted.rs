//! The names of a directory in the order of their bytes, with bounded memory.
//!
//! File systems give names in an order of their own, and a directory may have millions of them. It
//! is read again and again; each time the smallest names behind the last one given are kept. One
//! read is enough for nearly every directory there is.

use std::collections::BTreeSet;

use rustix::io::Result;

use super::{directory::Directory, path::Name};

/// Reads a directory in order.
#[derive(Debug)]
pub(super) struct SortedNames {
    directory: Directory,
    /// Names that were read and not given yet, the next one last.
    batch: Vec<Vec<u8>>,
    capacity: usize,
    last: Option<Vec<u8>>,
    complete: bool,
}

impl SortedNames {
    /// Starts at the first name; never keeps more than `capacity` of them.
    pub(super) fn new(directory: Directory, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { directory, batch: Vec::new(), capacity, last: None, complete: false }
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The next name that is not one of the agent's own.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn next_name(&mut self) -> Result<Option<Vec<u8>>> {
        if self.batch.is_empty() && !self.complete {
            self.read_batch()?;
        }
        let next = self.batch.pop();
        if next.is_some() {
            self.last.clone_from(&next);
        }
        Ok(next)
    }

    fn read_batch(&mut self) -> Result<()> {
        let mut smallest = BTreeSet::new();
        let mut overflow = false;
        let mut reading = self.directory.reopen()?;
        while let Some(entry) = reading.next_entry() {
            let (name, _) = entry?;
            let given = self.last.as_ref().is_some_and(|last| name <= *last);
            let hidden = Name::parse(&name).is_ok_and(Name::is_temporary);
            if given || hidden {
                continue;
            }
            if smallest.len() == self.capacity {
                overflow = true;
                if smallest.last().is_some_and(|greatest| name > *greatest) {
                    continue;
                }
                smallest.pop_last();
            }
            smallest.insert(name);
        }
        self.complete = !overflow;
        self.batch = smallest.into_iter().rev().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn names(directory: &std::path::Path, capacity: usize) -> Vec<String> {
        let directory = Directory::open_ambient(directory).unwrap();
        let mut sorted = SortedNames::new(directory, capacity);
        std::iter::from_fn(|| sorted.next_name().unwrap())
            .map(|name| String::from_utf8(name).unwrap())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_name_comes_once_and_in_order_however_few_are_kept(
            names_there in proptest::collection::btree_set("[a-z]{1,3}", 0..20),
            capacity in 1_usize..30,
        ) {
            let directory = tempfile::tempdir().unwrap();
            for name in &names_there {
                fs::write(directory.path().join(name), "").unwrap();
            }
            fs::write(directory.path().join(".workspace-tmp-0123456789abcdef"), "").unwrap();
            let expected = names_there.into_iter().collect::<Vec<_>>();
            prop_assert_eq!(names(directory.path(), capacity), expected);
        }
    }
}
