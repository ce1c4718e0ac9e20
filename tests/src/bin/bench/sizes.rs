//! Sizes of the binaries as they are shipped.

use std::fs;

use anyhow::Result;
use workspace_tests::binaries;

use crate::{
    row::{Row, Target, Unit},
    series::Series,
};

pub(crate) fn measure() -> Result<Vec<Row>> {
    let size = |name: &str, target: f64| -> Result<Row> {
        let bytes = fs::metadata(binaries::path(name))?.len();
        let series = Series::single(bytes as f64 / f64::from(1 << 20));
        let row = Row::new(format!("size of {name}"), Unit::MebiBytes, Ok(series));
        Ok(row.target(Target::AtMost(target)))
    };
    Ok(vec![size("workspace-agent", 4.0)?, size("workspace-proxy", 7.0)?])
}
