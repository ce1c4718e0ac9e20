//! Large files that the agent has kept back: each is asked for with the chunks of the one that is
//! here.

use std::sync::Arc;

use http::{Method, Request, StatusCode};

use super::{Pull, Receiving, open_existing};
use crate::{
    client::{
        delta::{cut_both, cut_here, is_large_update},
        failure::Failure,
        plan::Spared,
        progress::Progress,
        tree::{send, target},
    },
    files::{WorkspacePath, transfer},
    sync::{
        archive::Report,
        coding::{Coding, Encoder},
        delta::{Chunk, spared, wire::ChunkWriter},
        diff::Change,
        unpack::UnpackError,
    },
};

impl Pull<'_> {
    /// What of the large files among these changes is here.
    pub(super) async fn spared(&self, changes: &[Change]) -> Result<Spared, Failure> {
        let mut known = Spared::new();
        let Some(root) = open_existing(&self.dir)?.filter(|_| !self.whole_files) else {
            return Ok(known);
        };
        for change in changes.iter().filter(|change| is_large_update(change)) {
            let path = &change.entry().path;
            if let Some(pair) = cut_both(self.client, &self.remote, &root, path).await? {
                known.insert(path.clone(), spared(&pair.remote, &pair.local.chunks));
            }
        }
        Ok(known)
    }

    /// Brings a file that was kept back, and counts it.
    pub(super) async fn fetch(
        &self,
        file: &WorkspacePath,
        receiving: &Receiving,
        (progress, report): (&Progress, &mut Report),
    ) -> Result<(), Failure> {
        let chunks =
            cut_here(&receiving.root, file).await?.map_or_else(Vec::new, |ours| ours.chunks);
        let again = !chunks.is_empty();
        let mut fetched = self.fetch_against(chunks, file, receiving, progress).await?;
        if again && !fetched.stale.is_empty() {
            // Ours was changed meanwhile. With no chunks of ours, all of it comes.
            fetched = self.fetch_against(Vec::new(), file, receiving, progress).await?;
        }
        report.add(fetched);
        Ok(())
    }

    async fn fetch_against(
        &self,
        chunks: Vec<Chunk>,
        file: &WorkspacePath,
        receiving: &Receiving,
        progress: &Progress,
    ) -> Result<Report, Failure> {
        let (outlet, body) = transfer::download();
        let coding = self.coding;
        tokio::task::spawn_blocking(move || send_chunks(&chunks, coding, outlet));
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        let query = [("path", self.remote.as_bytes()), ("file", file.as_bytes())];
        *request.uri_mut() = target("/v1/sync/delta", &query);
        let answer = match send(self.client, request, coding).await {
            // Removed since it was kept back.
            Err(Failure::Refused { status: StatusCode::NOT_FOUND, .. }) => {
                return Ok(Report::default());
            }
            answer => answer?,
        };
        let unpacked = receiving.receive(answer, progress).await?;
        let root = Arc::clone(&receiving.root);
        let settling = tokio::task::spawn_blocking(move || unpacked.settle(&root));
        Ok(settling.await?.map_err(UnpackError::from)?)
    }
}

fn send_chunks(chunks: &[Chunk], coding: Coding, outlet: transfer::Outlet) {
    let Ok(encoder) = coding.encode(outlet) else { return };
    let mut writer = ChunkWriter::new(encoder);
    let written = chunks.iter().try_for_each(|chunk| writer.append(*chunk));
    // Where the agent has gone, its answer or its absence says why.
    drop(written.and_then(|()| writer.finish()).and_then(Encoder::finish));
}
