//! Mutated inputs against the parsers that face a workspace or an operator: targets, paths, policy
//! files. Each starts from the files of tests/corpus, which hold what was of interest once.
//!
//! It is not guided by coverage. What it looks for is a property that breaks, not only a panic.
//! `WORKSPACE_FUZZ_RUNS` is the number of inputs for each target, `WORKSPACE_FUZZ_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says by what input it can be repeated"
)]

use std::path::PathBuf;

use http::{Method, Request};
use workspace_proxy::classify::{EncodedSlash, Routes, Target, check_path, classify};
use workspace_proxy::config::{Settings, Sources};
use workspace_proxy::host::{Host, HostPort};
use workspace_proxy::policy::{Question, decide};
use workspace_proxy::rules::path;

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

struct Mutator {
    random: fastrand::Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    fn new(target: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        assert!(!corpus.is_empty(), "no corpus for {target}");
        let seed = number("WORKSPACE_FUZZ_SEED").unwrap_or(SEED);
        eprintln!("{target}: WORKSPACE_FUZZ_SEED={seed}");
        Self { random: fastrand::Rng::with_seed(seed), corpus }
    }

    /// Runs a check on every file of the corpus, and on mutations of them.
    fn run(mut self, check: impl Fn(&str)) {
        for input in &self.corpus {
            check(&String::from_utf8_lossy(input));
        }
        let runs = number("WORKSPACE_FUZZ_RUNS").map_or(RUNS, |runs| runs.try_into().unwrap());
        for _ in 0..runs {
            let input = self.next();
            check(&String::from_utf8_lossy(&input));
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

/// What was accepted is canonical: it parses to itself, and no resolver reads it as a number.
fn is_canonical(at: &HostPort, input: &str) {
    let text = at.to_string();
    assert_eq!(HostPort::parse_authority(&text, None).as_ref(), Ok(at), "{input:?}");
    assert_eq!(text, text.to_ascii_lowercase(), "{input:?}");
    assert!(at.port != 0, "{input:?}");
    if let Some(name) = at.host.name() {
        let last = name.rsplit('.').next().unwrap();
        let digits = last.strip_prefix("0x").unwrap_or(last);
        assert!(!digits.is_empty() || last != "0x", "{input:?}");
        assert!(!last.bytes().all(|b| b.is_ascii_digit()), "{input:?}");
        assert!(name.len() <= 253 && !name.ends_with('.'), "{input:?}");
        assert!(!name.contains(['@', ':', '/', '%', '[', ' ']), "{input:?}");
    }
}

#[test]
fn targets() {
    let methods = [Method::GET, Method::CONNECT, Method::POST];
    Mutator::new("targets").run(|input| {
        for default in [None, Some(443)] {
            if let Ok(at) = HostPort::parse_authority(input, default) {
                is_canonical(&at, input);
            }
        }
        if let Ok(host) = Host::parse(input) {
            assert_eq!(Host::parse(&host.to_string()), Ok(host), "{input:?}");
        }
        for method in &methods {
            let request = Request::builder().method(method).uri(input).header("host", "a.test");
            let Ok(request) = request.body(()) else { continue };
            match classify(&request.into_parts().0, Routes::default()) {
                Ok(Target::Connect(at)) => is_canonical(&at, input),
                Ok(Target::Forward(forward)) => {
                    is_canonical(&forward.at, input);
                    assert!(forward.origin_form.starts_with('/'), "{input:?}");
                }
                Ok(Target::Mcp(_) | Target::Bedrock(_)) | Err(_) => {}
            }
        }
    });
}

/// One reading of a path that a server may have: escapes decoded once, parameters cut, backslashes
/// taken for slashes, dot segments resolved.
fn leaves_its_place(path: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    let text: String = decoded.iter().copied().map(char::from).collect();
    let text = text.replace('\\', "/");
    text.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

#[test]
fn paths() {
    Mutator::new("paths").run(|input| {
        if check_path(input, EncodedSlash::Refused).is_ok() {
            assert!(!leaves_its_place(input), "{input:?}");
        }
        if path::check(input).is_ok() {
            assert!(!leaves_its_place(input), "{input:?}");
            let same = check_path(input, EncodedSlash::Refused).is_ok();
            assert!(same, "the two checks of paths differ about {input:?}");
        }
    });
}

#[test]
fn policy_files() {
    let hosts = ["unrelated.invalid:443", "10.0.0.1:443", "[::1]:80", "a.example:443"];
    let asked: Vec<HostPort> =
        hosts.iter().map(|text| HostPort::parse_authority(text, None).unwrap()).collect();
    Mutator::new("policy").run(|input| {
        let Ok(settings) = Settings::compile(&Sources::default(), Some(input)) else { return };
        for at in &asked {
            let Ok(permit) = decide(&settings.policy, &Question::tunnel(at)) else { continue };
            // What passes was named: no mutation turns a narrow rule into one for everything.
            let report = permit.would_deny().is_some();
            let owner = at.host.to_string();
            let lower = input.to_ascii_lowercase();
            let named = owner.rsplit('.').take(2).all(|label| lower.contains(label));
            assert!(report || named || at.host.is_ip(), "{owner} passes by {input:?}");
        }
    });
}
