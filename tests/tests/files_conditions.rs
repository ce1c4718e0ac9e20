//! Ranges, conditions, digests, listings, directories and moves, with clients that others wrote and
//! with requests that none of them would send.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use workspace_tests::{
    agent::Agent,
    gvisor,
    http::{Connection, Response},
    peer, require,
};

const HELLO: &str = "sha-256=:WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=:";

/// Runs curl against a file, and gives its output, which begins with the head where `-i` is given.
fn curl(agent: &Agent, arguments: &[&str], target: &str) -> Result<Output> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "60", "--unix-socket"]).arg(agent.socket());
    command.args(arguments).arg(format!("http://localhost{target}"));
    let output = command.output()?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_gets_parts_and_goes_on_with_what_it_has() -> Result<()> {
    require!(Curl);
    let agent = Agent::start()?;
    let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    fs::write(agent.root().join("large"), &content)?;
    assert_eq!(
        curl(&agent, &["-r", "500000-500009"], "/v1/files/large")?.stdout,
        content[500_000..500_010]
    );
    assert_eq!(curl(&agent, &["-r", "-7"], "/v1/files/large")?.stdout, content[999_993..]);
    let refused = said(&curl(&agent, &["-i", "-r", "1000000-"], "/v1/files/large")?);
    ensure!(refused.starts_with("HTTP/1.1 416 "), "{refused}");
    ensure!(refused.contains("content-range: bytes */1000000\r\n"), "{refused}");
    // What a download that was cut has left.
    let partial = agent.directory().join("partial");
    fs::write(&partial, &content[..600_001])?;
    let path = partial.to_str().context("a plain path")?;
    curl(&agent, &["-C", "-", "-o", path], "/v1/files/large")?;
    ensure!(fs::read(&partial)? == content, "it did not go on where it was");
    Ok(())
}

#[test]
fn curl_writes_only_what_it_has_seen() -> Result<()> {
    require!(Curl);
    let agent = Agent::start()?;
    let tags = agent.directory().join("tag");
    let tag = tags.to_str().context("a plain path")?;
    let put = ["-i", "-X", "PUT", "--data-binary", "one"];
    let created =
        said(&curl(&agent, &[&put[..], &["-H", "If-None-Match: *"]].concat(), "/v1/files/f")?);
    ensure!(created.starts_with("HTTP/1.1 201 "), "{created}");
    let again =
        said(&curl(&agent, &[&put[..], &["-H", "If-None-Match: *"]].concat(), "/v1/files/f")?);
    ensure!(again.starts_with("HTTP/1.1 412 ") && again.contains("precondition_failed"), "{again}");
    assert_eq!(said(&curl(&agent, &["--etag-save", tag], "/v1/files/f")?), "one");
    assert_eq!(
        said(&curl(&agent, &["--etag-compare", tag, "-w", "%{http_code}"], "/v1/files/f")?),
        "304"
    );
    let seen = format!("If-Match: {}", fs::read_to_string(&tags)?.trim());
    // A command of the workspace writes in place, as editors and programs do.
    agent.shell("printf two >f")?;
    let late = said(&curl(&agent, &[&put[..], &["-H", &seen]].concat(), "/v1/files/f")?);
    ensure!(late.starts_with("HTTP/1.1 412 "), "{late}");
    assert_eq!(fs::read_to_string(agent.root().join("f"))?, "two");
    assert_eq!(said(&curl(&agent, &["--etag-compare", tag], "/v1/files/f")?), "two");
    let late = said(&curl(&agent, &["-i", "-X", "DELETE", "-H", &seen], "/v1/files/f")?);
    ensure!(late.starts_with("HTTP/1.1 412 "), "{late}");
    Ok(())
}

#[test]
fn of_many_writers_none_loses_what_another_wrote() -> Result<()> {
    require!(PythonPackages);
    let agent = Agent::start()?;
    let mut client = Command::new(peer::python());
    let output = client.arg(peer::script("files_client.py")).arg(agent.socket()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Sends header fields as they are.
fn raw(agent: &Agent, method: &str, target: &str, fields: &str) -> Result<Response> {
    let mut connection = Connection::open(agent.client.endpoint())?;
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())?;
    connection.read_response(method)
}

#[test]
fn odd_ranges_are_answered_whole_and_odd_conditions_refused() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("f"), "0123456789")?;
    for field in [
        "Range: bytes=0-1,4-5\r\n",
        "Range: bytes=0-1\r\nRange: bytes=4-5\r\n",
        "Range: chapters=1-2\r\n",
        "Range: bytes=5-4\r\n",
        "Range: bytes=one-two\r\n",
        "Range: bytes=\u{e9}\r\n",
        "Range: bytes=1-2\r\nIf-Range: \"another\"\r\n",
        "Range: bytes=1-2\r\nIf-Range: W/\"weak\"\r\n",
        "Range: bytes=1-2\r\nIf-Range: nonsense\r\n",
        "If-Modified-Since: nonsense\r\n",
        "If-Unmodified-Since: nonsense\r\n",
    ] {
        let answer = raw(&agent, "GET", "/v1/files/f", field)?;
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"0123456789"[..]), "{field}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
    for value in ["", "x", "\"x", "\"a\" \"b\"", "*,*", "\u{e9}"] {
        for method in ["GET", "PUT", "DELETE"] {
            let fields = format!("If-Match: {value}\r\nContent-Length: 0\r\n");
            let answer = raw(&agent, method, "/v1/files/f", &fields)?;
            assert_eq!(answer.problem_code()?, "bad_condition", "{method} {value}");
        }
    }
    assert_eq!(fs::read_to_string(agent.root().join("f"))?, "0123456789");
    Ok(())
}

#[test]
fn a_file_that_is_not_what_was_announced_is_not_written() -> Result<()> {
    let agent = Agent::start()?;
    let client = agent.client.clone().with("repr-digest", HELLO);
    assert_eq!(client.send("PUT", "/v1/files/f", b"hello\n")?.status(), 201);
    let wrong = client.send("PUT", "/v1/files/f", b"hullo\n")?;
    assert_eq!((wrong.status(), wrong.problem_code()?), (422, "digest_mismatch".to_owned()));
    assert_eq!(fs::read(agent.root().join("f"))?, b"hello\n");
    let head = agent.client.clone().with("want-repr-digest", "sha-256=1").send(
        "HEAD",
        "/v1/files/f",
        b"",
    )?;
    assert_eq!(
        (head.header("repr-digest"), head.header("workspace-kind")),
        (Some(HELLO), Some("file"))
    );
    Ok(())
}

#[test]
fn a_directory_that_does_not_fit_one_batch_is_listed_whole_and_in_order() -> Result<()> {
    let agent = Agent::start()?;
    fs::create_dir(agent.root().join("d"))?;
    let mut expected: Vec<String> =
        (0..33_000).map(|i| format!("{:x}", i * 7919 % 33_013)).collect();
    for name in &expected {
        fs::write(agent.root().join("d").join(name), "")?;
    }
    expected.sort();
    let listing = agent.client.get("/v1/files/d")?.json()?;
    let entries = listing["entries"].as_array().context("no entries")?;
    let names: Vec<_> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    ensure!(names == expected, "{} names, or another order", names.len());
    let few = agent.client.get("/v1/files/?depth=2&glob=d/1?&glob=none")?.json()?;
    let names: Vec<_> = few["entries"]
        .as_array()
        .context("no entries")?
        .iter()
        .filter_map(|e| e["name"].as_str())
        .collect();
    ensure!(names.len() == 16 && names[0] == "d/10", "{names:?}");
    let shown = agent.run_cli("ls", &["--depth", "2", "--glob", "d/1f"])?;
    ensure!(String::from_utf8(shown.stdout)?.ends_with(" d/1f\n"));
    Ok(())
}

#[test]
fn directories_are_made_and_entries_moved_within_the_root_alone() -> Result<()> {
    let agent = Agent::start()?;
    let outside = agent.directory().join("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, agent.root().join("out"))?;
    let post = |call: &str, body| agent.client.send_json("POST", call, &body);
    assert_eq!(post("/v1/mkdir", json!({"path": "a/b", "parents": true}))?.status(), 201);
    fs::write(agent.root().join("a/b/f"), "x")?;
    for (call, body) in [
        ("/v1/mkdir", json!({"path": "out/new"})),
        ("/v1/mkdir", json!({"path": "../new"})),
        ("/v1/mkdir", json!({"path": "out", "exist_ok": true})),
        ("/v1/move", json!({"from": "a/b/f", "to": "out/f"})),
        ("/v1/move", json!({"from": "a/b/f", "to": "../f"})),
        ("/v1/move", json!({"from": "out/../a", "to": "c"})),
        ("/v1/move", json!({"from": "a", "to": "a/b/c"})),
        ("/v1/move", json!({"from": "", "to": "c"})),
    ] {
        let refused = post(call, body.clone())?;
        ensure!((400..500).contains(&refused.status()), "{call} {body}: {}", refused.status());
    }
    assert_eq!(fs::read_dir(&outside)?.count(), 0);
    assert_eq!(fs::read_to_string(agent.root().join("a/b/f"))?, "x");
    assert_eq!(post("/v1/move", json!({"from": "a/b", "to": "c"}))?.json()?["replaced"], false);
    // Beneath a link that stays within the root, as every program in the workspace would.
    symlink("c", agent.root().join("in"))?;
    assert_eq!(post("/v1/move", json!({"from": "in/f", "to": "g"}))?.status(), 200);
    assert_eq!(fs::read_to_string(agent.root().join("g"))?, "x");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
