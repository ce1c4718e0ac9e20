//! The last report, put into docs/performance.md between two markers.

use std::fs;

use anyhow::{Context, Result, ensure};
use workspace_tests::binaries;

use crate::report::{FILE, QUICK};

const DOCUMENT: &str = "docs/performance.md";
const BEGIN: &str = "<!-- The report of `make bench`; `make bench-docs` replaces it. -->\n";
const END: &str = "<!-- The end of the report. -->";

/// Replaces the report in the document by the last one.
pub(crate) fn publish() -> Result<()> {
    let path = binaries::repository().join(DOCUMENT);
    let report = fs::read_to_string(binaries::repository().join(FILE))
        .with_context(|| format!("there is no {FILE}: run `make bench` first"))?;
    ensure!(!report.contains(QUICK), "{FILE} is of a quick run, whose figures mean nothing");
    fs::write(&path, replaced(&fs::read_to_string(&path)?, &report)?)?;
    println!("{FILE} is in {DOCUMENT} now");
    Ok(())
}

/// The document with this report in it, whose table is written without padding there.
fn replaced(document: &str, report: &str) -> Result<String> {
    let markers = || format!("{DOCUMENT} does not have its markers: {BEGIN}{END}");
    let (before, rest) = document.split_once(BEGIN).with_context(markers)?;
    let (_, after) = rest.split_once(END).with_context(markers)?;
    let lines: String = report.lines().map(|line| unpadded(line) + "\n").collect();
    Ok(format!("{before}{BEGIN}\n{lines}\n{END}{after}"))
}

fn unpadded(line: &str) -> String {
    if !line.starts_with('|') {
        return line.to_owned();
    }
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let cells = cells.iter().map(|cell| if cell.starts_with("---") { "---" } else { cell });
    format!("| {} |", cells.collect::<Vec<_>>().join(" | ")).replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let document = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let report = "today\n\n| what | ours |\n| ------ | ---- |\n| start  |      |\n";
        let first = replaced(&document, report).unwrap();
        let table = "| what | ours |\n| --- | --- |\n| start | |\n";
        assert_eq!(first, format!("before\n{BEGIN}\ntoday\n\n{table}\n{END}\nafter\n"));
        assert_eq!(replaced(&first, report).unwrap(), first);
        assert!(replaced("without markers", report).is_err());
    }

    #[test]
    fn the_document_has_the_markers() {
        let document = fs::read_to_string(binaries::repository().join(DOCUMENT)).unwrap();
        assert!(replaced(&document, "report").is_ok());
    }
}
