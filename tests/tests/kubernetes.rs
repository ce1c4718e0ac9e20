//! The manifests of k8s/ without a cluster, and the scripts beside them. The tests are written in
//! Python, where the schemas and the CEL evaluators are; here is one for each subject.

use anyhow::Result;
use workspace_tests::{docker, manifests, manifests::pytest, require, tools};

/// Whether the test has to be skipped because the images cannot be built here.
fn no_images() -> bool {
    docker::build_images().map_err(|reason| tools::report_skip(&reason)).is_err()
}

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

#[test]
fn admission_takes_the_shipped_pods_and_refuses_mutated_ones() -> Result<()> {
    require!(Manifests);
    pytest("test_admission.py")
}

#[test]
fn manifests_agree_with_programs_and_roles() -> Result<()> {
    require!(Manifests);
    pytest("test_contract.py")
}

#[test]
fn nodes_get_what_they_need() -> Result<()> {
    require!(Manifests);
    pytest("test_node.py")
}

#[test]
fn scanners_find_only_what_is_waived() -> Result<()> {
    require!(Manifests, Checkov, Shellcheck);
    pytest("test_scanners.py")
}

#[test]
fn the_pod_as_written_runs_in_docker() -> Result<()> {
    require!(Manifests, Docker);
    if no_images() {
        return Ok(());
    }
    pytest("test_pod.py")
}

#[test]
fn manage_runs_workspaces_in_docker() -> Result<()> {
    require!(Manifests, Docker);
    if no_images() {
        return Ok(());
    }
    pytest("test_manage_docker.py")
}

#[test]
fn manage_asks_kubernetes_for_the_right_things() -> Result<()> {
    require!(Manifests);
    pytest("test_manage_kubernetes.py")
}

#[test]
fn pages_lead_somewhere() -> Result<()> {
    require!(Manifests);
    pytest("test_docs.py")
}
