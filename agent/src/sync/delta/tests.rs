use std::{fs, io::Read, path::Path};

use proptest::prelude::*;

use super::{chunker::cut, step::Head, wire::*, *};
use crate::{
    files::{Root, WorkspacePath, metadata::FileTime},
    sync::{
        archive::{ArchiveFault, Member, MemberKind, ReadError, Report, writer::ArchiveWriter},
        unpack::{Purpose, Removals, UnpackError, Unpacking, unpack},
    },
};

/// Content without repetitions that is the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn chunks(content: impl Read) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    cut(content, |chunk| {
        chunks.push(chunk);
        Ok(())
    })
    .unwrap();
    chunks
}

fn signature(content: &[u8]) -> Signature {
    let modified = FileTime { seconds: 5, nanoseconds: 6 };
    let size = content.len() as u64;
    Signature { chunks: chunks(content), size, mode: 0o640, modified }
}

/// Gives at most a few bytes at a time, as a slow source does.
struct Dribble<'c>(&'c [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(10_007);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn chunks_are_all_of_the_content_whatever_pieces_it_comes_in() {
    for length in [0, 1, 100_000, 1 << 20, 9_000_000, 20_000_000] {
        let content = noise(length, 1);
        let found = chunks(content.as_slice());
        assert_eq!(found, chunks(Dribble(&content)), "{length}");
        let mut rest = content.as_slice();
        for chunk in &found {
            let (first, behind) = rest.split_at(chunk.length as usize);
            assert_eq!(ContentHash::of(first), chunk.hash);
            rest = behind;
        }
        assert!(rest.is_empty(), "{} of {length} are in no chunk", rest.len());
        assert!(found.iter().all(|chunk| chunk.length as usize <= chunker::MAX_CHUNK));
    }
}

#[test]
fn an_insertion_costs_the_chunks_around_it() {
    let old = noise(30_000_000, 2);
    for at in [0, 1, 15_000_001, 29_999_999] {
        let mut new = old.clone();
        new.insert(at, 7);
        let delta = Delta::between(signature(&new), &chunks(old.as_slice()));
        let sent = delta.source.size - delta.spared();
        assert!(sent <= 3 * chunker::MAX_CHUNK as u64, "{sent} bytes are sent for one at {at}");
        assert_eq!(delta.spared(), spared(&delta.source.chunks, &chunks(old.as_slice())));
    }
}

/// The archive of one file as a delta.
fn archive(delta: &Delta, content: &[u8], size: u64) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new());
    let kind = MemberKind::Delta { size, encoded: delta.encoded() };
    let modified = delta.source.modified;
    writer.append(&Member { path: b"f".to_vec(), kind, mode: 0o640, modified }).unwrap();
    let mut rest = content;
    for step in &delta.steps {
        let (chunk, behind) = rest.split_at(step.chunk.length as usize);
        rest = behind;
        let mut head = Vec::new();
        step.write(&mut head);
        writer.write_content(&head).unwrap();
        if step.from.is_none() {
            writer.write_content(chunk).unwrap();
        }
    }
    writer.pad(delta.encoded()).unwrap();
    writer.finish().unwrap()
}

fn apply(directory: &Path, archive: &[u8]) -> Result<Report, UnpackError> {
    let root = Root::open(directory).unwrap();
    let how = Unpacking::of(Purpose::Mirror(Removals::Ignore));
    unpack(&root, how, archive, &mut |_| {}).map(|unpacked| unpacked.report)
}

/// A directory with the file `f`.
fn with_file(content: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), content).unwrap();
    directory
}

#[test]
fn a_delta_makes_the_new_file_of_the_old_one() {
    let old = noise(5_000_000, 3);
    let new = [&b"in front"[..], &old[..2_000_000], &noise(300_000, 4), &old[1_000_000..]].concat();
    let delta = Delta::between(signature(&new), &chunks(old.as_slice()));
    let directory = with_file(&old);
    let report = apply(directory.path(), &archive(&delta, &new, new.len() as u64)).unwrap();
    assert!(fs::read(directory.path().join("f")).unwrap() == new, "it is another file");
    assert_eq!(report.bytes + report.spared, new.len() as u64);
    assert!(report.spared == delta.spared() && report.spared > 4_000_000, "{report:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn an_old_file_that_was_changed_stays_as_it_is_and_is_named() {
    let old = noise(3_000_000, 5);
    let mut new = old.clone();
    new[1_500_000] ^= 1;
    let delta = Delta::between(signature(&new), &chunks(old.as_slice()));
    let bytes = archive(&delta, &new, new.len() as u64);
    let mut other = old.clone();
    other[2_900_000] ^= 1;
    for changed in [other.as_slice(), &old[..2_999_999], b""] {
        let directory = with_file(changed);
        let report = apply(directory.path(), &bytes).unwrap();
        assert_eq!((report.stale.as_slice(), report.files), (&["f".to_owned()][..], 0));
        assert!(fs::read(directory.path().join("f")).unwrap() == changed, "it was touched");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(apply(empty.path(), &bytes).unwrap().stale, ["f"]);
    // What is sent and is not what it says does not fit either.
    let mut damaged = bytes.clone();
    let sent = damaged.windows(64).position(|w| w == &new[1_500_000..1_500_064]).unwrap();
    damaged[sent] ^= 1;
    assert_eq!(apply(with_file(&old).path(), &damaged).unwrap().stale, ["f"]);
}

#[test]
fn a_delta_that_makes_no_file_of_its_size_is_refused() {
    let old = noise(1_000_000, 6);
    let delta = Delta::between(signature(&old), &chunks(old.as_slice()));
    for size in [0, 999_999, 1_000_001, u64::MAX] {
        let error = apply(with_file(&old).path(), &archive(&delta, &old, size)).unwrap_err();
        let UnpackError::Archive(ReadError::Refused { fault, .. }) = &error else {
            panic!("{error}")
        };
        assert!(matches!(fault, ArchiveFault::BadDelta), "{error}");
    }
}

#[test]
fn a_list_is_read_back_and_a_cut_or_odd_one_refused() {
    let written = chunks(noise(3_000_000, 7).as_slice());
    let mut writer = ChunkWriter::new(Vec::new());
    for chunk in &written {
        writer.append(*chunk).unwrap();
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(read_chunks(bytes.as_slice()).unwrap(), written);
    for end in 0..bytes.len() {
        read_chunks(&bytes[..end]).unwrap_err();
    }
    let hash = ContentHash::of(b"");
    for odd in [
        format!("{{\"length\":0,\"blake3\":\"{hash}\"}}"),
        format!("{{\"length\":1048577,\"blake3\":\"{hash}\"}}"),
        format!("{{\"length\":1,\"blake3\":\"{hash}\",\"chunks\":1}}"),
        format!("{{\"blake3\":\"{hash}\"}}"),
        "{\"length\":1}".to_owned(),
        "{\"chunks\":1}".to_owned(),
        "{\"chunks\":0,\"more\":1}".to_owned(),
        "x".to_owned(),
    ] {
        let error = read_chunks(format!("{odd}\n").as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("line 1 of the list"), "{odd}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_edit_arrives(
        edits in proptest::collection::vec((0_usize..2_000_000, 0_usize..300_000, 0_usize..300_000), 0..4),
        seed in any::<u64>(),
    ) {
        let old = noise(1_500_000, seed);
        let mut new = old.clone();
        for (at, gone, come) in edits {
            let at = at.min(new.len());
            let end = (at + gone).min(new.len());
            new.splice(at..end, noise(come, seed ^ 1));
        }
        let delta = Delta::between(signature(&new), &chunks(old.as_slice()));
        let directory = with_file(&old);
        let report = apply(directory.path(), &archive(&delta, &new, new.len() as u64)).unwrap();
        prop_assert!(fs::read(directory.path().join("f")).unwrap() == new);
        prop_assert_eq!(report.bytes + report.spared, new.len() as u64);
    }

    #[test]
    fn any_bytes_are_read_as_a_delta_or_refused_and_the_old_file_is_whole_or_replaced(
        mut content in proptest::collection::vec(any::<u8>(), 0..400), size in 0_u64..2000,
    ) {
        // Bytes at random are seldom a step.
        if let Some(kind) = content.first_mut() {
            *kind %= 2;
        }
        if let Some(length) = content.get_mut(1..4) {
            length.fill(0);
        }
        let mut writer = ArchiveWriter::new(Vec::new());
        let kind = MemberKind::Delta { size, encoded: content.len() as u64 };
        let modified = FileTime { seconds: 1, nanoseconds: 0 };
        writer.append(&Member { path: b"f".to_vec(), kind, mode: 0o644, modified }).unwrap();
        writer.write_content(&content).unwrap();
        writer.pad(content.len() as u64).unwrap();
        let bytes = writer.finish().unwrap();
        let directory = with_file(b"old");
        if apply(directory.path(), &bytes).is_ok_and(|report| report.files == 1) {
            prop_assert_eq!(fs::metadata(directory.path().join("f")).unwrap().len(), size);
        } else {
            prop_assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"old");
        }
        prop_assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn steps_are_read_back(length in 0_u32..2_000_000, from in proptest::option::of(any::<u64>())) {
        let chunk = Chunk { length, hash: ContentHash::of(&length.to_be_bytes()) };
        let mut bytes = Vec::new();
        Step { chunk, from }.write(&mut bytes);
        let head = Head::parse(bytes.first_chunk().unwrap());
        let possible = (1..=1_048_576).contains(&length);
        let expected = match from {
            Some(_) => Head::Known(chunk),
            None => Head::Sent(chunk),
        };
        prop_assert_eq!(head, possible.then_some(expected));
    }
}

#[test]
fn a_file_is_cut_with_what_its_copy_is_given() {
    let directory = with_file(&noise(700_000, 8));
    let root = Root::open(directory.path()).unwrap();
    let path = WorkspacePath::parse(b"f").unwrap();
    let signature = Signature::read(&root, &path).unwrap();
    assert_eq!((signature.size, signature.chunks.len() > 1), (700_000, true));
    let (_, metadata) = signature::open(&root, &path).unwrap();
    assert!(signature.is_of(&metadata));
    fs::write(directory.path().join("f"), "other").unwrap();
    let (_, metadata) = signature::open(&root, &path).unwrap();
    assert!(!signature.is_of(&metadata));
    for other in [&b""[..], b"none", b"f/x"] {
        Signature::read(&root, &WorkspacePath::parse(other).unwrap()).unwrap_err();
    }
}
