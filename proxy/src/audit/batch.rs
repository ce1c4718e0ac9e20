//! Lines on their way out, a system call for many of them, and what becomes of them when it fails.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use prometheus::IntCounter;

use crate::audit::writer::{Message, Place};

/// Bytes that are written at once.
const FULL: usize = 64 * 1024;

/// Lines that are written next, and where they go.
pub(super) struct Batch<W> {
    out: W,
    text: Vec<u8>,
    places: Vec<Place>,
    waiting: Vec<SyncSender<()>>,
    /// The last line in the log has no end.
    torn: bool,
    /// `text` begins with that end.
    mending: bool,
    failing: Arc<AtomicBool>,
    lost: IntCounter,
}

impl<W: Write> Batch<W> {
    pub(super) fn new(out: W, failing: Arc<AtomicBool>, lost: IntCounter) -> Self {
        let (text, places, waiting) = (Vec::new(), Vec::new(), Vec::new());
        Self { out, text, places, waiting, torn: false, mending: false, failing, lost }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.text.len() >= FULL
    }

    /// Whether somebody waits for what was taken to be written.
    pub(super) const fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Line(line, place) => {
                // A line that broke off must not take the next one with it.
                if self.torn && self.text.is_empty() {
                    self.text.push(b'\n');
                    self.mending = true;
                }
                self.text.extend_from_slice(line.as_bytes());
                self.text.push(b'\n');
                self.places.push(place);
            }
            Message::Flush(done) => self.waiting.push(done),
        }
    }

    /// Writes what was taken. What cannot be written is lost: kept, it would fill the memory.
    pub(super) fn write(&mut self) {
        let (written, result) = write_all(&mut self.out, &self.text);
        let (done, rest) = self.text.split_at_checked(written).unwrap_or((&self.text, &[]));
        if let Some(last) = done.last() {
            self.torn = *last != b'\n';
        }
        if let Err(error) = result {
            let ends = rest.iter().filter(|byte| **byte == b'\n').count();
            let lines = ends.saturating_sub(usize::from(self.mending && done.is_empty()));
            self.lost.inc_by(u64::try_from(lines).unwrap_or(u64::MAX));
            self.complain(&error);
        } else if !self.text.is_empty() && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the audit log is written again");
        }
        self.mending = false;
        self.text.clear();
        self.places.clear();
        for done in self.waiting.drain(..) {
            if done.try_send(()).is_err() {
                tracing::debug!("nobody waits for the flush any more");
            }
        }
    }

    /// Once for each time that it begins to fail: a full disk must not fill the log as well.
    fn complain(&self, error: &io::Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "cannot write the audit log; lines are lost and counted");
        }
    }
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
            writer.write(line.to_owned(), None);
            writer.flush();
        }
        assert_eq!(lost.get(), 2, "the torn one is lost, too");
        assert_eq!(writer.begin().err(), Some(NoRoom), "nothing is served that leaves no line");
        disk.0.lock().unwrap().1 = 100;
        writer.write("fourth".to_owned(), None);
        writer.flush();
        assert_eq!(disk.0.lock().unwrap().0, b"first\nsec\nfourth\n");
        assert!(writer.begin().unwrap().is_some());
        assert_eq!(lost.get(), 2);
    }
}
