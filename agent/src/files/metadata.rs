//! What the agent tells about an entry: kind, size, mode, times, and the tag made of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::{
    fs::{FileType, Stat},
    time::{ClockId, clock_gettime},
};

/// The permission bits that are read and written. Set-uid, set-gid and sticky are left out both
/// ways: an archive from a workspace must not be able to make a set-uid file on the machine that
/// pulls it.
pub const PERMISSION_BITS: u32 = 0o777;

/// Seconds of 9999-12-31T23:59:59Z, the last instant that both date formats can write.
const LAST_WRITABLE_SECOND: i64 = 253_402_300_799;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character or block device.
    Device,
}

impl Kind {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }
}

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Self::Device,
        }
    }
}

/// An instant as file systems keep it: seconds since 1970, possibly negative, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// The rest, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl FileTime {
    /// RFC 3339 in UTC with nanoseconds, for JSON. Times outside of 1970 to 9999 are moved to the
    /// nearer end, because the format has no room for them.
    pub fn to_rfc3339(self) -> String {
        humantime::format_rfc3339_nanos(self.writable()).to_string()
    }

    /// The form of `Last-Modified` (RFC 9110 section 5.6.7), limited like
    /// [`FileTime::to_rfc3339`].
    pub fn to_http_date(self) -> String {
        httpdate::fmt_http_date(self.writable())
    }

    /// The time that the kernel's clock for files shows.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        Self { seconds: now.tv_sec, nanoseconds }
    }

    /// Longer ago than a tick of that clock takes on any kernel.
    fn a_tick_before(self) -> Self {
        const TICK: u32 = 20_000_000;
        match self.nanoseconds.checked_sub(TICK) {
            Some(nanoseconds) => Self { nanoseconds, ..self },
            None => Self {
                seconds: self.seconds.saturating_sub(1),
                nanoseconds: 1_000_000_000 - TICK + self.nanoseconds,
            },
        }
    }

    fn writable(self) -> SystemTime {
        let seconds = self.seconds.clamp(0, LAST_WRITABLE_SECOND);
        let nanoseconds = if seconds == self.seconds { self.nanoseconds } else { 0 };
        UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), nanoseconds)
    }
}

/// What the kernel says about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Length of the content in bytes.
    pub size: u64,
    /// The permission bits, `0o777` at most.
    pub mode: u32,
    /// Last change of the content.
    pub modified: FileTime,
    /// Bytes that the content takes up on the disk; fewer than its length where it has holes.
    pub allocated: u64,
    changed: FileTime,
    inode: u64,
}

impl Metadata {
    /// Tells states of one entry apart, as [`Metadata::etag`] does, for one who looks at `now`. Zero
    /// stands for a state that is too young: within a tick of the kernel's clock it may change once
    /// more and look the same.
    pub fn stamp(&self, now: FileTime) -> u64 {
        if self.changed > now.a_tick_before() {
            return 0;
        }
        // Odd multipliers spread the bits; this is compared with stamps of the same entry alone.
        let parts = [
            self.inode,
            self.size,
            self.changed.seconds.cast_unsigned(),
            u64::from(self.changed.nanoseconds),
        ];
        let sum = parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |sum: u64, part| {
            (sum.rotate_left(23) ^ part).wrapping_mul(0xff51_afd7_ed55_8ccd)
        });
        sum.max(1)
    }

    /// The entity tag: inode, size and both times. It is a strong one: whatever is written through
    /// this API gets a new inode, and a write in place moves the change time, which no program can
    /// set. The limit is the kernel's clock: two writes in place of the same size within one tick
    /// (4 ms, before Linux 6.13) look alike.
    pub fn etag(&self) -> String {
        let (m, c) = (self.modified, self.changed);
        format!(
            "\"{:x}-{:x}-{:x}.{:x}-{:x}.{:x}\"",
            self.inode, self.size, m.seconds, m.nanoseconds, c.seconds, c.nanoseconds
        )
    }
}

#[expect(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    trivial_numeric_casts,
    reason = "the fields of stat have other widths on other processors; the kernel keeps sizes \
              positive and nanoseconds below 10^9"
)]
impl From<&Stat> for Metadata {
    fn from(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode as u32).into(),
            size: stat.st_size.max(0) as u64,
            mode: stat.st_mode as u32 & PERMISSION_BITS,
            modified: FileTime {
                seconds: stat.st_mtime as i64,
                nanoseconds: stat.st_mtime_nsec as u32,
            },
            changed: FileTime {
                seconds: stat.st_ctime as i64,
                nanoseconds: stat.st_ctime_nsec as u32,
            },
            allocated: stat.st_blocks.max(0) as u64 * 512,
            inode: stat.st_ino as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_a_stamp_when_it_is_old_enough_to_have_only_one() {
        let time = |seconds, nanoseconds| FileTime { seconds, nanoseconds };
        let state = |changed, inode| Metadata {
            kind: Kind::File,
            size: 1,
            mode: 0o644,
            modified: time(0, 0),
            allocated: 0,
            changed,
            inode,
        };
        let now = time(100, 5);
        for young in [time(100, 5), time(99, 990_000_000), time(101, 0)] {
            assert_eq!(state(young, 1).stamp(now), 0);
        }
        let old = state(time(99, 900_000_000), 1);
        assert_eq!(old.stamp(now), old.stamp(time(200, 0)));
        assert_ne!(old.stamp(now), 0);
        assert_ne!(old.stamp(now), state(time(99, 900_000_001), 1).stamp(now));
        assert_ne!(old.stamp(now), state(time(99, 900_000_000), 2).stamp(now));
    }

    #[test]
    fn times_are_written_in_both_formats_and_never_overflow_them() {
        let time = |seconds, nanoseconds| FileTime { seconds, nanoseconds };
        let known = time(784_111_777, 5);
        assert_eq!(known.to_http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(known.to_rfc3339(), "1994-11-06T08:49:37.000000005Z");
        assert_eq!(time(-1, 5).to_rfc3339(), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time(i64::MAX, 7).to_rfc3339(), "9999-12-31T23:59:59.000000000Z");
        assert_eq!(time(i64::MAX, 7).to_http_date(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
