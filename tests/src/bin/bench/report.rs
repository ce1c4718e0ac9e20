//! The whole report, as a table that is Markdown and as JSON. Pure.

use serde_json::{Value, json};

use crate::{
    machine::Machine,
    row::{Measured, Role, Row, Target, Verdict},
};

/// The readable report, in the repository.
pub(crate) const FILE: &str = "target/bench/report.md";
/// What is said of a run that measured nothing well.
pub(crate) const QUICK: &str = "A quick run: the figures mean nothing.";

const HEADINGS: [&str; 7] = ["what", "ours", "peer", "floor", "ratio", "target", "met"];

/// Everything that was measured, and where.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    /// Seconds that the whole run took.
    pub(crate) seconds: u64,
    /// Whether it was a quick one.
    pub(crate) quick: bool,
}

impl Report {
    /// A Markdown document that can be read as it is: the columns are padded.
    pub(crate) fn markdown(&self) -> String {
        let lines: Vec<[String; 7]> = [HEADINGS.map(str::to_owned)]
            .into_iter()
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        let widths: [usize; 7] = std::array::from_fn(|column| {
            lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0)
        });
        let mut lines: Vec<String> = lines.iter().map(|cells| line(cells, widths)).collect();
        lines.insert(1, line(&widths.map(|width| "-".repeat(width)), widths));
        let took = format!("The run took {} min {} s.", self.seconds / 60, self.seconds % 60);
        let quick = if self.quick { format!("\n{QUICK}") } else { String::new() };
        format!("{}\n{took}{quick}\n\n{}\n", self.machine, lines.join("\n"))
    }

    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({
            "machine": self.machine.json(), "rows": rows, "seconds": self.seconds, "quick": self.quick,
        })
    }
}

fn line(cells: &[String; 7], widths: [usize; 7]) -> String {
    let padded = std::array::from_fn::<_, 7, _>(|column| {
        let width = widths[column];
        format!("{:width$}", cells[column])
    });
    format!("| {} |", padded.join(" | "))
}

fn row(row: &Row) -> Value {
    let other = row.other.as_ref().map(|other| {
        let role = match other.role {
            Role::Peer => "peer",
            Role::Floor => "floor",
        };
        json!({ "role": role, "name": other.name, "figure": figure(&other.figure) })
    });
    let ratio = row
        .ratio()
        .map(|ratio| json!({ "median": ratio.median, "low": ratio.low, "high": ratio.high }));
    let target = row.target.map(|target| match target {
        Target::AtMost(most) => json!({ "of": "ours", "at_most": most }),
        Target::RatioAtMost(most) => json!({ "of": "ratio", "at_most": most }),
        Target::RatioAtLeast(least) => json!({ "of": "ratio", "at_least": least }),
        Target::RatioWithin(part) => json!({ "of": "ratio", "differs_by_at_most": part }),
    });
    let met = match row.verdict() {
        Verdict::Met => Some(true),
        Verdict::Missed => Some(false),
        Verdict::NotMeasured | Verdict::NoTarget => None,
    };
    json!({
        "what": row.what, "unit": row.unit.name(), "ours": figure(&row.ours), "other": other,
        "ratio": ratio, "target": target, "met": met,
    })
}

fn figure(figure: &Measured) -> Value {
    match figure {
        Ok(series) => json!({ "median": series.median(), "rounds": series.rounds() }),
        Err(reason) => json!({ "not_measured": reason }),
    }
}
