//! Moving folders in and out.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use workspace_tests::{agent::Agent, gvisor, require};

/// What a tree holds: its relative paths, each with a description of the entry.
fn tree(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let mode = metadata.permissions().mode() & 0o777;
            let description = if metadata.is_symlink() {
                format!("link to {}", fs::read_link(&path)?.display())
            } else if metadata.is_dir() {
                pending.push(path.clone());
                format!("directory {mode:o}")
            } else {
                format!("file {mode:o} {:?}", fs::read(&path)?)
            };
            entries.insert(path.strip_prefix(root)?.to_string_lossy().into_owned(), description);
        }
    }
    Ok(entries)
}

fn sample() -> Result<TempDir> {
    let sample = tempfile::tempdir()?;
    let root = sample.path();
    fs::create_dir_all(root.join("src/deep/er"))?;
    fs::create_dir(root.join("empty"))?;
    fs::write(root.join("README"), "text\n")?;
    fs::write(root.join("src/empty"), "")?;
    fs::write(root.join("src/run.sh"), "#!/bin/sh\n")?;
    fs::set_permissions(root.join("src/run.sh"), fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("src/deep/er/grüße mit blank.bin"), [0, 159, 255, 10])?;
    let long = "x".repeat(120);
    fs::create_dir(root.join(&long))?;
    fs::write(root.join(&long).join(&long), "a path beyond the 100 bytes of old tar\n")?;
    symlink("src/run.sh", root.join("link"))?;
    Ok(sample)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain")
}

#[test]
fn a_tree_survives_the_way_in_and_back() -> Result<()> {
    let (agent, sample, back) = (Agent::start()?, sample()?, tempfile::tempdir()?);
    agent.run_cli("push", &[path(sample.path()), "project"])?;
    assert_eq!(tree(&agent.root().join("project"))?, tree(sample.path())?);
    agent.run_cli("pull", &["project", path(&back.path().join("copy"))])?;
    assert_eq!(tree(&back.path().join("copy"))?, tree(sample.path())?);
    Ok(())
}

#[test]
fn the_whole_workspace_is_the_default() -> Result<()> {
    let (agent, sample, back) = (Agent::start()?, sample()?, tempfile::tempdir()?);
    agent.run_cli("push", &[path(sample.path())])?;
    assert_eq!(tree(&agent.root())?, tree(sample.path())?);
    agent.run_cli("pull", &[path(back.path())])?;
    assert_eq!(tree(back.path())?, tree(sample.path())?);
    Ok(())
}

#[test]
fn many_small_files_and_a_large_one_arrive() -> Result<()> {
    let (agent, sample) = (Agent::start()?, tempfile::tempdir()?);
    for number in 0..500 {
        let directory = sample.path().join(format!("d{}", number % 20));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("f{number}")), format!("{number}").repeat(50))?;
    }
    fs::write(sample.path().join("large"), vec![7; 30_000_000])?;
    agent.run_cli("push", &[path(sample.path()), "many"])?;
    ensure!(tree(&agent.root().join("many"))? == tree(sample.path())?, "the trees differ");
    Ok(())
}

#[test]
fn a_second_push_brings_what_has_changed() -> Result<()> {
    let (agent, sample) = (Agent::start()?, sample()?);
    agent.run_cli("push", &[path(sample.path()), "project"])?;
    fs::write(sample.path().join("README"), "changed\n")?;
    agent.run_cli("push", &[path(sample.path()), "project"])?;
    assert_eq!(fs::read_to_string(agent.root().join("project/README"))?, "changed\n");
    Ok(())
}

#[test]
fn ls_shows_what_is_there() -> Result<()> {
    let agent = Agent::start()?;
    fs::create_dir(agent.root().join("dir"))?;
    fs::write(agent.root().join("dir/file.txt"), "x")?;
    let shown = agent.run_cli("ls", &["dir"])?;
    ensure!(String::from_utf8_lossy(&shown.stdout).contains("file.txt"), "{shown:?}");
    Ok(())
}

/// One entry of a tar archive in its oldest form, with nothing made better.
fn entry(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn a_hostile_archive_writes_nothing_outside() -> Result<()> {
    let attacks: [Vec<Vec<u8>>; 5] = [
        vec![entry("../escaped", b'0', "", b"x")],
        vec![entry("a/../../escaped", b'0', "", b"x")],
        vec![entry("/tmp/../escaped-absolute", b'0', "", b"x")],
        vec![entry("link", b'2', "..", b""), entry("link/escaped", b'0', "", b"x")],
        vec![entry("hard", b'1', "../target", b""), entry("hard", b'0', "", b"x")],
    ];
    for attack in attacks {
        let agent = Agent::start()?;
        let target = agent.directory().join("target");
        fs::write(&target, "untouched")?;
        let mut archive = attack.concat();
        archive.extend([0; 1024]);
        let answer = agent.client.send("POST", "/v1/sync/push?path=in", &archive)?;
        ensure!(answer.status() < 500, "{}: {}", answer.status(), answer.text());
        for place in [agent.directory().join("escaped"), agent.root().join("escaped")] {
            ensure!(!place.exists(), "{} was written", place.display());
        }
        assert_eq!(fs::read_to_string(&target)?, "untouched");
        assert_eq!(agent.client.get("/health")?.status(), 200);
    }
    Ok(())
}

#[test]
fn an_archive_that_is_cut_is_an_error_and_leaves_no_torn_file() -> Result<()> {
    let agent = Agent::start()?;
    let mut archive = entry("first", b'0', "", b"whole");
    let second = entry("second", b'0', "", &[b'x'; 4000]);
    archive.extend(&second[..2000]);
    let answer = agent.client.send("POST", "/v1/sync/push?path=in", &archive)?;
    ensure!((400..500).contains(&answer.status()), "{}: {}", answer.status(), answer.text());
    ensure!(!agent.root().join("in/second").exists(), "a torn file was left");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    gvisor::rerun("all_of_it_holds_under_gvisor", &[])
}
