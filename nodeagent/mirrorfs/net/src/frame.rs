//! The frame: a header of fixed length, then a payload. Version, generation, sequence number and checksum in each.
//!
//! ```text
//!  0        4     5      6       8           12          16            24           32
//!  | "FSMf" | ver | kind | flags | length u32 | crc u32  | generation  | sequence   | payload ...
//! ```
//! Little-endian. The checksum (crc32c) covers the header without itself, and the payload. A frame that is wrong in any
//! way ends the connection: where one length can't be believed, no later one can.

/// Bytes of a header.
pub const HEADER: usize = 32;
/// The longest payload: 1 MiB of data and the operation's own fields.
pub const PAYLOAD_MAX: usize = (1 << 20) + 4096;
/// The version of frames and handshakes.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"FSMf";

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first frame each way: who speaks, and what the connection is for (`hello`).
    Hello,
    /// An operation, to be carried out and answered.
    Operation,
    /// An answer: what became of the operation with this sequence number.
    Answer,
    /// A message of the protocol: beacons and all that is no operation.
    Message,
    /// A piece of a resync, to be answered.
    Piece,
}

/// A header that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub flags: u16,
    pub generation: u64,
    pub sequence: u64,
    pub length: usize,
    crc: u32,
}

/// Why a frame was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Magic,
    Version(u8),
    Kind(u8),
    Oversized(u32),
    Checksum,
    /// The frame is of a generation that is not spoken here, or fenced.
    Generation {
        expected: u64,
        found: u64,
    },
    /// A frame of this kind has no place in this connection.
    Place,
    /// The payload is not what its kind should be.
    Payload,
    /// The frame's number is not the next one.
    Sequence {
        expected: u64,
        found: u64,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Magic => f.write_str("bytes that begin no frame"),
            Refused::Version(version) => {
                write!(f, "frame of version {version}, ours is {VERSION}: upgrade the older side")
            }
            Refused::Kind(kind) => write!(f, "frame of unknown kind {kind}"),
            Refused::Oversized(length) => write!(f, "frame of {length} bytes, the limit is {PAYLOAD_MAX}"),
            Refused::Checksum => f.write_str("frame whose checksum does not fit: damaged on the way"),
            Refused::Generation { expected, found } => {
                write!(f, "frame of generation {found} where {expected} is spoken")
            }
            Refused::Place => f.write_str("frame of a kind that has no place in this connection"),
            Refused::Payload => f.write_str("frame whose content can't be read: does the peer run a newer version?"),
            Refused::Sequence { expected, found } => write!(f, "frame number {found} where {expected} was due"),
        }
    }
}

impl std::error::Error for Refused {}

/// The header of a frame whose payload is `parts`, one behind the other.
pub fn header(kind: Kind, flags: u16, generation: u64, sequence: u64, parts: &[&[u8]]) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4] = VERSION;
    bytes[5] = match kind {
        Kind::Hello => 1,
        Kind::Operation => 2,
        Kind::Answer => 3,
        Kind::Message => 4,
        Kind::Piece => 5,
    };
    bytes[6..8].copy_from_slice(&flags.to_le_bytes());
    bytes[8..12].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&generation.to_le_bytes());
    bytes[24..32].copy_from_slice(&sequence.to_le_bytes());
    let crc = parts.iter().fold(header_crc(&bytes), |crc, part| crc32c::crc32c_append(crc, part));
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn header_crc(bytes: &[u8; HEADER]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// Reads a header. Its checksum can be told only with the payload: `Header::check`.
///
/// # Errors
/// `Refused`: nothing behind it may be read as a frame.
pub fn parse(bytes: &[u8; HEADER]) -> Result<Header, Refused> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if bytes[0..4] != MAGIC {
        return Err(Refused::Magic);
    }
    if bytes[4] != VERSION {
        return Err(Refused::Version(bytes[4]));
    }
    let kind = match bytes[5] {
        1 => Kind::Hello,
        2 => Kind::Operation,
        3 => Kind::Answer,
        4 => Kind::Message,
        5 => Kind::Piece,
        kind => return Err(Refused::Kind(kind)),
    };
    let length = word(8);
    if length as usize > PAYLOAD_MAX {
        return Err(Refused::Oversized(length));
    }
    let flags = u16::from_le_bytes([bytes[6], bytes[7]]);
    let (generation, sequence) = (long(16), long(24));
    Ok(Header { kind, flags, generation, sequence, length: length as usize, crc: word(12) })
}

impl Header {
    /// Checks header and payload against the checksum.
    ///
    /// # Errors
    /// `Refused::Checksum`.
    pub fn check(&self, bytes: &[u8; HEADER], payload: &[u8]) -> Result<(), Refused> {
        let crc = crc32c::crc32c_append(header_crc(bytes), payload);
        if crc == self.crc { Ok(()) } else { Err(Refused::Checksum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let bytes = header(Kind::Operation, 5, 7, 1 << 40, &[b"one", b"", b"two"]);
        let header = parse(&bytes).unwrap();
        assert_eq!((header.kind, header.flags, header.generation, header.sequence), (Kind::Operation, 5, 7, 1 << 40));
        assert_eq!(header.length, 6);
        header.check(&bytes, b"onetwo").unwrap();
        assert_eq!(header.check(&bytes, b"onetwO"), Err(Refused::Checksum));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header(Kind::Answer, 0, 7, 9, &[b"payload"]);
        for bit in 0..HEADER * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            let verdict = parse(&damaged).and_then(|header| header.check(&damaged, b"payload"));
            assert!(verdict.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_oversized_length_is_refused_before_anything_is_read() {
        let mut bytes = header(Kind::Operation, 0, 1, 1, &[]);
        bytes[8..12].copy_from_slice(&(PAYLOAD_MAX as u32 + 1).to_le_bytes());
        assert_eq!(parse(&bytes), Err(Refused::Oversized(PAYLOAD_MAX as u32 + 1)));
    }
}
