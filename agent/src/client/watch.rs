//! `watch [REMOTE]`: what changes in a directory of the workspace, as it happens.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use bytes::BytesMut;
use clap::Args;
use http::Request;
use http_body_util::BodyExt;
use serde::Deserialize;
use workspace_common::{body, client::Client};

use super::{
    failure::{Failure, expect_success},
    tree::{parse_remote, target},
};
use crate::files::path::printable;

/// Longest event that is read.
const MAX_EVENT: usize = 128 * 1024;

/// Print what changes in a directory of the workspace, as it happens, until the agent ends
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The directory, relative to the workspace's root; the root itself if absent
    pub remote: Option<OsString>,
    /// Leave out what matches GLOB, as push does. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Watch what is left out otherwise, too
    #[arg(long)]
    pub no_default_excludes: bool,
    /// Print the agent's events as they are
    #[arg(long)]
    pub json: bool,
}

#[derive(Deserialize)]
struct Event {
    event: String,
    change: Option<String>,
    path: Option<String>,
    path_base64: Option<String>,
    detail: Option<String>,
}

/// Runs the subcommand.
///
/// # Errors
/// When the agent cannot be reached or refuses, or the connection breaks.
pub async fn run(client: &Client, args: &WatchArgs) -> Result<ExitCode, Failure> {
    let remote = parse_remote(args.remote.as_ref())?;
    let mut query = vec![("path", remote.as_bytes())];
    query.extend(args.exclude.iter().map(|glob| ("exclude", glob.as_bytes())));
    if args.no_default_excludes {
        query.push(("default_excludes", b"false"));
    }
    let mut request = Request::new(body::empty());
    *request.uri_mut() = target("/v1/sync/watch", &query);
    let mut answer = expect_success(client.request_apart(request).await?).await?.into_body();
    let mut buffer = BytesMut::new();
    while let Some(frame) = answer.frame().await {
        let frame = frame.map_err(|error| Failure::Lost(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end + 1);
            if let Some(code) = show(&line, args.json)? {
                return Ok(code);
            }
        }
        if buffer.len() > MAX_EVENT {
            return Err(Failure::Lost("an event is too long".to_owned()));
        }
    }
    Err(Failure::Lost("the watch broke off".to_owned()))
}

/// Prints an event; gives the exit code where it is the last one.
fn show(line: &[u8], json: bool) -> Result<Option<ExitCode>, Failure> {
    let event: Event = serde_json::from_slice(line)?;
    let mut output = io::stdout().lock();
    if json {
        output.write_all(line)?;
    } else if let Some(change) = &event.change {
        let path = event.path.or(event.path_base64).unwrap_or_default();
        writeln!(output, "{} {}", printable(change.as_bytes()), printable(path.as_bytes()))?;
    }
    output.flush()?;
    match event.event.as_str() {
        "stopped" => Ok(Some(ExitCode::SUCCESS)),
        "error" => Err(Failure::Lost(printable(event.detail.unwrap_or_default().as_bytes()))),
        _ => Ok(None),
    }
}
