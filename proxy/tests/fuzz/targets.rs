//! Destinations and paths, as workspaces write them.

use http::{Method, Request};
use workspace_proxy::classify::{EncodedSlash, Routes, Target, check_path, classify};
use workspace_proxy::host::{Host, HostPort};
use workspace_proxy::rules::path::{self, PathGlobs};

use crate::inputs;

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
    inputs::run("targets", |input| {
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
    inputs::run("paths", |input| {
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

/// The same path with every character escaped that means the same either way.
fn escaped(path: &str) -> String {
    let escape = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '~' => format!("%{:02x}", c as u32),
        other => other.to_string(),
    };
    // What is escaped already stays as it is: an escape is not escaped twice.
    let mut parts = path.split('%');
    let first = parts.next().unwrap_or_default().chars().map(escape).collect::<String>();
    parts.fold(first, |done, part| {
        let (digits, rest) = part.split_at(2);
        format!("{done}%{digits}{}", rest.chars().map(escape).collect::<String>())
    })
}

#[test]
fn spellings_of_a_path() {
    let globs = ["/", "/a/**", "/v1/*/x", "/v1/*", "/A/b-c"].map(str::to_owned);
    let globs = PathGlobs::parse(globs.to_vec()).unwrap();
    inputs::run("paths", |input| {
        if path::check(input).is_err() {
            return;
        }
        let other = escaped(input);
        assert!(path::check(&other).is_ok(), "{input:?} passes and {other:?} does not");
        assert_eq!(globs.matches(input), globs.matches(&other), "{input:?} and {other:?}");
    });
}
