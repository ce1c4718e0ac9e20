//! The checksums of Cargo.lock.

use std::collections::BTreeMap;

/// SHA-256 of each crate's archive by `name@version`. Crates of this repository have none.
///
/// Cargo writes the file itself, always in this form, so its lines are enough.
pub(crate) fn checksums(lock: &str) -> BTreeMap<String, String> {
    lock.split("[[package]]").skip(1).filter_map(checksum).collect()
}

fn checksum(package: &str) -> Option<(String, String)> {
    let field = |key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key))?;
        line.strip_prefix(" = \"")?.strip_suffix('"')
    };
    let (name, version, checksum) = (field("name")?, field("version")?, field("checksum")?);
    Some((format!("{name}@{version}"), checksum.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crates_from_a_registry_have_a_checksum() {
        let lock = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.2.3\"\n\
                    source = \"registry\"\nchecksum = \"ab12\"\n\n\
                    [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let expected = [("bytes@1.2.3".to_owned(), "ab12".to_owned())];
        assert_eq!(checksums(lock), BTreeMap::from(expected));
    }
}
