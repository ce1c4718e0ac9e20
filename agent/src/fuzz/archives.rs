//! Tar streams: what is read of one, written again, reads the same.

use std::io::BufRead;

use workspace_fuzz::Corpus;

use crate::{
    files::{WorkspacePath, metadata::PERMISSION_BITS, path::MAX_PATH},
    sync::archive::{
        BLOCK, Member, MemberKind, ReadError, SkipReason,
        reader::{ArchiveReader, Item},
        writer::ArchiveWriter,
    },
};

/// Inputs for the reader alone.
const RUNS: u64 = 20_000;

/// The archives, with sums that are right in every other one: chance would hardly make any.
pub(super) fn corpus(runs: u64) -> Corpus {
    super::corpus("archives", runs).mended_by(mend)
}

/// Gives each header its sum, as far as the sizes in them lead from one to the next.
fn mend(archive: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = String::from_utf8_lossy(&header[124..135]).into_owned();
        let size = usize::from_str_radix(&digits, 8).unwrap_or(0).min(archive.len());
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    archive.extend([0; 2 * BLOCK]);
}

/// What is in an archive, with content, and the fault that ends it, if it has one.
fn read(archive: &[u8]) -> (Vec<(Item, Vec<u8>)>, Option<ReadError>) {
    let mut reader = ArchiveReader::new(archive);
    let mut items = Vec::new();
    let error = loop {
        match reader.next_item() {
            Ok(None) => break None,
            Err(error) => break Some(error),
            Ok(Some(item)) => match content(&mut reader, &item) {
                Ok(bytes) => items.push((item, bytes)),
                Err(error) => break Some(error),
            },
        }
    };
    (items, error)
}

fn content<R: BufRead>(reader: &mut ArchiveReader<R>, item: &Item) -> Result<Vec<u8>, ReadError> {
    let (mut content, mut buffer) = (Vec::new(), [0; 700]);
    loop {
        match reader.read_content(&mut buffer)? {
            0 => break,
            length => content.extend_from_slice(&buffer[..length]),
        }
    }
    if let Item::Member(Member {
        kind:
            MemberKind::File(size) | MemberKind::Sparse(size) | MemberKind::Delta { encoded: size, .. },
        ..
    }) = item
    {
        assert_eq!(content.len() as u64, *size);
    } else {
        assert!(content.is_empty());
    }
    Ok(content)
}

fn written(items: &[(Item, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new());
    for (item, content) in items {
        match item {
            Item::Member(
                member @ Member {
                    kind: MemberKind::File(_) | MemberKind::Sparse(_) | MemberKind::Delta { .. },
                    ..
                },
            ) => {
                writer.append_small_file(member, content).unwrap();
            }
            Item::Member(member) => writer.append(member).unwrap(),
            Item::Skipped(path, reason) => writer.append_skipped(path, *reason).unwrap(),
            Item::Removed(path) => writer.append_removed(path).unwrap(),
            Item::Deferred(path) => writer.append_deferred(path).unwrap(),
        }
    }
    writer.finish().unwrap()
}

/// The same names as unpacking sees them; `None` for what it refuses.
fn judged(items: Vec<(Item, Vec<u8>)>) -> Option<Vec<(Item, Vec<u8>)>> {
    let name = |path: &[u8]| WorkspacePath::parse(path).ok().map(|path| path.as_bytes().to_vec());
    let judge = |item| {
        Some(match item {
            Item::Member(member) => Item::Member(Member { path: name(&member.path)?, ..member }),
            Item::Skipped(path, reason) => Item::Skipped(path, reason),
            Item::Removed(path) => Item::Removed(name(&path)?),
            Item::Deferred(path) => Item::Deferred(name(&path)?),
        })
    };
    items.into_iter().map(|(item, content)| Some((judge(item)?, content))).collect()
}

fn is_bounded(item: &Item, archive: &[u8]) {
    let Item::Member(member) = item else { return };
    assert!(member.mode <= PERMISSION_BITS);
    assert!(member.modified.nanoseconds < 1_000_000_000);
    if let MemberKind::Symlink(target) = &member.kind {
        assert!(!target.is_empty() && target.len() <= MAX_PATH && !target.contains(&0));
    }
    assert!(member.path.len() <= archive.len());
}

#[test]
fn archives() {
    corpus(RUNS).run(|input| {
        let (items, error) = read(input);
        assert!(items.len() * BLOCK <= input.len());
        for (item, content) in &items {
            is_bounded(item, input);
            assert!(content.len() <= input.len());
            if let Item::Skipped(_, reason) = item {
                assert_eq!(SkipReason::parse(reason.as_str().as_bytes()), Some(*reason));
            }
        }
        if error.is_none() {
            // Nothing behind the end is read, and nothing before it may be missing.
            let half = &input[..input.len() - input.len().min(2 * BLOCK)];
            assert!(read(half).0.len() <= items.len());
        }
        let Some(items) = judged(items) else { return };
        let (again, error) = read(&written(&items));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(judged(again), Some(items));
    });
}
