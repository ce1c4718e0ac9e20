//! `push DIR [REMOTE]`: a directory of this machine into the workspace.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf, process::ExitCode};

use clap::Args;
use http::{HeaderValue, Method, Request, header};
use tokio::task::JoinHandle;
use workspace_common::{
    body::{Body, collect_limited},
    client::Client,
};

use super::{
    failure::{Failure, expect_success},
    progress::{Direction, Format, Progress},
};
use crate::{
    files::{
        Root, WorkspacePath,
        path::{percent_encode, printable},
        transfer::{self, Outlet},
    },
    sync::{
        TAR,
        archive::Report,
        exclude::{Defaults, Exclusions},
        pack::{PackError, pack},
    },
};

/// Longest report that is read; it names a thousand paths at most.
const MAX_REPORT: usize = 16 * 1024 * 1024;

/// What is left out.
#[derive(Debug, Clone, Default, Args)]
pub struct ExcludeArgs {
    /// Leave out what matches GLOB, as in a .gitignore: a name at any depth, or with a slash a path
    /// from the top; a slash at the end means directories only. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Copy .git, node_modules, __pycache__, .venv, venv, .mypy_cache, .pytest_cache, .ruff_cache
    /// and .cache too, which are left out otherwise
    #[arg(long)]
    pub no_default_excludes: bool,
}

impl ExcludeArgs {
    pub(super) fn defaults(&self) -> Defaults {
        if self.no_default_excludes { Defaults::Ignore } else { Defaults::Apply }
    }
}

/// Copy a directory into the workspace. Links are copied as links; nothing in the workspace is
/// removed. Exit code 3 means that some files could not be read
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// The directory on this machine
    pub dir: PathBuf,
    /// Where it goes, relative to the workspace's root; the root itself if absent
    pub remote: Option<OsString>,
    /// What is left out.
    #[command(flatten)]
    pub exclude: ExcludeArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl PushArgs {
    /// The arguments of `push DIR`.
    pub fn for_directory(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), remote: None, exclude: ExcludeArgs::default(), json: false }
    }
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the directory cannot be read, the agent cannot be reached, or it refuses.
pub async fn run(client: &Client, args: &PushArgs) -> Result<ExitCode, Failure> {
    let progress = Progress::start(Direction::Push);
    let report = push(client, args, &progress).await?;
    Ok(progress.finish(&report, Format::from_json_flag(args.json))?)
}

/// Moves the tree.
///
/// # Errors
/// As [`run`].
pub async fn push(
    client: &Client,
    args: &PushArgs,
    progress: &Progress,
) -> Result<Report, Failure> {
    let remote = parse_remote(args.remote.as_ref())?;
    let exclusions = Exclusions::new(&args.exclude.exclude, args.exclude.defaults())?;
    let root = Root::open(&args.dir)
        .map_err(|source| Failure::LocalDirectory { path: args.dir.clone(), source })?;
    let (outlet, body) = transfer::download();
    let packing = start_packing(root, exclusions, outlet, progress);
    let answer = client.request(push_request(&remote, body)).await;
    match answer {
        Ok(answer) => {
            let answer = expect_success(answer).await?;
            let content = collect_limited(answer.into_body(), MAX_REPORT).await?;
            let received: Report = serde_json::from_slice(&content)?;
            packing.await??;
            Ok(received)
        }
        // Where the tree could not be read, the broken connection is only the consequence.
        Err(error) => match packing.await? {
            Err(PackError::File(cause)) => Err(PackError::File(cause).into()),
            _ => Err(error.into()),
        },
    }
}

fn start_packing(
    root: Root,
    exclusions: Exclusions,
    mut outlet: Outlet,
    progress: &Progress,
) -> JoinHandle<Result<(), PackError>> {
    let mut counter = progress.counter();
    tokio::task::spawn_blocking(move || match pack(&root, &exclusions, &mut outlet, &mut counter) {
        Ok(_) => outlet.finish().map_err(PackError::Output),
        Err(error) => {
            outlet.fail(error.to_string());
            Err(error)
        }
    })
}

fn push_request(remote: &WorkspacePath, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target("/v1/sync/push", &[("path", remote.as_bytes())]);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TAR));
    request
}

pub(super) fn parse_remote(remote: Option<&OsString>) -> Result<WorkspacePath, Failure> {
    let bytes = remote.map_or(&b""[..], |remote| remote.as_bytes());
    WorkspacePath::parse(bytes)
        .map_err(|reason| Failure::RemotePath { path: printable(bytes), reason })
}

/// A path with a query, every value percent-encoded.
pub(super) fn target(path: &str, query: &[(&str, &[u8])]) -> http::Uri {
    let pairs: Vec<_> =
        query.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    let separator = if pairs.is_empty() { "" } else { "?" };
    // All of it is encoded to the characters that a URI may have.
    format!("{path}{separator}{}", pairs.join("&")).parse().unwrap_or_default()
}
