//! Where each file id is found: a hash table on disk from id to file handle, next to the data it describes.
//!
//! A hint, not the truth: the truth is the attribute on the file itself, checked whenever an entry is used. So a torn
//! or lost page costs a search, never a wrong file. Extendible hashing in 4 KiB pages: it grows by one page at a
//! time (no pause to rebuild), starts by reading page headers (no walk of the tree), and keeps 4 bytes a page in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{PoisonError, RwLock};

use rustix::io::Errno;

use crate::id::FileId;
use crate::sys::{HANDLE_MAX, Handle};

const PAGE: usize = 4096;
const HEADER: usize = 16;
const SLOT: usize = 16 + 2 + HANDLE_MAX;
const SLOTS: usize = (PAGE - HEADER) / SLOT;
const MAGIC: u32 = 0x4653_4931; // "FSI1"
const DEPTH_MAX: u8 = 28;

/// The table. Every method may be called from any thread.
pub struct Index {
    file: File,
    directory: RwLock<Directory>,
    lost: bool,
}

/// Which page holds the ids that end in which bits.
struct Directory {
    depth: u8,
    pages: Vec<u32>,
    used: u32,
}

/// One page in memory.
struct Page {
    depth: u8,
    /// The low `depth` bits that all ids in here share.
    suffix: u32,
    slots: Vec<(FileId, Handle)>,
}

impl Index {
    /// Opens the table in `file`, or starts one where the file is empty.
    ///
    /// # Errors
    /// What reading and writing the file says.
    pub fn open(file: File) -> std::io::Result<Index> {
        let count = u32::try_from(file.metadata()?.len() / PAGE as u64).unwrap_or(u32::MAX);
        let mut headers = Vec::new();
        for number in 0..count {
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, u64::from(number) * PAGE as u64)?;
            if let Some((depth, suffix, _)) = parse_header(&header) {
                headers.push((depth, suffix, number));
            }
        }
        let mut directory = Directory { depth: 0, pages: vec![u32::MAX], used: count };
        // Deeper pages last: after a crash in the middle of a split the new half counts.
        headers.sort_unstable();
        for (depth, suffix, number) in headers {
            while directory.depth < depth {
                directory.double();
            }
            directory.point(depth, suffix, number);
        }
        let lost = count > 0 && directory.pages.contains(&u32::MAX);
        let index = Index { file, directory: RwLock::new(directory), lost };
        index.fill_gaps()?;
        Ok(index)
    }

    /// Whether a page was lost when the table was opened, and ids of any age with it: their files are there, and are found again
    /// by their names.
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// Every suffix needs a page: lost ones are replaced by empty ones.
    fn fill_gaps(&self) -> std::io::Result<()> {
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        for at in 0..directory.pages.len() {
            if directory.pages[at] == u32::MAX {
                let (depth, number) = (directory.depth, directory.used);
                self.write(number, &Page { depth, suffix: at as u32, slots: Vec::new() })?;
                directory.used += 1;
                directory.pages[at] = number;
            }
        }
        Ok(())
    }

    /// The handle recorded for `id`.
    ///
    /// # Errors
    /// What reading the table says.
    pub fn get(&self, id: FileId) -> Result<Option<Handle>, Errno> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; PAGE];
        self.file.read_exact_at(&mut bytes, offset(directory.page_of(id))).map_err(errno)?;
        Ok(slots(&bytes).find(|slot| slot[..16] == id.to_bytes()).map(parse_handle))
    }

    /// Records `handle` for `id`, instead of what was there.
    ///
    /// # Errors
    /// What reading and writing the table says.
    pub fn insert(&self, id: FileId, handle: Handle) -> Result<(), Errno> {
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        loop {
            let number = directory.page_of(id);
            let mut page = self.read(number).map_err(errno)?;
            page.slots.retain(|(other, _)| *other != id);
            if page.slots.len() < SLOTS || page.depth >= DEPTH_MAX {
                page.slots.truncate(SLOTS - 1);
                page.slots.push((id, handle));
                return self.write(number, &page).map_err(errno);
            }
            self.split(&mut directory, number, page).map_err(errno)?;
        }
    }

    /// Forgets `id`.
    ///
    /// # Errors
    /// What reading and writing the table says.
    pub fn remove(&self, id: FileId) -> Result<(), Errno> {
        let directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        let number = directory.page_of(id);
        let mut page = self.read(number).map_err(errno)?;
        let before = page.slots.len();
        page.slots.retain(|(other, _)| *other != id);
        if page.slots.len() == before { Ok(()) } else { self.write(number, &page).map_err(errno) }
    }

    fn split(&self, directory: &mut Directory, number: u32, page: Page) -> std::io::Result<()> {
        let bit = 1u32 << page.depth;
        let (high, low): (Vec<_>, Vec<_>) = page.slots.into_iter().partition(|(id, _)| hash(*id) & bit != 0);
        let depth = page.depth + 1;
        let fresh = directory.used;
        // The new half first: a crash in between leaves its entries in both, and both say the same.
        self.write(fresh, &Page { depth, suffix: page.suffix | bit, slots: high })?;
        self.write(number, &Page { depth, suffix: page.suffix, slots: low })?;
        directory.used += 1;
        while directory.depth < depth {
            directory.double();
        }
        directory.point(depth, page.suffix | bit, fresh);
        Ok(())
    }

    fn read(&self, number: u32) -> std::io::Result<Page> {
        let mut bytes = [0; PAGE];
        self.file.read_exact_at(&mut bytes, offset(number))?;
        let (depth, suffix, _) =
            parse_header(&bytes).ok_or_else(|| std::io::Error::other("index page without a header"))?;
        let slots =
            slots(&bytes).filter_map(|slot| Some((FileId::from_bytes(&slot[..16])?, parse_handle(slot)))).collect();
        Ok(Page { depth, suffix, slots })
    }

    fn write(&self, number: u32, page: &Page) -> std::io::Result<()> {
        let mut bytes = [0; PAGE];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&page.suffix.to_le_bytes());
        bytes[8] = page.depth;
        bytes[10..12].copy_from_slice(&(page.slots.len() as u16).to_le_bytes());
        for (slot, (id, handle)) in bytes[HEADER..].chunks_exact_mut(SLOT).zip(&page.slots) {
            slot[..16].copy_from_slice(&id.to_bytes());
            slot[16] = handle.kind;
            slot[17] = handle.len;
            slot[18..].copy_from_slice(&handle.bytes);
        }
        self.file.write_all_at(&bytes, offset(number))
    }
}

impl Directory {
    fn page_of(&self, id: FileId) -> u32 {
        self.pages[(hash(id) & ((1 << self.depth) - 1)) as usize]
    }

    fn double(&mut self) {
        self.pages.extend_from_within(..);
        self.depth += 1;
    }

    /// All entries that end in `suffix` (`depth` bits) lead to page `number`.
    fn point(&mut self, depth: u8, suffix: u32, number: u32) {
        for entry in self.pages.iter_mut().skip(suffix as usize).step_by(1 << depth) {
            *entry = number;
        }
    }
}

/// Ids are random, so their bits are the hash.
fn hash(id: FileId) -> u32 {
    (id.0 >> 32) as u32
}

fn offset(number: u32) -> u64 {
    u64::from(number) * PAGE as u64
}

/// Depth, suffix and number of slots, `None` for a page that a crash left without sense.
fn parse_header(bytes: &[u8]) -> Option<(u8, u32, usize)> {
    let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    let (magic, suffix, depth) = (word(0)?, word(4)?, bytes[8]);
    let count = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    let sane = magic == MAGIC && depth <= DEPTH_MAX && u64::from(suffix) < 1 << depth && count <= SLOTS;
    sane.then_some((depth, suffix, count))
}

fn slots(page: &[u8; PAGE]) -> impl Iterator<Item = &[u8]> {
    let count = parse_header(page).map_or(0, |(_, _, count)| count);
    page[HEADER..].chunks_exact(SLOT).take(count)
}

fn parse_handle(slot: &[u8]) -> Handle {
    let mut bytes = [0; HANDLE_MAX];
    bytes.copy_from_slice(&slot[18..18 + HANDLE_MAX]);
    Handle { kind: slot[16], len: slot[17].min(HANDLE_MAX as u8), bytes }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> FileId {
        // Spread over all bits, as random ids are.
        FileId(u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> (128 - FileId::BITS))
    }

    fn handle(n: u32) -> Handle {
        let mut bytes = [0; HANDLE_MAX];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Handle { kind: 1, len: 8, bytes }
    }

    fn check(index: &Index, count: u32) {
        for n in 0..count {
            let expected = (n % 3 != 0).then(|| handle(n * 2));
            assert_eq!(index.get(id(n)).unwrap(), expected, "{n}");
        }
    }

    #[test]
    fn what_was_put_in_is_found_also_after_reopening() {
        let file = tempfile::tempfile().unwrap();
        let index = Index::open(file.try_clone().unwrap()).unwrap();
        let count = 20_000;
        for n in 0..count {
            index.insert(id(n), handle(n)).unwrap();
            index.insert(id(n), handle(n * 2)).unwrap();
        }
        for n in (0..count).step_by(3) {
            index.remove(id(n)).unwrap();
        }
        check(&index, count);
        let index = Index::open(file).unwrap();
        check(&index, count);
        assert!(!index.has_lost());
    }

    #[test]
    fn a_torn_page_loses_its_entries_and_no_others() {
        let file = tempfile::tempfile().unwrap();
        let index = Index::open(file.try_clone().unwrap()).unwrap();
        for n in 0..5_000 {
            index.insert(id(n), handle(n)).unwrap();
        }
        file.write_all_at(&[0; PAGE], offset(7)).unwrap();
        let index = Index::open(file).unwrap();
        assert!(index.has_lost());
        let found = (0..5_000).filter(|n| index.get(id(*n)).unwrap() == Some(handle(*n))).count();
        assert!((5_000 - SLOTS..5_000).contains(&found), "{found}");
        for n in 0..5_000 {
            index.insert(id(n), handle(n)).unwrap();
        }
        assert!((0..5_000).all(|n| index.get(id(n)).unwrap() == Some(handle(n))));
    }
}
