//! Inputs, by chance and repeatable.

use std::path::PathBuf;

/// Inputs for each target: about two seconds for all of them.
const RUNS: usize = 20_000;

/// Pieces that mean something to one of the parsers.
const WORDS: [&str; 40] = [
    ".", "..", "/", "//", "\\", "%2e", "%2E", "%2f", "%5c", "%00", "%", "%25", ":", "::", "[", "]",
    "@", "#", "?", ";", "0x", "0", "127.1", "xn--", "-", "_", "*", "**.", "*.", "example", ":443",
    ":0", "\u{0}", "\r\n", "\t", "\u{fc}", "\u{3002}", "&a ", "*a", "- ",
];

/// The same inputs in every run, unless others are asked for: a test must not fail by chance.
const SEED: u64 = 1;

const RUNS_VARIABLE: &str = "WORKSPACE_FUZZ_RUNS";

/// Makes inputs from those of a corpus.
pub(crate) struct Mutator {
    random: fastrand::Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn new(target: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        assert!(!corpus.is_empty(), "no corpus for {target}");
        let seed = number("WORKSPACE_FUZZ_SEED").unwrap_or_else(|| match number(RUNS_VARIABLE) {
            Some(_) => fastrand::u64(..),
            None => SEED,
        });
        eprintln!("{target}: WORKSPACE_FUZZ_SEED={seed}");
        Self { random: fastrand::Rng::with_seed(seed), corpus }
    }

    /// Runs a check on every file of the corpus, and on mutations of them.
    pub(crate) fn run(self, check: impl Fn(&str)) {
        self.run_bytes(|input, _random| check(&String::from_utf8_lossy(input)));
    }

    /// The same for bytes, with a source of further choices.
    pub(crate) fn run_bytes(mut self, check: impl Fn(&[u8], &mut fastrand::Rng)) {
        for input in self.corpus.clone() {
            check(&input, &mut self.random);
        }
        let runs = number(RUNS_VARIABLE).map_or(RUNS, |runs| runs.try_into().unwrap());
        for _ in 0..runs {
            let input = self.next();
            check(&input, &mut self.random);
        }
    }

    fn next(&mut self) -> Vec<u8> {
        let mut input = self.pick().clone();
        for _ in 0..self.random.usize(1..6) {
            let at = self.random.usize(0..=input.len());
            match self.random.u8(0..6) {
                0 if at < input.len() => input[at] ^= 1 << self.random.u8(0..8),
                1 if at < input.len() => drop(input.remove(at)),
                2 => input.insert(at, self.random.u8(..)),
                3 => {
                    let end = self.random.usize(at..=input.len());
                    let piece = input[at..end].to_vec();
                    input.splice(at..at, piece);
                }
                4 => {
                    let other = self.pick().clone();
                    let from = self.random.usize(0..=other.len());
                    input.truncate(at);
                    input.extend(&other[from..]);
                }
                _ => {
                    let word = WORDS[self.random.usize(0..WORDS.len())];
                    input.splice(at..at, word.bytes());
                }
            }
            input.truncate(16_384);
        }
        input
    }

    fn pick(&mut self) -> &Vec<u8> {
        let at = self.random.usize(0..self.corpus.len());
        &self.corpus[at]
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// The ends of the pieces of an input of this length, the last one included.
pub(crate) fn cuts(length: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.usize(0..4)).map(|_| random.usize(0..=length)).collect();
    cuts.push(length);
    cuts.sort_unstable();
    cuts
}
