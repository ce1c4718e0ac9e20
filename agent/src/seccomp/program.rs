//! From rules to programs that the kernel runs at every system call.

use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};

use super::{SeccompError, rules};

/// System calls of the x32 ABI have this bit in their number and the machine's ordinary
/// architecture in the filter's eyes: without a check, each rule could be gone around by it.
const X32_BIT: u32 = 0x4000_0000;
/// Where the filter finds the number and the architecture of the call (`struct seccomp_data`).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The whole filter.
///
/// # Errors
/// On a machine that it is not made for.
pub(super) fn build() -> Result<BpfProgram, SeccompError> {
    let machine = Machine::this()?;
    let mut program = machine.beginning();
    program.extend(machine.refusals().map_err(SeccompError::Build)?);
    Ok(program)
}

/// The architecture that programs are made for.
struct Machine {
    target: TargetArch,
    /// As in linux/audit.h.
    number: u32,
}

impl Machine {
    fn this() -> Result<Self, SeccompError> {
        let (target, number) = match std::env::consts::ARCH {
            "x86_64" => (TargetArch::x86_64, 0xC000_003E),
            "aarch64" => (TargetArch::aarch64, 0xC000_00B7),
            _ => return Err(SeccompError::UnknownMachine),
        };
        Ok(Self { target, number })
    }

    /// What the library has no words for. Calls by another ABI of the machine (32 bits, x32), whose
    /// numbers mean other calls, are refused like the forbidden ones: the library would kill the
    /// process, and does not know x32. And it knows one answer for all rules, not two.
    fn beginning(&self) -> BpfProgram {
        let mut program = vec![
            load(ARCHITECTURE),
            jump(libc::BPF_JEQ, self.number, Skip { yes: 1, no: 0 }),
            answer(libc::EPERM),
            load(NUMBER),
            jump(libc::BPF_JGE, X32_BIT, Skip { yes: 0, no: 1 }),
            answer(libc::EPERM),
        ];
        for call in rules::ABSENT {
            program.push(jump(libc::BPF_JEQ, call_number(call), Skip { yes: 0, no: 1 }));
            program.push(answer(libc::ENOSYS));
        }
        program
    }

    fn refusals(&self) -> Result<BpfProgram, seccompiler::BackendError> {
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let rules = rules::forbidden()?;
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, self.target)?.try_into()
    }
}

/// Instructions to skip, by the outcome of a comparison.
#[derive(Clone, Copy)]
struct Skip {
    yes: u8,
    no: u8,
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn answer(error: i32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error.unsigned_abs())
}

fn jump(comparison: u32, value: u32, skip: Skip) -> sock_filter {
    let instruction = statement(libc::BPF_JMP | comparison | libc::BPF_K, value);
    sock_filter { jt: skip.yes, jf: skip.no, ..instruction }
}

#[expect(clippy::cast_possible_truncation, reason = "opcodes have eight bits")]
fn statement(code: u32, value: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the kernel numbers its calls from 0 and has some hundreds"
)]
const fn call_number(call: c_long) -> u32 {
    call as u32
}
