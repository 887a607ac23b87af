//! File ids: 112 random bits that name an inode on both machines.
//!
//! A path can be renamed between resolve and use, and inode numbers differ between the two copies; an id does
//! neither. It is kept with the file as a `trusted.*` attribute, which ordinary programs never see.

use rustix::io::Errno;

/// The attribute that holds a file's id on both copies.
pub const ID_XATTR: &str = "trusted.farmstead";

/// The name of an inode, the same on both sides for as long as the file exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u128);

impl FileId {
    /// The root of a replicated directory: known without looking.
    pub const ROOT: FileId = FileId(1);

    /// How many bits an id has. The 16 above them name the replicated directory, where ids of several meet.
    pub const BITS: u32 = 112;

    /// The `st_ino` that programs see. It follows from the id, so it survives a failover.
    pub fn ino(self) -> u64 {
        // 63 bits: some programs keep inode numbers in signed integers.
        (self.0 as u64) & (u64::MAX >> 1)
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// `None` where the bytes are no id.
    pub fn from_bytes(bytes: &[u8]) -> Option<FileId> {
        let id = u128::from_le_bytes(bytes.try_into().ok()?);
        (id != 0 && id >> FileId::BITS == 0).then_some(FileId(id))
    }

    /// A new id from the kernel's random numbers.
    ///
    /// # Errors
    /// What `getrandom(2)` says.
    pub fn random() -> Result<FileId, Errno> {
        loop {
            let mut bytes = [0u8; 16];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            let id = FileId(u128::from_le_bytes(bytes) >> (128 - FileId::BITS));
            // Small inode numbers are the root's and, to many programs, "none".
            if id.ino() > 0xff {
                return Ok(id);
            }
        }
    }
}

impl std::fmt::Debug for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
