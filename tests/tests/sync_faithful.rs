//! What survives the way into a workspace and back: everything that is carried, exactly; and what is
//! not carried is named.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::{
    agent::{Agent, Setup},
    gvisor, require,
    tree::{paths, picture},
};

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain")
}

/// Gives an entry a time, the link itself where it is one.
fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Every mode that its owner can read, links of every kind, times on both sides of 1970.
fn sample() -> Result<TempDir> {
    let sample = tempfile::tempdir()?;
    let root = sample.path();
    fs::create_dir_all(root.join("empty/in/empty"))?;
    fs::create_dir(root.join("modes"))?;
    for mode in [0o400, 0o444, 0o500, 0o600, 0o640, 0o644, 0o664, 0o666, 0o755, 0o777] {
        let file = root.join(format!("modes/{mode:o}"));
        fs::write(&file, format!("{mode:o}"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    }
    fs::write(root.join("caf\u{e9}\n\t'\"\\ *?[x].txt"), "odd")?;
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"no text \xff\xfe")), "odd")?;
    symlink("modes/644", root.join("relative"))?;
    symlink("/nowhere/at all", root.join("absolute"))?;
    symlink("../../..", root.join("climbs"))?;
    symlink("loop", root.join("loop"))?;
    fs::create_dir(root.join("closed"))?;
    fs::write(root.join("closed/file"), "in a directory that is read-only")?;
    let mut number = 0;
    for found in paths(root)? {
        number += 1;
        set_time(
            &found,
            -1_000_000_000 + number * 123_456_789,
            (number * 7_654_321) % 1_000_000_000,
        )?;
    }
    // Before 1970 by less than a second, and the last nanosecond of a second.
    set_time(&root.join("modes/600"), -1, 1)?;
    set_time(&root.join("modes/644"), 4_000_000_000, 999_999_999)?;
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o555))?;
    set_time(&root.join("closed"), 1, 1)?;
    Ok(sample)
}

#[test]
fn modes_links_empty_directories_and_nanoseconds_survive_the_way_in_and_back() -> Result<()> {
    let (agent, sample, back) = (Agent::start()?, sample()?, tempfile::tempdir()?);
    let expected = picture(sample.path())?;
    ensure!(expected.len() == 22, "{} entries", expected.len());
    agent.run_cli("push", &[path(sample.path())])?;
    assert_eq!(picture(&agent.root())?, expected);
    agent.run_cli("pull", &[path(back.path())])?;
    assert_eq!(picture(back.path())?, expected);
    // What is the same on both sides is left alone, to the inode.
    let inode = |root: &Path| Ok::<_, anyhow::Error>(fs::metadata(root.join("modes/644"))?.ino());
    let (there, here) = (inode(&agent.root())?, inode(back.path())?);
    agent.run_cli("push", &[path(sample.path())])?;
    agent.run_cli("pull", &[path(back.path())])?;
    assert_eq!((inode(&agent.root())?, inode(back.path())?), (there, here));
    assert_eq!(picture(back.path())?, expected);
    Ok(())
}

/// Data at both ends of a hole, at odd places between two, and a hole at the end.
fn sparse(path: &Path) -> Result<()> {
    let file = fs::File::create(path)?;
    file.set_len((96 << 20) + 4711)?;
    for (offset, length) in [(0, 10), (5 << 20, 300_000), ((33 << 20) + 1, 1), (64 << 20, 70_000)] {
        file.write_all_at(&vec![b'd'; length], offset)?;
    }
    Ok(())
}

#[test]
fn a_sparse_file_takes_as_few_blocks_on_the_other_side() -> Result<()> {
    let (agent, local, back) = (Agent::start()?, tempfile::tempdir()?, tempfile::tempdir()?);
    sparse(&local.path().join("sparse"))?;
    fs::File::create(local.path().join("nothing but a hole"))?.set_len(1 << 30)?;
    fs::write(local.path().join("dense zeros"), vec![0; 1 << 20])?;
    agent.run_cli("push", &[path(local.path())])?;
    agent.run_cli("pull", &[path(back.path())])?;
    for root in [agent.root(), back.path().to_owned()] {
        ensure!(
            fs::read(root.join("sparse"))? == fs::read(local.path().join("sparse"))?,
            "the content differs"
        );
        for name in ["sparse", "nothing but a hole", "dense zeros"] {
            let (here, there) =
                (fs::metadata(local.path().join(name))?, fs::metadata(root.join(name))?);
            assert_eq!(here.len(), there.len());
            // Each stretch of data may begin and end within one unit of 64 KiB.
            let most = here.blocks() + 4 * 2 * (64 << 10) / 512;
            ensure!(there.blocks() <= most, "{name}: {} and {}", here.blocks(), there.blocks());
        }
    }
    Ok(())
}

fn skipped(report: &[u8]) -> Result<Vec<(String, String)>> {
    let report: Value = serde_json::from_slice(report)?;
    let named = report["skipped"].as_array().context("no list")?;
    let mut skipped: Vec<(String, String)> = named
        .iter()
        .map(|entry| (entry["path"].to_string(), entry["kind"].to_string()))
        .map(|(path, kind)| (path.trim_matches('"').into(), kind.trim_matches('"').into()))
        .collect();
    skipped.sort();
    ensure!(report["skipped_total"] == skipped.len(), "{report}");
    Ok(skipped)
}

/// A socket, a FIFO and, for root, a device in the directory; with how they have to be told.
fn specials(root: &Path) -> Result<(UnixListener, Vec<(String, String)>)> {
    let (read_write, nowhere) = (Mode::from_raw_mode(0o666), makedev(0, 0));
    let socket = UnixListener::bind(root.join("a socket"))?;
    mknodat(CWD, root.join("a fifo"), FileType::Fifo, read_write, nowhere)?;
    let mut told = vec![("a fifo".into(), "fifo".into()), ("a socket".into(), "socket".into())];
    if rustix::process::getuid().is_root() {
        let null = makedev(1, 3);
        mknodat(CWD, root.join("a device"), FileType::CharacterDevice, read_write, null)?;
        told.insert(0, ("a device".into(), "device".into()));
    }
    fs::write(root.join("file"), "carried")?;
    Ok((socket, told))
}

#[test]
fn sockets_fifos_and_devices_are_left_out_and_listed_both_ways() -> Result<()> {
    let (agent, local, back) = (Agent::start()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let (_socket, told) = specials(local.path())?;
    let pushed = agent.run_cli("push", &[path(local.path()), "in", "--json"])?;
    assert_eq!(skipped(&pushed.stdout)?, told);
    fs::create_dir(agent.root().join("out"))?;
    let (_socket, told) = specials(&agent.root().join("out"))?;
    let pulled = agent.run_cli("pull", &["out", path(back.path()), "--json"])?;
    assert_eq!(skipped(&pulled.stdout)?, told);
    for root in [agent.root().join("in"), back.path().to_owned()] {
        let names: Vec<_> = picture(&root)?.into_keys().collect();
        assert_eq!(names, [Path::new("file")]);
    }
    let said = agent.run_cli("pull", &["out", path(&back.path().join("again"))])?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("left out: a fifo (fifo)"), "{said}");
    Ok(())
}

fn owners(root: &Path) -> Result<Vec<(u32, u32)>> {
    let mut owners: Vec<_> = paths(root)?
        .iter()
        .map(|path| fs::symlink_metadata(path).map(|there| (there.uid(), there.gid())))
        .collect::<Result<_, _>>()?;
    owners.dedup();
    Ok(owners)
}

#[test]
fn what_arrives_belongs_to_whoever_unpacks_it() -> Result<()> {
    let (agent, local, back) =
        (Setup::new()?.unprivileged()?.start()?, tempfile::tempdir()?, tempfile::tempdir()?);
    fs::create_dir(local.path().join("dir"))?;
    fs::write(local.path().join("dir/file"), "x")?;
    symlink("file", local.path().join("dir/link"))?;
    if rustix::process::getuid().is_root() {
        for found in paths(local.path())? {
            std::os::unix::fs::lchown(found, Some(4711), Some(4712))?;
        }
    }
    agent.run_cli("push", &[path(local.path()), "in"])?;
    let agent_is = agent.client.get("/v1/info")?.json()?["uid"].as_u64().context("no uid")?;
    let agent_is = u32::try_from(agent_is)?;
    assert_eq!(owners(&agent.root())?, [(agent_is, agent_is)]);
    agent.run_cli("pull", &["in", path(back.path())])?;
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    assert_eq!(owners(back.path())?, [(user.as_raw(), group.as_raw())]);
    Ok(())
}

#[test]
fn an_archive_of_tar_with_owners_and_attributes_is_taken_without_them() -> Result<()> {
    let (agent, sample) = (Agent::start()?, sample()?);
    for format in ["gnu", "pax"] {
        let packed = Command::new("tar")
            .args(["--create", "--format", format, "--owner=4711", "--group=4712", "--directory"])
            .args([sample.path().as_os_str(), ".".as_ref()])
            .output()?;
        ensure!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let answer =
            agent.client.send("POST", &format!("/v1/sync/push?path={format}"), &packed.stdout)?;
        ensure!(answer.status() == 200, "{format}: {}", answer.text());
        assert_eq!(answer.json()?["files"], json!(13), "{format}");
        let owners = owners(&agent.root().join(format))?;
        assert_eq!(
            owners,
            [(fs::metadata(agent.root())?.uid(), fs::metadata(agent.root())?.gid())]
        );
    }
    // The form of POSIX carries nanoseconds, that of GNU whole seconds, negative ones in binary.
    assert_eq!(picture(&agent.root().join("pax"))?, picture(sample.path())?);
    let before = fs::metadata(agent.root().join("gnu/empty"))?.mtime();
    assert_eq!(before, fs::metadata(sample.path().join("empty"))?.mtime());
    ensure!(before < 0, "{before} is no time before 1970");
    Ok(())
}

#[test]
fn all_of_it_holds_under_gvisor() -> Result<()> {
    require!(Gvisor);
    let left_out = [
        (
            "modes_links_empty_directories_and_nanoseconds_survive_the_way_in_and_back",
            "times before 1970 are another there",
        ),
        ("a_sparse_file_takes_as_few_blocks_on_the_other_side", "a file there has no holes"),
        (
            "sockets_fifos_and_devices_are_left_out_and_listed_both_ways",
            "a device cannot be looked at",
        ),
    ];
    gvisor::rerun("all_of_it_holds_under_gvisor", &left_out)
}
