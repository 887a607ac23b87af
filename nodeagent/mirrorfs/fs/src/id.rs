//! File ids: 112 random bits that name an inode on both machines.
//!
//! A path can be renamed between resolve and use, and inode numbers differ between the two copies; an id does
//! neither. It is kept with the file as a `trusted.*` attribute, which ordinary programs never see.
//!
//! New ids come in blocks that differ in their lowest bits alone. So whoever sees a file made knows the ids of the next
//! ones, and can note them in the difference log before they are there (`FileId::to_come`).

use std::sync::{Mutex, PoisonError};

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

    /// How many ids share all but their lowest bits. A page of the index has room for three such blocks.
    const BLOCK: u128 = 32;

    /// This id and those after it in its block.
    pub fn to_come(self) -> impl Iterator<Item = FileId> {
        (self.0..(self.0 | (FileId::BLOCK - 1)) + 1).map(FileId)
    }

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

/// Where new files get their ids.
#[derive(Default)]
pub struct NewIds(Mutex<Option<FileId>>);

impl NewIds {
    /// The next id of the block at hand, or the first of a new one.
    ///
    /// # Errors
    /// As `FileId::random`.
    pub fn next(&self) -> Result<FileId, Errno> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match *next {
            Some(id) => id,
            None => FileId(FileId::random()?.0 & !(FileId::BLOCK - 1)),
        };
        *next = id.to_come().nth(1);
        Ok(id)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_come_in_blocks_and_the_first_of_a_block_names_the_others() {
        let ids = NewIds::default();
        let block = FileId::BLOCK as usize;
        let made: Vec<_> = (0..2 * block).map(|_| ids.next().unwrap()).collect();
        for (half, at) in made.chunks(block).zip([0, block]) {
            assert_eq!(half, &made[at].to_come().collect::<Vec<_>>()[..]);
            assert!(half.iter().all(|id| id.ino() > 0xff && FileId::from_bytes(&id.to_bytes()) == Some(*id)));
        }
        assert_ne!(made[0], made[block]);
        assert_eq!(made[block - 1].to_come().count(), 1);
    }
}
