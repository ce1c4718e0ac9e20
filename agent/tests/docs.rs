//! docs/agent.md and the program name the same things: flags, subcommands, codes, metrics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use workspace_agent::{cli::Cli, isolate::Network, metrics::Metrics, seccomp::Seccomp};

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(top().join("docs/agent.md")).unwrap()
}

/// The first cells and the rest of the rows of the tables below a heading.
fn rows<'p>(page: &'p str, heading: &str) -> Vec<(&'p str, &'p str)> {
    let mut lines = page.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "no heading '{heading}'");
    lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(cell, _)| cell.contains('`'))
        .collect()
}

/// The words in backticks of a cell, without what follows a blank in them.
fn words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split(' ').next())
}

fn long_flags(command: &clap::Command) -> Vec<(String, Option<String>)> {
    let flags = command.get_arguments().filter_map(|flag| {
        let long = flag.get_long().filter(|long| !matches!(*long, "help" | "version"))?;
        Some((format!("--{long}"), flag.get_env().map(|name| name.to_string_lossy().into_owned())))
    });
    flags.collect()
}

#[test]
fn every_flag_of_every_subcommand_stands_in_a_row_and_every_row_has_one() {
    let page = page();
    let mut described = BTreeSet::new();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let heading =
            if name == "serve" { "### Flags of serve" } else { "### Flags of the client commands" };
        let of_this = |rest: &str| {
            name == "serve" || {
                let commands = rest.split(" | ").nth(1).unwrap_or_default();
                commands == "all" || words(commands).any(|word| word == name)
            }
        };
        for (flag, variable) in long_flags(command) {
            let row = rows(&page, heading)
                .into_iter()
                .find(|(cell, rest)| words(cell).any(|word| word == flag) && of_this(rest));
            let (_, rest) = row.unwrap_or_else(|| panic!("no row for {flag} of {name}"));
            let named = variable.as_ref().is_none_or(|name| rest.contains(&format!("`{name}`")));
            assert!(named, "the row of {flag} lacks {variable:?}");
            described.insert(flag);
        }
    }
    for heading in ["### Flags of serve", "### Flags of the client commands"] {
        for (cell, _) in rows(&page, heading) {
            for flag in words(cell).filter(|word| word.starts_with("--")) {
                assert!(described.contains(flag), "{flag} is described and does not exist");
            }
        }
    }
}

#[test]
fn the_table_of_subcommands_is_the_programs() {
    let page = page();
    let described: BTreeSet<&str> =
        rows(&page, "## Command line").iter().filter_map(|(cell, _)| words(cell).next()).collect();
    let command = Cli::command();
    let known: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(described, known);
}

/// The source of the server without its tests and without white space.
fn source() -> Vec<String> {
    let mut files = Vec::new();
    collect(&top().join("agent/src"), &mut files);
    files.push(top().join("common/src/problem.rs"));
    let is_server = |path: &&PathBuf| !path.ends_with("tests.rs");
    let stripped = files.iter().filter(is_server).map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()).collect()
    });
    stripped.collect()
}

/// All files but the client's, which makes no answers.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("client") {
            collect(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}

/// Codes with their statuses, by the forms in which the source writes them.
fn produced() -> BTreeSet<(String, u16)> {
    let mut codes = BTreeSet::new();
    for text in source() {
        let text = text.replace(' ', "");
        for rest in text.split("bad_request(\"").skip(1) {
            codes.insert((until_quote(rest), 400));
        }
        for rest in text.split("StatusCode::").skip(1) {
            if let Some((status, rest)) = rest.split_once(",\"")
                && let Some(status) = status_named(status)
            {
                codes.insert((until_quote(rest), status));
            }
        }
        // In a table that has the code first: ("code", StatusCode::X).
        for before in text.split("\",StatusCode::").collect::<Vec<_>>().windows(2) {
            let [before, after] = before else { continue };
            let code = before.rsplit('"').next().unwrap();
            codes.insert((code.to_owned(), status_named(&name(after)).unwrap()));
        }
        for (function, status) in [("fnstart_code(", 422), ("letcode=match", 400)] {
            let body = text.split(function).nth(1).unwrap_or_default();
            let end = body.split("}}").next().unwrap_or_default();
            for rest in end.split("=>\"").skip(1) {
                codes.insert((until_quote(rest), status));
            }
        }
    }
    codes
}

fn until_quote(text: &str) -> String {
    text.split('"').next().unwrap_or_default().to_owned()
}

fn name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect()
}

/// The number of a status by the name of its constant.
fn status_named(name: &str) -> Option<u16> {
    (100..600).find(|number| {
        let reason = http::StatusCode::from_u16(*number).ok().and_then(|s| s.canonical_reason());
        reason.is_some_and(|reason| reason.to_uppercase().replace([' ', '-'], "_") == name)
    })
}

#[test]
fn the_table_of_codes_is_the_programs() {
    let page = page();
    let described: BTreeSet<(String, u16)> = rows(&page, "## Error codes")
        .into_iter()
        .map(|(cell, rest)| {
            let status = rest.split(' ').next().unwrap().parse().unwrap();
            (words(cell).next().unwrap().to_owned(), status)
        })
        .collect();
    let produced = produced();
    assert!(produced.len() > 40, "the scan finds too little: {produced:?}");
    assert_eq!(described.difference(&produced).collect::<Vec<_>>(), [] as [&(String, u16); 0]);
    assert_eq!(produced.difference(&described).collect::<Vec<_>>(), [] as [&(String, u16); 0]);
}

#[test]
fn the_table_of_metrics_is_the_programs() {
    let metrics = Metrics::new().unwrap();
    metrics.network_is(Network::Private);
    metrics.seccomp_is(Seccomp::Active);
    let page = page();
    let described: BTreeSet<&str> =
        rows(&page, "## Metrics").iter().filter_map(|(cell, _)| words(cell).next()).collect();
    let text = source().concat();
    for metric in &described {
        let short = metric.strip_prefix("workspace_agent_").unwrap();
        let quoted = [format!("\"{metric}\""), format!("\"{short}\"")];
        assert!(quoted.iter().any(|name| text.contains(name)), "{metric} does not exist");
    }
    // Counters without a value are not in the text; they are in the source, under their short names.
    let counters = text.split("counters(\"").skip(1).map(until_quote);
    let shown = metrics.text();
    let shown = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let registered = counters.map(|name| format!("workspace_agent_{name}"));
    for metric in registered.chain(shown.map(str::to_owned)) {
        assert!(described.contains(metric.as_str()), "{metric} is not described");
    }
}
