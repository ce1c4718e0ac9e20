//! A pseudo-terminal (pty(7)) as a command's input, output and controlling terminal.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::pipe::{Sink, Source};

/// What a terminal sends for the end of the input, when nobody has changed it (termios(3), VEOF).
pub const END_OF_INPUT: &[u8] = b"\x04";

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// The agent's side of a terminal.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<Source>);

impl Terminal {
    /// A new terminal of this size, and the side for the command. Call it inside the runtime.
    ///
    /// # Errors
    /// When the container has no `/dev/ptmx` or `/dev/pts`, or no more terminals.
    pub fn open(size: Size) -> io::Result<(Self, OwnedFd)> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = openat(CWD, &*name, flags, Mode::empty())?;
        let terminal = Self(Arc::new(Source::new(ours)?));
        terminal.resize(size)?;
        Ok((terminal, theirs))
    }

    /// Changes the size; the kernel tells the foreground process group (SIGWINCH).
    ///
    /// # Errors
    /// As ioctl(2), `TIOCSWINSZ`.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.as_fd(), size)?)
    }

    /// Where the command's output is read.
    pub fn source(&self) -> Arc<Source> {
        self.0.clone()
    }

    /// Where the command's input is typed.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn sink(&self) -> io::Result<Sink> {
        Sink::new(self.0.as_fd().try_clone_to_owned()?)
    }
}
