use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

impl Workspace {
    async fn arrange(&self, call: &str, body: Value) -> Response<Body> {
        let request = Request::builder().method(Method::POST).uri(format!("/v1/{call}"));
        let request = request.body(body::json(&body)).unwrap();
        let answer = match call {
            "mkdir" => arrange::make(&self.context, request).await,
            _ => arrange::relocate(&self.context, request).await,
        };
        answer.unwrap_or_else(|problem| problem.response())
    }

    async fn refused(&self, call: &str, body: Value) -> (u16, String) {
        let response = self.arrange(call, body).await;
        let status = response.status().as_u16();
        let answer = json_of(response).await;
        (status, answer["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }
}

#[tokio::test]
async fn a_directory_is_made_once_with_its_mode_and_those_above_it_where_asked() {
    let workspace = Workspace::new();
    let made = workspace.arrange("mkdir", json!({"path": "a", "mode": "0700"})).await;
    assert_eq!(made.status(), 201);
    assert_eq!(json_of(made).await, json!({"path": "a", "created": true}));
    assert_eq!(mode_of(&workspace.path().join("a")), 0o700);
    fs::write(workspace.path().join("file"), "").unwrap();
    symlink("/", workspace.path().join("outward")).unwrap();
    for (body, status, code) in [
        (json!({"path": "a"}), 409, "already_exists"),
        (json!({"path": "file", "exist_ok": true}), 409, "already_exists"),
        (json!({"path": "x/y/z"}), 404, "not_found"),
        (json!({"path": "file/x", "parents": true}), 409, "not_a_directory"),
        (json!({"path": "outward/x", "parents": true}), 403, "outside_root"),
        (json!({"path": "outward", "exist_ok": true}), 409, "already_exists"),
        (json!({"path": ""}), 400, "bad_path"),
        (json!({"path": "../x"}), 400, "bad_path"),
        (json!({"path": ".workspace-uploads"}), 400, "bad_path"),
        (json!({"path": "b", "mode": "999"}), 400, "out_of_range"),
        (json!({"path": "b", "mode": "4755"}), 400, "out_of_range"),
        (json!({"path": "b", "other": 1}), 400, "bad_json"),
        (json!({}), 400, "bad_json"),
        (json!({"path_base64": "*"}), 400, "bad_json"),
    ] {
        assert_eq!(workspace.refused("mkdir", body.clone()).await, (status, code.into()), "{body}");
    }
    let again = json!({"path": "a", "exist_ok": true});
    assert_eq!(workspace.arrange("mkdir", again).await.status(), 200);
    let deep = json!({"path_base64": "eC95L2NhZuk=", "parents": true});
    assert_eq!(workspace.arrange("mkdir", deep).await.status(), 201);
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"x/y/caf\xe9");
    assert!(workspace.path().join(odd).is_dir());
}

#[tokio::test]
async fn an_entry_moves_in_one_step_and_replaces_only_where_asked() {
    let workspace = Workspace::new();
    for (name, content) in [("a/file", "a"), ("b/file", "b"), ("c/d/file", "c")] {
        workspace.call(Method::PUT, name, full(content)).await;
    }
    symlink("file", workspace.path().join("a/link")).unwrap();
    symlink("/etc", workspace.path().join("outward")).unwrap();
    for (body, status, code) in [
        (json!({"from": "a/file", "to": "b/file"}), 409, "already_exists"),
        (json!({"from": "a/file", "to": "b", "overwrite": true}), 409, "is_a_directory"),
        (json!({"from": "a", "to": "b/file", "overwrite": true}), 409, "not_a_directory"),
        (json!({"from": "a", "to": "b", "overwrite": true}), 409, "directory_not_empty"),
        (json!({"from": "a", "to": "b"}), 409, "already_exists"),
        (json!({"from": "c", "to": "c/d/e"}), 409, "into_itself"),
        (json!({"from": "c", "to": "c/new/e", "parents": true}), 409, "into_itself"),
        (json!({"from": "none", "to": "x/y", "parents": true}), 404, "not_found"),
        (json!({"from": "a/file", "to": "x/y"}), 404, "not_found"),
        (json!({"from": "", "to": "x"}), 400, "bad_path"),
        (json!({"from": "a", "to": ""}), 400, "bad_path"),
        (json!({"from": "a/file", "to": "../x"}), 400, "bad_path"),
        (json!({"from": "a/file", "to": "outward/x"}), 403, "outside_root"),
        (json!({"from": "outward/passwd", "to": "x"}), 403, "outside_root"),
        (json!({"from": "a/file", "to": ".workspace-uploads/x"}), 400, "bad_path"),
    ] {
        assert_eq!(workspace.refused("move", body.clone()).await, (status, code.into()), "{body}");
    }
    assert!(!workspace.path().join("x").exists(), "a refused move made a directory");
    assert_eq!((workspace.read("a/file"), workspace.read("b/file")), ("a".into(), "b".into()));
    let moved = workspace
        .arrange("move", json!({"from": "a/file", "to": "b/file", "overwrite": true}))
        .await;
    assert_eq!(json_of(moved).await, json!({"from": "a/file", "to": "b/file", "replaced": true}));
    assert_eq!(workspace.read("b/file"), "a");
    let moved =
        workspace.arrange("move", json!({"from": "c", "to": "n/e/w", "parents": true})).await;
    assert_eq!(json_of(moved).await["replaced"], false);
    assert_eq!(workspace.read("n/e/w/d/file"), "c");
    // The link itself, wherever it leads.
    workspace.arrange("move", json!({"from": "outward", "to": "a/elsewhere"})).await;
    assert_eq!(fs::read_link(workspace.path().join("a/elsewhere")).unwrap(), Path::new("/etc"));
}
