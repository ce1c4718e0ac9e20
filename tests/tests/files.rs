//! Files of the workspace over HTTP: whole, atomic, and never outside the root.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use anyhow::{Result, ensure};
use workspace_tests::{
    agent::{Agent, text},
    gvisor,
    http::Connection,
    require,
    wait::eventually,
};

/// SHA-256 of `hello\n`.
const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

#[test]
fn a_file_goes_in_and_comes_out_whole() -> Result<()> {
    let agent = Agent::start()?;
    let put = agent.client.send("PUT", "/v1/files/dir/hello.txt?mode=0750", b"hello\n")?;
    ensure!((200..300).contains(&put.status()), "{}: {}", put.status(), put.text());
    let reply = put.json()?;
    assert_eq!((text(&reply, "path")?, text(&reply, "sha256")?), ("dir/hello.txt", HELLO));
    assert_eq!(reply["size"], 6);
    let path = agent.root().join("dir/hello.txt");
    assert_eq!(fs::read(&path)?, b"hello\n");
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o750);

    let get = agent.client.get("/v1/files/dir/hello.txt")?;
    assert_eq!((get.status(), get.body.as_slice()), (200, b"hello\n".as_slice()));
    let head = agent.client.send("HEAD", "/v1/files/dir/hello.txt", b"")?;
    assert_eq!((head.status(), head.header("content-length")), (200, Some("6")));
    Ok(())
}

#[test]
fn a_large_binary_file_is_unchanged_by_the_way_there_and_back() -> Result<()> {
    let agent = Agent::start()?;
    let data: Vec<u8> =
        (0..20_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    agent.client.send("PUT", "/v1/files/large.bin", &data)?;
    ensure!(fs::read(agent.root().join("large.bin"))? == data, "it changed on the way in");
    ensure!(agent.client.get("/v1/files/large.bin")?.body == data, "it changed on the way out");
    Ok(())
}

#[test]
fn a_deleted_file_is_gone_and_then_not_found() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("f"), "x")?;
    let deleted = agent.client.send("DELETE", "/v1/files/f", b"")?;
    ensure!((200..300).contains(&deleted.status()), "{}", deleted.text());
    ensure!(!agent.root().join("f").exists(), "it is still there");
    for method in ["GET", "DELETE"] {
        assert_eq!(agent.client.send(method, "/v1/files/f", b"")?.status(), 404);
    }
    assert_eq!(agent.client.send("HEAD", "/v1/files/f", b"")?.status(), 404);
    Ok(())
}

#[test]
fn an_upload_that_is_cut_leaves_the_old_file_whole_and_nothing_else() -> Result<()> {
    let agent = Agent::start()?;
    fs::write(agent.root().join("kept"), "old")?;
    for name in ["kept", "new"] {
        let mut connection = Connection::open(agent.client.endpoint())?;
        let head =
            format!("PUT /v1/files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        connection.send(head.as_bytes())?;
        connection.send(&[b'n'; 70_000])?;
        drop(connection);
    }
    eventually("only the old file is left", || {
        let names = fs::read_dir(agent.root()).ok()?.flatten().map(|entry| entry.file_name());
        (names.collect::<Vec<_>>() == ["kept"]).then_some(())
    })?;
    assert_eq!(fs::read_to_string(agent.root().join("kept"))?, "old");
    Ok(())
}

#[test]
fn no_path_leads_out_of_the_root() -> Result<()> {
    let agent = Agent::start()?;
    let outside = agent.directory().join("outside");
    fs::write(&outside, "secret of the host")?;
    symlink(&outside, agent.root().join("link"))?;
    symlink("../outside", agent.root().join("relative"))?;
    symlink(agent.directory(), agent.root().join("up"))?;
    let paths = [
        "/v1/files/../outside",
        "/v1/files/%2e%2e/outside",
        "/v1/files/x/../../outside",
        "/v1/files/..%2foutside",
        "/v1/files//etc/passwd",
        "/v1/files/%2fetc%2fpasswd",
        "/v1/files/link",
        "/v1/files/relative",
        "/v1/files/up/outside",
        "/v1/files/a%00b",
    ];
    for path in paths {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = agent.client.send(method, path, b"overwritten")?;
            ensure!(!answer.text().contains("secret of the host"), "{method} {path} leaks");
            ensure!(!answer.text().contains("root:"), "{method} {path} leaks");
            let refused = (400..500).contains(&answer.status());
            // A link is a name in the workspace: it may itself be replaced or removed.
            let own_name =
                method != "GET" && matches!(path, "/v1/files/link" | "/v1/files/relative");
            ensure!(refused || own_name, "{method} {path} answered {}", answer.status());
        }
    }
    assert_eq!(fs::read_to_string(&outside)?, "secret of the host");
    let left: Vec<_> = fs::read_dir(agent.directory())?.flatten().map(|e| e.file_name()).collect();
    ensure!(left.iter().all(|name| name != "etc" && name != "x"), "{left:?}");
    Ok(())
}

#[test]
fn names_with_blanks_and_other_letters_are_taken_as_they_are() -> Result<()> {
    let agent = Agent::start()?;
    agent.client.send("PUT", "/v1/files/a%20b%2Bc/%C3%BC%25.txt", b"hello\n")?;
    assert_eq!(fs::read(agent.root().join("a b+c/ü%.txt"))?, b"hello\n");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
