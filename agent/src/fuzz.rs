//! Mutated inputs against every parser of the agent and of its command line, each with what has to
//! hold of whatever comes out: `workspace_fuzz` says how they are made, tests/corpus is what they
//! start from. The proxy has its own in proxy/tests/fuzz.rs.

mod archives;
mod commands;
mod manifests;
mod names;
mod output;
mod unpacked;

use workspace_fuzz::Corpus;

/// Inputs for a parser that touches no file.
const RUNS: u64 = 50_000;

/// Pieces that mean something to a parser of text.
const WORDS: &[&str] = &[
    ".",
    "..",
    "/",
    "//",
    "%2e%2e",
    "%2F",
    "%00",
    "%",
    "%zz",
    "+",
    "&",
    "=",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "*",
    "**",
    "**/",
    "?",
    "[",
    "]",
    "[!",
    "{",
    "}",
    ",",
    "\\",
    "!",
    "#",
    ":",
    "-",
    "0",
    "-1",
    "1e9",
    "18446744073709551616",
    "9223372036854775808",
    "SIG",
    "KILL",
    "true",
    "null",
    "\"",
    "{}",
    "[]",
    "\"a\"",
    "\u{fc}",
    "\u{1b}[2J",
    "127.0.0.1",
    "[::1]",
    "unix:",
    "connect:",
    ",via=",
    ":65536",
];

fn text(name: &str, check: impl Fn(&str)) {
    bytes(name, |input| check(&String::from_utf8_lossy(input)));
}

fn bytes(name: &str, check: impl Fn(&[u8])) {
    corpus(name, RUNS).run(check);
}

fn corpus(name: &str, runs: u64) -> Corpus {
    Corpus::new(env!("CARGO_MANIFEST_DIR"), name, WORDS, runs)
}
