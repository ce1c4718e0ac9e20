//! How an archive is unpacked.

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most members. Each costs eight bytes of memory while the archive is unpacked.
    pub max_entries: u64,
    /// Most bytes of content in all.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// Two million entries, and as many bytes as the disk takes.
    fn default() -> Self {
        Self { max_entries: 2_000_000, max_bytes: u64::MAX }
    }
}

/// What an archive is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An archive of any program: each of its members is written. Notes of removals are refused.
    Archive,
    /// What makes this tree the same as the sender's: directories keep their times when entries in
    /// them change.
    Mirror(Removals),
}

/// What becomes of a file whose size, mode and time are those of the file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// It is written: the sender knows that it differs, or does not want to rely on that.
    Write,
    /// It is left alone: the sender has not asked what is there.
    LeaveAlone,
}

/// What becomes of notes of removals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// They are passed over: nobody asked for them.
    Ignore,
    /// They are collected, and a directory that they empty may be replaced by a file.
    Collect,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacking {
    /// What it is taken for.
    pub purpose: Purpose,
    /// What becomes of files that look the same.
    pub same: Same,
    /// How much it may hold.
    pub limits: Limits,
}

impl Unpacking {
    /// For this purpose, with the default limits.
    pub fn of(purpose: Purpose) -> Self {
        Self { purpose, same: Same::Write, limits: Limits::default() }
    }

    pub(super) fn mirrors(self) -> bool {
        matches!(self.purpose, Purpose::Mirror(_))
    }

    pub(super) fn removes(self) -> bool {
        self.purpose == Purpose::Mirror(Removals::Collect)
    }
}
