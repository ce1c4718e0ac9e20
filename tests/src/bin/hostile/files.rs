//! Ways through the file system: sockets and tokens of others, and processes in /proc.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use workspace_tests::isolation::{ADMIN_TOKEN, AGENT_TOKEN, CLOUD_TOKEN, PROXY_SOCKET, SECRET};

use crate::{Attempt, Attempts, reason};

pub(crate) const ATTEMPTS: Attempts = &[
    ("socket_unlink", || done(fs::remove_file(PROXY_SOCKET))),
    ("socket_rename", || done(fs::rename(PROXY_SOCKET, format!("{PROXY_SOCKET}.old")))),
    ("socket_replace", replace_socket),
    ("admin_token", || read(ADMIN_TOKEN)),
    ("cloud_token", || read(CLOUD_TOKEN)),
    ("agent_token", || read(AGENT_TOKEN)),
    ("own_environment", || search(&fs::read("/proc/self/environ").unwrap_or_default())),
    ("other_environments", || {
        of_each_process("environ", |path| search(&fs::read(path).ok()?).ok())
    }),
    ("other_roots", other_roots),
    ("agent_memory", agent_memory),
    ("agent_environment", agent_environment),
    ("agent_sockets", || descriptors(true)),
    ("agent_streams", || descriptors(false)),
    ("agent_root", || list(format!("/proc/{}/root/", agent()))),
];

fn done(result: std::io::Result<()>) -> Attempt {
    result.map(|()| "done".to_owned()).map_err(|e| reason(&e))
}

fn read(path: impl AsRef<Path>) -> Attempt {
    let content = fs::read(path).map_err(|e| reason(&e))?;
    Ok(format!("{} bytes", content.len()))
}

fn list(path: String) -> Attempt {
    let mut entries = fs::read_dir(path).map_err(|e| reason(&e))?;
    entries.next().map_or_else(|| Err("empty".to_owned()), |_| Ok("listed".to_owned()))
}

/// What is left of it, where it can be read: the agent wipes it at its start.
fn agent_environment() -> Attempt {
    let environment = fs::read(format!("/proc/{}/environ", agent())).map_err(|e| reason(&e))?;
    let left = String::from_utf8_lossy(&environment).replace('\0', "");
    if left.is_empty() { Err("wiped".to_owned()) } else { Ok(left) }
}

/// Descriptors of the agent's, opened anew: those that are sockets, or all others.
fn descriptors(sockets: bool) -> Attempt {
    let entries = fs::read_dir(format!("/proc/{}/fd", agent())).map_err(|e| reason(&e))?;
    let mut opened = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let link = fs::read_link(&path).unwrap_or_default().to_string_lossy().into_owned();
        if link.starts_with("socket:") == sockets && fs::File::open(&path).is_ok() {
            opened.push(link);
        }
    }
    if opened.is_empty() { Err("none opens".to_owned()) } else { Ok(opened.join(", ")) }
}

/// A socket of our own in the place of the proxy's would take the orchestrator's secrets.
fn replace_socket() -> Attempt {
    drop(fs::remove_file(PROXY_SOCKET));
    done(UnixListener::bind(PROXY_SOCKET).map(drop))
}

/// Whether the neighbour's secret is in here.
fn search(bytes: &[u8]) -> Attempt {
    let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    if found { Ok("the secret is there".to_owned()) } else { Err("no secret".to_owned()) }
}

/// The process that serves the workspace: our parent's, or the container's first.
pub(crate) fn agent() -> u32 {
    std::os::unix::process::parent_id()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn of_each_process(file: &str, look: impl Fn(PathBuf) -> Option<String>) -> Attempt {
    let found = processes().find_map(|pid| look(format!("/proc/{pid}/{file}").into()));
    found.ok_or_else(|| "in no process that can be seen".to_owned())
}

/// The tokens of other containers by way of their processes' roots.
fn other_roots() -> Attempt {
    of_each_process("root", |root| {
        let tokens = [ADMIN_TOKEN, CLOUD_TOKEN].into_iter();
        tokens.map(|token| root.join(token.trim_start_matches('/'))).find_map(|p| read(p).ok())
    })
}

/// The first page that the map names, as a debugger would read it.
fn agent_memory() -> Attempt {
    let maps = fs::read_to_string(format!("/proc/{}/maps", agent())).map_err(|e| reason(&e))?;
    let start = maps.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
    let mut memory = fs::File::open(format!("/proc/{}/mem", agent())).map_err(|e| reason(&e))?;
    memory.seek(SeekFrom::Start(start.unwrap_or(0))).map_err(|e| reason(&e))?;
    let mut byte = [0];
    memory.read_exact(&mut byte).map(|()| "read".to_owned()).map_err(|e| reason(&e))
}
