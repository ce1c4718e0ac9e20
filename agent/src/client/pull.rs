//! `pull [REMOTE] DIR`: a directory of the workspace onto this machine.
//!
//! One round trip whatever the size: the manifest of what is here goes, and what differs comes. The
//! workspace is not trusted: what it sends is unpacked by the same code, with the same refusals, that
//! guards the workspace from what it is sent; and what it wants removed is judged here.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use workspace_common::client::Client;

use super::{
    failure::Failure,
    plan::{self, receive_plan},
    progress::{Direction, Format, Progress},
    tree::{Counted, Tree, TreeArgs, manifest_body, open_local, parse_remote, send},
};
use crate::{
    files::{Root, WorkspacePath, transfer},
    sync::{
        archive::Report,
        coding::Coding,
        diff::wire::Plan,
        manifest::scan::Scan,
        removal::{guard, remove_listed},
        unpack::{Purpose, Removals, Unpacked, Unpacking, unpack},
    },
};

/// Copy a directory of the workspace onto this machine: what differs here, by size and time or by
/// --checksum. Links are copied as links, wherever they point, and nothing is written through one;
/// nothing here is removed without --delete. Exit code 3 means that some files could not be read
#[derive(Debug, Clone, Args)]
#[command(override_usage = "workspace-agent pull [OPTIONS] [REMOTE] DIR")]
pub struct PullArgs {
    /// What to copy, relative to the workspace's root (the root itself if only one is given), and
    /// the directory on this machine that it goes to
    #[arg(required = true, num_args = 1..=2, value_names = ["REMOTE", "DIR"])]
    pub paths: Vec<OsString>,
    /// Which part of it, and how.
    #[command(flatten)]
    pub tree: TreeArgs,
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
    let format = Format::from_json_flag(args.tree.json);
    if args.tree.dry_run {
        let plan = Pull::start(client, args)?.plan().await?;
        return Ok(plan::print(&plan, args.tree.delete.delete, format)?);
    }
    let progress = Progress::start(Direction::Pull);
    let report = pull(client, args, &progress).await?;
    Ok(progress.finish(&report, format)?)
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
    let delete = args.tree.delete;
    let pull = Pull::start(client, args)?;
    let (answer, counted) = pull.differing(delete.delete).await?;
    let root = pull.open_target()?;
    let removals = if delete.delete { Removals::Collect } else { Removals::Ignore };
    let Unpacked { mut report, removals } =
        receive(answer, Arc::clone(&root), removals, progress).await?;
    if !delete.delete_any {
        guard(u64::try_from(removals.len()).unwrap_or(u64::MAX), counted.entries())?;
    }
    let removing = tokio::task::spawn_blocking(move || remove_listed(&root, removals));
    report.removed = removing.await?.map_err(crate::sync::unpack::UnpackError::from)?;
    Ok(report)
}

/// A pull under way.
struct Pull<'p> {
    client: &'p Client,
    remote: WorkspacePath,
    dir: PathBuf,
    tree: Tree,
    coding: Coding,
}

impl<'p> Pull<'p> {
    fn start(client: &'p Client, args: &PullArgs) -> Result<Self, Failure> {
        let (remote, dir) = args.ends()?;
        let coding = args.tree.compress.coding(client.endpoint());
        Ok(Self { client, remote, dir, tree: Tree::parse(&args.tree)?, coding })
    }

    /// What is here, if the directory is here at all: it is made when the agent has answered.
    fn entries(&self) -> Result<Option<Scan>, Failure> {
        if !self.dir.exists() {
            return Ok(None);
        }
        Ok(Some(Scan::new(open_local(&self.dir)?, self.tree.options.clone())))
    }

    async fn differing(&self, delete: bool) -> Result<(Response<Incoming>, Counted), Failure> {
        let delete = if delete { "true" } else { "false" };
        self.ask("/v1/sync/pull", &[("delete", delete)]).await
    }

    async fn plan(&self) -> Result<Plan, Failure> {
        let (answer, _) = self.ask("/v1/sync/diff", &[("direction", "pull")]).await?;
        receive_plan(answer).await
    }

    async fn ask(
        &self,
        path: &str,
        more: &[(&str, &str)],
    ) -> Result<(Response<Incoming>, Counted), Failure> {
        let counted = Counted::default();
        let entries = self.entries()?.into_iter().flatten();
        let mut request = Request::new(manifest_body(entries, counted.clone(), self.coding));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.tree.target(path, &self.remote, more);
        Ok((send(self.client, request, self.coding).await?, counted))
    }

    fn open_target(&self) -> Result<Arc<Root>, Failure> {
        make_directory(&self.dir)?;
        open_local(&self.dir)
    }
}

fn make_directory(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|source| Failure::LocalDirectory { path: dir.to_owned(), source })
}

async fn receive(
    answer: Response<Incoming>,
    root: Arc<Root>,
    removals: Removals,
    progress: &Progress,
) -> Result<Unpacked, Failure> {
    let coding = match answer.headers().get(http::header::CONTENT_ENCODING) {
        Some(coding) if coding == "zstd" => Coding::Zstd,
        _ => Coding::Plain,
    };
    let (feed, intake) = transfer::upload();
    let mut counter = progress.counter();
    let unpacking = tokio::task::spawn_blocking(move || {
        let how = Unpacking::of(Purpose::Mirror(removals));
        unpack(&root, how, coding.decode(intake)?, &mut counter).map_err(Failure::from)
    });
    let (unpacked, ()) = tokio::join!(unpacking, feed.pump(answer.into_body()));
    unpacked?
}
