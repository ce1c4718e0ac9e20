//! The proxies of the table, started as rows want them.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Setup;
use crate::{
    process::{Daemon, free_address},
    proxy::{self, Proxy},
    wait::eventually,
    world::bytes,
};

/// What no output of a proxy may hold.
pub(super) const SECRET: &str = "SECRET-of-the-rule";

/// The policy of a row that does not say otherwise.
fn standard() -> Value {
    json!({
        "version": 1,
        "egress": {
            "allow": [
                { "host": "allowed.example", "ports": [443] },
                { "host": "*.cdn.example", "ports": [443] },
                { "host": "mirror.example", "ports": [443] },
                { "host": "plain.test", "ports": [80] },
            ],
            "deny": [{ "host": "evil.cdn.example" }],
            "private_exceptions": [],
        },
    })
}

fn standard_rules() -> Value {
    json!({ "gh": {
        "real_base_url": "https://api.gh.test/v1",
        "headers": { "Authorization": format!("Bearer {SECRET}") },
    } })
}

/// The proxies that run.
#[derive(Debug)]
pub(super) struct Stages {
    common: Vec<String>,
    running: HashMap<String, Proxy>,
}

impl Stages {
    /// `common` are the arguments that every proxy gets.
    pub(super) fn new(common: Vec<String>) -> Self {
        Self { common, running: HashMap::new() }
    }

    /// The proxy for a setup.
    pub(super) fn proxy(&mut self, setup: &Setup) -> Result<&mut Proxy> {
        let key = format!("{setup:?}");
        if !self.running.contains_key(&key) {
            let proxy = self.prepared(setup)?.start()?;
            let rules = if setup.rules.is_null() { standard_rules() } else { setup.rules.clone() };
            let answer = proxy.admin.send_json("PUT", "/rules", &rules)?;
            ensure!(answer.status() == 200, "the rules of the setup: {}", answer.text());
            self.running.insert(key.clone(), proxy);
        }
        self.running.get_mut(&key).ok_or_else(|| anyhow::anyhow!("no proxy for {key}"))
    }

    /// A start that may fail: the exit code, or nothing where it serves, and what was said.
    pub(super) fn attempt(&self, setup: &Setup) -> Result<(Option<i32>, String)> {
        let prepared = self.prepared(setup)?;
        let command = prepared.command(free_address()?, free_address()?)?;
        if let Some(text) = &setup.text {
            std::fs::write(prepared.directory().join("policy.yaml"), bytes(text))?;
        }
        let mut daemon = Daemon::spawn("proxy", command, prepared.directory())?;
        let running = eventually("the proxy serves or ends", || {
            let serves = daemon.stderr().contains("serving");
            (serves || !daemon.is_running()).then_some(serves)
        })?;
        let code = if running { None } else { daemon.wait()?.code() };
        Ok((code, daemon.output()))
    }

    fn prepared(&self, setup: &Setup) -> Result<proxy::Setup> {
        let policy = policy(setup);
        let arguments: Vec<&str> =
            self.common.iter().chain(&setup.args).map(String::as_str).collect();
        let mut prepared = proxy::Setup::new()?.policy(|whole| *whole = policy).args(&arguments);
        for (name, value) in &setup.env {
            prepared = prepared.env(name, value);
        }
        Ok(prepared)
    }
}

fn policy(setup: &Setup) -> Value {
    let mut policy = standard();
    for (list, more) in
        [("allow", &setup.allow), ("deny", &setup.deny), ("private_exceptions", &setup.exceptions)]
    {
        if let Some(items) = policy["egress"][list].as_array_mut() {
            items.extend(more.iter().cloned());
        }
    }
    merge(&mut policy, &setup.policy);
    policy
}

/// Objects are merged key by key; everything else is replaced.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (_, Value::Null) => {}
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}
