//! What both images promise before anything runs in them: images/README.md as a test.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use workspace_tests::{
    binaries,
    docker::{self, WORKSPACE_BASE, WORKSPACE_PROXY},
    image::{config, copy_out, entries},
    require,
};

#[test]
fn each_image_runs_its_server_as_an_ordinary_user() -> Result<()> {
    require!(Docker);
    if docker::no_images() {
        return Ok(());
    }
    let base = config(WORKSPACE_BASE)?;
    assert_eq!(base["User"], "1000:1000");
    assert_eq!(base["Entrypoint"], json!(["workspace-agent"]));
    assert_eq!(base["Cmd"], json!(["serve"]));
    assert_eq!(base["Healthcheck"]["Test"], json!(["CMD", "workspace-agent", "health"]));

    let proxy = config(WORKSPACE_PROXY)?;
    assert_eq!(proxy["User"], "1001:1000");
    assert_eq!(proxy["Entrypoint"], json!(["/workspace-proxy"]));
    assert_eq!(proxy["Cmd"], json!(["serve"]));
    assert_eq!(proxy["Healthcheck"]["Test"], json!(["CMD", "/workspace-proxy", "health"]));
    Ok(())
}

#[test]
fn labels_say_what_an_image_is() -> Result<()> {
    require!(Docker);
    if docker::no_images() {
        return Ok(());
    }
    for image in [WORKSPACE_BASE, WORKSPACE_PROXY] {
        let labels = &config(image)?["Labels"];
        let label = |name: &str| labels[format!("org.opencontainers.image.{name}")].as_str();
        assert_eq!(label("title"), image.split(':').next());
        ensure!(label("description").is_some_and(|text| text.len() > 20), "{labels}");
        assert_eq!(label("version"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(label("licenses"), Some("Apache-2.0"));
        assert_eq!(label("source"), Some("https://example.com/workspace"));
        ensure!(label("revision").is_some_and(|commit| !commit.is_empty()), "{labels}");
        let created = label("created").context("no time")?;
        ensure!(created.starts_with("20") && created.ends_with('Z'), "{created}");
        assert_eq!(labels["workspace.sbom"], "/usr/share/sbom");
    }
    Ok(())
}

#[test]
fn the_time_of_the_labels_is_that_of_the_sources() -> Result<()> {
    let mut script = Command::new(binaries::repository().join("images/build-args"));
    script.env("SOURCE_DATE_EPOCH", "86400").env("SOURCE", "https://example.org/ours");
    let printed = String::from_utf8(script.output()?.stdout)?;
    let arguments: Vec<&str> = printed.lines().collect();
    for expected in ["CREATED=1970-01-02T00:00:00Z", "SOURCE=https://example.org/ours"] {
        ensure!(arguments.windows(2).any(|pair| pair == ["--build-arg", expected]), "{printed}");
    }
    Ok(())
}

#[test]
fn no_file_raises_privileges() -> Result<()> {
    require!(Docker);
    if docker::no_images() {
        return Ok(());
    }
    for image in [WORKSPACE_BASE, WORKSPACE_PROXY] {
        let mut entries = entries(image)?;
        ensure!(entries.iter().any(|entry| entry.path.ends_with("workspace-proxy")), "{image}");
        // Set-id bits stand in place of the owner's or the group's x; on directories they mean inheritance.
        let set_id = |mode: &str| mode.starts_with('-') && mode.contains(['s', 'S']);
        entries.retain(|entry| set_id(&entry.mode));
        assert_eq!(entries, [], "{image}");
    }
    Ok(())
}

#[test]
fn the_image_from_scratch_holds_the_proxy_and_its_bill_of_materials() -> Result<()> {
    require!(Docker);
    if docker::no_images() {
        return Ok(());
    }
    let entries = entries(WORKSPACE_PROXY)?;
    let files = entries.iter().filter(|entry| entry.mode.starts_with('-'));
    let mut files: Vec<&str> = files.map(|entry| entry.path.as_str()).collect();
    // The daemon mounts these three over empty files of its own.
    files.retain(|path| !["etc/hostname", "etc/hosts", "etc/resolv.conf"].contains(path));
    files.retain(|path| *path != "dev/console");
    assert_eq!(files, ["usr/share/sbom/workspace-proxy.cdx.json", "workspace-proxy"]);
    Ok(())
}

#[test]
fn the_bills_of_materials_are_those_of_the_binaries() -> Result<()> {
    require!(Docker);
    if docker::no_images() {
        return Ok(());
    }
    let inside = [
        (WORKSPACE_BASE, "workspace-agent", "/usr/local/bin/workspace-agent"),
        (WORKSPACE_BASE, "workspace-proxy", "/usr/local/bin/workspace-proxy"),
        (WORKSPACE_PROXY, "workspace-proxy", "/workspace-proxy"),
    ];
    for (image, name, path) in inside {
        let directory = tempfile::tempdir()?;
        let bill = copy_out(image, &format!("/usr/share/sbom/{name}.cdx.json"), &directory)?;
        let bill: Value = serde_json::from_slice(&fs::read(bill)?)?;
        let binary = copy_out(image, path, &directory)?;
        let digest = Command::new("sha256sum").arg(binary).output()?.stdout;
        let expected = &bill["metadata"]["component"]["hashes"][0]["content"];
        let expected = expected.as_str().context("no digest")?;
        ensure!(String::from_utf8(digest)?.starts_with(expected), "{image}: {name}");
    }
    Ok(())
}
