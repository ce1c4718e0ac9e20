//! The calls, by their HTTP face.

use super::*;

#[tokio::test]
async fn a_push_is_answered_with_what_was_done_and_a_pull_brings_it_back() {
    let workspace = tempfile::tempdir().unwrap();
    let context =
        SyncContext::new(Arc::new(Root::open(workspace.path()).unwrap()), Transfers::new(4));
    let call = |method: Method, target: &str, body| {
        let path = target.split('?').next().unwrap().to_owned();
        let request = Request::builder().method(method).uri(format!("/v1/sync/{target}"));
        let request: Request<Body> = request.body(body).unwrap();
        let context = context.clone();
        async move {
            let answer = handle(&context, &path, request).await;
            let answer = answer.unwrap_or_else(|problem| problem.response());
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        }
    };
    let json = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).unwrap();
    let bytes = archive(&[file("a"), file("dir/b")]);
    let (status, answer) = call(Method::POST, "push?path=in/here", full(bytes.clone())).await;
    assert_eq!(status, 200);
    let expected = serde_json::json!({
        "files": 2, "directories": 0, "symlinks": 0, "bytes": 14, "spared": 0, "unchanged": 0,
        "touched": 0,
        "removed": 0, "skipped": [], "skipped_total": 0
    });
    assert_eq!(json(&answer), expected);
    let (status, answer) = call(Method::GET, "pull?path=in&exclude=a", empty()).await;
    assert_eq!(status, 200);
    let target = tempfile::tempdir().unwrap();
    unpack_into(target.path(), &answer).unwrap();
    let names: Vec<_> = picture(target.path()).into_keys().collect();
    assert_eq!(names, [&b"here"[..], b"here/dir", b"here/dir/b"]);
    for (method, target, body, status, code) in [
        (Method::POST, "push", full(bytes[..600].to_vec()), 400, "archive_cut"),
        (Method::POST, "push", full(archive(&[file("../x")])), 400, "bad_archive"),
        (Method::POST, "push?path=../x", empty(), 400, "bad_path"),
        (Method::POST, "push?delete=maybe", empty(), 400, "bad_query"),
        (Method::POST, "push?path=in/here/a", full(bytes.clone()), 409, "not_a_directory"),
        (Method::GET, "push", empty(), 405, "method_not_allowed"),
        (Method::GET, "pull?path=none", empty(), 404, "not_found"),
        (Method::GET, "pull?exclude=a%5Bb", empty(), 400, "bad_exclude"),
        (Method::GET, "other", empty(), 404, "no_such_endpoint"),
        (Method::POST, "diff", empty(), 400, "manifest_cut"),
        (Method::POST, "diff?direction=pull", full("x\n"), 400, "bad_manifest"),
        (Method::POST, "pull", full("{\"path\":\"a\"}\n"), 400, "bad_manifest"),
        (Method::POST, "pull?path=in", empty(), 400, "manifest_cut"),
        (Method::POST, "delta?path=in/here&file=a", empty(), 400, "bad_chunks"),
        (Method::GET, "chunks?path=in/here&file=none", empty(), 404, "not_found"),
    ] {
        let (got, answer) = call(method, target, body).await;
        assert_eq!((got, json(&answer)["code"].as_str()), (status, Some(code)), "{target}");
    }
}

#[tokio::test]
async fn stalled_transfers_leave_room_for_others_and_further_ones_are_refused() {
    let workspace = tempfile::tempdir().unwrap();
    let root = Arc::new(Root::open(workspace.path()).unwrap());
    let context = SyncContext::new(root, Transfers::new(1));
    let stalled = context.transfers.begin().unwrap();
    let pull = || Request::builder().uri("/v1/sync/pull").body(empty()).unwrap();
    let refused = handle(&context, "pull", pull()).await.unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (429, "too_many_transfers"));
    drop(stalled);
    assert_eq!(handle(&context, "pull", pull()).await.unwrap().status(), 200);
}
