//! The environment that every command begins with: a fixed few variables of the agent's own, the
//! proxy's address, what the operator adds. Nothing else of the agent's environment is passed on.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
};

use crate::supervise::spawn::env_entry;

/// Where programs are looked for when the agent itself has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Variables of the agent that commands get too.
const INHERITED: [&str; 6] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ"];
/// What never goes through the proxy: the workspace itself.
const NO_PROXY: &str = "127.0.0.1,localhost,::1";

/// Names and values, by name.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Takes what commands may have of `own`, the agent's environment, and adds the proxy's address.
    pub fn base(own: impl Iterator<Item = (OsString, OsString)>, proxy: Option<&str>) -> Self {
        let mut variables: BTreeMap<OsString, OsString> =
            own.filter(|(name, _)| INHERITED.iter().any(|kept| name == kept)).collect();
        for (name, default) in [("PATH", DEFAULT_PATH), ("HOME", "/"), ("LANG", "C.UTF-8")] {
            variables.entry(name.into()).or_insert_with(|| default.into());
        }
        let mut environment = Self(variables);
        if let Some(url) = proxy {
            for (name, value) in [("HTTP_PROXY", url), ("HTTPS_PROXY", url), ("NO_PROXY", NO_PROXY)]
            {
                environment.set(name, value);
                // Programs disagree about the case, so both are set.
                environment.set(name.to_lowercase(), value);
            }
        }
        environment
    }

    /// Sets one variable, replacing what was there.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.0.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
    }

    /// The environment as exec takes it.
    ///
    /// # Errors
    /// Names the variable that cannot be passed.
    pub fn entries(&self) -> Result<Vec<CString>, String> {
        self.0.iter().map(|(name, value)| env_entry(name, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &[(&str, &str)], proxy: Option<&str>) -> Vec<String> {
        let own = own.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let entries = Environment::base(own, proxy).entries().unwrap();
        entries.into_iter().map(|entry| entry.into_string().unwrap()).collect()
    }

    #[test]
    fn only_harmless_variables_of_the_agent_are_passed_on() {
        let own = [("PATH", "/bin"), ("WORKSPACE_AGENT_TOKEN_FILE", "/t"), ("AWS_SECRET", "x")];
        assert_eq!(of(&own, None), ["HOME=/", "LANG=C.UTF-8", "PATH=/bin"]);
    }

    #[test]
    fn the_proxy_is_announced_in_both_cases() {
        let entries = of(&[], Some("http://127.0.0.1:8080"));
        for expected in ["HTTPS_PROXY=http://127.0.0.1:8080", "https_proxy=http://127.0.0.1:8080"] {
            assert!(entries.iter().any(|entry| entry == expected), "{entries:?}");
        }
        assert!(entries.iter().any(|entry| entry == "no_proxy=127.0.0.1,localhost,::1"));
    }
}
