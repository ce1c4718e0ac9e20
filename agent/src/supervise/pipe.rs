//! The agent's ends of pipes and terminals, read and written without buffers of their own: a
//! thousand idle commands cost none.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, ioctl_fionbio, ioctl_fionread},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{io::AsyncWriteExt, net::unix::pipe};

/// Size of one read. A pipe holds 64 KiB by default (pipe(7)).
pub const READ_SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a command's output comes from.
#[derive(Debug)]
pub struct Source(pipe::Receiver);

/// Where a command's input goes.
#[derive(Debug)]
pub struct Sink(pipe::Sender);

/// A pipe for the output of a command: our end, and the command's. Call it inside the runtime.
///
/// # Errors
/// As pipe(2).
pub fn for_output() -> io::Result<(Source, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Source::new(read)?, write))
}

/// A pipe for the input of a command: our end, and the command's. Call it inside the runtime.
///
/// # Errors
/// As pipe(2).
pub fn for_input() -> io::Result<(Sink, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Sink::new(write)?, read))
}

impl Source {
    /// Takes over the reading end of a pipe, or a terminal, which is read like one.
    ///
    /// # Errors
    /// When the kernel refuses to report when it is ready.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&fd, true)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Hands the next bytes, at most `limit`, to `take`, and says how many there were: none at the
    /// end. Safe to cancel.
    ///
    /// # Errors
    /// As read(2).
    pub async fn read(&self, limit: usize, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        loop {
            self.0.readable().await?;
            let read = with_buffer(limit, |buffer| {
                let read = end_of_terminal(self.0.try_read(buffer))?;
                take(buffer.get(..read).unwrap_or_default());
                Ok(read)
            });
            match read {
                Err(error) if is_passing(&error) => {}
                other => return other,
            }
        }
    }

    /// The same without waiting. The kernel itself is asked, not the runtime's record of what is
    /// readable.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing now, otherwise as read(2).
    pub fn read_now(&self, limit: usize, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        with_buffer(limit, |buffer| {
            let read = rustix::io::read(self, &mut *buffer).map_err(io::Error::from);
            let read = end_of_terminal(read)?;
            take(buffer.get(..read).unwrap_or_default());
            Ok(read)
        })
    }

    /// How many bytes can be read without waiting.
    pub fn pending(&self) -> usize {
        ioctl_fionread(self).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }
}

fn with_buffer<T>(limit: usize, read: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(READ_SIZE, 0);
        read(buffer.get_mut(..limit.min(READ_SIZE)).unwrap_or_default())
    })
}

/// The side of a terminal whose last user has gone reads an error, not an end (pty(7)).
fn end_of_terminal(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(0),
        other => other,
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Sink {
    /// Takes over the writing end of a pipe, or a terminal, which is written like one.
    ///
    /// # Errors
    /// When the kernel refuses to report when it is ready.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&fd, true)?;
        Ok(Self(pipe::Sender::from_owned_fd_unchecked(fd)?))
    }

    /// Writes everything. When it is cancelled, a part may have been written.
    ///
    /// # Errors
    /// As write(2).
    pub async fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_up_to_the_limit_and_then_the_end() {
        let (ours, theirs) = for_output().unwrap();
        rustix::io::write(&theirs, b"hello").unwrap();
        let mut read = Vec::new();
        assert_eq!(ours.read(3, |data| read.extend_from_slice(data)).await.unwrap(), 3);
        assert_eq!(ours.pending(), 2);
        drop(theirs);
        assert_eq!(ours.read(99, |data| read.extend_from_slice(data)).await.unwrap(), 2);
        assert_eq!(ours.read(99, |_data| {}).await.unwrap(), 0);
        assert_eq!(read, b"hello");
        let (ours, theirs) = for_output().unwrap();
        let nothing = ours.read_now(9, |_data| {}).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
    }

    #[tokio::test]
    async fn more_than_a_pipe_holds_is_written_as_it_is_read() {
        let (mut ours, theirs) = for_input().unwrap();
        let theirs = Source::new(theirs).unwrap();
        let data = vec![7; 200_000];
        let mut read = 0;
        let next = async || theirs.read(usize::MAX, |_data| {}).await.unwrap();
        let reading = async {
            while read < data.len() {
                read += next().await;
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&data), reading);
        written.unwrap();
    }
}
