//! Mutated inputs for the tests of parsers: each target starts from the files of its corpus, which
//! hold what was of interest once, and runs its check on them and on mutations of them.
//!
//! It is not guided by coverage; what it looks for is a property that breaks, not only a panic. In
//! `cargo test` it takes a second or two a target, with the same inputs each time.
//! `WORKSPACE_FUZZ_SECONDS` is how long each target runs instead, from a seed by chance;
//! `WORKSPACE_FUZZ_RUNS` is a number of inputs; `WORKSPACE_FUZZ_SEED`, which each run prints, repeats
//! it.

#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "only tests use it: they fail by panicking, and say by what input it can be repeated"
)]

mod mutate;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mutate::Mutator;

/// The same inputs in every run, unless others are asked for: a test must not fail by chance.
const SEED: u64 = 1;

/// What the inputs of one target start from, and how they are made.
#[derive(Debug)]
pub struct Corpus {
    name: String,
    inputs: Vec<Vec<u8>>,
    words: &'static [&'static str],
    runs: u64,
    mend: Option<fn(&mut Vec<u8>)>,
}

impl Corpus {
    /// The target whose corpus is `corpus/NAME` beside the tests of the package in `directory`.
    /// `words` are pieces that mean something to the parser; `runs` is the number of inputs.
    pub fn new(directory: &str, name: &str, words: &'static [&'static str], runs: u64) -> Self {
        let path = Path::new(directory).join("tests/corpus").join(name);
        let inputs: Vec<Vec<u8>> = files(&path).iter().map(|file| read(file)).collect();
        assert!(!inputs.is_empty(), "no corpus in {}", path.display());
        Self { name: name.to_owned(), inputs, words, runs, mend: None }
    }

    /// Mends every other input, such as by a sum that nothing but chance would get right.
    #[must_use]
    pub fn mended_by(self, mend: fn(&mut Vec<u8>)) -> Self {
        Self { mend: Some(mend), ..self }
    }

    /// Runs a check on every file of the corpus, and on mutations of them.
    pub fn run(self, mut check: impl FnMut(&[u8])) {
        for input in &self.inputs {
            checked(&mut check, input);
        }
        let seconds = number("WORKSPACE_FUZZ_SECONDS").map(Duration::from_secs);
        let chosen = number("WORKSPACE_FUZZ_SEED");
        let by_default = if seconds.is_some() { fastrand::u64(..) } else { SEED };
        let seed = chosen.unwrap_or(by_default);
        eprintln!("{}: WORKSPACE_FUZZ_SEED={seed}", self.name);
        let runs = number("WORKSPACE_FUZZ_RUNS").unwrap_or(self.runs);
        let begun = Instant::now();
        let mut mutator = Mutator::new(seed, &self.inputs, self.words);
        let mut done = 0;
        while seconds.map_or(done < runs, |seconds| begun.elapsed() < seconds) {
            let mut input = mutator.next_input();
            if let Some(mend) = self.mend.filter(|_| done % 2 == 0) {
                mend(&mut input);
            }
            checked(&mut check, &input);
            done += 1;
        }
        eprintln!("{}: {done} inputs", self.name);
    }
}

/// Says by what input a check failed.
struct Witness<'i>(&'i [u8]);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn checked(check: &mut impl FnMut(&[u8]), input: &[u8]) {
    let _witness = Witness(input);
    check(input);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("no corpus in {}: {error}", directory.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable corpus").path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_no| panic!("{variable} is '{text}' and must be a number")))
}
