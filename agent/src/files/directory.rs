//! An open directory, and what can be done with the entries in it, one name at a time.
//!
//! Every call takes a [`Name`], which has no slash and is not `..`, and none follows a link that
//! the name may be: so nothing here can reach outside of the directory, whatever other processes
//! rename or link meanwhile. Errors are the kernel's; the callers know the whole path.

#![expect(
    clippy::missing_errors_doc,
    reason = "every error is the errno of the system call that the name says"
)]

use std::{
    fs::File,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_OMIT,
        fchmod, fstat, fsync, futimens, mkdirat, openat, readlinkat, renameat, statat, symlinkat,
        unlinkat, utimensat,
    },
    io::{Errno, Result},
};

use super::{
    metadata::{FileTime, Kind, Metadata, PERMISSION_BITS},
    path::Name,
};

/// Flags of every directory that is opened.
pub(super) const DIRECTORY_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Flags of every file that is opened for reading: a FIFO must not make the open wait for a writer,
/// and a terminal must not become ours.
pub(super) const READ_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// An open directory. It is kept as a stream from the start, so that listing it needs no second
/// descriptor: a walk over a deep tree holds one a level.
#[derive(Debug)]
pub struct Directory(Dir);

impl Directory {
    pub(super) fn from_fd(fd: OwnedFd) -> Result<Self> {
        Dir::new(fd).map(Self)
    }

    /// Opens a directory by an ordinary path, links followed: for the root only.
    pub(super) fn open_ambient(path: &std::path::Path) -> Result<Self> {
        openat(CWD, path, DIRECTORY_FLAGS, Mode::empty()).and_then(Self::from_fd)
    }

    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.0.fd()
    }

    /// The same directory opened a second time, to be listed from its start.
    pub fn reopen(&self) -> Result<Self> {
        openat(self.fd()?, ".", DIRECTORY_FLAGS, Mode::empty()).and_then(Self::from_fd)
    }

    /// The directory's own metadata.
    pub fn metadata(&self) -> Result<Metadata> {
        fstat(self.fd()?).map(|stat| Metadata::from(&stat))
    }

    /// The metadata of an entry; of a link itself, not of its target.
    pub fn stat(&self, name: Name<'_>) -> Result<Metadata> {
        statat(self.fd()?, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| Metadata::from(&stat))
    }

    /// The target of a link, as it is written.
    pub fn read_link(&self, name: Name<'_>) -> Result<Vec<u8>> {
        readlinkat(self.fd()?, name.as_bytes(), Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// Opens a regular file for reading. Anything else is refused: a link with `LOOP`, a directory
    /// with `ISDIR`, a FIFO, socket or device with `NXIO`.
    pub fn open_file(&self, name: Name<'_>) -> Result<(File, Metadata)> {
        let fd = openat(self.fd()?, name.as_bytes(), READ_FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
        let metadata = Metadata::from(&fstat(&fd)?);
        match metadata.kind {
            Kind::File => Ok((File::from(fd), metadata)),
            Kind::Directory => Err(Errno::ISDIR),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Device => Err(Errno::NXIO),
        }
    }

    /// Opens a directory in this one; a link is refused with `NOTDIR`.
    pub fn open_directory(&self, name: Name<'_>) -> Result<Self> {
        open_real_directory(self.fd()?, name.as_bytes(), DIRECTORY_FLAGS).and_then(Self::from_fd)
    }

    /// Makes a new file that nobody else has, for writing.
    pub(super) fn create_new(&self, name: Name<'_>, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        openat(self.fd()?, name.as_bytes(), flags, mode_bits(mode)).map(File::from)
    }

    /// Makes a directory with the mode that the umask leaves of 0777.
    pub fn make_directory(&self, name: Name<'_>) -> Result<()> {
        mkdirat(self.fd()?, name.as_bytes(), mode_bits(0o777))
    }

    /// Makes a link. The target is data: nothing here ever follows it.
    pub fn make_symlink(&self, target: &[u8], name: Name<'_>) -> Result<()> {
        symlinkat(target, self.fd()?, name.as_bytes())
    }

    /// Gives the entry `from` the name `to`, replacing what had it.
    pub fn rename(&self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        renameat(self.fd()?, from.as_bytes(), self.fd()?, to.as_bytes())
    }

    /// Removes an entry that is not a directory.
    pub fn remove_file(&self, name: Name<'_>) -> Result<()> {
        unlinkat(self.fd()?, name.as_bytes(), AtFlags::empty())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, name: Name<'_>) -> Result<()> {
        unlinkat(self.fd()?, name.as_bytes(), AtFlags::REMOVEDIR)
    }

    /// Sets the modification time of an entry; of a link itself, not of its target.
    pub fn set_modified(&self, name: Name<'_>, time: FileTime) -> Result<()> {
        utimensat(self.fd()?, name.as_bytes(), &timestamps(time), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the permission bits of a regular file.
    pub fn set_mode(&self, name: Name<'_>, mode: u32) -> Result<()> {
        // Not by name: fchmodat(2) would follow a link.
        let (file, _) = self.open_file(name)?;
        fchmod(&file, mode_bits(mode))
    }

    /// Sets the permission bits of this directory.
    pub fn set_own_mode(&self, mode: u32) -> Result<()> {
        fchmod(self.fd()?, mode_bits(mode))
    }

    /// Sets the modification time of this directory.
    pub fn set_own_modified(&self, time: FileTime) -> Result<()> {
        futimens(self.fd()?, &timestamps(time))
    }

    /// Makes renames in this directory durable.
    pub fn sync(&self) -> Result<()> {
        fsync(self.fd()?)
    }

    /// Reads the next entry, without `.` and `..`: its name, and its kind where the file system
    /// tells it for free. `None` is the end.
    pub fn next_entry(&mut self) -> Option<Result<(Vec<u8>, Option<Kind>)>> {
        loop {
            let entry = match self.0.read()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(errno)),
            };
            let name = entry.file_name().to_bytes();
            if Name::parse(name).is_ok() {
                let kind = match entry.file_type() {
                    FileType::Unknown => None,
                    known => Some(Kind::from(known)),
                };
                return Some(Ok((name.to_vec(), kind)));
            }
        }
    }
}

/// Opens a directory by its name; a link is refused with `NOTDIR`. It takes two steps, because
/// gVisor follows a link in spite of `O_NOFOLLOW` where `O_DIRECTORY` is given without `O_PATH`.
pub(super) fn open_real_directory(
    parent: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd> {
    let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(parent, name, place, Mode::empty())?;
    openat(place, ".", flags, Mode::empty())
}

/// Permission bits as the kernel takes them.
pub(super) fn mode_bits(mode: u32) -> Mode {
    Mode::from_raw_mode(RawMode::from(mode & PERMISSION_BITS))
}

/// A modification time as the kernel takes it, the access time left alone.
pub(super) fn timestamps(modified: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: modified.seconds,
            tv_nsec: modified.nanoseconds.into(),
        },
    }
}
