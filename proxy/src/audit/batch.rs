//! Lines on their way out, a system call for many of them, and what becomes of them when it fails.

use std::io::{self, ErrorKind, Write};

use prometheus::IntCounter;

use crate::audit::queue::Written;

/// Bytes that are written at once, where they are more than a line.
const FULL: usize = 64 * 1024;

/// Where lines go.
pub(super) struct Batch<W> {
    out: W,
    /// The last line in the log has no end.
    torn: bool,
    failing: bool,
    lost: IntCounter,
}

impl<W: Write> Batch<W> {
    pub(super) const fn new(out: W, lost: IntCounter) -> Self {
        Self { out, torn: false, failing: false, lost }
    }

    /// Writes whole lines. What cannot be written is lost: kept, it would fill the memory.
    pub(super) fn write(&mut self, lines: &[u8]) -> Written {
        let mut rest = lines;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at_checked(end_of_piece(rest)).unwrap_or((rest, &[]));
            self.write_piece(piece);
            rest = more;
        }
        if self.failing { Written::Failed } else { Written::Whole }
    }

    fn write_piece(&mut self, piece: &[u8]) {
        let (written, result) = match self.end_torn_line() {
            Ok(()) => write_all(&mut self.out, piece),
            Err(error) => (0, Err(error)),
        };
        let (done, rest) = piece.split_at_checked(written).unwrap_or((piece, &[]));
        if let Some(last) = done.last() {
            self.torn = *last != b'\n';
        }
        match result {
            Ok(()) => self.mend(),
            Err(error) => {
                let ends = rest.iter().filter(|byte| **byte == b'\n').count();
                self.lost.inc_by(u64::try_from(ends).unwrap_or(u64::MAX));
                self.complain(&error);
            }
        }
    }

    /// A line that broke off must not take the next one with it.
    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.torn {
            write_all(&mut self.out, b"\n").1?;
            self.torn = false;
        }
        Ok(())
    }

    fn mend(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the audit log is written again");
        }
    }

    /// Once for each time that it begins to fail: a full disk must not fill the log as well.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "cannot write the audit log; lines are lost and counted");
        }
    }
}

/// As many lines as go into one write, and one at least.
fn end_of_piece(lines: &[u8]) -> usize {
    if lines.len() <= FULL {
        return lines.len();
    }
    let (first, more) = lines.split_at_checked(FULL).unwrap_or((lines, &[]));
    let before = first.iter().rposition(|byte| *byte == b'\n');
    let after = || more.iter().position(|byte| *byte == b'\n').map(|at| FULL + at);
    before.or_else(after).map_or(lines.len(), |at| at + 1)
}

/// How much was written, whatever the end.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(some) => written += some,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::writer::{AuditWriter, Lines, NoRoom};

    /// A disk with so much room, which somebody may make larger.
    #[derive(Clone, Default)]
    struct Disk(Arc<std::sync::Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (content, size) = &mut *self.0.lock().unwrap();
            let room = (*size - content.len()).min(bytes.len());
            content.extend_from_slice(&bytes[..room]);
            if room == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(room) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_loses_counted_lines_and_mends() {
        let disk = Disk::default();
        disk.0.lock().unwrap().1 = 9;
        let lost = IntCounter::new("lost", "lost").unwrap();
        let writer = AuditWriter::to(disk.clone(), Lines::Required, lost.clone()).unwrap();
        for line in ["first", "second", "third"] {
            writer.write(line.as_bytes(), None);
            writer.flush();
        }
        assert_eq!(lost.get(), 2, "the torn one is lost, too");
        assert_eq!(writer.begin().err(), Some(NoRoom), "nothing is served that leaves no line");
        disk.0.lock().unwrap().1 = 100;
        writer.write(b"fourth", None);
        writer.flush();
        assert_eq!(disk.0.lock().unwrap().0, b"first\nsec\nfourth\n");
        assert!(writer.begin().unwrap().is_some());
        assert_eq!(lost.get(), 2);
    }

    #[test]
    fn a_write_takes_whole_lines() {
        let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
        for (lengths, expected) in [
            (&[10, 20][..], 30),
            (&[FULL - 10, 20], FULL - 10),
            (&[FULL, 20], FULL),
            (&[FULL + 10, 20], FULL + 10),
        ] {
            let lines: Vec<u8> = lengths.iter().flat_map(|length| line(*length)).collect();
            assert_eq!(end_of_piece(&lines), expected, "{lengths:?}");
        }
    }
}
