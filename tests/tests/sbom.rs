//! The bills of materials that `make build` leaves beside the binaries.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use workspace_tests::{binaries, peer, require};

fn path(name: &str) -> PathBuf {
    binaries::path(&format!("{name}.cdx.json"))
}

fn document(name: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path(name))?)?)
}

fn components(document: &Value) -> BTreeSet<String> {
    let names = document["components"].as_array().into_iter().flatten();
    names.filter_map(|component| component["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_bill_names_what_is_linked_and_only_that() -> Result<()> {
    let (agent, proxy) = (document("workspace-agent")?, document("workspace-proxy")?);
    let (agent, proxy) = (components(&agent), components(&proxy));
    for linked in ["hyper", "tokio", "rustls", "ring", "workspace-common", "rust-std"] {
        ensure!(proxy.contains(linked), "the proxy's bill lacks {linked}: {proxy:?}");
    }
    for linked in ["hyper", "tokio", "tar", "workspace-common", "rust-std"] {
        ensure!(agent.contains(linked), "the agent's bill lacks {linked}: {agent:?}");
    }
    ensure!(!agent.contains("rustls"), "the agent has no TLS: {agent:?}");
    // A procedural macro, what build scripts use, what tests use, and what other systems need.
    for absent in ["serde_derive", "cc", "proptest", "windows-sys"] {
        ensure!(!proxy.contains(absent) && !agent.contains(absent), "{absent} is not linked");
    }
    Ok(())
}

#[test]
fn a_bill_belongs_to_its_binary() -> Result<()> {
    for name in ["workspace-agent", "workspace-proxy"] {
        let output = Command::new("sha256sum").arg(binaries::path(name)).output()?;
        let digest = String::from_utf8(output.stdout)?;
        let digest = digest.split(' ').next().context("sha256sum printed nothing")?.to_owned();
        let subject = &document(name)?["metadata"]["component"];
        assert_eq!(subject["name"], name);
        assert_eq!(subject["hashes"][0]["content"], digest, "{name}: run `make build`");
    }
    Ok(())
}

#[test]
fn a_bill_names_no_directory_of_the_machine() -> Result<()> {
    let here = binaries::repository().canonicalize()?.to_string_lossy().into_owned();
    for name in ["workspace-agent", "workspace-proxy"] {
        let text = fs::read_to_string(path(name))?;
        ensure!(!text.contains(&here), "{name}.cdx.json names {here}");
    }
    Ok(())
}

#[test]
fn a_foreign_reader_accepts_the_bills() -> Result<()> {
    require!(PythonPackages);
    for name in ["workspace-agent", "workspace-proxy"] {
        let mut reader = Command::new(peer::python());
        let output = reader.arg(peer::script("sbom_reader.py")).arg(path(name)).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {said}");
        let purls: Value = serde_json::from_slice(&output.stdout)?;
        let tokio = purls["tokio"].as_str().context("no package URL for tokio")?;
        ensure!(tokio.starts_with("pkg:cargo/tokio@1."), "{tokio}");
        assert_eq!(purls["workspace-common"], Value::Null);
    }
    Ok(())
}
