//! The names of signals, as signal(7) has them. Pure.

/// The names of the signals from 1, without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// What the API calls a signal: `SIGKILL`; numbers without a name stay numbers.
pub fn name(number: i32) -> String {
    usize::try_from(number - 1)
        .ok()
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}

/// The number of a signal as [`name`] writes it.
pub fn number(name: &str) -> Option<u8> {
    let Some(short) = name.strip_prefix("SIG") else {
        // `parse` would take a plus, too.
        return name.parse().ok().filter(|_| name.bytes().all(|byte| byte.is_ascii_digit()));
    };
    let index = NAMES.iter().position(|known| *known == short)?;
    u8::try_from(index + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(31), "SIGSYS");
        assert_eq!(name(35), "35");
        for known in [1_u8, 9, 31, 35, 64] {
            assert_eq!(number(&name(i32::from(known))), Some(known));
        }
        for unknown in ["SIGNONE", "KILL", "+9", "-9", "256", ""] {
            assert_eq!(number(unknown), None, "{unknown}");
        }
    }
}
