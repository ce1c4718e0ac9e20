//! `POST /v1/mkdir` and `POST /v1/move`: the JSON of the requests, and their answers.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use workspace_common::{
    body::{self, Body, BoxError, collect_limited},
    problem::Problem,
};

use super::{
    FilesContext, bad_path, blocking, json_response,
    metadata::PERMISSION_BITS,
    method_not_allowed,
    path::WorkspacePath,
    query::Query,
    rename::{MakeOptions, Overwrite, make_directory, rename},
    root::Missing,
    shown,
};
use crate::exec::unread;

/// The longest body: two paths, every byte of them escaped.
const MAX_BYTES: usize = 64 * 1024;

/// `{"path", "parents", "mode", "exist_ok"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMake {
    path: Option<String>,
    path_base64: Option<String>,
    #[serde(default)]
    parents: bool,
    mode: Option<String>,
    #[serde(default)]
    exist_ok: bool,
}

/// `{"from", "to", "overwrite", "parents"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMove {
    from: Option<String>,
    from_base64: Option<String>,
    to: Option<String>,
    to_base64: Option<String>,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    parents: bool,
}

/// Answers `POST /v1/mkdir`.
///
/// # Errors
/// A problem with a stable code.
pub async fn make<B>(context: &FilesContext, request: Request<B>) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if request.method() != Method::POST {
        return Ok(method_not_allowed("POST"));
    }
    let wire: WireMake = read(request, "directory to make").await?;
    let path = path_of("path", wire.path, wire.path_base64)?;
    let mode = wire.mode.map(|mode| octal(&mode)).transpose()?;
    let options = MakeOptions { mode, missing: missing(wire.parents), exists_ok: wire.exist_ok };
    let root = Arc::clone(&context.root);
    let answer = json!({ "path": shown(&path) });
    let created = blocking(move || make_directory(&root, &path, &options)).await??;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answered(status, answer, "created", created))
}

/// Answers `POST /v1/move`.
///
/// # Errors
/// A problem with a stable code.
pub async fn relocate<B>(
    context: &FilesContext,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if request.method() != Method::POST {
        return Ok(method_not_allowed("POST"));
    }
    let wire: WireMove = read(request, "move").await?;
    let from = path_of("from", wire.from, wire.from_base64)?;
    let to = path_of("to", wire.to, wire.to_base64)?;
    let overwrite = if wire.overwrite { Overwrite::Yes } else { Overwrite::No };
    let missing = missing(wire.parents);
    let root = Arc::clone(&context.root);
    let answer = json!({ "from": shown(&from), "to": shown(&to) });
    let replaced = blocking(move || rename(&root, (&from, &to), overwrite, missing)).await??;
    Ok(answered(StatusCode::OK, answer, "replaced", replaced))
}

fn answered(status: StatusCode, mut answer: Value, name: &str, value: bool) -> Response<Body> {
    if let Some(fields) = answer.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
    json_response(status, body::json(&answer))
}

async fn read<T, B>(request: Request<B>, what: &str) -> Result<T, Problem>
where
    T: DeserializeOwned,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    Query::parse(request.uri().query())?.finish()?;
    let body = collect_limited(request.into_body(), MAX_BYTES).await.map_err(|error| {
        let detail = format!("the request cannot be read: {error}");
        Problem { detail, ..unread(error) }
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request("bad_json", format!("the body is no {what}: {error}"))
    })
}

/// A path, as text or, where it is none, in base64.
fn path_of(
    name: &'static str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<WorkspacePath, Problem> {
    let bytes = match (text, base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => BASE64_STANDARD.decode(base64).map_err(|error| {
            Problem::bad_request("bad_json", format!("{name}_base64 is no base64: {error}"))
        })?,
        _ => {
            let detail = format!("give either {name} or {name}_base64");
            return Err(Problem::bad_request("bad_json", detail));
        }
    };
    let shown = super::path::printable(&bytes);
    WorkspacePath::parse(&bytes).map_err(|reason| bad_path(&shown, reason))
}

fn octal(mode: &str) -> Result<u32, Problem> {
    let digits = mode.len() <= 5 && mode.bytes().all(|byte| byte.is_ascii_digit());
    let bits = digits.then(|| u32::from_str_radix(mode, 8).ok()).flatten();
    bits.filter(|bits| *bits <= PERMISSION_BITS).ok_or_else(|| {
        let mode = super::path::printable(mode.as_bytes());
        let detail = format!("mode is '{mode}', which is not an octal mode between 0 and 777");
        Problem::bad_request("out_of_range", detail)
    })
}

fn missing(parents: bool) -> Missing {
    if parents { Missing::Create } else { Missing::Fail }
}
