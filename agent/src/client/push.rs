//! `push DIR [REMOTE]`: a directory of this machine into the workspace.
//!
//! A small tree is sent whole, in one request: asking what differs would take as long. The agent
//! leaves alone what it has already. Of a larger one the manifest is sent first, and then what the
//! agent says differs.

mod deltas;
mod look;
mod merge;

use std::{collections::HashMap, ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use http::{HeaderValue, Method, Request, header};
use tokio::task::JoinHandle;
use workspace_common::{
    body::{Body, collect_limited},
    client::Client,
};

use super::{
    failure::{Failure, expect_success},
    plan::{self, receive_plan},
    progress::{Direction, Format, Progress},
    tree::{Counted, Tree, TreeArgs, manifest_body, open_local, parse_remote, send, target},
};
use crate::{
    files::{
        FileError, Root, WorkspacePath,
        metadata::Kind,
        transfer::{self, Outlet},
    },
    sync::{
        TAR,
        archive::Report,
        coding::Coding,
        delta::Delta,
        diff::{Change, removes_ignored, wire::Plan},
        ignore::IgnoreFiles,
        manifest::Node,
        pack::{PackError, Updates, pack_updates, whole},
        removal::guard,
    },
};
use look::{Looked, Small, look};

/// Longest report that is read; it names a thousand paths at most.
const MAX_REPORT: usize = 16 * 1024 * 1024;

/// Copy a directory into the workspace: what differs there, by size and time or by --checksum. Links
/// are copied as links; nothing in the workspace is removed without --delete. Exit code 3 means that
/// some files could not be read
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// The directory on this machine
    pub dir: PathBuf,
    /// Where it goes, relative to the workspace's root; the root itself if absent
    pub remote: Option<OsString>,
    /// Which part of it, and how.
    #[command(flatten)]
    pub tree: TreeArgs,
}

impl PushArgs {
    /// The arguments of `push DIR`.
    pub fn for_directory(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), remote: None, tree: TreeArgs::default() }
    }
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the directory cannot be read, the agent cannot be reached, or it refuses.
pub async fn run(client: &Client, args: &PushArgs) -> Result<ExitCode, Failure> {
    if let Some(base) = args.tree.merge.base(&args.dir)? {
        return merge::run(client, args, &base).await;
    }
    let format = Format::from_json_flag(args.tree.json);
    if args.tree.dry_run {
        let push = Push::start(client, args)?;
        let (plan, _) = push.plan(push.look().await?).await?;
        let spared = push.deltas(&plan.changes).await?.spared_by_path();
        return Ok(plan::print(&plan, &spared, args.tree.delete.delete, format)?);
    }
    let progress = Progress::start(Direction::Push);
    let report = push(client, args, &progress).await?;
    Ok(progress.finish(&report, format)?)
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
    let push = Push::start(client, args)?;
    let looked = push.look().await?;
    let delete = args.tree.delete;
    let looked = match looked {
        Looked::Small(entries) if !delete.delete && !args.tree.checksum => {
            let changes: Result<_, FileError> = whole(entries.into_iter().map(Ok)).collect();
            return push
                .send(
                    (changes.map_err(PackError::from)?, HashMap::new()),
                    Knowledge::Nothing,
                    progress,
                )
                .await;
        }
        looked => looked,
    };
    let (Plan { mut changes, target_entries }, counted) = push.plan(looked).await?;
    let is_removal = |change: &Change| matches!(change, Change::Remove(_));
    if delete.delete {
        let removals = changes.iter().filter(|change| is_removal(change)).count();
        if !delete.delete_any {
            guard(u64::try_from(removals).unwrap_or(u64::MAX), target_entries)?;
        }
    } else {
        changes.retain(|change| !is_removal(change));
    }
    let concerned = changes.iter().filter(|change| is_file_of_ours(change)).count();
    let concerned = u64::try_from(concerned).unwrap_or(u64::MAX);
    let mut report = push.send_differing(changes, progress).await?;
    report.unchanged += counted.files().saturating_sub(concerned);
    Ok(report)
}

fn is_file_of_ours(change: &Change) -> bool {
    !matches!(change, Change::Remove(_)) && matches!(change.entry().node, Node::File { .. })
}

/// What is known of the files in the workspace that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// Nothing: the agent leaves alone what looks the same.
    Nothing,
    /// That they differ, perhaps though they look the same.
    Differs,
}

/// What is sent: changes, and the deltas of files among them.
type Sent = (Vec<Change>, HashMap<WorkspacePath, Delta>);

/// A push under way.
struct Push<'p> {
    client: &'p Client,
    root: Arc<Root>,
    remote: WorkspacePath,
    tree: Tree,
    coding: Coding,
    deletes: bool,
    whole_files: bool,
}

impl<'p> Push<'p> {
    fn start(client: &'p Client, args: &PushArgs) -> Result<Self, Failure> {
        Ok(Self {
            client,
            remote: parse_remote(args.remote.as_ref())?,
            tree: Tree::parse(&args.tree)?,
            root: open_local(&args.dir)?,
            coding: args.tree.compress.coding(client.endpoint()),
            deletes: args.tree.delete.delete,
            whole_files: args.tree.whole.applies(client.endpoint()),
        })
    }

    async fn look(&self) -> Result<Looked, Failure> {
        let (root, options) = (Arc::clone(&self.root), self.tree.options.clone());
        let small = Small::over(self.client.endpoint());
        Ok(tokio::task::spawn_blocking(move || look(root, options, small))
            .await?
            .map_err(PackError::from)?)
    }

    /// The `.gitignore` files, where they count.
    fn ignores(&self) -> Option<IgnoreFiles> {
        self.tree.options.gitignore.then(|| IgnoreFiles::new(Arc::clone(&self.root)))
    }

    /// Asks what differs.
    async fn plan(&self, looked: Looked) -> Result<(Plan, Counted), Failure> {
        let counted = Counted::default();
        let body = manifest_body(looked.into_entries(), counted.clone(), self.coding);
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.tree.target("/v1/sync/diff", &self.remote, &[]);
        let answer = send(self.client, request, self.coding).await?;
        let mut plan = receive_plan(answer).await?;
        self.refuse_excluded(&plan)?;
        let ignores = self.ignores();
        plan.changes.retain(|change| !removes_ignored(change, ignores.as_ref()));
        Ok((plan, counted))
    }

    /// A workspace that asks for what is left out gets nothing: it was never told that it is there.
    fn refuse_excluded(&self, plan: &Plan) -> Result<(), Failure> {
        let exclusions = &self.tree.options.exclusions;
        let excluded = plan.changes.iter().map(Change::entry).find(|entry| {
            let kind = match entry.node {
                Node::Directory => Kind::Directory,
                Node::File { .. } | Node::Symlink(_) | Node::Skipped(_) => Kind::File,
            };
            exclusions.leaves_out(&entry.path, kind)
        });
        match excluded {
            None => Ok(()),
            Some(entry) => Err(Failure::AskedForExcluded(entry.path.clone())),
        }
    }

    /// Sends what differs, large files as deltas, and those whole that are changed meanwhile.
    async fn send_differing(
        &self,
        changes: Vec<Change>,
        progress: &Progress,
    ) -> Result<Report, Failure> {
        if changes.is_empty() {
            return Ok(Report::default());
        }
        let mut deltas = self.deltas(&changes).await?;
        let bytes: u64 = changes.iter().map(|change| change.entry().node.size()).sum();
        progress.expect(bytes.saturating_sub(deltas.spared()));
        let by_path = std::mem::take(&mut deltas.by_path);
        let mut report = self.send((changes, by_path), Knowledge::Differs, progress).await?;
        let stale = deltas.stale(&report);
        report.stale.clear();
        if !stale.is_empty() {
            let whole = (stale, HashMap::new());
            report.add(self.send(whole, Knowledge::Differs, progress).await?);
        }
        Ok(report)
    }

    async fn send(
        &self,
        changes: Sent,
        knowledge: Knowledge,
        progress: &Progress,
    ) -> Result<Report, Failure> {
        let (outlet, body) = transfer::download();
        let packing = self.start_packing(changes, outlet, progress);
        match self.client.request(self.push_request(knowledge, body)).await {
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
        &self,
        (changes, deltas): Sent,
        outlet: Outlet,
        progress: &Progress,
    ) -> JoinHandle<Result<(), PackError>> {
        let mut counter = progress.counter();
        let (root, coding) = (Arc::clone(&self.root), self.coding);
        tokio::task::spawn_blocking(move || {
            let mut encoder = coding.encode(outlet).map_err(PackError::Output)?;
            let changes = changes.into_iter().map(Ok::<_, PackError>);
            let updates = Updates::Deltas(&deltas);
            match pack_updates(&root, changes, updates, &mut encoder, &mut counter).map(drop) {
                Ok(()) => encoder.finish().map_err(PackError::Output),
                Err(error) => {
                    encoder.fail(error.to_string());
                    Err(error)
                }
            }
        })
    }

    fn push_request(&self, knowledge: Knowledge, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        let flag = |set: bool| if set { &b"true"[..] } else { b"false" };
        let query = [
            ("path", self.remote.as_bytes()),
            ("mirror", b"true"),
            ("delete", flag(self.deletes)),
            ("skip_same", flag(knowledge == Knowledge::Nothing)),
        ];
        *request.uri_mut() = target("/v1/sync/push", &query);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TAR));
        self.coding.declare(request.headers_mut());
        request
    }
}
