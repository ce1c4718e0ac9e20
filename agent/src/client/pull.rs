//! `pull [REMOTE] DIR`: a directory of the workspace onto this machine.
//!
//! The workspace is not trusted: what it sends is unpacked by the same code, with the same
//! refusals, that guards the workspace from what it is sent.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use http::Request;
use workspace_common::{body, client::Client};

use super::{
    failure::{Failure, expect_success},
    progress::{Direction, Format, Progress},
    push::{ExcludeArgs, parse_remote, target},
};
use crate::{
    files::{Root, WorkspacePath, transfer},
    sync::{
        archive::Report,
        exclude::{Defaults, Exclusions},
        unpack::{Limits, unpack},
    },
};

/// Copy a directory of the workspace onto this machine. Links are copied as links, wherever they
/// point, and nothing is written through one; nothing here is removed. Exit code 3 means that some
/// files could not be read
#[derive(Debug, Clone, Args)]
#[command(override_usage = "workspace-agent pull [OPTIONS] [REMOTE] DIR")]
pub struct PullArgs {
    /// What to copy, relative to the workspace's root (the root itself if only one is given), and
    /// the directory on this machine that it goes to
    #[arg(required = true, num_args = 1..=2, value_names = ["REMOTE", "DIR"])]
    pub paths: Vec<OsString>,
    /// What is left out.
    #[command(flatten)]
    pub exclude: ExcludeArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl PullArgs {
    fn ends(&self) -> Result<(WorkspacePath, PathBuf), Failure> {
        let (dir, remote) = match self.paths.as_slice() {
            [remote, dir, ..] => (dir.as_os_str(), Some(remote)),
            [dir] => (dir.as_os_str(), None),
            [] => (OsStr::new("."), None),
        };
        Ok((parse_remote(remote)?, PathBuf::from(dir)))
    }
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the agent cannot be reached or refuses, or the tree cannot be made here.
pub async fn run(client: &Client, args: &PullArgs) -> Result<ExitCode, Failure> {
    let progress = Progress::start(Direction::Pull);
    let report = pull(client, args, &progress).await?;
    Ok(progress.finish(&report, Format::from_json_flag(args.json))?)
}

/// Moves the tree.
///
/// # Errors
/// As [`run`].
pub async fn pull(
    client: &Client,
    args: &PullArgs,
    progress: &Progress,
) -> Result<Report, Failure> {
    let (remote, dir) = args.ends()?;
    // Compiled here for its errors alone: the agent applies the patterns.
    Exclusions::new(&args.exclude.exclude, args.exclude.defaults())?;
    let mut request = Request::new(body::empty());
    *request.uri_mut() = pull_target(&remote, &args.exclude);
    let answer = expect_success(client.request_apart(request).await?).await?;
    let root = open_target(&dir)
        .map_err(|source| Failure::LocalDirectory { path: dir.clone(), source })?;
    let (feed, intake) = transfer::upload();
    let mut counter = progress.counter();
    let unpacking =
        tokio::task::spawn_blocking(move || unpack(&root, Limits::default(), intake, &mut counter));
    let (unpacked, ()) = tokio::join!(unpacking, feed.pump(answer.into_body()));
    Ok(unpacked??)
}

fn pull_target(remote: &WorkspacePath, exclude: &ExcludeArgs) -> http::Uri {
    let mut query = vec![("path", remote.as_bytes())];
    query.extend(exclude.exclude.iter().map(|glob| ("exclude", glob.as_bytes())));
    if exclude.defaults() == Defaults::Ignore {
        query.push(("default_excludes", b"false"));
    }
    target("/v1/sync/pull", &query)
}

fn open_target(dir: &Path) -> std::io::Result<Root> {
    std::fs::create_dir_all(dir)?;
    Root::open(dir)
}
