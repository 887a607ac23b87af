//! Bytes of questions, answers and bodies: little-endian, lengths before bytes. The reader believes nothing.

use mirrorfs_fs::id::FileId;
use mirrorfs_fs::op::{NAME_MAX, Time};

/// Bytes that are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed resync message ({}): does the other side run another version?", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Sixteen bytes of BLAKE3: enough that two different things never share one.
pub type Digest = [u8; 16];

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    short(&blake3::hash(bytes))
}

/// The part of a hash that travels.
pub fn short(hash: &blake3::Hash) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}

/// Growing bytes.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn u128(&mut self, value: u128) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn id(&mut self, id: FileId) -> &mut Self {
        self.u128(id.0)
    }
    pub fn time(&mut self, time: Time) -> &mut Self {
        self.bytes(&time.sec.to_le_bytes()).u32(time.nsec)
    }
    /// Names of entries and attributes: the kernel bounds both to 255 bytes.
    pub fn name(&mut self, name: &[u8]) -> &mut Self {
        self.u8(name.len() as u8).bytes(name)
    }
    pub fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32).bytes(bytes)
    }
}

/// Shrinking bytes.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed("it ends in the middle of a field"))?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }
    pub fn digest(&mut self) -> Result<Digest, Malformed> {
        self.array()
    }
    pub fn id(&mut self) -> Result<FileId, Malformed> {
        FileId::from_bytes(&self.array::<16>()?).ok_or(Malformed("an empty file id"))
    }
    pub fn time(&mut self) -> Result<Time, Malformed> {
        Ok(Time { sec: self.array().map(i64::from_le_bytes)?, nsec: self.u32()? })
    }
    pub fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u8()?);
        let name = self.take(length)?;
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
            return Err(Malformed("a name that nothing can have"));
        }
        Ok(name)
    }
    /// The name of an entry: never one that leads elsewhere.
    pub fn entry(&mut self) -> Result<&'a [u8], Malformed> {
        let name = self.name()?;
        if name.contains(&b'/') || name == b"." || name == b".." {
            return Err(Malformed("a name that leads elsewhere"));
        }
        Ok(name)
    }
    pub fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("surplus bytes")) }
    }
}
