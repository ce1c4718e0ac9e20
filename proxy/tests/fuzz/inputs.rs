//! Inputs, by chance and repeatable: those of `workspace_fuzz`, with the words of this program.

use std::hash::{DefaultHasher, Hash, Hasher};

use workspace_fuzz::Corpus;

/// Inputs for each target: about two seconds for all of them.
const RUNS: u64 = 20_000;

/// Pieces that mean something to one of the parsers.
const WORDS: &[&str] = &[
    ".", "..", "/", "//", "\\", "%2e", "%2E", "%2f", "%5c", "%00", "%", "%25", ":", "::", "[", "]",
    "@", "#", "?", ";", "0x", "0", "127.1", "xn--", "-", "_", "*", "**.", "*.", "example", ":443",
    ":0", "\u{0}", "\r\n", "\t", "\u{fc}", "\u{3002}", "&a ", "*a", "- ",
];

/// Runs a check on the inputs of a target, as text.
pub(crate) fn run(target: &str, check: impl Fn(&str)) {
    run_bytes(target, |input, _random| check(&String::from_utf8_lossy(input)));
}

/// The same for bytes, with a source of further choices, which are the same for the same input.
pub(crate) fn run_bytes(target: &str, check: impl Fn(&[u8], &mut fastrand::Rng)) {
    Corpus::new(env!("CARGO_MANIFEST_DIR"), target, WORDS, RUNS).run(|input| {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        check(input, &mut fastrand::Rng::with_seed(hasher.finish()));
    });
}

/// The ends of the pieces of an input of this length, the last one included.
pub(crate) fn cuts(length: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.usize(0..4)).map(|_| random.usize(0..=length)).collect();
    cuts.push(length);
    cuts.sort_unstable();
    cuts
}
