//! The manifests of k8s/ without a cluster, and the scripts beside them. The tests are written in
//! Python, where the schemas and the CEL evaluator are; here is one for each subject.

use anyhow::Result;
use workspace_tests::{manifests, manifests::pytest, require, tools};

#[test]
fn every_overlay_renders() -> Result<()> {
    require!(Manifests);
    pytest("test_render.py")
}

#[test]
fn objects_fit_the_schemas_of_four_releases() -> Result<()> {
    require!(Manifests);
    pytest("test_schemas.py")
}

#[test]
fn custom_resources_fit_their_definitions() -> Result<()> {
    require!(Manifests);
    if manifests::definitions().is_none() {
        // Not a tool that can be installed: skipped in CI too.
        tools::note_skip("no definitions of custom resources (WORKSPACE_TESTS_CRDS)");
        return Ok(());
    }
    pytest("test_crds.py")
}

#[test]
fn the_hardening_holds_and_each_check_notices() -> Result<()> {
    require!(Manifests);
    pytest("test_hardening.py")
}
