use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// 1994-11-06T08:49:37Z.
const NOON: i64 = 784_111_777;
const NOON_TEXT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn state(tag: Option<&str>, modified: i64) -> State {
    State { tag: tag.map(|tag| Tag::parse(tag).unwrap()), modified }
}

fn judge(fields: &[(&str, &str)], access: Access, state: Option<&State>) -> Verdict {
    Preconditions::parse(&headers(fields)).unwrap().judge(access, state)
}

#[test]
fn each_condition_alone_decides_as_the_standard_says() {
    use Access::{Read, Write};
    use Verdict::{Failed, NotModified, Proceed};
    let file = state(Some("\"a\""), NOON);
    let directory = state(None, NOON);
    let (file, directory) = (Some(&file), Some(&directory));
    for (field, value, access, state, expected) in [
        ("if-match", "\"a\"", Write, file, Proceed),
        ("if-match", "\"b\", \"a\"", Read, file, Proceed),
        ("if-match", "\"b\"", Read, file, Failed),
        ("if-match", "W/\"a\"", Write, file, Failed),
        ("if-match", "*", Write, file, Proceed),
        ("if-match", "*", Write, directory, Proceed),
        ("if-match", "*", Write, None, Failed),
        ("if-match", "\"a\"", Write, None, Failed),
        ("if-match", "\"a\"", Write, directory, Failed),
        ("if-none-match", "\"a\"", Read, file, NotModified),
        ("if-none-match", "W/\"a\"", Read, file, NotModified),
        ("if-none-match", "\"b\"", Read, file, Proceed),
        ("if-none-match", "\"a\"", Write, file, Failed),
        ("if-none-match", "*", Write, file, Failed),
        ("if-none-match", "*", Write, None, Proceed),
        ("if-none-match", "*", Read, file, NotModified),
        ("if-unmodified-since", NOON_TEXT, Write, file, Proceed),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT", Write, file, Failed),
        ("if-unmodified-since", "yesterday", Write, file, Proceed),
        ("if-unmodified-since", NOON_TEXT, Write, None, Proceed),
        ("if-modified-since", NOON_TEXT, Read, file, NotModified),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT", Read, file, Proceed),
        ("if-modified-since", "yesterday", Read, file, Proceed),
        ("if-modified-since", NOON_TEXT, Write, file, Proceed),
    ] {
        assert_eq!(
            judge(&[(field, value)], access, state),
            expected,
            "{field}: {value} {access:?}"
        );
    }
}

#[test]
fn tags_win_over_dates_and_the_first_failure_over_what_comes_after() {
    let file = state(Some("\"a\""), NOON);
    let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
    let of = |fields: &[(&str, &str)]| judge(fields, Access::Read, Some(&file));
    assert_eq!(of(&[("if-match", "\"a\""), ("if-unmodified-since", earlier)]), Verdict::Proceed);
    assert_eq!(
        of(&[("if-none-match", "\"b\""), ("if-modified-since", NOON_TEXT)]),
        Verdict::Proceed
    );
    assert_eq!(of(&[("if-match", "\"b\""), ("if-none-match", "\"a\"")]), Verdict::Failed);
    assert_eq!(of(&[("if-match", "\"a\""), ("if-none-match", "\"a\"")]), Verdict::NotModified);
    assert_eq!(
        of(&[("if-unmodified-since", earlier), ("if-none-match", "\"a\"")]),
        Verdict::Failed
    );
}

#[test]
fn several_lines_are_one_list_and_what_is_no_list_is_refused() {
    let file = state(Some("\"c,d\""), NOON);
    let lines = [("if-match", "\"a\", ,\"b\""), ("if-match", "\"c,d\"")];
    assert_eq!(judge(&lines, Access::Write, Some(&file)), Verdict::Proceed);
    for bad in ["", "a", "\"a", "a\"", "\"a\" \"b\"", "*, \"a\"", "w/\"a\"", "\"a b\"", "\"a\"x"] {
        let refused = Preconditions::parse(&headers(&[("if-match", bad)])).unwrap_err();
        assert!(refused.to_string().contains("if-match"), "{bad}: {refused}");
    }
}

#[test]
fn if_range_wants_exactly_this_state() {
    let file = state(Some("\"a\""), NOON);
    let later = FileTime { seconds: NOON + 1, nanoseconds: 0 };
    let same = FileTime { seconds: NOON, nanoseconds: 5 };
    for (value, now, expected) in [
        ("\"a\"", same, true),
        ("\"b\"", later, false),
        ("W/\"a\"", later, false),
        (NOON_TEXT, later, true),
        (NOON_TEXT, same, false),
        ("Sun, 06 Nov 1994 08:49:38 GMT", later, false),
        ("nonsense", later, false),
    ] {
        assert_eq!(range_is_of(&headers(&[("if-range", value)]), &file, now), expected, "{value}");
    }
    assert!(range_is_of(&headers(&[]), &file, later));
}

proptest! {
    #[test]
    fn any_value_is_a_list_or_refused_and_never_a_panic(value in "[ -~\u{e9}\t]{0,40}") {
        let headers = headers(&[("if-match", value.trim())]);
        let _either = Preconditions::parse(&headers);
    }

    #[test]
    fn a_list_that_was_written_is_read_as_it_was(
        tags in proptest::collection::vec(("[!#-~]{0,8}", any::<bool>()), 1..5),
    ) {
        let written = tags.iter().map(|(opaque, weak)| {
            format!("{}\"{opaque}\"", if *weak { "W/" } else { "" })
        });
        let value = written.collect::<Vec<_>>().join(" , ");
        let expected =
            tags.into_iter().map(|(opaque, weak)| Tag { opaque, weak }).collect::<Vec<_>>();
        prop_assert_eq!(parse_tags(&value), Some(Tags::Listed(expected)));
    }
}
