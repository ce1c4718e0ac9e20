//! `GET` and `HEAD`, of files and directories: what is there, if the caller wants it in this state.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use workspace_common::{
    body::{self, Body},
    problem::Problem,
};

use super::{
    FileError, FileErrorKind, FilesContext, WorkspacePath, blocking,
    conditions::{Access, Preconditions, State, Verdict, range_is_of},
    digest,
    directory::Directory,
    json_response,
    list::{self, ListOptions},
    metadata::{FileTime, Metadata},
    query::Query,
    range::{self, Selection},
    read::{self, OpenFile, Wanted},
    root::Opened,
    transfer,
};

/// Answers `GET` and `HEAD`: conditions first, then the range (RFC 9110 section 13.2.2).
pub(super) async fn read<B>(
    context: &FilesContext,
    path: WorkspacePath,
    mut query: Query,
    request: &Request<B>,
) -> Result<Response<Body>, Problem> {
    let listing = ListOptions::take(&mut query)?;
    query.finish()?;
    let conditions = Preconditions::parse(request.headers())?;
    let head = request.method() == Method::HEAD;
    let loaded = open(context, &path, request.headers()).await?;
    match (conditions.judge(Access::Read, Some(&loaded.state())), loaded) {
        (Verdict::Failed, _) => {
            Err(FileError::new("read", &path, FileErrorKind::PreconditionFailed).into())
        }
        (Verdict::NotModified, Loaded::File(file)) => Ok(file.not_modified()),
        (Verdict::NotModified, Loaded::Directory(..)) => Ok(not_modified()),
        (Verdict::Proceed, Loaded::File(file)) if head => Ok(file.head()),
        (Verdict::Proceed, Loaded::File(file)) => {
            let selection = select(request.headers(), &file);
            Ok(file.answer(selection))
        }
        (Verdict::Proceed, Loaded::Directory(directory, metadata)) => {
            let body =
                if head { body::empty() } else { list_entries(context, path, directory, listing)? };
            let mut response = json_response(StatusCode::OK, body);
            read::describe(response.headers_mut(), &metadata);
            Ok(response)
        }
    }
}

fn select(headers: &HeaderMap, file: &OpenFile) -> Selection {
    if range_is_of(headers, &file.state(), FileTime::now()) {
        range::select(headers, file.size())
    } else {
        Selection::Whole
    }
}

fn list_entries(
    context: &FilesContext,
    path: WorkspacePath,
    directory: Directory,
    listing: ListOptions,
) -> Result<Body, Problem> {
    let (outlet, body) = transfer::download();
    let place = context.transfers.begin()?;
    tokio::task::spawn_blocking(move || {
        list::write_listing(&path, directory, &listing, outlet);
        drop(place);
    });
    Ok(body)
}

fn not_modified() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

enum Loaded {
    File(OpenFile),
    Directory(Directory, Metadata),
}

impl Loaded {
    fn state(&self) -> State {
        match self {
            Self::File(file) => file.state(),
            Self::Directory(_, metadata) => State::from(metadata),
        }
    }
}

async fn open(
    context: &FilesContext,
    path: &WorkspacePath,
    headers: &HeaderMap,
) -> Result<Loaded, Problem> {
    let root = Arc::clone(&context.root);
    let path = path.clone();
    let digest = if digest::is_wanted(headers) { Wanted::Yes } else { Wanted::No };
    // Hashing a large file takes a thread for long, like a transfer.
    let place = (digest == Wanted::Yes).then(|| context.transfers.begin()).transpose()?;
    let loaded = blocking(move || {
        let loaded = match root.open_for_reading(&path)? {
            Opened::File(file, metadata) => {
                OpenFile::load(&path, file, metadata, digest).map(Loaded::File)
            }
            Opened::Directory(directory, metadata) => Ok(Loaded::Directory(directory, metadata)),
        };
        drop(place);
        loaded
    });
    Ok(loaded.await??)
}
