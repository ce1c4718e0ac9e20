//! The document: `CycloneDX` 1.6 in JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::tree::{Crate, Graph};

/// The binary that the document is about.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// Its digest, so that a document and its binary can be matched.
    pub(crate) sha256: String,
    /// What it was built for.
    pub(crate) triple: &'a str,
}

/// All that the document says.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) graph: Graph,
    /// SHA-256 of crates' archives, by reference.
    pub(crate) checksums: BTreeMap<String, String>,
    /// Components that are no crates.
    pub(crate) native: Vec<Value>,
    /// When the sources were last changed, RFC 3339.
    pub(crate) written: Option<String>,
}

impl Document<'_> {
    /// Renders the document, ordered by name.
    pub(crate) fn to_json(&self) -> Value {
        let linked =
            self.graph.crates.iter().filter(|(reference, _)| **reference != self.graph.root);
        let crates = linked.map(|(_, linked)| self.component(linked));
        let mut metadata = json!({
            "lifecycles": [{ "phase": "build" }],
            "component": self.subject(),
            "properties": [{ "name": "target", "value": self.subject.triple }],
        });
        if let (Some(written), Some(fields)) = (&self.written, metadata.as_object_mut()) {
            fields.insert("timestamp".to_owned(), json!(written));
        }
        json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": metadata,
            "components": crates.chain(self.native.iter().cloned()).collect::<Vec<_>>(),
            "dependencies": self.dependencies(),
        })
    }

    fn subject(&self) -> Value {
        let root = self.graph.crates.get(&self.graph.root).map(|root| self.component(root));
        let mut subject = root.unwrap_or_default();
        if let Some(fields) = subject.as_object_mut() {
            let digest = json!([{ "alg": "SHA-256", "content": self.subject.sha256 }]);
            fields.insert("type".to_owned(), json!("application"));
            fields.insert("hashes".to_owned(), digest);
        }
        subject
    }

    /// A crate. Only one from the registry has a package URL: another's name may be anyone's there.
    fn component(&self, linked: &Crate) -> Value {
        let reference = linked.reference();
        let mut component = json!({
            "type": "library",
            "bom-ref": reference,
            "name": linked.name,
            "version": linked.version,
        });
        let Some(fields) = component.as_object_mut() else { return component };
        let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        if !linked.license.is_empty() {
            add("licenses", json!([{ "expression": linked.license }]));
        }
        if let Some(checksum) = self.checksums.get(&reference) {
            let version = linked.version.replace('+', "%2B");
            add("purl", json!(format!("pkg:cargo/{}@{version}", linked.name)));
            add("hashes", json!([{ "alg": "SHA-256", "content": checksum }]));
        }
        if !linked.repository.is_empty() {
            add("externalReferences", json!([{ "type": "vcs", "url": linked.repository }]));
        }
        component
    }

    fn dependencies(&self) -> Vec<Value> {
        let none = std::collections::BTreeSet::new();
        let needs = |reference| self.graph.needs.get(reference).unwrap_or(&none);
        let edges = |reference| json!({ "ref": reference, "dependsOn": needs(reference) });
        self.graph.crates.keys().map(edges).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    const PRINTED: &str = "\
0ours v0.1.0 (/somewhere/ours)|Apache-2.0||
1common v0.1.0 (/somewhere/common)|Apache-2.0||
1bytes v1.2.3+a|MIT|https://example.com/bytes|";

    fn document() -> Value {
        Document {
            subject: Subject { sha256: "cd34".to_owned(), triple: "x86_64-unknown-linux-musl" },
            graph: tree::parse(PRINTED).unwrap(),
            checksums: BTreeMap::from([("bytes@1.2.3+a".to_owned(), "ab12".to_owned())]),
            native: Vec::new(),
            written: None,
        }
        .to_json()
    }

    #[test]
    fn the_binary_is_the_subject_and_no_component() {
        let document = document();
        let subject = &document["metadata"]["component"];
        assert_eq!((&subject["name"], &subject["type"]), (&json!("ours"), &json!("application")));
        assert_eq!(subject["hashes"][0]["content"], "cd34");
        let names: Vec<_> = document["components"].as_array().unwrap().iter().collect();
        assert!(names.iter().all(|component| component["name"] != "ours"), "{names:?}");
    }

    #[test]
    fn only_a_crate_of_the_registry_has_a_package_url() {
        let document = document();
        let [bytes, common] = [&document["components"][0], &document["components"][1]];
        assert_eq!(bytes["purl"], "pkg:cargo/bytes@1.2.3%2Ba");
        assert_eq!(common["name"], "common");
        assert_eq!(common["purl"], Value::Null);
        assert!(!document.to_string().contains("/somewhere"), "{document}");
    }
}
