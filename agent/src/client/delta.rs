//! What of a large file the other side has already: asked, and found out here.

use std::sync::Arc;

use http::{Method, Request};
use workspace_common::{body::empty, client::Client};

use super::{failure::Failure, tree::target};
use crate::{
    files::{Root, WorkspacePath, transfer},
    sync::{
        delta::{
            Chunk, WORTH_ASKING,
            signature::Signature,
            wire::{ChunksError, read_chunks},
        },
        diff::Change,
        manifest::Node,
        pack::PackError,
    },
};

/// Whether a file differs that is so large that it is worth to ask how much of it does.
pub(super) fn is_large_update(change: &Change) -> bool {
    let large = |size| size >= WORTH_ASKING;
    matches!(change, Change::Update(entry)
        if matches!(entry.node, Node::File { size, .. } if large(size)))
}

/// The same file on both sides, as it was cut.
pub(super) struct Pair {
    pub(super) local: Signature,
    pub(super) remote: Vec<Chunk>,
}

/// Cuts a file on both sides at once. Nothing comes of it where one side cannot: the file is then
/// sent whole, and a fault of it told by that.
pub(super) async fn cut_both(
    client: &Client,
    remote: &WorkspacePath,
    root: &Arc<Root>,
    file: &WorkspacePath,
) -> Result<Option<Pair>, Failure> {
    let local = cut_here(root, file);
    let (local, remote) = tokio::join!(local, cut_there(client, remote, file));
    Ok(local?.zip(remote?).map(|(local, remote)| Pair { local, remote }))
}

/// Cuts a file on this side.
pub(super) async fn cut_here(
    root: &Arc<Root>,
    file: &WorkspacePath,
) -> Result<Option<Signature>, Failure> {
    let (root, file) = (Arc::clone(root), file.clone());
    Ok(tokio::task::spawn_blocking(move || Signature::read(&root, &file).ok()).await?)
}

/// Has a file cut on the other side. An agent that cannot do this refuses it.
async fn cut_there(
    client: &Client,
    remote: &WorkspacePath,
    file: &WorkspacePath,
) -> Result<Option<Vec<Chunk>>, Failure> {
    let mut request = Request::new(empty());
    *request.method_mut() = Method::GET;
    let query = [("path", remote.as_bytes()), ("file", file.as_bytes())];
    *request.uri_mut() = target("/v1/sync/chunks", &query);
    let answer = match super::failure::expect_success(client.request(request).await?).await {
        Err(Failure::Refused { .. }) => return Ok(None),
        answer => answer?,
    };
    let (feed, intake) = transfer::upload();
    let reading = tokio::task::spawn_blocking(move || read_chunks(intake));
    let (chunks, ()) = tokio::join!(reading, feed.pump(answer.into_body()));
    match chunks? {
        Err(ChunksError::TooMany) => Ok(None),
        chunks => Ok(Some(chunks.map_err(PackError::from)?)),
    }
}
