//! The table of SECURITY.md: rows are vectors, columns are places.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::vectors::{Findings, VECTORS};
use crate::binaries;

/// Where a workspace can be, as a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A pod under runc; the agent stays in the pod's network, without its filter.
    Open,
    /// The same with a NetworkPolicy.
    Policy,
    /// A pod under runc as we ship it.
    Runc,
    /// A pod under gVisor as we ship it.
    Gvisor,
    /// A Docker container without a network.
    NoNetwork,
}

/// All columns, in order.
const PLACES: [(Place, &str); 5] = [
    (Place::Open, "no isolation"),
    (Place::Policy, "NetworkPolicy only"),
    (Place::Runc, "ours on runc"),
    (Place::Gvisor, "ours on gVisor"),
    (Place::NoNetwork, "`--network none`"),
];

/// Around the table in the file.
const BEGIN: &str = "<!-- isolation table: begin (tests/tests/isolation_proof.rs) -->\n";
const END: &str = "<!-- isolation table: end -->\n";

/// Compares one column of the table with what was found.
///
/// # Errors
/// When they differ, with the table as it should be.
pub fn compare(place: Place, findings: &Findings) -> Result<()> {
    let text = fs::read_to_string(binaries::repository().join("SECURITY.md"))?;
    let (_, rest) = text.split_once(BEGIN).context("SECURITY.md has no table of isolation")?;
    let (table, _) = rest.split_once(END).context("the table of SECURITY.md has no end")?;
    let expected = with_column(table, place, findings);
    ensure!(
        table == expected,
        "SECURITY.md does not show what happens. Its table has to be:\n\n{expected}\n{}",
        findings.report()
    );
    Ok(())
}

/// The table with this column filled in and the others as they are.
fn with_column(table: &str, place: Place, findings: &Findings) -> String {
    let titles = PLACES.map(|(_, title)| title).join(" | ");
    let mut text =
        format!("| what the code tries | {titles} |\n|---|{}\n", "---|".repeat(PLACES.len()));
    for (vector, title) in VECTORS {
        let old = table.lines().find(|line| line.starts_with(&format!("| {title} |")));
        let cell = |(index, (column, _)): (usize, &(Place, &str))| {
            if *column == place {
                return if findings.reached(vector) { "**reached**" } else { "blocked" };
            }
            old.and_then(|line| line.split('|').nth(index + 2)).map_or("?", str::trim)
        };
        let cells: Vec<&str> = PLACES.iter().enumerate().map(cell).collect();
        text += &format!("| {title} | {} |\n", cells.join(" | "));
    }
    text
}
