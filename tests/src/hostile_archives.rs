//! Archives that want to write where they may not, or more than there is room for, each with the
//! answer that it has to get.

use crate::tar::{BLOCK, DIRECTORY, FILE, HARD_LINK, LINK, Member, archive, unfinished, zstd_bomb};

/// One archive, pushed as it is.
#[derive(Debug)]
pub struct Attack {
    /// What it tries.
    pub what: &'static str,
    /// The body of the push.
    pub body: Vec<u8>,
    /// The coding of the body, where it has one.
    pub coding: Option<&'static str>,
    /// Status and code of the refusal.
    pub refusal: (u16, &'static str),
}

impl Attack {
    fn new(what: &'static str, members: &[Member]) -> Self {
        Self { what, body: archive(members), coding: None, refusal: (400, "bad_archive") }
    }

    fn refused_with(self, status: u16, code: &'static str) -> Self {
        Self { refusal: (status, code), ..self }
    }
}

/// All of them. `outside` is an absolute path next to the root.
pub fn attacks(outside: &str) -> Vec<Attack> {
    [names(outside), links(outside), kinds(), sizes(), extensions(outside), bombs()]
        .into_iter()
        .flatten()
        .collect()
}

fn names(outside: &str) -> Vec<Attack> {
    let file = |name: &str| [Member::file(name, "hostile")];
    vec![
        Attack::new("an absolute name", &file(outside)),
        Attack::new("a name that climbs", &file("../escaped")),
        Attack::new("a name that climbs later", &file("a/../../escaped")),
        Attack::new("a directory that climbs", &[Member::new(DIRECTORY, "../escaped/")]),
        Attack::new("the name of an unfinished write", &file(".workspace-tmp-0123456789abcdef")),
        Attack::new("a name twice", &[file("twice"), file("./twice")].concat()),
        Attack::new(
            "a file and a directory of one name",
            &[Member::file("one", "x"), Member::new(DIRECTORY, "one/")],
        ),
        Attack::new("the top as a file", &file(".")),
        Attack::new("a file in a file", &[file("a"), file("a/b")].concat())
            .refused_with(409, "not_a_directory"),
    ]
}

fn links(outside: &str) -> Vec<Attack> {
    let through = |target: &str| [Member::link("l", target), Member::file("l/escaped", "hostile")];
    let again = [Member::link("l", "x"), Member::link("l", outside)];
    vec![
        Attack::new("through a link that climbs", &through("..")).refused_with(409, "is_a_link"),
        Attack::new("through an absolute link", &through("/tmp")).refused_with(409, "is_a_link"),
        Attack::new("through a link to the inside", &through(".")).refused_with(409, "is_a_link"),
        Attack::new("through a link that was there", &[Member::file("there/escaped", "hostile")])
            .refused_with(409, "is_a_link"),
        Attack::new("a link twice", &again),
        Attack::new("a hard link out", &[Member::new(HARD_LINK, "h").field(157, b"../target")]),
        Attack::new(
            "a hard link to a link out",
            &[Member::link("l", outside), Member::new(HARD_LINK, "h").field(157, b"l")],
        ),
        Attack::new("a link to nowhere", &[Member::new(LINK, "l")]),
        Attack::new("a link with content", &[Member::link("l", "x").content("content")]),
    ]
}

fn kinds() -> Vec<Attack> {
    let kind = |kind: u8| [Member::new(kind, "special").field(329, b"0000001\x000000003\0")];
    vec![
        Attack::new("a character device", &kind(b'3')),
        Attack::new("a block device", &kind(b'4')),
        Attack::new("a FIFO", &kind(b'6')),
        Attack::new("an unknown type", &kind(b'Q')),
        Attack::new("a sparse file of GNU's old form", &kind(b'S')),
        Attack::new(
            "a sparse file of GNU's new form",
            &[
                Member::extended(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"1")]),
                Member::file("s", "x"),
            ],
        ),
    ]
}

fn sizes() -> Vec<Attack> {
    let sized = |what, member: Member| Attack::new(what, &[member]);
    let binary = |size| Member::new(FILE, "f").binary_size(size);
    vec![
        sized("a size of 2^63", binary(1 << 63)),
        sized("a size of 2^64 - 512", binary((1 << 64) - 512)),
        sized("a size beyond 2^64", binary((1 << 64) + 7)),
        sized("a size beyond what is binary", binary(u128::MAX >> 32)),
        sized("a negative size", Member::new(FILE, "f").size(&[0xff; 12])),
        sized("a size with a sign", Member::file("f", "x").size(b"+0000000001\0")),
        sized("a size with a minus", Member::file("f", "x").size(b"-0000000001\0")),
        sized("a size that is no number", Member::file("f", "x").size(b"0000000008x\0")),
        sized("no size", Member::file("f", "x").size(&[0; 12])),
        sized("the largest size in digits", Member::new(FILE, "f").size(b"777777777777"))
            .refused_with(400, "archive_cut"),
        sized("a size of 2^62", binary(1 << 62)).refused_with(400, "archive_cut"),
        sized("a directory with content", Member::new(DIRECTORY, "d").content("content")),
    ]
}

fn extensions(outside: &str) -> Vec<Attack> {
    let over = |key, value: &[u8]| {
        [Member::extended(&[(key, value)]), Member::file("harmless", "hostile")]
    };
    let long = "n".repeat(256);
    let deep = "n/".repeat(2500);
    let two =
        |what, first: Member| Attack::new(what, &[first, Member::file("harmless", "hostile")]);
    vec![
        Attack::new("an extended name that climbs", &over("path", b"../escaped")),
        Attack::new("an extended name that is absolute", &over("path", outside.as_bytes())),
        Attack::new("an extended name with a NUL byte", &over("path", b"a\0b")),
        Attack::new("an extended name of 256 bytes", &over("path", long.as_bytes())),
        Attack::new("an extended path of 5000 bytes", &over("path", deep.as_bytes())),
        Attack::new("an extended size of 2^63", &over("size", b"9223372036854775808")),
        Attack::new("an extended size beyond 2^64", &over("size", b"18446744073709551617")),
        Attack::new("a negative extended size", &over("size", b"-1")),
        Attack::new("an extended size beyond the content", &over("size", b"4096"))
            .refused_with(400, "archive_cut"),
        Attack::new("an extended time that is none", &over("mtime", b"1e9")),
        two("a name for all members", Member::global(&[("path", b"../escaped")])),
        two("a size for all members", Member::global(&[("size", b"0")])),
        two("a removal that nobody asked for", Member::global(&[("WORKSPACE.removed", b"kept")])),
        two("records that are none", Member::new(b'x', "x").content("99 path=../escaped\n")),
        two("an extended header of 300 KiB", Member::new(b'x', "x").content(vec![b'1'; 300 << 10])),
        two("a long name of 300 KiB", Member::gnu_long_name(vec![b'n'; 300 << 10])),
        two("a long name that climbs", Member::gnu_long_name("../escaped")),
        two("a long name with a NUL byte", Member::gnu_long_name("a\0b")),
        two("a long name of 5000 bytes", Member::gnu_long_name(&deep)),
    ]
}

fn bombs() -> Vec<Attack> {
    let coded = |attack: Attack, body| Attack { body, coding: Some("zstd"), ..attack };
    let cut = |what| Attack::new(what, &[]).refused_with(400, "archive_cut");
    let holes = [
        Member::extended(&[("WORKSPACE.sparse", b"1"), ("size", b"4611686018427387904")]),
        Member::new(FILE, "f"),
    ];
    let mut damaged = archive(&[Member::file("f", "x")]);
    damaged[0] = b'F';
    vec![
        Attack { body: damaged, ..Attack::new("a header with another sum", &[]) },
        Attack { body: vec![0; BLOCK], ..cut("half of an end") },
        Attack { body: unfinished(&[Member::file("f", "x")]), ..cut("no end") },
        Attack { body: vec![b'x'; 100_000], ..Attack::new("no archive at all", &[]) },
        Attack { body: unfinished(&holes), ..cut("holes of 2^62 bytes") },
        coded(cut("a window of 2 GiB"), zstd_bomb(&[0; BLOCK], 1, 31)),
        coded(cut("no zstd"), b"no zstd at all".to_vec()),
        coded(cut("zstd that is cut"), zstd_bomb(&[0; BLOCK], 0, 20)[..20].to_vec()),
    ]
}
