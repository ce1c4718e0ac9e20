//! What a decision of the proxy's policy costs, and how much room its patterns take. The program that
//! measures it is linked with the policy; this one reads what it prints.

use std::{env, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    row::{Measured, Role, Row, Target, Unit},
    series::Series,
};

/// The variable that names the measuring program.
const PROGRAM: &str = "WORKSPACE_POLICY_COST";
/// Questions that any workspace may ask. One about a name of a hundred labels stands apart: only an
/// attacker asks it.
const KINDS: [&str; 5] = ["exact", "wildcard", "address", "denied", "unknown"];

pub(crate) fn measure() -> Result<Vec<Row>> {
    let program = env::var_os(PROGRAM).with_context(|| {
        format!("{PROGRAM} is not set: `make bench` builds the program and names it there")
    })?;
    let output = Command::new(program).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut rows = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        rows.extend(rows_of(&serde_json::from_str(line)?)?);
    }
    Ok(rows)
}

fn rows_of(line: &Value) -> Result<Vec<Row>> {
    let patterns = line["patterns"].as_u64().context("no number of patterns")?;
    let target = if patterns > 1_000 { 400.0 } else { 150.0 };
    let hash = || Ok::<_, anyhow::Error>(Ok(series(&line["hash_ns"])?));
    let row = |kind: &str| -> Result<Row> {
        let what = format!("policy decision, {patterns} patterns, {}", kind.replace('_', " "));
        let ours: Measured = Ok(series(&line["decisions_ns"][kind])?);
        Ok(Row::new(what, Unit::Nanoseconds, ours).beside(Role::Floor, "HashMap::get", hash()?))
    };
    let mut rows: Vec<Row> = Vec::new();
    for kind in KINDS {
        rows.push(row(kind)?.target(Target::AtMost(target)));
    }
    rows.push(row("hundred_labels")?);
    if let Some(bytes) = line["bytes_per_pattern"].as_u64() {
        let bytes = Series::single(bytes as f64);
        let what = format!("policy memory of a pattern, {patterns} patterns");
        rows.push(Row::new(what, Unit::Bytes, Ok(bytes)).target(Target::AtMost(100.0)));
    }
    Ok(rows)
}

fn series(value: &Value) -> Result<Series> {
    let rounds = value.as_array().context("no rounds")?;
    rounds.iter().map(|round| round.as_f64().context("a round is no number")).collect()
}
