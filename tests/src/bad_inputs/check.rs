//! Holds what came of a row against what it expects.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Expect, Row, run::Outcome, stage::SECRET};
use crate::{dns::Question, http::Response, proxy::Proxy, wait::eventually};

/// What the world around the proxy saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// Addresses that were dialled.
    pub(super) dialled: Vec<String>,
    /// What the upstream got, one character a byte.
    pub(super) received: String,
    /// What the name server was asked.
    pub(super) asked: Vec<Question>,
}

/// How much a proxy had written before the row.
#[derive(Debug)]
pub(super) struct Before {
    lines: usize,
}

impl Before {
    pub(super) fn of(proxy: &Proxy) -> Self {
        Self { lines: proxy.audit().len() }
    }

    /// The audit lines since then.
    pub(super) fn since(&self, proxy: &Proxy) -> String {
        let lines = proxy.audit().split_off(self.lines);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// A start that was tried.
pub(super) fn start(row: &Row, outcome: &Outcome) -> Result<()> {
    let expected = row.expect.status.first().copied().map(i32::from);
    ensure!(
        outcome.exit == expected,
        "exit {:?}, not {expected:?}: {}",
        outcome.exit,
        outcome.said
    );
    said(&row.expect, &outcome.said)
}

/// What the client and the world saw.
pub(super) fn outcome(row: &Row, outcome: &Outcome, seen: &Seen) -> Result<()> {
    let expect = &row.expect;
    let statuses: Vec<u16> = outcome.answers.iter().map(Response::status).collect();
    ensure!(statuses == expect.status, "{statuses:?}, not {:?}: {}", expect.status, outcome.said);
    let code = |answer: &Response| answer.header("x-proxy-error").unwrap_or("ok").to_owned();
    let codes: Vec<String> = outcome.answers.iter().map(code).collect();
    ensure!(expect.code.is_empty() || codes == expect.code, "{codes:?}, not {:?}", expect.code);
    said(expect, &outcome.said)?;
    let dialled: BTreeSet<&str> = seen.dialled.iter().map(String::as_str).collect();
    let expected: BTreeSet<&str> = expect.dials.iter().map(String::as_str).collect();
    ensure!(dialled == expected, "dialled {dialled:?}, not {expected:?}");
    let asked: BTreeSet<&str> = seen.asked.iter().map(|asked| asked.name.as_str()).collect();
    let expected: BTreeSet<&str> = expect.dns.iter().map(String::as_str).collect();
    ensure!(asked == expected, "asked for {asked:?}, not {expected:?}");
    upstream(expect, outcome, seen)
}

fn upstream(expect: &Expect, outcome: &Outcome, seen: &Seen) -> Result<()> {
    let received = &seen.received;
    match expect.tunnel {
        Some(true) => {
            let words: String = outcome.words.iter().copied().map(char::from).collect();
            ensure!(*received == words, "the upstream got {received:?}");
        }
        Some(false) => ensure!(received.is_empty(), "the upstream got {received:?}"),
        None => {}
    }
    for part in &expect.received {
        ensure!(received.contains(part), "{part:?} is not in {received:?}");
    }
    let lower = received.to_ascii_lowercase();
    for part in &expect.not_received {
        ensure!(!lower.contains(&part.to_ascii_lowercase()), "{part:?} is in {received:?}");
    }
    Ok(())
}

fn said(expect: &Expect, text: &str) -> Result<()> {
    for part in &expect.says {
        ensure!(text.contains(part), "{part:?} is not in {text:?}");
    }
    for part in &expect.not_says {
        ensure!(!text.contains(part), "{part:?} is in {text:?}");
    }
    Ok(())
}

/// What the proxy wrote: one audit line for each answer of the workspaces' listener, and no secret.
pub(super) fn output(row: &Row, proxy: &mut Proxy, before: &Before) -> Result<()> {
    let expect = &row.expect;
    let code = expect.audit.as_ref().or(expect.code.last()).cloned();
    if let Some(code) = code {
        let line = audited(proxy, before, &code)?;
        for (key, value) in &expect.record {
            ensure!(line.get(key).unwrap_or(&Value::Null) == value, "{key} is another: {line}");
        }
    }
    let output = proxy.daemon.output();
    ensure!(!output.contains(SECRET), "the secret is in the output: {output}");
    ensure!(!output.contains("panicked"), "a panic: {output}");
    ensure!(proxy.daemon.is_running(), "the proxy has ended: {output}");
    Ok(())
}

fn audited(proxy: &Proxy, before: &Before, code: &str) -> Result<Value> {
    let find = || {
        let lines = proxy.audit();
        lines.into_iter().skip(before.lines).find(|line| line["code"] == code)
    };
    eventually(&format!("an audit line says {code}"), find).with_context(|| before.since(proxy))
}
