use std::time::Duration;

use super::{metadata::FileTime, *};

const PART: (&str, &str) = ("content-type", "application/partial-upload");

impl Workspace {
    /// Begins an upload and gives its id.
    async fn begin(&self, target: &str, fields: &[(&str, &str)]) -> String {
        let fields = [&[("upload-complete", "?0")], fields].concat();
        let response = self.call_with(Method::PUT, target, &fields, empty()).await;
        let location = response.headers().get("location").cloned();
        assert_eq!(response.status(), 201, "{}", json_of(response).await);
        location.unwrap().to_str().unwrap().strip_prefix("/v1/uploads/").unwrap().to_owned()
    }

    async fn upload(
        &self,
        method: Method,
        id: &str,
        fields: &[(&str, &str)],
        body: Body,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(format!("/v1/uploads/{id}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        upload::handle(&self.context, id, request.body(body).unwrap())
            .await
            .unwrap_or_else(|problem| problem.response())
    }

    async fn part(&self, id: &str, offset: u64, last: bool, body: Body) -> Response<Body> {
        let offset = offset.to_string();
        let complete = if last { "?1" } else { "?0" };
        let fields = [PART, ("upload-offset", offset.as_str()), ("upload-complete", complete)];
        self.upload(Method::PATCH, id, &fields, body).await
    }

    async fn offset(&self, id: &str) -> Option<String> {
        let head = self.upload(Method::HEAD, id, &[], empty()).await;
        let offset = head.headers().get("upload-offset")?;
        Some(format!(
            "{} {}",
            offset.to_str().unwrap(),
            head.headers()["upload-complete"].to_str().unwrap()
        ))
    }

    /// The same workspace after the agent has ended and another has started.
    fn restarted(self, limits: Limits) -> Self {
        let root = Arc::new(Root::open(self.directory.path()).unwrap());
        let context = FilesContext::new(root, Transfers::new(4), limits);
        Self { directory: self.directory, context }
    }
}

fn limits() -> Limits {
    Limits { count: 2, bytes: 10_000_000, keep: Duration::from_secs(60) }
}

fn cut_after(content: &'static str) -> Body {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(2);
    sender.try_send(Frame::data(content.into())).unwrap();
    sender.abort(io::ErrorKind::ConnectionReset.into());
    body.map_err(Into::into).boxed_unsync()
}

#[tokio::test]
async fn parts_become_one_file_that_appears_at_the_end() {
    let workspace = Workspace::new();
    let id = workspace.begin("dir/file?mode=0640", &[("upload-length", "11")]).await;
    assert_eq!(workspace.offset(&id).await.as_deref(), Some("0 ?0"));
    let first = workspace.part(&id, 0, false, full("hello ")).await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["upload-offset"]),
        (204, &"6".parse().unwrap())
    );
    assert!(!workspace.path().join("dir").exists());
    let listing = json_of(workspace.call(Method::GET, "", empty()).await).await;
    assert_eq!(listing["entries"], serde_json::json!([]));
    let last = workspace.part(&id, 6, true, full("world")).await;
    assert_eq!(last.status(), 201);
    assert_eq!(last.headers()["upload-complete"], "?1");
    let written = json_of(last).await;
    let sha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    assert_eq!((&written["size"], &written["sha256"]), (&11.into(), &sha256.into()));
    let file = workspace.path().join("dir/file");
    assert_eq!((fs::read_to_string(&file).unwrap(), mode_of(&file)), ("hello world".into(), 0o640));
    assert_eq!(workspace.names(), ["dir"], "something is left of the upload");
    // Who has missed the answer gets it again.
    assert_eq!(workspace.offset(&id).await.as_deref(), Some("11 ?1"));
    assert_eq!(json_of(workspace.part(&id, 11, true, empty()).await).await, written);
}

#[tokio::test]
async fn what_arrived_of_a_part_that_was_cut_stays_and_is_not_sent_again() {
    let workspace = Workspace::new();
    let id = workspace.begin("file", &[]).await;
    let cut = workspace.part(&id, 0, true, cut_after("first ")).await;
    assert_eq!(json_of(cut).await["code"], "upload_cut");
    assert_eq!(workspace.offset(&id).await.as_deref(), Some("6 ?0"));
    let wrong = workspace.part(&id, 0, true, full("first second")).await;
    assert_eq!(wrong.headers()["upload-offset"], "6");
    assert_eq!(json_of(wrong).await["code"], "upload_offset_mismatch");
    assert_eq!(workspace.part(&id, 6, true, full("second")).await.status(), 201);
    assert_eq!(fs::read_to_string(workspace.path().join("file")).unwrap(), "first second");
}

#[tokio::test]
async fn an_upload_outlives_the_agent_and_its_digest_is_of_the_whole() {
    let workspace = Workspace::new();
    let hello = "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:";
    let id = workspace.begin("file?mode=0600", &[("repr-digest", hello)]).await;
    workspace.part(&id, 0, false, full("hel")).await;
    let workspace = workspace.restarted(limits());
    assert_eq!(workspace.offset(&id).await.as_deref(), Some("3 ?0"));
    let last = workspace.part(&id, 3, true, full("lo\n")).await;
    assert_eq!(last.status(), 201);
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(json_of(last).await["sha256"], sha256);
    assert_eq!(mode_of(&workspace.path().join("file")), 0o600);
}

#[tokio::test]
async fn content_that_is_not_the_announced_one_never_gets_the_name() {
    let workspace = Workspace::new();
    workspace.call(Method::PUT, "file", full("old")).await;
    let hello = "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:";
    let id = workspace.begin("file", &[("repr-digest", hello)]).await;
    let wrong = workspace.part(&id, 0, true, full("hullo\n")).await;
    assert_eq!(json_of(wrong).await["code"], "digest_mismatch");
    assert_eq!(workspace.offset(&id).await, None, "it cannot become right any more");
    let id = workspace.begin("file", &[("upload-length", "3")]).await;
    let long = workspace.part(&id, 0, true, full("four")).await;
    assert_eq!(json_of(long).await["code"], "upload_length_mismatch");
    let short = workspace.part(&id, 0, true, full("no")).await;
    assert_eq!(json_of(short).await["code"], "upload_length_mismatch");
    assert_eq!(workspace.part(&id, 2, true, full("w")).await.status(), 200);
    assert_eq!(fs::read_to_string(workspace.path().join("file")).unwrap(), "now");
}

#[tokio::test]
async fn conditions_hold_at_the_beginning_and_at_the_end() {
    let workspace = Workspace::new();
    let create = ("if-none-match", "*");
    let id = workspace.begin("file", &[create]).await;
    workspace.call(Method::PUT, "file", full("another's")).await;
    let late = workspace.part(&id, 0, true, full("mine")).await;
    assert_eq!(json_of(late).await["code"], "precondition_failed");
    assert_eq!(fs::read_to_string(workspace.path().join("file")).unwrap(), "another's");
    assert_eq!(workspace.upload(Method::DELETE, &id, &[], empty()).await.status(), 204);
    assert_eq!(workspace.names(), ["file"]);
    let fields = [("upload-complete", "?0"), create];
    let refused = workspace.call_with(Method::PUT, "file", &fields, empty()).await;
    assert_eq!(refused.status(), 412);
}

#[tokio::test]
async fn number_and_room_of_unfinished_uploads_are_bounded() {
    let workspace = Workspace::new();
    let first = workspace.begin("a", &[("upload-length", "9999990")]).await;
    let second = workspace.begin("b", &[]).await;
    let begin = [("upload-complete", "?0")];
    let third = workspace.call_with(Method::PUT, "c", &begin, empty()).await;
    assert_eq!(
        (third.status().as_u16(), json_of(third).await["code"].clone()),
        (429, "too_many_uploads".into())
    );
    let full_up = workspace.part(&second, 0, false, full("eleven bytes")).await;
    assert_eq!(
        (full_up.status().as_u16(), json_of(full_up).await["code"].clone()),
        (507, "upload_space_used".into())
    );
    assert_eq!(workspace.part(&second, 0, false, full("ten bytes!")).await.status(), 204);
    assert_eq!(workspace.upload(Method::DELETE, &first, &[], empty()).await.status(), 204);
    assert_eq!(workspace.upload(Method::DELETE, &first, &[], empty()).await.status(), 404);
    assert_eq!(workspace.part(&second, 10, false, full("eleven bytes")).await.status(), 204);
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_removed_in_its_time() {
    let workspace = Workspace::new();
    let id = workspace.begin("a", &[]).await;
    let (uploads, now) = (workspace.context.uploads.clone(), FileTime::now());
    let lease = Uploads::lease(&uploads, uploads.list()[0].id).unwrap();
    uploads.expire(FileTime { seconds: now.seconds + 1000, ..now });
    drop(lease);
    assert!(workspace.offset(&id).await.is_some(), "it was being sent to");
    uploads.expire(FileTime { seconds: now.seconds + 59, ..now });
    assert!(workspace.offset(&id).await.is_some());
    uploads.expire(FileTime { seconds: now.seconds + 100, ..now });
    assert_eq!(workspace.offset(&id).await, None);
    assert_eq!(workspace.names(), [] as [&str; 0]);
}

#[tokio::test]
async fn only_one_sends_at_a_time_and_nonsense_is_refused() {
    let workspace = Workspace::new();
    let id = workspace.begin("a", &[]).await;
    let uploads = workspace.context.uploads.clone();
    let lease = Uploads::lease(&uploads, uploads.list()[0].id).unwrap();
    for busy in [
        workspace.part(&id, 0, false, full("x")).await,
        workspace.upload(Method::DELETE, &id, &[], empty()).await,
    ] {
        assert_eq!(busy.headers()["retry-after"], "1");
        assert_eq!(json_of(busy).await["code"], "upload_busy");
    }
    drop(lease);
    let refusals = [
        (vec![("upload-offset", "0")], 415, "unsupported_media_type"),
        (vec![PART], 400, "bad_upload_field"),
        (vec![PART, ("upload-offset", "x")], 400, "bad_upload_field"),
    ];
    for (fields, status, code) in refusals {
        let refused = workspace.upload(Method::PATCH, &id, &fields, full("x")).await;
        assert_eq!(
            (refused.status().as_u16(), json_of(refused).await["code"].clone()),
            (status, code.into())
        );
    }
    for unknown in ["0123456789abcdef", "x", "../a"] {
        assert_eq!(workspace.part(unknown, 0, false, full("x")).await.status(), 404);
    }
    assert_eq!(workspace.upload(Method::GET, &id, &[], empty()).await.status(), 405);
}

#[tokio::test]
async fn what_the_workspace_puts_into_the_directory_of_uploads_does_no_harm() {
    let workspace = Workspace::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let id = workspace.begin("a", &[]).await;
    let content = workspace.path().join(".workspace-uploads").join(&id);
    fs::remove_file(&content).unwrap();
    std::os::unix::fs::symlink(outside.path(), &content).unwrap();
    let refused = workspace.part(&id, 0, true, full("overwritten")).await;
    assert_eq!(refused.status(), 409, "{}", json_of(refused).await);
    let shelf = workspace.path().join(".workspace-uploads");
    fs::write(shelf.join("00000000000000ff"), "half").unwrap();
    fs::write(shelf.join("00000000000000ff.json"), "{\"path\":\"../x\"}").unwrap();
    fs::create_dir(shelf.join("00000000000000fe")).unwrap();
    let workspace = workspace.restarted(limits());
    assert!(workspace.context.uploads.list().is_empty());
    fs::remove_dir_all(&shelf).unwrap();
    std::os::unix::fs::symlink("/tmp", &shelf).unwrap();
    let begin = [("upload-complete", "?0")];
    let refused = workspace.call_with(Method::PUT, "a", &begin, empty()).await;
    assert_eq!(refused.status(), 409, "{}", json_of(refused).await);
    assert_eq!(fs::read(outside.path()).unwrap(), b"");
}
