//! A real terminal for the program under test.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize},
};

/// Both of its ends.
pub(crate) struct Terminal {
    outer: File,
    inner: OwnedFd,
    before: Termios,
}

impl Terminal {
    pub(crate) fn new(rows: u16, cols: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outer = openpt(flags).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let inner = ioctl_tiocgptpeer(&outer, flags).unwrap();
        let before = tcgetattr(&inner).unwrap();
        let terminal = Self { outer: outer.into(), inner, before };
        terminal.resize(rows, cols);
        terminal
    }

    /// Starts a program with this terminal.
    pub(crate) fn start(&self, mut command: Command) -> Child {
        let end = || self.inner.try_clone().unwrap();
        command.env("TERM", "vt100").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    pub(crate) fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.inner, size).unwrap();
    }

    pub(crate) fn keys(&mut self, bytes: &[u8]) {
        self.outer.write_all(bytes).unwrap();
    }

    pub(crate) fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.inner).unwrap().local_modes;
        !modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Whether it is what it was in the beginning.
    pub(crate) fn is_as_before(&self) -> bool {
        let (now, before) = (tcgetattr(&self.inner).unwrap(), &self.before);
        now.local_modes == before.local_modes
            && now.input_modes == before.input_modes
            && now.output_modes == before.output_modes
            && now.control_modes == before.control_modes
    }

    /// What was shown, after the end of whatever runs in it.
    pub(crate) fn screen(self) -> String {
        let Self { mut outer, inner, .. } = self;
        drop(inner);
        let mut screen = Vec::new();
        // The end of a terminal is an error (EIO).
        outer.read_to_end(&mut screen).unwrap_err();
        String::from_utf8(screen).unwrap()
    }
}
