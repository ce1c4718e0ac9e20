//! `ls [REMOTE]`: the entries of a directory of the workspace.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use serde::Deserialize;
use workspace_common::{
    body::{self, collect_limited},
    client::Client,
};

use super::{
    failure::{Failure, expect_success},
    tree::parse_remote,
};
use crate::files::path::printable;

/// Longest listing that is read: some hundred thousand entries.
const MAX_LISTING: usize = 64 * 1024 * 1024;

/// List a directory of the workspace
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The directory, relative to the workspace's root; the root itself if absent
    pub remote: Option<OsString>,
    /// Print the agent's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Deserialize)]
struct Listing {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    kind: String,
    size: u64,
    mode: String,
    mtime: String,
    target: Option<String>,
}

/// Runs the subcommand and prints its result.
///
/// # Errors
/// When the agent cannot be reached or refuses.
pub async fn run(client: &Client, args: &ListArgs) -> Result<ExitCode, Failure> {
    let remote = parse_remote(args.remote.as_ref())?;
    let mut request = Request::new(body::empty());
    *request.uri_mut() = format!("/v1/files/{}", remote.to_url()).parse().unwrap_or_default();
    let answer = expect_success(client.request_apart(request).await?).await?;
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/json") {
        // A file: its content is not wanted, its name is known to the caller.
        writeln!(io::stdout(), "{remote}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let content = collect_limited(answer.into_body(), MAX_LISTING).await?;
    print_listing(&content, args.json, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn print_listing(content: &Bytes, json: bool, output: &mut impl Write) -> Result<(), Failure> {
    if json {
        output.write_all(content)?;
        return Ok(());
    }
    let mut listing: Listing = serde_json::from_slice(content)?;
    listing.entries.sort_by(|a, b| a.name.cmp(&b.name));
    let width = listing.entries.iter().map(|entry| entry.size.to_string().len()).max().unwrap_or(1);
    for Entry { name, kind, size, mode, mtime, target } in &listing.entries {
        // To the second, and without anything that a terminal would obey.
        let mtime = mtime.split('.').next().unwrap_or_default();
        let (kind, mode) = (printable(kind.as_bytes()), printable(mode.as_bytes()));
        let (mtime, name) = (printable(mtime.as_bytes()), printable(name.as_bytes()));
        write!(output, "{kind:<9} {mode} {size:>width$} {mtime} {name}")?;
        match target {
            Some(target) => writeln!(output, " -> {}", printable(target.as_bytes()))?,
            None => writeln!(output)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_aligned_and_harmless_to_the_terminal() {
        let content = serde_json::json!({"path": "", "entries": [
            {"name": "z\u{1b}[2J", "kind": "symlink", "size": 1, "mode": "0777",
             "mtime": "2024-01-02T03:04:05.000000006Z", "target": "a"},
            {"name": "a", "kind": "file", "size": 4096, "mode": "0644",
             "mtime": "2024-01-02T03:04:05.000000006Z"},
        ]});
        let mut output = Vec::new();
        print_listing(&content.to_string().into(), false, &mut output).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "file      0644 4096 2024-01-02T03:04:05 a\n\
             symlink   0777    1 2024-01-02T03:04:05 z\\u{1b}[2J -> a\n"
        );
    }
}
