//! The wire form of operations: little-endian fields, lengths before bytes, bulk data last.
//!
//! Data comes last so that a sender hands it to the socket from where the kernel put it, without a copy.
//! `decode` believes nothing: every length has a bound, every name is checked, and nothing may be left over.

use crate::id::FileId;
use crate::op::{Birth, Changes, DATA_MAX, Entry, NAME_MAX, Op, TARGET_MAX, Time, XATTR_MAX};

/// Why bytes are no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    UnknownKind(u8),
    Truncated,
    TooLong,
    BadName,
    BadId,
    BadFlag,
    Surplus,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Malformed::UnknownKind(kind) => {
                write!(f, "operation of unknown kind {kind}: does the peer run a newer version?")
            }
            Malformed::Truncated => f.write_str("operation ends in the middle of a field"),
            Malformed::TooLong => f.write_str("operation with a field beyond its bound"),
            Malformed::BadName => f.write_str("operation with a name that no directory entry can have"),
            Malformed::BadId => f.write_str("operation with an empty file id"),
            Malformed::BadFlag => f.write_str("operation with a flag that is neither 0 nor 1"),
            Malformed::Surplus => f.write_str("operation followed by surplus bytes"),
        }
    }
}

impl std::error::Error for Malformed {}

const CREATE: u8 = 1;
const TMPFILE: u8 = 2;
const DISCARD: u8 = 3;
const LINK: u8 = 4;
const UNLINK: u8 = 5;
const RENAME: u8 = 6;
const WRITE: u8 = 7;
const SETATTR: u8 = 8;
const ALLOCATE: u8 = 9;
const COPY: u8 = 10;
const SETXATTR: u8 = 11;
const REMOVEXATTR: u8 = 12;
const SYNC: u8 = 13;
const ADOPT: u8 = 14;

/// Appends the operation to `out` and returns the bulk data that belongs behind it.
pub fn encode<'a>(op: &Op<'a>, out: &mut Vec<u8>) -> &'a [u8] {
    let mut w = Writer(out);
    match *op {
        Op::Create { entry, birth, rdev, target } => {
            w.u8(CREATE).entry(entry).birth(birth).u32(rdev);
            return target;
        }
        Op::Tmpfile { parent, birth } => w.u8(TMPFILE).id(parent).birth(birth),
        Op::Discard { id } => w.u8(DISCARD).id(id),
        Op::Link { id, entry, time } => w.u8(LINK).id(id).entry(entry).time(time),
        Op::Unlink { id, entry, directory, time } => w.u8(UNLINK).id(id).entry(entry).u8(directory.into()).time(time),
        Op::Rename { id, from, to, replaced, flags, time } => {
            w.u8(RENAME).id(id).entry(from).entry(to).option(replaced, Writer::id).u32(flags).time(time)
        }
        Op::Write { id, offset, time, data } => {
            w.u8(WRITE).id(id).u64(offset).time(time);
            return data;
        }
        Op::SetAttr { id, changes, time } => w.u8(SETATTR).id(id).changes(&changes).time(time),
        Op::Allocate { id, mode, offset, length, time } => {
            w.u8(ALLOCATE).id(id).u32(mode).u64(offset).u64(length).time(time)
        }
        Op::Copy { from, from_offset, to, to_offset, length, time } => {
            w.u8(COPY).id(from).u64(from_offset).id(to).u64(to_offset).u64(length).time(time)
        }
        Op::SetXattr { id, flags, name, value } => {
            w.u8(SETXATTR).id(id).u32(flags).name(name);
            return value;
        }
        Op::RemoveXattr { id, name } => w.u8(REMOVEXATTR).id(id).name(name),
        Op::Sync { id, data_only } => w.u8(SYNC).id(id).u8(data_only.into()),
        Op::Adopt { id, entry } => w.u8(ADOPT).id(id).entry(entry),
    };
    &[]
}

/// Reads one operation that fills `bytes` exactly.
///
/// # Errors
/// `Malformed`, in which case nothing of it may be carried out.
pub fn decode(bytes: &[u8]) -> Result<Op<'_>, Malformed> {
    let mut r = Reader(bytes);
    let op = match r.u8()? {
        CREATE => {
            let (entry, birth, rdev) = (r.entry()?, r.birth()?, r.u32()?);
            Op::Create { entry, birth, rdev, target: r.rest(TARGET_MAX)? }
        }
        TMPFILE => Op::Tmpfile { parent: r.id()?, birth: r.birth()? },
        DISCARD => Op::Discard { id: r.id()? },
        LINK => Op::Link { id: r.id()?, entry: r.entry()?, time: r.time()? },
        UNLINK => Op::Unlink { id: r.id()?, entry: r.entry()?, directory: r.flag()?, time: r.time()? },
        RENAME => Op::Rename {
            id: r.id()?,
            from: r.entry()?,
            to: r.entry()?,
            replaced: r.option(Reader::id)?,
            flags: r.u32()?,
            time: r.time()?,
        },
        WRITE => Op::Write { id: r.id()?, offset: r.u64()?, time: r.time()?, data: r.rest(DATA_MAX)? },
        SETATTR => Op::SetAttr { id: r.id()?, changes: r.changes()?, time: r.time()? },
        ALLOCATE => Op::Allocate { id: r.id()?, mode: r.u32()?, offset: r.u64()?, length: r.u64()?, time: r.time()? },
        COPY => Op::Copy {
            from: r.id()?,
            from_offset: r.u64()?,
            to: r.id()?,
            to_offset: r.u64()?,
            length: r.u64()?,
            time: r.time()?,
        },
        SETXATTR => Op::SetXattr { id: r.id()?, flags: r.u32()?, name: r.name()?, value: r.rest(XATTR_MAX)? },
        REMOVEXATTR => Op::RemoveXattr { id: r.id()?, name: r.name()? },
        SYNC => Op::Sync { id: r.id()?, data_only: r.flag()? },
        ADOPT => Op::Adopt { id: r.id()?, entry: r.entry()? },
        kind => return Err(Malformed::UnknownKind(kind)),
    };
    if r.0.is_empty() { Ok(op) } else { Err(Malformed::Surplus) }
}

struct Writer<'v>(&'v mut Vec<u8>);

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    fn id(&mut self, id: FileId) -> &mut Self {
        self.bytes(&id.to_bytes())
    }
    fn time(&mut self, time: Time) -> &mut Self {
        self.bytes(&time.sec.to_le_bytes()).u32(time.nsec)
    }
    /// The kernel bounds names (255) and attribute names (255) before they come here.
    fn name(&mut self, name: &[u8]) -> &mut Self {
        self.u8(name.len() as u8).bytes(name)
    }
    fn entry(&mut self, entry: Entry<'_>) -> &mut Self {
        self.id(entry.parent).name(entry.name)
    }
    fn birth(&mut self, birth: Birth) -> &mut Self {
        self.id(birth.id).u32(birth.mode).u32(birth.uid).u32(birth.gid).time(birth.time)
    }
    fn option<T>(&mut self, value: Option<T>, put: impl Fn(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                put(self, value)
            }
        }
    }
    fn changes(&mut self, changes: &Changes) -> &mut Self {
        self.option(changes.mode, Self::u32)
            .option(changes.uid, Self::u32)
            .option(changes.gid, Self::u32)
            .option(changes.size, Self::u64)
            .option(changes.atime, Self::time)
            .option(changes.mtime, Self::time)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.0
            .split_first_chunk::<N>()
            .map(|(head, tail)| {
                self.0 = tail;
                *head
            })
            .ok_or(Malformed::Truncated)
    }
    fn rest(&mut self, bound: usize) -> Result<&'a [u8], Malformed> {
        if self.0.len() > bound {
            return Err(Malformed::TooLong);
        }
        self.take(self.0.len())
    }
    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }
    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::BadFlag),
        }
    }
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
    fn id(&mut self) -> Result<FileId, Malformed> {
        FileId::from_bytes(&self.array::<16>()?).ok_or(Malformed::BadId)
    }
    fn time(&mut self) -> Result<Time, Malformed> {
        Ok(Time { sec: self.array().map(i64::from_le_bytes)?, nsec: self.u32()? })
    }
    fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u8()?);
        let name = self.take(length)?;
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
            return Err(Malformed::BadName);
        }
        Ok(name)
    }
    fn entry(&mut self) -> Result<Entry<'a>, Malformed> {
        let (parent, name) = (self.id()?, self.name()?);
        // A path in a name would lead out of the directory: the one thing a hostile peer would try first.
        if name.contains(&b'/') || name == b"." || name == b".." {
            return Err(Malformed::BadName);
        }
        Ok(Entry { parent, name })
    }
    fn birth(&mut self) -> Result<Birth, Malformed> {
        Ok(Birth { id: self.id()?, mode: self.u32()?, uid: self.u32()?, gid: self.u32()?, time: self.time()? })
    }
    fn option<T>(&mut self, get: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        Ok(if self.flag()? { Some(get(self)?) } else { None })
    }
    fn changes(&mut self) -> Result<Changes, Malformed> {
        Ok(Changes {
            mode: self.option(Self::u32)?,
            uid: self.option(Self::u32)?,
            gid: self.option(Self::u32)?,
            size: self.option(Self::u64)?,
            atime: self.option(Self::time)?,
            mtime: self.option(Self::time)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Op<'static>> {
        let id = FileId(0x1234_5678_9abc_def0_1122);
        let (time, entry) = (Time { sec: -5, nsec: 999_999_999 }, Entry { parent: FileId::ROOT, name: b"n \xff\n" });
        let birth = Birth { id, mode: 0o100_644, uid: 7, gid: 8, time };
        let changes = Changes { mode: Some(0o755), size: Some(u64::MAX), mtime: Some(time), ..Changes::default() };
        vec![
            Op::Create { entry, birth, rdev: 3, target: b"../away" },
            Op::Tmpfile { parent: id, birth },
            Op::Discard { id },
            Op::Link { id, entry, time },
            Op::Unlink { id, entry, directory: true, time },
            Op::Rename { id, from: entry, to: entry, replaced: Some(id), flags: 2, time },
            Op::Write { id, offset: 1 << 40, time, data: b"data" },
            Op::SetAttr { id, changes, time },
            Op::Allocate { id, mode: 3, offset: 1, length: 2, time },
            Op::Copy { from: id, from_offset: 1, to: FileId::ROOT, to_offset: 2, length: 3, time },
            Op::SetXattr { id, flags: 1, name: b"user.a", value: b"v" },
            Op::RemoveXattr { id, name: b"user.a" },
            Op::Sync { id, data_only: true },
            Op::Adopt { id, entry },
        ]
    }

    fn whole(op: &Op<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let tail = encode(op, &mut bytes);
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn every_operation_survives_the_wire() {
        for op in samples() {
            assert_eq!(decode(&whole(&op)), Ok(op));
        }
    }

    #[test]
    fn a_cut_operation_is_never_taken_for_a_whole_one_with_fixed_fields() {
        for op in samples() {
            let bytes = whole(&op);
            for cut in 0..bytes.len() {
                match decode(&bytes[..cut]) {
                    Err(_) => {}
                    // Bulk data has no length of its own: the frame's does that, under its checksum.
                    Ok(short) => assert_eq!(short.kind(), op.kind()),
                }
            }
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b".."[..], b".", b"a/b", b"a\0b", b""] {
            let op = Op::Adopt { id: FileId(2), entry: Entry { parent: FileId::ROOT, name } };
            assert_eq!(decode(&whole(&op)), Err(Malformed::BadName), "{name:?}");
        }
    }

    #[test]
    fn surplus_and_oversized_operations_are_refused() {
        let mut bytes = whole(&Op::Discard { id: FileId(2) });
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(Malformed::Surplus));
        let data = vec![0; DATA_MAX + 1];
        let op = Op::Write { id: FileId(2), offset: 0, time: Time::default(), data: &data };
        assert_eq!(decode(&whole(&op)), Err(Malformed::TooLong));
        assert_eq!(decode(&[200]), Err(Malformed::UnknownKind(200)));
    }

    /// Any bytes at all: no panic, and what is accepted encodes back to the same bytes.
    #[test]
    fn random_bytes_are_refused_or_mean_one_thing() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for base in samples() {
            let original = whole(&base);
            for _ in 0..20_000 {
                let mut bytes = original.clone();
                for _ in 0..=next() % 4 {
                    let at = next() as usize % bytes.len();
                    bytes[at] = next() as u8;
                }
                if let Ok(op) = decode(&bytes) {
                    assert_eq!(whole(&op), bytes);
                }
            }
        }
    }
}
