//! TLS client hellos, byte by byte: good ones, and ones that no library would send.

use serde::Deserialize;

/// What a hello is to look like.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hello {
    /// The server name; none when absent.
    pub sni: Option<String>,
    /// The whole content of the server-name extension in hexadecimal, in place of a proper one.
    pub sni_hex: Option<String>,
    /// How often the server-name extension stands in it, when there is one.
    pub sni_times: Option<usize>,
    /// The length that the padding extension has.
    pub padding: usize,
    /// Whether it has the key share of a post-quantum hybrid.
    pub post_quantum: bool,
    /// Whether it has an encrypted inner hello.
    pub ech: bool,
    /// Over how many records it is spread; one when absent.
    pub records: Option<usize>,
    /// Bytes in one segment on the wire; all at once when absent.
    pub segment: Option<usize>,
    /// What is added to the length that the handshake header states.
    pub lie: i32,
}

const SERVER_NAME: u16 = 0;
const PADDING: u16 = 21;
const KEY_SHARE: u16 = 51;
const ECH: u16 = 0xfe0d;

impl Hello {
    /// The bytes, record headers included.
    pub fn bytes(&self) -> Vec<u8> {
        let handshake = self.handshake();
        let records = self.records.unwrap_or(1).max(1);
        let size = handshake.len().div_ceil(records).min(16_384);
        handshake.chunks(size).flat_map(|part| [&[22, 3, 1], &sized16(part)[..]].concat()).collect()
    }

    fn handshake(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(32);
        body.extend([9; 32]);
        body.extend(sized16(&[0x13, 0x01, 0x13, 0x02, 0xc0, 0x2f]));
        body.extend([1, 0]);
        body.extend(sized16(&self.extensions()));
        let stated = i64::try_from(body.len()).unwrap_or(0) + i64::from(self.lie);
        let stated = u32::try_from(stated).unwrap_or(0).to_be_bytes();
        [&[1, stated[1], stated[2], stated[3]], &body[..]].concat()
    }

    fn extensions(&self) -> Vec<u8> {
        let mut all = extension(43, &[2, 3, 4]);
        let name = match (&self.sni_hex, &self.sni) {
            (Some(hex), _) => Some(unhex(hex)),
            (None, Some(name)) => Some(server_name(name.as_bytes())),
            (None, None) => None,
        };
        for _ in 0..self.sni_times.unwrap_or(1) {
            all.extend(name.iter().flat_map(|name| extension(SERVER_NAME, name)));
        }
        if self.post_quantum {
            // X25519MLKEM768: 1216 bytes of key share.
            all.extend(extension(
                KEY_SHARE,
                &sized16(&[&[0x11, 0xec], &sized16(&[5; 1216])[..]].concat()),
            ));
        }
        if self.ech {
            all.extend(extension(
                ECH,
                &[&[0, 0, 1, 0, 1, 9], &sized16(&[3; 32])[..], &sized16(&[4; 128])].concat(),
            ));
        }
        if self.padding > 0 {
            all.extend(extension(PADDING, &vec![0; self.padding]));
        }
        all
    }
}

/// The content of a server-name extension with one host name.
pub fn server_name(name: &[u8]) -> Vec<u8> {
    sized16(&[&[0], &sized16(name)[..]].concat())
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &sized16(content)[..]].concat()
}

fn sized16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), content].concat()
}

/// Bytes from hexadecimal digits.
///
/// # Panics
/// When they are none.
pub fn unhex(digits: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}
