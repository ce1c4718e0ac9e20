//! What `push` and `pull` have in common: which part of a tree they move, and how they look at it.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::{Args, ValueEnum};
use http::{HeaderValue, Request, header};
use workspace_common::{
    body::Body,
    client::{Client, Endpoint},
};

use super::failure::Failure;
use crate::{
    files::{
        FileError, Root, WorkspacePath,
        path::{percent_encode, printable},
        transfer::{self, Outlet},
    },
    sync::{
        coding::Coding,
        compare::write_manifest,
        exclude::{Defaults, Exclusions, patterns_of},
        manifest::{Entry, scan::ScanOptions},
    },
};

/// Which part of a tree is moved, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct TreeArgs {
    /// Leave out what matches GLOB, as in a .gitignore: a name at any depth, or with a slash a path
    /// from the top; a slash at the end means directories only, a ! in front takes back. May be
    /// repeated; the last match decides
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Leave out what the patterns of a file in the form of a .gitignore say
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Option<PathBuf>,
    /// Copy .git, node_modules, __pycache__, .venv, venv, .mypy_cache, .pytest_cache, .ruff_cache
    /// and .cache too, which are left out otherwise
    #[arg(long)]
    pub no_default_excludes: bool,
    /// Compare the contents of files, not their sizes and times
    #[arg(long)]
    pub checksum: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// What may be removed.
    #[command(flatten)]
    pub delete: DeleteArgs,
    /// Whether trees are compressed on the way: auto means over http and not over unix
    #[arg(long, value_enum, default_value = "auto")]
    pub compress: Compress,
}

/// What may be removed on the side that is written to.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DeleteArgs {
    /// Remove what the other side does not have, unless it is left out
    #[arg(long)]
    pub delete: bool,
    /// Remove it even where that is all or more than half of what is there
    #[arg(long, requires = "delete")]
    pub delete_any: bool,
}

/// Whether trees are compressed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Compress {
    /// Over http they are, over unix they are not.
    #[default]
    Auto,
    /// They are.
    Zstd,
    /// They are not.
    None,
}

impl Compress {
    /// The coding on the way to this server.
    pub fn coding(self, endpoint: &Endpoint) -> Coding {
        match (self, endpoint) {
            (Self::Zstd, _) | (Self::Auto, Endpoint::Http(_)) => Coding::Zstd,
            (Self::None, _) | (Self::Auto, Endpoint::Unix(_)) => Coding::Plain,
        }
    }
}

/// Arguments, understood.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) options: ScanOptions,
    patterns: Vec<String>,
    defaults: Defaults,
}

impl Tree {
    pub(super) fn parse(args: &TreeArgs) -> Result<Self, Failure> {
        let mut patterns = Vec::new();
        if let Some(path) = &args.exclude_from {
            let text = std::fs::read_to_string(path)
                .map_err(|source| Failure::Patterns { path: path.clone(), source })?;
            patterns.extend(patterns_of(&text).map(str::to_owned));
        }
        patterns.extend(args.exclude.iter().cloned());
        let defaults = if args.no_default_excludes { Defaults::Ignore } else { Defaults::Apply };
        let exclusions = Exclusions::new(&patterns, defaults)?;
        let options = ScanOptions { exclusions, hashes: args.checksum };
        Ok(Self { options, patterns, defaults })
    }

    /// A request about the directory `remote`, with this selection and `more` in its query.
    pub(super) fn target(
        &self,
        path: &str,
        remote: &WorkspacePath,
        more: &[(&str, &str)],
    ) -> http::Uri {
        let mut query: Vec<(&str, &[u8])> = vec![("path", remote.as_bytes())];
        query.extend(self.patterns.iter().map(|glob| ("exclude", glob.as_bytes())));
        if self.defaults == Defaults::Ignore {
            query.push(("default_excludes", b"false"));
        }
        if self.options.hashes {
            query.push(("checksum", b"true"));
        }
        query.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
        target(path, &query)
    }
}

pub(super) fn parse_remote(remote: Option<&OsString>) -> Result<WorkspacePath, Failure> {
    let bytes = remote.map_or(&b""[..], |remote| remote.as_bytes());
    WorkspacePath::parse(bytes)
        .map_err(|reason| Failure::RemotePath { path: printable(bytes), reason })
}

pub(super) fn open_local(path: &Path) -> Result<Arc<Root>, Failure> {
    Root::open(path)
        .map(Arc::new)
        .map_err(|source| Failure::LocalDirectory { path: path.to_owned(), source })
}

/// A path with a query, every value percent-encoded.
pub(super) fn target(path: &str, query: &[(&str, &[u8])]) -> http::Uri {
    let pairs: Vec<_> =
        query.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    let separator = if pairs.is_empty() { "" } else { "?" };
    // All of it is encoded to the characters that a URI may have.
    format!("{path}{separator}{}", pairs.join("&")).parse().unwrap_or_default()
}

/// How many entries went by.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    entries: Arc<AtomicU64>,
    files: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    fn count(&self, entry: &Entry) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        if matches!(entry.node, crate::sync::manifest::Node::File { .. }) {
            self.files.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request body: the manifest of `entries`, made while it is sent, on a thread of its own.
pub(super) fn manifest_body(
    entries: impl Iterator<Item = Result<Entry, FileError>> + Send + 'static,
    counted: Counted,
    coding: Coding,
) -> Body {
    let (outlet, body) = transfer::download();
    tokio::task::spawn_blocking(move || {
        let entries = entries.inspect(|entry| {
            if let Ok(entry) = entry {
                counted.count(entry);
            }
        });
        send_manifest(entries, coding, outlet);
    });
    body
}

fn send_manifest(
    entries: impl Iterator<Item = Result<Entry, FileError>>,
    coding: Coding,
    outlet: Outlet,
) {
    let Ok(mut encoder) = coding.encode(outlet) else { return };
    let sent = write_manifest(entries, &mut encoder).map(|()| encoder.flush());
    match sent {
        // Where the agent has gone, its answer or its absence says why.
        Ok(_) => drop(encoder.finish()),
        Err(error) => encoder.fail(error),
    }
}

/// Sends `request` in this coding, asks for the answer in it, and gives the answer.
pub(super) async fn send(
    client: &Client,
    mut request: Request<Body>,
    coding: Coding,
) -> Result<http::Response<hyper::body::Incoming>, Failure> {
    coding.declare(request.headers_mut());
    if coding == Coding::Zstd {
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
    }
    let answer = client.request_apart(request).await?;
    super::failure::expect_success(answer).await
}
