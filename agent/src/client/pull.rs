//! `pull [REMOTE] DIR`: a directory of the workspace onto this machine.
//!
//! One round trip whatever the size: the manifest of what is here goes, and what differs comes. The
//! workspace is not trusted: what it sends is unpacked by the same code, with the same refusals, that
//! guards the workspace from what it is sent; what it wants removed is judged here, and what is excluded
//! is neither written nor removed, whatever it sends.

mod deferred;
mod merge;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use workspace_common::client::Client;

use super::{
    failure::Failure,
    plan::{self, receive_plan},
    progress::{Direction, Format, Progress},
    tree::{Counted, DeleteArgs, Tree, TreeArgs, manifest_body, open_local, parse_remote, send},
};
use crate::{
    files::{FileError, Root, WorkspacePath, transfer},
    sync::{
        archive::Report,
        coding::Coding,
        delta::HEADER,
        diff::wire::Plan,
        exclude::Exclusions,
        manifest::{
            Entry,
            scan::{Scan, ScanOptions, Unfinished},
        },
        removal::guard,
        unpack::{
            Purpose, Removals, Selected, UnpackError, Unpacked, Unpacking, Wanted, unpack_selected,
        },
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
    if let Some(base) = args.tree.merge.base(&args.ends()?.1)? {
        return merge::run(client, args, &base).await;
    }
    let format = Format::from_json_flag(args.tree.json);
    if args.tree.dry_run {
        let pull = Pull::start(client, args)?;
        let plan = pull.plan().await?;
        let spared = pull.spared(&plan.changes).await?;
        return Ok(plan::print(&plan, &spared, args.tree.delete.delete, format)?);
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
    let pull = Pull::start(client, args)?;
    // What a killed pull has left unfinished is met in the same scan.
    let entries = pull.entries(Unfinished::Remove)?.into_iter().flatten();
    pull.run(entries, None, args.tree.delete, progress).await
}

/// Does what was left for the end, unless it would remove too much of the entries that are `present`.
fn settle(mut unpacked: Unpacked, root: &Root, present: Option<u64>) -> Result<Report, Failure> {
    if let Some(present) = present
        && let Err(mistake) =
            guard(u64::try_from(unpacked.removals.len()).unwrap_or(u64::MAX), present)
    {
        unpacked.discard(root);
        return Err(mistake.into());
    }
    Ok(unpacked.settle(root).map_err(UnpackError::from)?)
}

/// A pull under way.
struct Pull<'p> {
    client: &'p Client,
    remote: WorkspacePath,
    dir: PathBuf,
    tree: Tree,
    coding: Coding,
    whole_files: bool,
}

impl<'p> Pull<'p> {
    fn start(client: &'p Client, args: &PullArgs) -> Result<Self, Failure> {
        let (remote, dir) = args.ends()?;
        let coding = args.tree.compress.coding(client.endpoint());
        let (tree, whole_files) =
            (Tree::parse(&args.tree)?, args.tree.whole.applies(client.endpoint()));
        Ok(Self { client, remote, dir, tree, coding, whole_files })
    }

    /// What is here, if the directory is here at all: it is made when the agent has answered.
    fn entries(&self, unfinished: Unfinished) -> Result<Option<Scan>, Failure> {
        let options = ScanOptions { unfinished, ..self.tree.options.clone() };
        Ok(open_existing(&self.dir)?.map(|root| Scan::new(root, options)))
    }

    /// Brings what differs from these entries, or what of that is wanted.
    async fn run(
        &self,
        entries: impl Iterator<Item = Result<Entry, FileError>> + Send + 'static,
        wanted: Option<Arc<Wanted>>,
        delete: DeleteArgs,
        progress: &Progress,
    ) -> Result<Report, Failure> {
        let asked = if delete.delete { "true" } else { "false" };
        let (answer, counted) = self.ask("/v1/sync/pull", &[("delete", asked)], entries).await?;
        let root = self.open_target()?;
        let removals = if delete.delete { Removals::Collect } else { Removals::Ignore };
        let exclusions = self.tree.options.exclusions.clone();
        let receiving = Receiving { root: Arc::clone(&root), removals, wanted, exclusions };
        let mut unpacked = receiving.receive(answer, progress).await?;
        let deferred = std::mem::take(&mut unpacked.deferred);
        let guarded = (!delete.delete_any).then_some(counted.entries());
        let target = Arc::clone(&root);
        let settling = tokio::task::spawn_blocking(move || settle(unpacked, &target, guarded));
        let mut report = settling.await??;
        for file in &deferred {
            self.fetch(file, &receiving, (progress, &mut report)).await?;
        }
        Ok(report)
    }

    async fn plan(&self) -> Result<Plan, Failure> {
        let entries = self.entries(Unfinished::Leave)?.into_iter().flatten();
        let (answer, _) = self.ask("/v1/sync/diff", &[("direction", "pull")], entries).await?;
        receive_plan(answer).await
    }

    async fn ask(
        &self,
        path: &str,
        more: &[(&str, &str)],
        entries: impl Iterator<Item = Result<Entry, FileError>> + Send + 'static,
    ) -> Result<(Response<Incoming>, Counted), Failure> {
        let counted = Counted::default();
        let mut request = Request::new(manifest_body(entries, counted.clone(), self.coding));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.tree.target(path, &self.remote, more);
        if !self.whole_files {
            request.headers_mut().insert(HEADER, HeaderValue::from_static("notes"));
        }
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

/// The directory, if it is there.
fn open_existing(dir: &Path) -> Result<Option<Arc<Root>>, Failure> {
    dir.exists().then(|| open_local(dir)).transpose()
}

/// Where archives are unpacked, and what of them.
struct Receiving {
    root: Arc<Root>,
    removals: Removals,
    wanted: Option<Arc<Wanted>>,
    /// What the workspace was told to leave out.
    exclusions: Exclusions,
}

impl Receiving {
    async fn receive(
        &self,
        answer: Response<Incoming>,
        progress: &Progress,
    ) -> Result<Unpacked, Failure> {
        let coding = match answer.headers().get(http::header::CONTENT_ENCODING) {
            Some(coding) if coding == "zstd" => Coding::Zstd,
            _ => Coding::Plain,
        };
        let (feed, intake) = transfer::upload();
        let mut counter = progress.counter();
        let how = Unpacking::of(Purpose::Mirror(self.removals));
        let (root, wanted) = (Arc::clone(&self.root), self.wanted.clone());
        let exclusions = self.exclusions.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let selected = Selected { wanted: wanted.as_deref(), exclusions: Some(&exclusions) };
            let input = coding.decode(intake)?;
            unpack_selected(&root, how, selected, input, &mut counter).map_err(Failure::from)
        });
        let (unpacked, ()) = tokio::join!(unpacking, feed.pump(answer.into_body()));
        unpacked?
    }
}
