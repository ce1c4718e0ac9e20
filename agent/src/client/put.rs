//! `put FILE [REMOTE]`: one file into the workspace. A large one goes as a resumable upload: after a
//! broken connection, or another start of the agent, it goes on where the agent says that it is.

mod source;

use std::{
    ffi::OsString,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use workspace_common::{
    body::{self, Body, collect_limited},
    client::Client,
};

use super::{
    failure::{Failure, expect_success},
    patience::Patience,
    progress::{Direction, Progress},
    tree::parse_remote,
};
use crate::files::{
    WorkspacePath,
    path::{PathError, printable},
    upload::fields::{COMPLETE, LENGTH, OFFSET, PARTIAL_UPLOAD, boolean_value},
};
use source::Source;

/// What is sent in one request: to send it again is cheaper than to ask first.
const SMALL: u64 = 8 * 1024 * 1024;
/// Longest answer that is read: a path and some numbers.
const MAX_ANSWER: usize = 64 * 1024;

/// Copy a file into the workspace, whole or not at all. After a broken connection a large one goes
/// on where it was
#[derive(Debug, Clone, Args)]
pub struct PutArgs {
    /// The file on this machine
    pub file: PathBuf,
    /// Where it goes, relative to the workspace's root, with a slash at the end into that directory;
    /// under its own name into the root if absent
    pub remote: Option<OsString>,
    /// Do nothing where something has the name already
    #[arg(long)]
    pub create: bool,
    /// How long to try without getting on
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = humantime::parse_duration)]
    pub retry_for: Duration,
    /// Print the agent's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Deserialize)]
struct Written {
    path: String,
    size: u64,
    sha256: String,
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the file cannot be read, the agent cannot be reached for too long, or it refuses.
pub async fn run(client: &Client, args: &PutArgs) -> Result<ExitCode, Failure> {
    let source = Source::open(&args.file)?;
    let remote = remote_file(args.remote.as_ref(), &args.file)?;
    let target = format!("/v1/files/{}?mode={:o}", remote.to_url(), source.mode());
    let put = Put { client, args, source, target };
    let answer =
        if put.source.size() > SMALL { put.resumable().await? } else { put.at_once().await? };
    let content = collect_limited(answer.into_body(), MAX_ANSWER).await?;
    let written: Written = serde_json::from_slice(&content)?;
    put.source.check(&written.sha256)?;
    let mut output = std::io::stdout().lock();
    if args.json {
        output.write_all(&content)?;
    } else {
        let (path, sha256) =
            (printable(written.path.as_bytes()), printable(written.sha256.as_bytes()));
        writeln!(output, "put {path}: {} B, sha256 {sha256}", written.size)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Put<'a> {
    client: &'a Client,
    args: &'a PutArgs,
    source: Source,
    target: String,
}

impl Put<'_> {
    async fn at_once(&self) -> Result<Response<Incoming>, Failure> {
        let request = request(Method::PUT, &self.target, self.source.read_from(0, |_| {}));
        let request = self.with_conditions(request);
        expect_success(self.client.request_apart(request).await?).await
    }

    fn with_conditions(&self, mut request: Request<Body>) -> Request<Body> {
        if self.args.create {
            let any = HeaderValue::from_static("*");
            request.headers_mut().insert(header::IF_NONE_MATCH, any);
        }
        request
    }

    /// Names the upload, and sends until the agent has all of it.
    async fn resumable(&self) -> Result<Response<Incoming>, Failure> {
        let mut patience = Patience::new(self.args.retry_for);
        let progress = Progress::start(Direction::Push);
        progress.expect(self.source.size());
        let upload = loop {
            match self.begin().await {
                Ok(upload) => break upload,
                Err(failure) => patience.wait_after(failure).await?,
            }
        };
        let mut offset = 0;
        loop {
            match self.send(&upload, offset, &progress).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => patience.wait_after(failure).await?,
            }
            offset = loop {
                match self.ask(&upload).await {
                    Ok(reached) => break reached,
                    Err(failure) => patience.wait_after(failure).await?,
                }
            };
            patience.note(offset);
        }
    }

    async fn begin(&self) -> Result<String, Failure> {
        let mut request = self.with_conditions(request(Method::PUT, &self.target, body::empty()));
        request.headers_mut().insert(&COMPLETE, boolean_value(false));
        request.headers_mut().insert(&LENGTH, self.source.size().into());
        let answer = expect_success(self.client.request_apart(request).await?).await?;
        let location = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
        let location = location.filter(|place| place.starts_with("/v1/uploads/"));
        location.map(str::to_owned).ok_or(Failure::NoUploads)
    }

    /// Sends everything from an offset on.
    async fn send(
        &self,
        upload: &str,
        offset: u64,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failure> {
        let content = self.source.read_from(offset, progress.position());
        let mut request = request(Method::PATCH, upload, content);
        let kind = HeaderValue::from_static(PARTIAL_UPLOAD);
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        request.headers_mut().insert(&OFFSET, offset.into());
        request.headers_mut().insert(&COMPLETE, boolean_value(true));
        let answer = expect_success(self.client.request_apart(request).await?).await?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Err(Failure::NoUploads);
        }
        Ok(answer)
    }

    /// How much has arrived.
    async fn ask(&self, upload: &str) -> Result<u64, Failure> {
        let request = request(Method::HEAD, upload, body::empty());
        let answer = self.client.request_apart(request).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(Failure::UploadGone);
        }
        let answer = expect_success(answer).await?;
        number(&answer, &OFFSET).ok_or(Failure::NoUploads)
    }
}

/// The path of a file: its own name where none is given, or where a directory is.
fn remote_file(remote: Option<&OsString>, file: &Path) -> Result<WorkspacePath, Failure> {
    let mut path = parse_remote(remote)?;
    let is_directory = remote.is_none_or(|remote| remote.as_bytes().ends_with(b"/"));
    if is_directory || path.is_root() {
        let own = file.file_name().map(OsString::from);
        let bad = |reason| Failure::RemotePath { path: path.to_string(), reason };
        let own = parse_remote(own.as_ref())?;
        let (_, name) = own.split_last().ok_or_else(|| bad(PathError::Empty))?;
        path.push(name).map_err(|reason| Failure::RemotePath { path: own.to_string(), reason })?;
    }
    Ok(path)
}

fn number(answer: &Response<Incoming>, name: &HeaderName) -> Option<u64> {
    answer.headers().get(name)?.to_str().ok()?.parse().ok()
}

fn request(method: Method, target: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap_or_default();
    request
}
