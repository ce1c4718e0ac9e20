//! The file that keeps what both sides had in common: a manifest, replaced as a whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{
    client::failure::Failure,
    sync::manifest::{
        Entry,
        wire::{ManifestReader, ManifestWriter},
    },
};

/// A base file.
#[derive(Debug, Clone)]
pub(in crate::client) struct Base(PathBuf);

impl Base {
    /// A base file outside of the directory that is synced: in it, it would be synced itself.
    pub(in crate::client) fn outside_of(file: &Path, dir: &Path) -> Result<Self, Failure> {
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().map_err(|source| failed(file, source))?;
        match dir.canonicalize() {
            Ok(dir) if parent.starts_with(&dir) => {
                Err(Failure::BaseInside { base: file.to_owned(), dir })
            }
            _ => Ok(Self(file.to_owned())),
        }
    }

    /// What both sides had; nothing before the first time.
    pub(super) fn read(&self) -> Result<Vec<Entry>, Failure> {
        match File::open(&self.0) {
            Ok(file) => ManifestReader::new(file)
                .collect::<Result<_, _>>()
                .map_err(|reason| Failure::BadBase { base: self.0.clone(), reason }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(&self.0, error)),
        }
    }

    /// Replaces what is kept, in one step.
    pub(in crate::client) fn write<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<(), Failure> {
        let mut name = self.0.clone().into_os_string();
        name.push(format!(".{:016x}", fastrand::u64(..)));
        let temporary = PathBuf::from(name);
        let written = write_new(&temporary, entries)
            .and_then(|()| fs::rename(&temporary, &self.0))
            .map_err(|error| failed(&self.0, error));
        if written.is_err() {
            // There may be none; what went wrong is told in any case.
            fs::remove_file(&temporary).ok();
        }
        written
    }
}

fn write_new<'e>(path: &Path, entries: impl Iterator<Item = &'e Entry>) -> io::Result<()> {
    let mut writer = ManifestWriter::new(BufWriter::new(File::create_new(path)?));
    for entry in entries {
        writer.append(entry)?;
    }
    let mut buffered = writer.finish()?;
    buffered.flush()?;
    buffered.get_ref().sync_data()
}

fn failed(base: &Path, source: io::Error) -> Failure {
    Failure::Base { base: base.to_owned(), source }
}
