//! Git's patterns against paths: `*` and `?` stay within a name, `**` between slashes does not, and
//! classes are those of fnmatch(3).
//!
//! Not by globset: that takes braces for alternatives, lets a class match a slash, and knows no
//! `[[:alpha:]]`. As in git, a mismatch says how far it reaches, so that the time does not grow with
//! the number of ways to split a text among stars.

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Match,
    /// Not from here.
    Mismatch,
    /// Not from anywhere in this name: only `**` can go on.
    NotInName,
    /// The text is used up: nothing can go on.
    Never,
}

/// Whether all of `text` is what the pattern says.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    compare(pattern, pattern, text) == Outcome::Match
}

/// Compares from `rest` on, which ends `pattern`.
fn compare(pattern: &[u8], mut rest: &[u8], mut text: &[u8]) -> Outcome {
    while let Some((special, behind)) = rest.split_first() {
        if *special == b'*' {
            return stars(pattern, behind, text, pattern.len() - rest.len());
        }
        let Some((byte, more)) = text.split_first() else { return Outcome::Never };
        let next = match special {
            b'?' => (*byte != b'/').then_some(behind),
            b'[' => match class(behind, *byte) {
                Some((found, behind)) => (found && *byte != b'/').then_some(behind),
                None => return Outcome::Never,
            },
            b'\\' => match behind.split_first() {
                Some((escaped, behind)) => (escaped == byte).then_some(behind),
                None => return Outcome::Mismatch,
            },
            literal => (literal == byte).then_some(behind),
        };
        let Some(next) = next else { return Outcome::Mismatch };
        (rest, text) = (next, more);
    }
    if text.is_empty() { Outcome::Match } else { Outcome::Mismatch }
}

/// Compares from a star on, which stands `at` in the pattern; `rest` is behind it.
fn stars(pattern: &[u8], rest: &[u8], text: &[u8], at: usize) -> Outcome {
    let further = rest.iter().take_while(|byte| **byte == b'*').count();
    let behind = rest.get(further..).unwrap_or_default();
    let begins = at == 0 || pattern.get(at - 1) == Some(&b'/');
    let ends = matches!(behind, [] | [b'/', ..] | [b'\\', b'/', ..]);
    let crosses = further > 0 && begins && ends;
    if crosses
        && let Some(below) = behind.strip_prefix(b"/")
        && compare(below, below, text) == Outcome::Match
    {
        return Outcome::Match;
    }
    let slash = text.iter().position(|byte| *byte == b'/');
    match (behind, slash) {
        ([], Some(_)) if !crosses => Outcome::NotInName,
        ([], _) => Outcome::Match,
        // A star before a slash takes the rest of the name.
        ([b'/', below @ ..], Some(slash)) if !crosses => {
            compare(pattern, below, text.get(slash + 1..).unwrap_or_default())
        }
        ([b'/', ..], None) if !crosses => Outcome::Mismatch,
        _ => anywhere(behind, text, crosses),
    }
}

/// Looks for a place from which the rest of the pattern matches.
fn anywhere(rest: &[u8], mut text: &[u8], crosses: bool) -> Outcome {
    while let Some((byte, more)) = text.split_first() {
        match compare(rest, rest, text) {
            Outcome::Mismatch if !crosses && *byte == b'/' => return Outcome::NotInName,
            Outcome::Mismatch => {}
            Outcome::NotInName if crosses => {}
            outcome => return outcome,
        }
        text = more;
    }
    Outcome::Never
}

/// Whether a class has a byte, and what is behind the class; nothing if it does not end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut rest = if negated { pattern.get(1..)? } else { pattern };
    let (mut found, mut last, mut first) = (false, None, true);
    loop {
        let (member, behind) = rest.split_first()?;
        rest = behind;
        match (member, last, behind) {
            (b']', _, _) if !first => return Some((found != negated, behind)),
            (b'-', Some(low), [high, ..]) if *high != b']' => {
                let (high, behind) = unescaped(behind)?;
                found |= (low..=high).contains(&byte);
                (rest, last) = (behind, None);
            }
            (b'[', _, [b':', ..]) => {
                let (is_it, behind) = named(behind.get(1..)?, byte)?;
                found |= is_it;
                (rest, last) = (behind, None);
            }
            (b'\\', _, _) => {
                let (escaped, behind) = behind.split_first()?;
                found |= *escaped == byte;
                (rest, last) = (behind, Some(*escaped));
            }
            (member, _, _) => {
                found |= *member == byte;
                last = Some(*member);
            }
        }
        first = false;
    }
}

fn unescaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    match rest.split_first()? {
        (b'\\', behind) => behind.split_first().map(|(byte, behind)| (*byte, behind)),
        (byte, behind) => Some((*byte, behind)),
    }
}

/// A class by name, as in `[:alpha:]`, from behind the colon.
fn named(rest: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let end = rest.iter().position(|byte| *byte == b']')?;
    let (name, behind) = (rest.get(..end)?.strip_suffix(b":")?, rest.get(end + 1..)?);
    let found = match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    };
    Some((found, behind))
}
