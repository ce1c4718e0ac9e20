//! What `make build` leaves: static, position-independent, stripped.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use workspace_tests::binaries;

const ET_DYN: u16 = 3;
const PT_INTERP: u32 = 3;
const SHT_SYMTAB: u32 = 2;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// The few fields of an ELF file (64 bit, little endian: both architectures are) that tell.
struct Elf {
    kind: u16,
    machine: u16,
    segments: Vec<u32>,
    sections: Vec<u32>,
}

impl Elf {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit ELF file", path.display());
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let offset = |at: usize| {
            let field = bytes[at..at + 8].try_into().map(u64::from_le_bytes);
            usize::try_from(field.unwrap_or(0)).unwrap_or(0)
        };
        let word = |at: usize| -> Result<u32> {
            let field = bytes.get(at..at + 4).context("a header beyond the end of the file")?;
            Ok(u32::from_le_bytes(field.try_into()?))
        };
        let table = |start: usize, size: u16, count: u16, field: usize| -> Result<Vec<u32>> {
            (0..usize::from(count)).map(|i| word(start + i * usize::from(size) + field)).collect()
        };
        Ok(Self {
            kind: half(16),
            machine: half(18),
            segments: table(offset(32), half(54), half(56), 0)?,
            sections: table(offset(40), half(58), half(60), 4)?,
        })
    }
}

/// The machine that the binaries are for: this one, unless `WORKSPACE_TESTS_ARCH` says another.
fn machine() -> Result<u16> {
    let asked = std::env::var("WORKSPACE_TESTS_ARCH");
    match asked.as_deref().unwrap_or(std::env::consts::ARCH) {
        "x86_64" => Ok(EM_X86_64),
        "aarch64" => Ok(EM_AARCH64),
        other => bail!("no such architecture here: {other}"),
    }
}

#[test]
fn both_binaries_are_static_pie_and_stripped() -> Result<()> {
    for path in [binaries::agent(), binaries::proxy()] {
        let (elf, name) = (Elf::read(&path)?, path.display());
        println!("{name}: {} bytes", fs::metadata(&path)?.len());
        ensure!(elf.machine == machine()?, "{name} is for machine {}", elf.machine);
        ensure!(elf.kind == ET_DYN, "{name} is not position-independent");
        ensure!(!elf.segments.contains(&PT_INTERP), "{name} asks for a dynamic loader");
        ensure!(!elf.sections.contains(&SHT_SYMTAB), "{name} is not stripped");
    }
    Ok(())
}
