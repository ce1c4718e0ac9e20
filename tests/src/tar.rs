//! Tar archives byte by byte, so that they can be wrong in every way: nothing here is checked, and
//! nothing is made better. And zstd frames that unpack to far more than they are.

/// The unit of the format, in bytes.
pub const BLOCK: usize = 512;

/// A regular file.
pub const FILE: u8 = b'0';
/// A hard link.
pub const HARD_LINK: u8 = b'1';
/// A symbolic link.
pub const LINK: u8 = b'2';
/// A directory.
pub const DIRECTORY: u8 = b'5';

/// One member of an archive, before it is bytes.
#[derive(Debug, Clone)]
pub struct Member {
    header: [u8; BLOCK],
    content: Vec<u8>,
}

impl Member {
    /// A member of this type, with the usual mode and the time 0.
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let member = Self { header: [0; BLOCK], content: Vec::new() };
        let mode = if kind == DIRECTORY { b"0000755\0" } else { b"0000644\0" };
        let member = member.field(0, name.as_ref()).field(100, mode);
        member.field(136, b"00000000000\0").field(156, &[kind]).field(257, b"ustar\x0000").sized()
    }

    /// A file with this content.
    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self::new(FILE, name).content(content)
    }

    /// A symbolic link.
    pub fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(LINK, name).field(157, target.as_ref())
    }

    /// An extended header (POSIX pax) for the member behind it.
    pub fn extended(records: &[(&str, &[u8])]) -> Self {
        Self::new(b'x', "PaxHeaders/entry").content(records.iter().fold(Vec::new(), record))
    }

    /// An extended header for all members behind it.
    pub fn global(records: &[(&str, &[u8])]) -> Self {
        Self::new(b'g', "PaxHeaders/global").content(records.iter().fold(Vec::new(), record))
    }

    /// GNU's form of a name that is too long for the header of the member behind it.
    pub fn gnu_long_name(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'L', "././@LongLink").content([name.as_ref(), b"\0"].concat())
    }

    /// Gives it this content, and says its length in the header.
    #[must_use]
    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = content.as_ref().to_vec();
        self.sized()
    }

    fn sized(self) -> Self {
        let size = format!("{:011o}\0", self.content.len());
        self.size(size.as_bytes())
    }

    /// Writes these bytes for its size, whatever the content.
    #[must_use]
    pub fn size(self, field: &[u8]) -> Self {
        self.field(124, field)
    }

    /// Writes the size as GNU writes what does not fit eleven digits: binary.
    #[must_use]
    pub fn binary_size(self, size: u128) -> Self {
        let bytes = size.to_be_bytes();
        let mut field: [u8; 12] = std::array::from_fn(|at| bytes[at + 4]);
        field[0] |= 0x80;
        self.size(&field)
    }

    /// Writes into the header.
    #[must_use]
    pub fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The header with its sum, the content, and zeros up to the next block.
    pub fn bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&header, self.content.as_slice()].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

fn record(mut block: Vec<u8>, (key, value): &(&str, &[u8])) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| rest + length.to_string().len() == *length);
    block.extend(format!("{} {key}=", length.expect("some length fits")).bytes());
    block.extend_from_slice(value);
    block.push(b'\n');
    block
}

/// These members, without the end.
pub fn unfinished(members: &[Member]) -> Vec<u8> {
    members.iter().flat_map(Member::bytes).collect()
}

/// A whole archive.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut bytes = unfinished(members);
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// Unpacks to at most so much from one block of a frame (RFC 8878, `Block_Maximum_Size`).
const ZSTD_BLOCK: usize = 128 * 1024;

/// A zstd frame that unpacks to these bytes and then so many blocks of 128 KiB of zeros, four bytes
/// for each, and then the end of a tar archive. Its window is two to the power of `window_log`.
pub fn zstd_bomb(start: &[u8], zero_blocks: usize, window_log: u8) -> Vec<u8> {
    let block = |last: bool, kind: u32, size: usize| {
        let head = u32::from(last) | kind << 1 | u32::try_from(size).expect("a small block") << 3;
        head.to_le_bytes()[..3].to_vec()
    };
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    frame.extend(block(false, 0, start.len()));
    frame.extend(start);
    let zeros = [block(false, 1, ZSTD_BLOCK), vec![0]].concat();
    frame.extend(zeros.repeat(zero_blocks));
    frame.extend(block(true, 1, 2 * BLOCK));
    frame.push(0);
    frame
}
