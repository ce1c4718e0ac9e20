//! `get REMOTE [FILE]`: one file of the workspace here. After a broken connection it goes on where it
//! was, if the file is still the same (`Range` with `If-Range`), and from its start if it is not.

mod sink;

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use workspace_common::{
    body::{self, BodyError},
    client::Client,
};

use super::{
    failure::{Failure, expect_success},
    patience::Patience,
    progress::{Direction, Progress},
    tree::parse_remote,
};
use crate::files::{Root, WorkspacePath};
use sink::{Place, Sink};

/// Copy a file of the workspace here, whole or not at all. After a broken connection it goes on where
/// it was
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// The file, relative to the workspace's root
    pub remote: OsString,
    /// Where it goes; its own name in the current directory if absent, standard output if -
    pub file: Option<PathBuf>,
    /// How long to try without getting on
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = humantime::parse_duration)]
    pub retry_for: Duration,
}

/// Runs the subcommand.
///
/// # Errors
/// When the agent cannot be reached for too long, it refuses, or the file cannot be written.
pub async fn run(client: &Client, args: &GetArgs) -> Result<ExitCode, Failure> {
    let remote = parse_remote(Some(&args.remote))?;
    let place = Place::parse(args.file.as_deref(), &remote)?;
    let fail = |source| Failure::LocalDirectory { path: place.directory.clone(), source };
    let root = Root::open(&place.directory).map_err(fail)?;
    let progress = Progress::start(Direction::Pull);
    let mut get = Get { client, remote: &remote, have: 0, tag: None, progress };
    let mut sink = Sink::open(&root, &place)?;
    let mut patience = Patience::new(args.retry_for);
    loop {
        match get.go_on(&mut sink).await {
            Ok(mode) => {
                drop(get.progress);
                return sink.finish(&place, mode, get.have);
            }
            Err(failure) => {
                patience.note(get.have);
                patience.wait_after(failure).await?;
            }
        }
    }
}

struct Get<'a> {
    client: &'a Client,
    remote: &'a WorkspacePath,
    /// Bytes that were written.
    have: u64,
    /// The state that they are of.
    tag: Option<HeaderValue>,
    progress: Progress,
}

impl Get<'_> {
    /// Asks for what is missing and writes it. Gives the mode of the file at the end.
    async fn go_on(&mut self, sink: &mut Sink<'_>) -> Result<Option<u32>, Failure> {
        let answer = expect_success(self.client.request_apart(self.request()).await?).await?;
        let headers = answer.headers();
        if headers.get("workspace-kind").is_some_and(|kind| kind == "directory") {
            return Err(Failure::RemoteDirectory { path: self.remote.to_string() });
        }
        if answer.status() != StatusCode::PARTIAL_CONTENT && self.have > 0 {
            // The file has changed: what came of its former state is of no use.
            sink.restart()?;
            self.have = 0;
        }
        self.tag = headers.get(header::ETAG).cloned();
        let mode = mode(headers);
        self.receive(answer, sink).await?;
        Ok(mode)
    }

    fn request(&self) -> Request<body::Body> {
        let mut request = Request::new(body::empty());
        *request.uri_mut() =
            format!("/v1/files/{}", self.remote.to_url()).parse().unwrap_or_default();
        if let (1.., Some(tag)) = (self.have, &self.tag)
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.have))
        {
            request.headers_mut().insert(header::RANGE, range);
            request.headers_mut().insert(header::IF_RANGE, tag.clone());
        }
        request
    }

    async fn receive(
        &mut self,
        answer: Response<Incoming>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let length = answer
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        self.progress.expect(self.have.saturating_add(length.unwrap_or(0)));
        let mut position = self.progress.position();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyError::Failed(error.into()))?;
            let Ok(data) = frame.into_data() else { continue };
            sink.write_all(&data)?;
            self.have = self.have.saturating_add(u64::try_from(data.len()).unwrap_or(0));
            position(self.have);
        }
        Ok(())
    }
}

fn mode(headers: &HeaderMap) -> Option<u32> {
    u32::from_str_radix(headers.get("workspace-mode")?.to_str().ok()?, 8).ok()
}
