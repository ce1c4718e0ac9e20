//! Where the output of a command goes on this side, and how far it has come.
//!
//! Writing waits for our reader without holding anything else up: a signal must end this program
//! even when nobody reads its output.

use tokio::io::{self, AsyncWrite, AsyncWriteExt, Stderr, Stdout};

use super::{
    ending::Exit,
    event::{Limits, Told},
    failure::Failure,
};
use crate::{exec::frame::Kind, files::path::printable};

/// The offsets up to which output has been passed on. A terminal's counts as standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Of standard output, in bytes.
    pub(super) stdout: u64,
    /// Of standard error, in bytes.
    pub(super) stderr: u64,
}

/// Why nothing more is to be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The command has ended.
    Exited(Exit),
    /// The command runs on.
    Open,
}

/// Takes what an agent tells and passes it on.
#[derive(Debug)]
pub(super) struct Output<O = Stdout, E = Stderr> {
    stdout: O,
    stderr: E,
    place: Place,
    line_end: &'static str,
}

impl Output {
    /// To our own standard output and error.
    pub(super) fn standard() -> Self {
        Self::new(io::stdout(), io::stderr())
    }
}

impl<O: AsyncWrite + Unpin, E: AsyncWrite + Unpin> Output<O, E> {
    fn new(stdout: O, stderr: E) -> Self {
        Self { stdout, stderr, place: Place::default(), line_end: "\n" }
    }

    /// Our terminal is in raw mode: a new line does not begin at its left by itself.
    pub(super) fn is_raw(&mut self) {
        self.line_end = "\r\n";
    }

    /// How far it has come.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Takes one thing told. The answer is `Some` when it was the last.
    ///
    /// # Errors
    /// When nobody reads our output, or the end of the command is not known.
    pub(super) async fn take(&mut self, told: Told) -> Result<Option<End>, Failure> {
        match told {
            Told::Output { stream, offset, bytes } => {
                self.pass(stream, &bytes).await?;
                *self.place_in(stream) = offset + bytes.len() as u64;
            }
            Told::Gap { stream, from, to } => {
                let lost = to.saturating_sub(from);
                let name = stream.name();
                self.note(&format!("{lost} bytes of {name} are kept no more")).await?;
                *self.place_in(stream) = to;
            }
            Told::Started { limits, .. } => self.note_limits(&limits).await?,
            Told::Exited(exit) => return Ok(Some(End::Exited(exit))),
            Told::Open => return Ok(Some(End::Open)),
            Told::Failed { detail } => return Err(Failure::Lost(printable(detail.as_bytes()))),
            Told::Attached { .. } | Told::Other => {}
        }
        Ok(None)
    }

    /// Says which limits are not in force. Nobody asks for one that does not matter.
    ///
    /// # Errors
    /// When standard error is closed.
    pub(super) async fn note_limits(&mut self, limits: &Limits) -> Result<(), Failure> {
        for (name, result) in limits.iter().filter(|(_, result)| *result != "applied") {
            let [name, result] = [name, result].map(|text| printable(text.as_bytes()));
            self.note(&format!("limit {name}: {result}")).await?;
        }
        Ok(())
    }

    /// Says something of our own.
    async fn note(&mut self, text: &str) -> Result<(), Failure> {
        let line = format!("workspace-agent: {text}{}", self.line_end);
        Ok(write(&mut self.stderr, line.as_bytes()).await?)
    }

    async fn pass(&mut self, stream: Kind, bytes: &[u8]) -> Result<(), Failure> {
        match stream {
            Kind::Stdout | Kind::Pty => write(&mut self.stdout, bytes).await?,
            Kind::Stderr => write(&mut self.stderr, bytes).await?,
        }
        Ok(())
    }

    fn place_in(&mut self, stream: Kind) -> &mut u64 {
        match stream {
            Kind::Stdout | Kind::Pty => &mut self.place.stdout,
            Kind::Stderr => &mut self.place.stderr,
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn output(stream: Kind, offset: u64, bytes: &'static [u8]) -> Told {
        Told::Output { stream, offset, bytes: Bytes::from_static(bytes) }
    }

    #[tokio::test]
    async fn streams_go_where_they_belong_and_gaps_are_said() {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut to = Output::new(&mut stdout, &mut stderr);
        let gap = Told::Gap { stream: Kind::Stderr, from: 2, to: 12 };
        for told in [
            output(Kind::Stdout, 3, b"abc"),
            output(Kind::Stderr, 0, b"x\n"),
            gap,
            Told::Other,
            output(Kind::Stderr, 12, b"y\n"),
        ] {
            assert_eq!(to.take(told).await.unwrap(), None);
        }
        assert_eq!(to.place(), Place { stdout: 6, stderr: 14 });
        assert_eq!(to.take(output(Kind::Pty, 6, b"\xff")).await.unwrap(), None);
        assert_eq!(to.place().stdout, 7);
        let exit = Exit::default();
        assert_eq!(to.take(Told::Exited(exit)).await.unwrap(), Some(End::Exited(Exit::default())));
        assert_eq!(stdout, b"abc\xff");
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(said, "x\nworkspace-agent: 10 bytes of stderr are kept no more\ny\n");
    }

    #[tokio::test]
    async fn a_limit_that_is_not_in_force_as_asked_is_said() {
        let mut stderr = Vec::new();
        let mut to = Output::new(Vec::new(), &mut stderr);
        to.is_raw();
        let limits = [("nofile", "applied"), ("pids", "not applied: no \u{1b}cgroup")];
        let limits = limits.map(|(name, result)| (name.to_owned(), result.to_owned())).into();
        to.take(Told::Started { id: "a".to_owned(), limits }).await.unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(said, "workspace-agent: limit pids: not applied: no \\u{1b}cgroup\r\n");
    }

    #[tokio::test]
    async fn an_unknown_end_is_an_error_with_the_agents_reason() {
        let mut to = Output::new(Vec::new(), Vec::new());
        let lost = to.take(Told::Failed { detail: "it is gone".to_owned() }).await.unwrap_err();
        assert!(lost.to_string().contains("it is gone"), "{lost}");
    }
}
