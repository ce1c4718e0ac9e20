//! The terminal on this side: its size, and raw mode, in which every key is the command's.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde::Serialize;

/// How many characters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    pub(super) rows: u16,
    pub(super) cols: u16,
}

impl Size {
    /// Where there is no terminal: what programs have assumed since there were glass ones.
    pub(super) const DEFAULT: Self = Self { rows: 24, cols: 80 };

    /// The size of our terminal, whichever of our streams it is.
    pub(super) fn of_ours() -> Option<Self> {
        Self::of(io::stdout()).or_else(|| Self::of(io::stdin())).or_else(|| Self::of(io::stderr()))
    }

    fn of(stream: impl AsFd) -> Option<Self> {
        let size = tcgetwinsize(stream).ok()?;
        // A terminal of a serial line does not know its own.
        let known = size.ws_row > 0 && size.ws_col > 0;
        known.then_some(Self { rows: size.ws_row, cols: size.ws_col })
    }
}

/// A terminal in raw mode. It becomes what it was with the end of this value, whatever the end.
pub(super) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts our standard input into raw mode; `None` where that is no terminal.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn of_stdin() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        stdin.is_terminal().then(|| Self::enter(stdin.as_fd().try_clone_to_owned()?)).transpose()
    }

    fn enter(terminal: OwnedFd) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Keys that were hit before stay: they were meant for the command. And nothing is waited
        // for: a terminal that was stopped would never be drained.
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(&self.terminal, OptionalActions::Now, &self.before) {
            tracing::debug!(%error, "the terminal has gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::{
        pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
        termios::{LocalModes, Winsize, tcsetwinsize},
    };

    use super::*;

    /// Both ends of a real terminal.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outer = openpt(flags).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let inner = ioctl_tiocgptpeer(&outer, flags).unwrap();
        (outer, inner)
    }

    fn is_raw(terminal: &OwnedFd) -> bool {
        let modes = tcgetattr(terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    #[test]
    fn the_terminal_becomes_what_it_was_even_after_a_panic() {
        let (_outer, inner) = terminal();
        assert!(!is_raw(&inner));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _raw = RawMode::enter(inner.try_clone().unwrap()).unwrap();
            assert!(is_raw(&inner));
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert!(!is_raw(&inner));
    }

    #[test]
    fn a_size_is_read_where_there_is_one() {
        let (_outer, inner) = terminal();
        assert_eq!(Size::of(&inner), None);
        let size = Winsize { ws_row: 33, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&inner, size).unwrap();
        assert_eq!(Size::of(&inner), Some(Size { rows: 33, cols: 120 }));
        assert_eq!(Size::of(tempfile::tempfile().unwrap()), None);
    }
}
