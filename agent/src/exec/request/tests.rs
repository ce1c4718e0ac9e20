use super::*;

fn of(body: &str, face: Face) -> Result<Request, Problem> {
    let defaults =
        Defaults { root: "/workspace".into(), environment: Environment::default(), spool: None };
    parse(body.as_bytes(), face, StartQuery::default(), &defaults)
}

fn parsed(body: &str) -> Result<Request, Problem> {
    of(body, Face::Buffered)
}

#[test]
fn requests_of_the_same_content_have_the_same_digest() {
    let digest = |body: &str| parsed(body).unwrap().id.unwrap().1;
    let one = digest(r#"{"id":"a","argv":["x"],"env":{"A":"1","B":"2"}}"#);
    assert_eq!(one, digest(r#"{ "env": {"B":"2","A":"1"}, "argv":["x"],"id":"a"}"#));
    assert_ne!(one, digest(r#"{"id":"a","argv":["x"],"env":{"A":"1","B":"3"}}"#));
    assert!(parsed(r#"{"argv":["x"]}"#).unwrap().id.is_none());
}

#[test]
fn an_id_fits_into_a_path() {
    let long = "a".repeat(65);
    for id in ["", ".", "..", "a/b", "a b", "ä", long.as_str()] {
        let body = format!(r#"{{"id":"{id}","argv":["x"]}}"#);
        assert_eq!(parsed(&body).unwrap_err().code, "bad_id", "{id}");
    }
    let longest = "a".repeat(64);
    for id in ["a", "...", "A-1_b.c", longest.as_str()] {
        assert!(parsed(&format!(r#"{{"id":"{id}","argv":["x"]}}"#)).is_ok(), "{id}");
    }
}

#[test]
fn a_full_request_is_understood() {
    let request = parsed(
        r#"{"argv":["ls","-l"],"cwd":"src","env":{"A":"b"},"stdin_base64":"aGk=",
           "timeout_ms":500,"kill_grace_ms":0,"max_output_bytes":10,"nice":5,"umask":"077",
           "limits":{"nofile":64},"oom_score_adj":-7,"on_disconnect":"keep"}"#,
    )
    .unwrap();
    assert_eq!(request.keeping.keep, Keep { head: 5, tail: 5 });
    assert_eq!(request.ending.timeout, Some(Duration::from_millis(500)));
    assert_eq!(request.ending.kill_grace, Duration::ZERO);
    assert_eq!(request.on_disconnect, OnDisconnect::Keep);
    let CommandSpec { cwd, env, stdio, conditions, .. } = request.spec;
    assert_eq!((cwd.as_path(), env), (Path::new("/workspace/src"), vec![c"A=b".to_owned()]));
    assert_eq!(stdio, Stdio::Pipes { stdin: true });
    assert_eq!((conditions.nice, conditions.umask), (Some(5), Some(0o77)));
    assert_eq!((conditions.limits.nofile, conditions.oom_score_adj), (Some(64), Some(-7)));
    assert!(matches!(request.stdin, Stdin::Bytes(bytes) if bytes == "hi"));
}

#[test]
fn what_is_assumed_follows_from_the_call() {
    let body = r#"{"argv":["x"],"max_output_bytes":10}"#;
    let streamed = of(body, Face::Streamed).unwrap();
    assert_eq!(streamed.on_disconnect, OnDisconnect::Kill);
    assert_eq!(streamed.keeping.keep, Keep::tail(10));
    assert_eq!(of(body, Face::Detached).unwrap().on_disconnect, OnDisconnect::Keep);
}

#[test]
fn a_terminal_has_an_open_input_and_a_kind() {
    let request = parsed(r#"{"argv":["x"],"tty":{"rows":24,"cols":80}}"#).unwrap();
    assert_eq!(request.spec.stdio, Stdio::Terminal(Size { rows: 24, cols: 80 }));
    assert_eq!(request.spec.env, [c"TERM=xterm-256color".to_owned()]);
    assert!(matches!(request.stdin, Stdin::Open));
    let named = parsed(r#"{"argv":["x"],"tty":{"rows":1,"cols":1},"env":{"TERM":"vt100"}}"#);
    assert_eq!(named.unwrap().spec.env, [c"TERM=vt100".to_owned()]);
}

#[test]
fn a_shell_command_goes_to_sh_and_an_absolute_cwd_is_taken_as_it_is() {
    let request = parsed(r#"{"shell":"echo hi","cwd":"/tmp"}"#).unwrap();
    let words: Vec<&str> = request.spec.argv.iter().map(|word| word.to_str().unwrap()).collect();
    assert_eq!(words, ["/bin/sh", "-c", "echo hi"]);
    assert_eq!(request.spec.cwd, Path::new("/tmp"));
}

#[test]
fn every_mistake_has_its_code() {
    for (body, expected) in [
        ("", "bad_json"),
        ("[]", "bad_json"),
        (r#"{"argv":["a"],"typo":1}"#, "bad_json"),
        (r#"{"argv":["a"],"argv":["b"]}"#, "bad_json"),
        (r#"{"argv":["a"],"limits":{"typo":1}}"#, "bad_json"),
        (r#"{"argv":["a"],"limits":{"nofile":-1}}"#, "bad_json"),
        (r#"{"argv":["a"],"on_disconnect":"stay"}"#, "bad_json"),
        (r#"{"argv":["a"],"tty":{"rows":65536,"cols":1}}"#, "bad_json"),
        ("{}", "bad_command"),
        (r#"{"argv":[]}"#, "bad_command"),
        (r#"{"argv":["a"],"shell":"b"}"#, "bad_command"),
        (r#"{"argv":["a\u0000b"]}"#, "bad_command"),
        (r#"{"argv":["a"],"cwd":"\u0000"}"#, "bad_command"),
        (r#"{"argv":["a"],"env":{"A=B":"c"}}"#, "bad_environment"),
        (r#"{"argv":["a"],"env":{"":"c"}}"#, "bad_environment"),
        (r#"{"argv":["a"],"stdin":"x","stdin_open":true}"#, "bad_stdin"),
        (r#"{"argv":["a"],"stdin_base64":"!"}"#, "bad_stdin"),
        (r#"{"argv":["a"],"stdin":"x","tty":{"rows":1,"cols":1}}"#, "bad_stdin"),
        (r#"{"argv":["a"],"tty":{"rows":0,"cols":1}}"#, "out_of_range"),
        (r#"{"argv":["a"],"timeout_ms":0}"#, "out_of_range"),
        (r#"{"argv":["a"],"kill_grace_ms":600001}"#, "out_of_range"),
        (r#"{"argv":["a"],"max_output_bytes":16777217}"#, "out_of_range"),
        (r#"{"argv":["a"],"nice":20}"#, "out_of_range"),
        (r#"{"argv":["a"],"oom_score_adj":-1001}"#, "out_of_range"),
        (r#"{"argv":["a"],"umask":"9"}"#, "out_of_range"),
        (r#"{"argv":["a"],"umask":"1000"}"#, "out_of_range"),
        (r#"{"argv":["a"],"spool":true}"#, "no_spool"),
    ] {
        assert_eq!(parsed(body).expect_err(body).code, expected, "{body}");
    }
}
