//! docs/proxy.md and the program name the same things: flags, policy keys, codes, metrics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::CommandFactory as _;
use workspace_proxy::audit::mode::Mode;
use workspace_proxy::cli::Cli;
use workspace_proxy::config::{Settings, Sources};
use workspace_proxy::gauges;
use workspace_proxy::metrics::Metrics;
use workspace_proxy::refusal::Refusal;

fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn page() -> String {
    std::fs::read_to_string(docs("proxy.md")).unwrap()
}

/// The lines below a heading, up to the next heading of any level.
fn section<'p>(page: &'p str, heading: &str) -> Vec<&'p str> {
    let mut lines = page.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "no heading '{heading}'");
    lines.take_while(|line| !line.starts_with('#')).collect()
}

/// The first word in backticks of every row of the tables below a heading.
fn first_column<'p>(page: &'p str, heading: &str) -> BTreeSet<&'p str> {
    let rows = section(page, heading).into_iter().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split(['`', ' ']).next()).collect()
}

/// Every flag of a command and of those below it, with its variable.
fn flags(command: &clap::Command, found: &mut BTreeSet<(String, Option<String>)>) {
    for flag in command.get_arguments() {
        if let Some(long) = flag.get_long().filter(|long| !matches!(*long, "help" | "version")) {
            let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            found.insert((format!("--{long}"), variable));
        }
    }
    command.get_subcommands().for_each(|below| flags(below, found));
}

#[test]
fn every_flag_stands_in_a_row_with_its_variable() {
    let (page, mut found) = (page(), BTreeSet::new());
    let mut command = Cli::command();
    command.build();
    flags(&command, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for (flag, variable) in &found {
        let row = |line: &&str| {
            let cell = line.strip_prefix("| `").unwrap_or_default();
            cell.split(['`', ' ']).next() == Some(flag)
        };
        let named =
            |line: &str| variable.as_ref().is_none_or(|name| line.contains(&format!("`{name}`")));
        assert!(page.lines().filter(row).any(named), "no row for {flag} with {variable:?}");
    }
    let known: BTreeSet<&str> = found.iter().map(|(flag, _)| flag.as_str()).collect();
    for heading in ["### Flags of serve", "### Flags of the client commands"] {
        for flag in first_column(&page, heading) {
            assert!(known.contains(flag), "{flag} is described and does not exist");
        }
    }
}

#[test]
fn the_table_of_commands_is_the_programs() {
    let (page, command) = (page(), Cli::command());
    let known: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(first_column(&page, "## Command line"), known);
}

/// Codes with their statuses, from the table in the source: only the codes are public.
fn refusals() -> BTreeSet<(String, u16)> {
    let source = include_str!("../src/refusal.rs").split("refusals! {").last().unwrap();
    let rows = source.lines().filter_map(|line| {
        let (_variant, row) = line.split_once(" = ")?;
        let (status, rest) = row.split_once(", \"")?;
        Some((rest.split('"').next()?.to_owned(), status_named(status)?))
    });
    rows.collect()
}

/// The number of a status by the name of its constant.
fn status_named(name: &str) -> Option<u16> {
    (100..600).find(|number| {
        let reason = http::StatusCode::from_u16(*number).ok().and_then(|s| s.canonical_reason());
        reason.is_some_and(|reason| reason.to_uppercase().replace([' ', '-'], "_") == name)
    })
}

#[test]
fn the_table_of_refusals_is_the_programs() {
    let produced = refusals();
    let codes: BTreeSet<&str> = produced.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, Refusal::codes().iter().copied().collect(), "the source was misread");
    let page = page();
    let described: BTreeSet<(String, u16)> = section(&page, "## Refusals")
        .into_iter()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(code, rest)| (code.to_owned(), rest.split(' ').next().unwrap().parse().unwrap()))
        .collect();
    assert_eq!(described, produced);
}

/// Names of all metrics, those without a value included.
fn metric_names() -> BTreeSet<String> {
    let metrics = Metrics::new().unwrap();
    metrics.count(Mode::Forward, "allow", "ok");
    metrics.of_mode(Mode::Forward).ttfb_seconds.observe(0.1);
    metrics.would_deny.with_label_values(&["c"]).inc();
    metrics.policy_reloads.with_label_values(&["r"]).inc();
    metrics.limit_hits.with_label_values(&["l"]).inc();
    let registered = metrics.registry().gather();
    let registered = registered.iter().map(|family| family.name().to_owned());
    registered.chain(gauges::HELD.map(|(name, _help)| name.to_owned())).collect()
}

#[test]
fn the_table_of_metrics_is_the_programs() {
    let page = page();
    let described: BTreeSet<String> =
        first_column(&page, "## Metrics").into_iter().map(str::to_owned).collect();
    assert_eq!(described, metric_names());
}

#[test]
fn every_key_of_the_example_policy_is_described_and_it_loads() {
    let sources = Sources { file: Some(docs("policy.example.yaml")), ..Sources::default() };
    let settings = Settings::load(&sources).unwrap();
    let count = settings.policy.allow_count();
    assert!(page().contains(&format!("{{\"allow_rules\":{count},")));
    assert_eq!(settings.warnings, [], "the example warns");
    assert!(!settings.hosts.is_empty());
    let text = std::fs::read_to_string(docs("policy.example.yaml")).unwrap();
    let page = page();
    let described = section(&page, "## Policy file").join("\n");
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let key = line.trim_start_matches([' ', '-']).split(':').next().unwrap_or_default();
        // Names of hosts are keys, too; those have dots.
        if !key.is_empty() && !key.contains('.') {
            assert!(described.contains(key), "{key} is not described");
        }
    }
}
