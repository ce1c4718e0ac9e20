//! Mutated inputs against the parsers that face a workspace or an operator: targets, paths, policy
//! files. Each starts from the files of tests/corpus; `workspace_fuzz` says how they are mutated.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{Method, Request};
use workspace_fuzz::Corpus;
use workspace_proxy::classify::{EncodedSlash, Routes, Target, check_path, classify};
use workspace_proxy::config::{Settings, Sources};
use workspace_proxy::host::{Host, HostPort};
use workspace_proxy::policy::{Question, decide};
use workspace_proxy::rules::path;

/// Inputs for each target: about two seconds for all of them.
const RUNS: u64 = 20_000;

/// Pieces that mean something to one of the parsers.
const WORDS: &[&str] = &[
    ".", "..", "/", "//", "\\", "%2e", "%2E", "%2f", "%5c", "%00", "%", "%25", ":", "::", "[", "]",
    "@", "#", "?", ";", "0x", "0", "127.1", "xn--", "-", "_", "*", "**.", "*.", "example", ":443",
    ":0", "\u{0}", "\r\n", "\t", "\u{fc}", "\u{3002}", "&a ", "*a", "- ",
];

fn run(target: &str, check: impl Fn(&str)) {
    let corpus = Corpus::new(env!("CARGO_MANIFEST_DIR"), target, WORDS, RUNS);
    corpus.run(|input| check(&String::from_utf8_lossy(input)));
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
    run("targets", |input| {
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
    run("paths", |input| {
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
    run("policy", |input| {
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
