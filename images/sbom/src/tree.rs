//! Which crates are linked, and which of them needs which: what `cargo tree` prints.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

/// A crate that is linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression; empty when the crate states none.
    pub(crate) license: String,
    /// Where its sources are kept; empty when the crate does not say.
    pub(crate) repository: String,
}

impl Crate {
    /// `name@version`, by which other parts of the document refer to it.
    pub(crate) fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// The crates below a package, the package itself among them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// By reference.
    pub(crate) crates: BTreeMap<String, Crate>,
    /// References of what each crate needs, by reference.
    pub(crate) needs: BTreeMap<String, BTreeSet<String>>,
    /// The reference of the package asked for.
    pub(crate) root: String,
}

/// The arguments that make cargo print the tree of a package for a target.
pub(crate) fn arguments<'a>(package: &'a str, triple: &'a str) -> Vec<&'a str> {
    let fixed = ["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "depth"];
    let asked = ["--format", "{p}|{l}|{r}|", "--package", package, "--target", triple];
    [fixed.as_slice(), asked.as_slice()].concat()
}

/// Reads the tree: a line for each use of a crate, its depth in front. What a crate needs is printed
/// at its first use only, which is enough for a graph.
///
/// # Errors
/// When a line is not of that form.
pub(crate) fn parse(printed: &str) -> Result<Graph> {
    let mut graph = Graph::default();
    let mut path: Vec<String> = Vec::new();
    for line in printed.lines() {
        let (depth, found) =
            node(line).with_context(|| format!("cargo tree printed an unknown line: {line}"))?;
        path.truncate(depth);
        let reference = found.reference();
        match path.last() {
            Some(user) => {
                graph.needs.entry(user.clone()).or_default().insert(reference.clone());
            }
            None => graph.root.clone_from(&reference),
        }
        graph.crates.insert(reference.clone(), found);
        path.push(reference);
    }
    Ok(graph)
}

/// One line, such as `2bytes v1.2.3|MIT|https://example.com/bytes|`.
fn node(line: &str) -> Option<(usize, Crate)> {
    let mut fields = line.split('|');
    let (package, license, repository) = (fields.next()?, fields.next()?, fields.next()?);
    let name = package.trim_start_matches(|c: char| c.is_ascii_digit());
    let depth = package.strip_suffix(name)?.parse().ok()?;
    // Behind name and version stands a crate's directory when it is one of ours.
    let mut words = name.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // Older crates separate alternatives with a slash, which SPDX does not know.
    let license = license.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
    let (name, version, repository) = (name.to_owned(), version.to_owned(), repository.to_owned());
    Some((depth, Crate { name, version, license, repository }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
0ours v0.1.0 (/somewhere/ours)|Apache-2.0||
1http v1.5.0|MIT/Apache-2.0|https://example.com/http|
2bytes v1.2.3|MIT|https://example.com/bytes|
1bytes v1.2.3|MIT|https://example.com/bytes|
1body v1.0.0|MIT||
2http v1.5.0|MIT/Apache-2.0|https://example.com/http| (*)";

    fn needs(graph: &Graph, user: &str) -> Vec<String> {
        graph.needs.get(user).into_iter().flatten().cloned().collect()
    }

    #[test]
    fn the_depth_tells_who_needs_what() {
        let graph = parse(PRINTED).unwrap();
        assert_eq!(graph.root, "ours@0.1.0");
        assert_eq!(needs(&graph, "ours@0.1.0"), ["body@1.0.0", "bytes@1.2.3", "http@1.5.0"]);
        assert_eq!(needs(&graph, "http@1.5.0"), ["bytes@1.2.3"]);
        assert_eq!(needs(&graph, "body@1.0.0"), ["http@1.5.0"]);
        assert_eq!(graph.crates.len(), 4);
    }

    #[test]
    fn a_slash_between_licences_is_spelt_as_spdx_has_it() {
        let graph = parse(PRINTED).unwrap();
        assert_eq!(graph.crates["http@1.5.0"].license, "MIT OR Apache-2.0");
    }

    #[test]
    fn a_line_of_another_form_is_an_error() {
        assert!(parse("http v1.5.0|MIT||").is_err());
        assert!(parse("1http|MIT||").is_err());
    }
}
