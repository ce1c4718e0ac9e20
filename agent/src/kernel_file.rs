//! Files by which the kernel is told something: /proc and cgroups.

use std::{fs::OpenOptions, io, io::Write, path::Path};

/// Writes `text` in one piece, without asking to create or to truncate the file: gVisor refuses both
/// in /proc.
///
/// # Errors
/// As open(2) and write(2), and whatever the kernel has against the text.
pub fn write(path: impl AsRef<Path>, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
