use super::*;

fn field(response: &Response<Body>, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_range_is_answered_with_these_bytes_of_small_and_large_files() {
    let workspace = Workspace::new();
    for size in [1000, transfer::CHUNK * 2 + 5] {
        let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        fs::write(workspace.path().join("file"), &content).unwrap();
        let last = size - 1;
        for (value, first, end) in [
            ("bytes=10-19".to_owned(), 10, 20),
            ("bytes=990-".to_owned(), 990, size),
            ("bytes=-7".to_owned(), size - 7, size),
            (format!("bytes=0-{last}"), 0, size),
        ] {
            let got = workspace.call_with(Method::GET, "file", &[("range", &value)], empty()).await;
            assert_eq!(got.status(), 206, "{value}");
            let range = format!("bytes {first}-{}/{size}", end - 1);
            assert_eq!(field(&got, "content-range"), range);
            assert_eq!(field(&got, "content-length"), (end - first).to_string());
            assert!(bytes_of(got).await == content[first..end], "{value} of {size}");
        }
        let behind = format!("bytes={size}-");
        let got = workspace.call_with(Method::GET, "file", &[("range", &behind)], empty()).await;
        assert_eq!(
            (got.status().as_u16(), field(&got, "content-range")),
            (416, format!("bytes */{size}"))
        );
        assert_eq!(json_of(got).await["code"], "range_not_satisfiable");
        let head =
            workspace.call_with(Method::HEAD, "file", &[("range", "bytes=1-2")], empty()).await;
        assert_eq!(
            (head.status().as_u16(), field(&head, "content-length")),
            (200, size.to_string())
        );
    }
}

#[tokio::test]
async fn what_the_reader_has_is_not_sent_again_and_what_changed_is() {
    let workspace = Workspace::new();
    let put = workspace.call(Method::PUT, "file", full("one")).await;
    let tag = field(&put, "etag");
    let known = [("if-none-match", tag.as_str()), ("range", "bytes=0-0")];
    for method in [Method::GET, Method::HEAD] {
        let got = workspace.call_with(method, "file", &known, empty()).await;
        assert_eq!((got.status().as_u16(), field(&got, "etag")), (304, tag.clone()));
        assert_eq!(bytes_of(got).await, "");
    }
    let part = [("if-range", tag.as_str()), ("range", "bytes=1-")];
    assert_eq!(workspace.call_with(Method::GET, "file", &part, empty()).await.status(), 206);
    workspace.call(Method::PUT, "file", full("two")).await;
    assert_eq!(workspace.call_with(Method::GET, "file", &known, empty()).await.status(), 206);
    let whole = workspace.call_with(Method::GET, "file", &part, empty()).await;
    assert_eq!((whole.status().as_u16(), bytes_of(whole).await), (200, "two".into()));
    let gone = workspace.call_with(Method::GET, "file", &[("if-match", &tag)], empty()).await;
    assert_eq!(gone.status(), 412);
}

#[tokio::test]
async fn a_write_happens_only_in_the_state_that_it_was_made_for() {
    let workspace = Workspace::new();
    let create = [("if-none-match", "*")];
    let put = workspace.call_with(Method::PUT, "new/file", &create, full("one")).await;
    assert_eq!(put.status(), 201);
    let first = field(&put, "etag");
    let again = workspace.call_with(Method::PUT, "new/file", &create, full("two")).await;
    assert_eq!(json_of(again).await["code"], "precondition_failed");
    let update = [("if-match", first.as_str())];
    let put = workspace.call_with(Method::PUT, "new/file", &update, full("two")).await;
    assert_eq!(put.status(), 200);
    for method in [Method::PUT, Method::DELETE] {
        let late = workspace.call_with(method, "new/file", &update, full("late")).await;
        assert_eq!(late.status(), 412);
    }
    assert_eq!(fs::read_to_string(workspace.path().join("new/file")).unwrap(), "two");
    let absent =
        workspace.call_with(Method::PUT, "made/file", &[("if-match", "*")], full("x")).await;
    assert_eq!(absent.status(), 412);
    assert!(!workspace.path().join("made").exists(), "a refused write made a directory");
    let bad = workspace.call_with(Method::PUT, "new/file", &[("if-match", "x")], full("x")).await;
    assert_eq!(json_of(bad).await["code"], "bad_condition");
    let current = field(&workspace.call(Method::HEAD, "new/file", empty()).await, "etag");
    let last = [("if-match", current.as_str())];
    let gone = workspace.call_with(Method::DELETE, "new/file", &last, empty()).await;
    assert_eq!(gone.status(), 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_who_saw_the_same_state_one_succeeds() {
    let workspace = Arc::new(Workspace::new());
    let seen = field(&workspace.call(Method::PUT, "file", full("0")).await, "etag");
    for (name, field, value) in [("file", "if-match", seen.as_str()), ("new", "if-none-match", "*")]
    {
        let writers = (0..4).map(|writer| {
            let (workspace, value) = (workspace.clone(), value.to_owned());
            async move {
                let fields = [(field, value.as_str())];
                workspace
                    .call_with(Method::PUT, name, &fields, full(writer.to_string()))
                    .await
                    .status()
            }
        });
        let statuses = futures_util::future::join_all(writers).await;
        let written = statuses.iter().filter(|status| status.is_success()).count();
        assert_eq!(written, 1, "{name}: {statuses:?}");
    }
}

#[tokio::test]
async fn digests_are_told_where_they_are_wanted_and_checked_where_they_are_given() {
    let workspace = Workspace::new();
    let hello = "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:";
    let right = [("repr-digest", hello)];
    let put = workspace.call_with(Method::PUT, "file", &right, full("hello\n")).await;
    assert_eq!(put.status(), 201);
    let wrong = workspace.call_with(Method::PUT, "file", &right, full("hullo\n")).await;
    assert_eq!(wrong.status(), 422);
    assert_eq!(json_of(wrong).await["code"], "digest_mismatch");
    assert_eq!(fs::read_to_string(workspace.path().join("file")).unwrap(), "hello\n");
    let wanted = [("want-repr-digest", "sha-256=1"), ("range", "bytes=0-1")];
    for method in [Method::GET, Method::HEAD] {
        let got = workspace.call_with(method, "file", &wanted, empty()).await;
        assert_eq!(field(&got, "repr-digest"), hello);
    }
    let plain = workspace.call(Method::GET, "file", empty()).await;
    assert!(!plain.headers().contains_key("repr-digest"));
    let large = vec![7; transfer::CHUNK + 1];
    fs::write(workspace.path().join("large"), &large).unwrap();
    let got = workspace.call_with(Method::GET, "large", &wanted[..1], empty()).await;
    assert!(got.headers().contains_key("repr-digest"));
    assert!(bytes_of(got).await == large, "hashing moved the file");
    let listing =
        json_of(workspace.call(Method::GET, "?digest=sha-256&glob=file", empty()).await).await;
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(listing["entries"][0]["sha256"], sha256);
}

#[tokio::test]
async fn a_listing_goes_as_deep_as_asked_in_order_and_shows_what_matches() {
    let workspace = Workspace::new();
    for name in ["b/z.rs", "b/a.rs", "b/c/deep.rs", "a.txt", "c.rs"] {
        workspace.call(Method::PUT, name, full("x")).await;
    }
    let names = async |target| {
        let listing = json_of(workspace.call(Method::GET, target, empty()).await).await;
        let entries = listing["entries"].as_array().unwrap_or_else(|| panic!("{listing}")).clone();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["a.txt", "b", "c.rs"]);
    assert_eq!(names("?depth=2").await, ["a.txt", "b", "b/a.rs", "b/c", "b/z.rs", "c.rs"]);
    assert_eq!(names("?depth=64&glob=**/*.rs").await, ["b/a.rs", "b/c/deep.rs", "b/z.rs", "c.rs"]);
    assert_eq!(names("b?depth=2&glob=c/*&glob=z*").await, ["c/deep.rs", "z.rs"]);
    for bad in ["?depth=0", "?depth=65", "?depth=x", "?depth=+1", "?glob=[", "?digest=md5"] {
        assert_eq!(workspace.code(Method::GET, bad).await, (400, "bad_query".into()), "{bad}");
    }
    let head = workspace.call(Method::HEAD, "b", empty()).await;
    assert_eq!(
        (field(&head, "workspace-kind"), field(&head, "workspace-mode")),
        ("directory".into(), "0755".into())
    );
}
