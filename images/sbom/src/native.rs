//! What is linked in that is no crate: Rust's standard library and, with a static glibc, its
//! archives.

use std::{env, fs};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{run, sha256};

/// The C archives of a static glibc build, with the licence of each.
const ARCHIVES: [(&str, &str); 2] =
    [("libc.a", "LGPL-2.1-or-later"), ("libgcc_eh.a", "GPL-3.0-or-later WITH GCC-exception-3.1")];

/// The components of `CycloneDX` for a target.
///
/// # Errors
/// When the compilers do not answer.
pub(crate) fn components(triple: &str, compiler: &str) -> Result<Vec<Value>> {
    let mut found = vec![standard_library()?];
    if triple.ends_with("-musl") {
        // Rust brings it, in the version that its release notes name.
        let musl = json!({ "type": "library", "bom-ref": "musl", "name": "musl" });
        found.push(with_license(musl, "MIT"));
    } else {
        for (archive, license) in ARCHIVES {
            found.push(with_license(archive_component(archive, compiler)?, license));
        }
    }
    Ok(found)
}

fn standard_library() -> Result<Value> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let said = run(&rustc, &["--version", "--verbose"])?;
    let field = |key: &str| said.lines().find_map(|line| line.strip_prefix(key));
    let version = field("release: ").context("rustc does not say its release")?;
    Ok(with_license(
        json!({
            "type": "framework",
            "bom-ref": "rust-std",
            "name": "rust-std",
            "version": version,
            "description": "Rust's standard library, as the compiler's distribution brings it",
        }),
        "MIT OR Apache-2.0",
    ))
}

/// An archive where the C compiler finds it: its digest, and its package where dpkg knows one.
fn archive_component(name: &str, compiler: &str) -> Result<Value> {
    let path = run(compiler, &[&format!("-print-file-name={name}")])?;
    let path = fs::canonicalize(&path)
        .with_context(|| format!("{compiler} finds no {name} ({path})"))?
        .to_string_lossy()
        .into_owned();
    let mut component = json!({
        "type": "library",
        "bom-ref": name,
        "name": name,
        "hashes": [{ "alg": "SHA-256", "content": sha256(&path)? }],
    });
    if let (Some((package, version)), Some(fields)) = (owner(&path), component.as_object_mut()) {
        let purl = format!("pkg:deb/debian/{package}@{}", version.replace('+', "%2B"));
        fields.insert("version".to_owned(), json!(version));
        fields.insert("purl".to_owned(), json!(purl));
    }
    Ok(component)
}

/// The Debian package that owns a file, and its version; `None` on other systems.
fn owner(path: &str) -> Option<(String, String)> {
    let said = run("dpkg-query", &["--search", path]).ok()?;
    let (package, _) = said.split_once(": ")?;
    let version = run("dpkg-query", &["--show", "--showformat=${Version}", package]).ok()?;
    let (name, _) = package.split_once(':').unwrap_or((package, ""));
    Some((name.to_owned(), version))
}

fn with_license(mut component: Value, expression: &str) -> Value {
    if let Some(fields) = component.as_object_mut() {
        fields.insert("licenses".to_owned(), json!([{ "expression": expression }]));
    }
    component
}
