//! Opening a path beneath a directory descriptor without ever leaving it.
//!
//! The kernel does it in one call where it has `openat2` (Linux 5.6; openat2(2)); where it has not
//! (gVisor, old seccomp profiles) the same is done name by name. Both refuse what leads out, links
//! included, and both are immune to names that change meanwhile: the kernel by its own locking, the
//! walk because it only ever opens single names without following and goes up by popping
//! descriptors, never by `..`.

use std::{collections::VecDeque, os::fd::BorrowedFd, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat, statat},
    io::Errno,
};

use super::{
    directory::{Directory, open_real_directory},
    error::FileErrorKind,
    path::WorkspacePath,
};

/// As the kernel: path_resolution(7) allows forty links in one path.
const MAX_LINKS: u32 = 40;
/// `openat2` gives up with EAGAIN when a rename races with it (openat2(2)); repeated this often.
const MAX_RACES: u32 = 16;

/// Which mechanism opens paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// One `openat2` call with `RESOLVE_BENEATH`.
    Openat2,
    /// A walk, one `openat` with `O_NOFOLLOW` a name.
    Walk,
}

/// Whether links that stay beneath the root are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are, as any program in the workspace would.
    Follow,
    /// Every link is an error.
    Refuse,
}

/// Why a path could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResolveError {
    /// A kind of our own.
    Kind(FileErrorKind),
    /// What the kernel said.
    Errno(Errno),
}

impl From<Errno> for ResolveError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Resolver {
    /// The best mechanism that works here. A seccomp profile that does not know `openat2` answers
    /// EPERM, a kernel without it ENOSYS; neither says anything about the path, which is `.`.
    pub(super) fn probe(base: &Directory) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = base
            .fd()
            .and_then(|base| openat2(base, ".", flags, Mode::empty(), ResolveFlags::BENEATH));
        if opened.is_ok() { Self::Openat2 } else { Self::Walk }
    }

    /// Opens `path` beneath `base`.
    pub(super) fn open(
        self,
        base: &Directory,
        path: &WorkspacePath,
        flags: OFlags,
        links: Links,
    ) -> Result<OwnedFd, ResolveError> {
        match self {
            Self::Openat2 => open_by_kernel(base, path, flags, links),
            Self::Walk => Walk::new(base.fd()?, path, flags, links).run(),
        }
    }
}

fn open_by_kernel(
    base: &Directory,
    path: &WorkspacePath,
    flags: OFlags,
    links: Links,
) -> Result<OwnedFd, ResolveError> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let bytes = if path.is_root() { b"." } else { path.as_bytes() };
    let mut races = 0;
    loop {
        match openat2(base.fd()?, bytes, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if races < MAX_RACES => races += 1,
            Err(Errno::LOOP) if links == Links::Refuse => {
                return Err(ResolveError::Kind(FileErrorKind::Link));
            }
            result => return result.map_err(ResolveError::Errno),
        }
    }
}

/// One resolution by hand.
struct Walk<'a> {
    base: BorrowedFd<'a>,
    /// The directories from beneath the base down to where the walk is.
    stack: Vec<OwnedFd>,
    /// Components still to go; may hold `..` and `.` out of link targets.
    rest: VecDeque<Vec<u8>>,
    flags: OFlags,
    links: Links,
    links_left: u32,
}

/// Where one step of the walk led.
enum Step {
    /// Into a directory, or along a link: go on.
    On,
    /// The last component is open.
    Opened(OwnedFd),
}

impl<'a> Walk<'a> {
    fn new(base: BorrowedFd<'a>, path: &WorkspacePath, flags: OFlags, links: Links) -> Self {
        Self {
            base,
            stack: Vec::new(),
            rest: path.names().map(|name| name.as_bytes().to_vec()).collect(),
            flags,
            links,
            links_left: MAX_LINKS,
        }
    }

    fn run(mut self) -> Result<OwnedFd, ResolveError> {
        while let Some(component) = self.rest.pop_front() {
            match component.as_slice() {
                b"" | b"." => {}
                b".." => {
                    self.stack.pop().ok_or(ResolveError::Kind(FileErrorKind::OutsideRoot))?;
                }
                name => {
                    if let Step::Opened(fd) = self.step(name)? {
                        return Ok(fd);
                    }
                }
            }
        }
        // The path was the base, or ended in a link to a directory above: open that directory anew.
        Ok(openat(self.here(), ".", self.flags, Mode::empty())?)
    }

    fn here(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.stack.last().map_or(self.base, AsFd::as_fd)
    }

    fn step(&mut self, name: &[u8]) -> Result<Step, ResolveError> {
        let is_last = self.rest.is_empty();
        let flags = if is_last {
            self.flags | OFlags::NOFOLLOW
        } else {
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
        };
        let opened = if is_last && flags.contains(OFlags::DIRECTORY) {
            open_real_directory(self.here(), name, self.flags)
        } else {
            openat(self.here(), name, flags, Mode::empty())
        };
        match opened {
            Ok(fd) if is_last => Ok(Step::Opened(fd)),
            Ok(fd) => {
                self.stack.push(fd);
                Ok(Step::On)
            }
            // With O_NOFOLLOW a link is ELOOP, with O_DIRECTORY besides ENOTDIR (open(2)).
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => self.follow(name, errno),
            Err(errno) => Err(errno.into()),
        }
    }

    fn follow(&mut self, name: &[u8], refused_with: Errno) -> Result<Step, ResolveError> {
        let stat = statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(refused_with.into());
        }
        if self.links == Links::Refuse {
            return Err(ResolveError::Kind(FileErrorKind::Link));
        }
        self.links_left = self
            .links_left
            .checked_sub(1)
            .ok_or(ResolveError::Kind(FileErrorKind::TooManyLinks))?;
        let target = readlinkat(self.here(), name, Vec::new())?.into_bytes();
        if target.starts_with(b"/") {
            return Err(ResolveError::Kind(FileErrorKind::OutsideRoot));
        }
        for component in target.split(|byte| *byte == b'/').rev() {
            self.rest.push_front(component.to_vec());
        }
        Ok(Step::On)
    }
}
