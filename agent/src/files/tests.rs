use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use http_body::Frame;
use http_body_util::{BodyExt, channel::Channel};
use serde_json::Value;
use workspace_common::body::{empty, full};

use super::*;

mod arranging;
mod conditions;
mod uploads;

struct Workspace {
    directory: tempfile::TempDir,
    context: FilesContext,
}

impl Workspace {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(directory.path()).unwrap());
        let keep = std::time::Duration::from_secs(60);
        let limits = Limits { count: 2, bytes: 10_000_000, keep };
        let context = FilesContext::new(root, Transfers::new(4), limits);
        Self { directory, context }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn call(&self, method: Method, target: &str, body: Body) -> Response<Body> {
        self.call_with(method, target, &[], body).await
    }

    async fn call_with(
        &self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        body: Body,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(format!("/v1/files/{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let path = target.split('?').next().unwrap().to_owned();
        handle(&self.context, &path, request.body(body).unwrap())
            .await
            .unwrap_or_else(|problem| problem.response())
    }

    async fn code(&self, method: Method, target: &str) -> (u16, String) {
        let response = self.call(method, target, full("x")).await;
        let status = response.status().as_u16();
        (status, json_of(response).await["code"].as_str().unwrap().to_owned())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

async fn bytes_of(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&bytes_of(response).await).unwrap()
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_was_put_is_got_back_with_its_hash_tag_and_length() {
    let workspace = Workspace::new();
    let put = workspace.call(Method::PUT, "new/dir/file", full("content")).await;
    assert_eq!(put.status(), 201);
    let tag = put.headers()["etag"].clone();
    let answer = json_of(put).await;
    assert_eq!(answer["path"], "new/dir/file");
    assert_eq!(answer["size"], 7);
    assert_eq!(
        answer["sha256"],
        "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    );
    let got = workspace.call(Method::GET, "new/dir/file", empty()).await;
    assert_eq!(got.headers()["etag"], tag);
    assert_eq!(got.headers()["content-length"], "7");
    assert!(got.headers().contains_key("last-modified"));
    assert_eq!(bytes_of(got).await, "content");
    let head = workspace.call(Method::HEAD, "new/dir/file", empty()).await;
    assert_eq!(head.headers()["content-length"], "7");
    assert_eq!(bytes_of(head).await, "");
    assert_eq!(workspace.call(Method::PUT, "new/dir/file", full("2")).await.status(), 200);
}

#[tokio::test]
async fn files_of_every_size_around_the_chunk_are_streamed_exactly() {
    let workspace = Workspace::new();
    for size in [0, 1, transfer::CHUNK - 1, transfer::CHUNK, transfer::CHUNK + 1, 1_000_003] {
        let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        workspace.call(Method::PUT, "file", full(content.clone())).await;
        let got = workspace.call(Method::GET, "file", empty()).await;
        assert_eq!(got.headers()["content-length"], size.to_string().as_str());
        assert!(bytes_of(got).await == content, "{size}");
    }
}

#[tokio::test]
async fn the_mode_is_the_one_asked_for_or_the_old_one_or_0644() {
    let workspace = Workspace::new();
    let file = workspace.path().join("file");
    for (target, expected) in
        [("file", 0o644), ("file?mode=0750", 0o750), ("file", 0o750), ("file?mode=600", 0o600)]
    {
        workspace.call(Method::PUT, target, full("x")).await;
        assert_eq!(mode_of(&file), expected, "{target}");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_the_old_file_and_no_litter() {
    let workspace = Workspace::new();
    workspace.call(Method::PUT, "file", full("old")).await;
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    sender.send_data("half of the new".into()).await.unwrap();
    sender.abort(io::ErrorKind::ConnectionReset.into());
    let body = body.map_err(Into::into).boxed_unsync();
    let answer = workspace.call(Method::PUT, "file", body).await;
    assert_eq!(json_of(answer).await["code"], "upload_cut");
    assert_eq!(fs::read_to_string(workspace.path().join("file")).unwrap(), "old");
    assert_eq!(workspace.names(), ["file"]);
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_announced_or_not() {
    let mut workspace = Workspace::new();
    workspace.context.max_upload_bytes = 4;
    assert_eq!(workspace.call(Method::PUT, "four", full("1234")).await.status(), 201);
    assert_eq!(workspace.call(Method::PUT, "five", full("12345")).await.status(), 413);
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    let sending = async move {
        sender.send_data("123".into()).await.unwrap();
        sender.send_data("456".into()).await.unwrap();
    };
    let body = body.map_err(Into::into).boxed_unsync();
    let (answer, ()) = tokio::join!(workspace.call(Method::PUT, "chunked", body), sending);
    assert_eq!(answer.status(), 413);
    assert_eq!(workspace.names(), ["four"]);
}

#[tokio::test]
async fn a_link_is_replaced_by_a_put_and_removed_by_a_delete_and_its_target_stays() {
    let workspace = Workspace::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), workspace.path().join("link")).unwrap();
    assert_eq!(workspace.code(Method::GET, "link").await, (403, "outside_root".into()));
    assert_eq!(workspace.call(Method::PUT, "link", full("new")).await.status(), 200);
    assert_eq!(fs::read_to_string(outside.path()).unwrap(), "secret");
    std::os::unix::fs::symlink(outside.path(), workspace.path().join("other")).unwrap();
    assert_eq!(workspace.call(Method::DELETE, "other", empty()).await.status(), 204);
    assert!(outside.path().exists());
    assert_eq!(workspace.names(), ["link"]);
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let workspace = Workspace::new();
    fs::create_dir_all(workspace.path().join("dir/sub")).unwrap();
    fs::write(workspace.path().join("file"), "").unwrap();
    for (method, target, status, code) in [
        (Method::GET, "none", 404, "not_found"),
        (Method::GET, "file/x", 409, "not_a_directory"),
        (Method::GET, "..%2f..%2fetc%2fpasswd", 400, "bad_path"),
        (Method::GET, "%2fetc/passwd", 400, "bad_path"),
        (Method::GET, "a%00b", 400, "bad_path"),
        (Method::GET, "file?depth=x&unknown=1", 400, "bad_query"),
        (Method::PUT, "dir", 409, "is_a_directory"),
        (Method::PUT, "dir/", 400, "bad_path"),
        (Method::PUT, "", 400, "bad_path"),
        (Method::PUT, "file/x", 409, "not_a_directory"),
        (Method::PUT, "f?mode=4755", 400, "bad_query"),
        (Method::PUT, ".workspace-tmp-0123456789abcdef", 400, "bad_path"),
        (Method::DELETE, "none", 404, "not_found"),
        (Method::DELETE, "dir", 409, "directory_not_empty"),
        (Method::DELETE, "?recursive=true", 400, "bad_path"),
        (Method::POST, "file", 405, "method_not_allowed"),
    ] {
        let got = workspace.code(method.clone(), target).await;
        assert_eq!(got, (status, code.to_owned()), "{method} {target}");
    }
    assert_eq!(workspace.call(Method::DELETE, "dir?recursive=true", empty()).await.status(), 204);
    assert_eq!(workspace.names(), ["file"]);
}

#[tokio::test]
async fn a_directory_is_listed_with_names_that_are_not_utf8_and_without_unfinished_writes() {
    use std::os::unix::ffi::OsStrExt;
    let workspace = Workspace::new();
    fs::create_dir(workspace.path().join("dir")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(workspace.path().join("dir").join(odd), "12345").unwrap();
    fs::write(workspace.path().join("dir/.workspace-tmp-0123456789abcdef"), "").unwrap();
    std::os::unix::fs::symlink("/nowhere", workspace.path().join("dir/link")).unwrap();
    let mut listing = json_of(workspace.call(Method::GET, "dir", empty()).await).await;
    assert_eq!(listing["path"], "dir");
    let entries = listing["entries"].as_array_mut().unwrap();
    entries.sort_by_key(|entry| entry["kind"].to_string());
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["name"], "caf\u{fffd}");
    assert_eq!(entries[0]["name_base64"], "Y2Fm6Q==");
    assert_eq!(entries[0]["size"], 5);
    assert_eq!(entries[0]["mode"], "0644");
    assert_eq!(entries[1]["kind"], "symlink");
    assert_eq!(entries[1]["target"], "/nowhere");
}
