//! Where the binaries under test are.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The directory named by `WORKSPACE_BIN_DIR`; without it, the one `make build` fills.
pub fn directory() -> PathBuf {
    std::env::var_os("WORKSPACE_BIN_DIR")
        .map_or_else(|| repository().join("target/dist"), PathBuf::from)
}

/// A binary under test.
///
/// # Panics
/// When it is not there: nothing can be tested then.
pub fn path(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(
        fs::metadata(&path).is_ok_and(|file| file.is_file()),
        "{} is missing: run `make build hostile`, or set WORKSPACE_BIN_DIR to where the binaries are",
        path.display()
    );
    path
}

/// The agent's binary.
pub fn agent() -> PathBuf {
    path("workspace-agent")
}

/// The proxy's binary.
pub fn proxy() -> PathBuf {
    path("workspace-proxy")
}

/// The attacker, and what it wants to reach (`make hostile`).
pub fn hostile() -> PathBuf {
    path("workspace-hostile")
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
