//! The subcommands against a real server on a Unix socket.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::BodyExt;
use workspace_common::linger::Received;
use workspace_common::{
    body::{Body, full},
    client::Client,
    drain::{self, DrainTrigger},
    listen::ListenAddr,
    problem::Problem,
    serve::{ServeOptions, serve},
};

use super::{
    failure::Failure,
    progress::{Direction, Progress},
    pull::{PullArgs, pull},
    push::{PushArgs, push},
};
use crate::{
    files::{self, FilesContext, Root, transfer::Transfers, upload::store::Limits},
    sync::{self, SyncContext},
};

/// The command line of this test: the real argument structs.
#[derive(Debug, Parser)]
enum Command {
    Push(PushArgs),
    Pull(PullArgs),
}

/// Uploads in several requests are not a part of these tests.
const NO_UPLOADS: Limits = Limits { count: 0, bytes: 0, keep: Duration::ZERO };

struct Agent {
    directory: tempfile::TempDir,
    client: Client,
    _trigger: DrainTrigger,
}

impl Agent {
    /// An agent with the real file and sync calls.
    fn start() -> Self {
        Self::start_with(|root, request| async move {
            let path = request.uri().path().to_owned();
            let answer = if let Some(call) = path.strip_prefix("/v1/sync/") {
                sync::handle(&SyncContext::new(root, Transfers::new(4)), call, request).await
            } else if let Some(file) = path.strip_prefix("/v1/files/") {
                let context = FilesContext::new(root, Transfers::new(4), NO_UPLOADS);
                files::handle(&context, file, request).await
            } else {
                Err(Problem::no_such_endpoint(&path))
            };
            answer.unwrap_or_else(|problem| problem.response())
        })
    }

    /// Something that answers everything with the same bytes, in the place of an agent.
    fn impostor(answer: impl Into<Bytes>) -> Self {
        let answer = answer.into();
        Self::start_with(move |_, request: Request<Received>| {
            let answer = answer.clone();
            async move {
                // Whoever answers before the request has ended may have its client see a broken pipe.
                request.into_body().collect().await.unwrap();
                Response::new(full(answer))
            }
        })
    }

    fn start_with<H, F>(handler: H) -> Self
    where
        H: Fn(Arc<Root>, Request<Received>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let socket = format!("unix:{}/agent.sock", directory.path().display());
        let root = Arc::new(Root::open(&directory.path().join("root")).unwrap());
        let listener = socket.parse::<ListenAddr>().unwrap().bind().unwrap().into_async().unwrap();
        let (trigger, drain) = drain::channel();
        let options = ServeOptions::new(16, Duration::from_secs(30));
        let serving = serve(listener, options, drain.clone(), move |request, _| {
            handler(Arc::clone(&root), request)
        });
        drain.spawn_background(serving);
        let client = Client::new(socket.parse().unwrap(), None);
        Self { directory, client, _trigger: trigger }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    async fn run(&self, words: &[&str]) -> Result<sync::archive::Report, Failure> {
        let words = std::iter::once("test").chain(words.iter().copied());
        match Command::try_parse_from(words).unwrap() {
            Command::Push(args) => {
                push(&self.client, &args, &Progress::start(Direction::Push)).await
            }
            Command::Pull(args) => {
                pull(&self.client, &args, &Progress::start(Direction::Pull)).await
            }
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_tree_goes_in_by_push_and_comes_out_by_pull() {
    let agent = Agent::start();
    let local = tempfile::tempdir().unwrap();
    fs::create_dir_all(local.path().join("dir/.git")).unwrap();
    fs::write(local.path().join("dir/big"), vec![1; 3_000_000]).unwrap();
    fs::write(local.path().join("dir/note.tmp"), "").unwrap();
    symlink("dir/big", local.path().join("link")).unwrap();
    let pushed =
        agent.run(&["push", text(local.path()), "a/b", "--exclude", "*.tmp"]).await.unwrap();
    assert_eq!((pushed.files, pushed.directories, pushed.symlinks), (1, 1, 1));
    assert_eq!(pushed.bytes, 3_000_000);
    assert_eq!(fs::metadata(agent.root().join("a/b/dir/big")).unwrap().len(), 3_000_000);
    let back = local.path().join("back");
    let pulled = agent.run(&["pull", "a/b", text(&back)]).await.unwrap();
    assert_eq!(pulled, pushed);
    assert_eq!(fs::read(back.join("link")).unwrap().len(), 3_000_000);
    let everything = ["push", text(local.path()), "all", "--no-default-excludes"];
    agent.run(&everything).await.unwrap();
    assert!(agent.root().join("all/dir/.git").is_dir());
}

#[tokio::test]
async fn refusals_of_the_agent_are_told_with_their_reason() {
    let agent = Agent::start();
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("file"), vec![0; 2_000_000]).unwrap();
    fs::write(agent.root().join("taken"), "").unwrap();
    for (words, expected) in [
        (["push", text(local.path()), "taken"], "not_a_directory"),
        (["push", text(local.path()), "../out"], "contains '..'"),
        (["push", "/nonexistent-directory", "x"], "/nonexistent-directory"),
        (["pull", "none", text(local.path())], "not_found"),
        (["pull", "/abs", text(local.path())], "absolute"),
    ] {
        let message = agent.run(&words).await.unwrap_err().to_string();
        assert!(message.contains(expected), "{words:?}: {message}");
    }
    assert_eq!(fs::read_dir(agent.root()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_hostile_or_cut_answer_to_a_pull_changes_nothing_outside() {
    let outer = tempfile::tempdir().unwrap();
    let target = outer.path().join("target");
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..7].copy_from_slice(b"../evil");
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let climbing = [&header.as_bytes()[..], &[0; 1024]].concat();
    for (answer, expected) in [
        (climbing, "'../evil'"),
        (Vec::new(), "cut"),
        (vec![0; 512], "cut"),
        (vec![b'x'; 512], "damaged"),
    ] {
        let agent = Agent::impostor(answer);
        let message = agent.run(&["pull", text(&target)]).await.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn without_an_agent_the_address_is_named() {
    let local = tempfile::tempdir().unwrap();
    let client = Client::new("unix:/nonexistent/agent.sock".parse().unwrap(), None);
    let args = PushArgs::for_directory(local.path());
    let error = push(&client, &args, &Progress::start(Direction::Push)).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/agent.sock"), "{error}");
}
