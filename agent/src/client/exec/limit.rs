//! `--limit NAME=VALUE`. Pure.

/// The limits that an agent knows by name.
const NAMES: [&str; 7] =
    ["nofile", "nproc", "cpu_seconds", "memory_bytes", "file_size_bytes", "core_bytes", "pids"];

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which.
    pub name: &'static str,
    /// How much, in the unit that the name says.
    pub value: u64,
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// When the name is none of those known, or the value is no number.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=VALUE"))?;
    let known = NAMES.into_iter().find(|known| *known == name);
    let name = known.ok_or_else(|| format!("'{name}' is none of {}", NAMES.join(", ")))?;
    let value = value.parse().map_err(|_malformed| format!("'{value}' is no whole number"))?;
    Ok(Limit { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_a_known_name_and_a_number() {
        assert_eq!(parse_limit("nofile=64"), Ok(Limit { name: "nofile", value: 64 }));
        assert_eq!(parse_limit("pids=0"), Ok(Limit { name: "pids", value: 0 }));
        for (text, reason) in [
            ("nofile", "not NAME=VALUE"),
            ("files=1", "'files' is none of nofile, "),
            ("=1", "'' is none of"),
            ("nproc=", "'' is no whole number"),
            ("nproc=-1", "'-1' is no whole number"),
            ("memory_bytes=1G", "'1G' is no whole number"),
        ] {
            let error = parse_limit(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
