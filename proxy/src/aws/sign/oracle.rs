//! A second signer, written from the AWS documentation ("Create a signed AWS API request") and
//! independent of the crate in use, HMAC (RFC 2104) included. It judges a finished request as AWS
//! would: from the wire form alone, with only the secret known beforehand.

use sha2::{Digest as _, Sha256};

/// The signature that a request should carry. `headers` are all headers as sent, `signed` the names
/// from its `Authorization`, `scope` is `date/region/service/aws4_request`.
pub(super) struct Received<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: Vec<(String, String)>,
    pub(super) signed: Vec<&'a str>,
    pub(super) payload_hash: &'a str,
    pub(super) scope: &'a str,
}

impl Received<'_> {
    pub(super) fn signature(&self, secret: &str) -> String {
        let canonical = self.canonical_request();
        let time = self.header("x-amz-date");
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{time}\n{}\n{}", self.scope, hash(canonical.as_bytes()));
        let key = self
            .scope
            .split('/')
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        hex(&hmac(&key, to_sign.as_bytes()))
    }

    fn canonical_request(&self) -> String {
        let s3 = self.scope.contains("/s3/");
        let path =
            if s3 { encode(&decode(self.path), true) } else { encode(self.path.as_bytes(), true) };
        let mut query: Vec<(String, String)> = self
            .query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (canonical_part(name), canonical_part(value)))
            .collect();
        query.sort();
        let query: Vec<String> =
            query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers: String =
            self.signed.iter().map(|name| format!("{name}:{}\n", self.header(name))).collect();
        let parts = [
            self.method,
            &path,
            &query.join("&"),
            &headers,
            &self.signed.join(";"),
            self.payload_hash,
        ];
        parts.join("\n")
    }

    fn header(&self, name: &str) -> String {
        let values: Vec<String> = self
            .headers
            .iter()
            .filter(|(present, _)| present == name)
            .map(|(_, value)| {
                value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
            })
            .collect();
        values.join(",")
    }
}

fn canonical_part(text: &str) -> String {
    encode(&decode(&text.replace('+', " ")), false)
}

fn encode(bytes: &[u8], keep_slash: bool) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b'/' if keep_slash => "/".to_owned(),
            b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            decoded.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
