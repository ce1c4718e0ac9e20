//! The keys that detach, Ctrl-P Ctrl-Q, found in what is typed. Pure.

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// Watches what is typed. A Ctrl-P is held back until the next key says what it was.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    held: bool,
}

/// What became of some input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// For the command.
    pub(super) bytes: Vec<u8>,
    /// The keys were hit after it; what came after them is for nobody.
    pub(super) detach: bool,
}

impl DetachKeys {
    /// Takes the next input.
    pub(super) fn take(&mut self, input: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for &byte in input {
            let held = std::mem::replace(&mut self.held, byte == CTRL_P);
            if held && byte == CTRL_Q {
                typed.detach = true;
                break;
            }
            if held {
                typed.bytes.push(CTRL_P);
            }
            if byte != CTRL_P {
                typed.bytes.push(byte);
            }
        }
        typed
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn typed(pieces: &[&[u8]]) -> Typed {
        let mut keys = DetachKeys::default();
        let mut all = Typed::default();
        for piece in pieces {
            let next = keys.take(piece);
            all.bytes.extend(next.bytes);
            all.detach |= next.detach;
            if all.detach {
                break;
            }
        }
        all
    }

    #[test]
    fn only_the_two_keys_one_after_the_other_detach() {
        for (pieces, bytes, detach) in [
            (&[&b"ls\r"[..]][..], &b"ls\r"[..], false),
            (&[b"a\x10\x11b"], b"a", true),
            (&[b"\x10", b"\x11"], b"", true),
            (&[b"\x10\x10\x11"], b"\x10", true),
            (&[b"\x10x\x11"], b"\x10x\x11", false),
            (&[b"\x11\x10"], b"\x11", false),
            (&[b"\x10", b"", b"a"], b"\x10a", false),
        ] {
            assert_eq!(typed(pieces), Typed { bytes: bytes.to_vec(), detach }, "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            input in vec(prop_oneof![Just(CTRL_P), Just(CTRL_Q), any::<u8>()], 0..40), at: usize,
        ) {
            let (before, after) = input.split_at(at % (input.len() + 1));
            prop_assert_eq!(typed(&[&input]), typed(&[before, after]));
        }
    }
}
