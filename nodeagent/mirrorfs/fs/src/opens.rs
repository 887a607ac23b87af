//! Files and directories that applications have open: one descriptor an inode, however often it is opened.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::sys;

const SHARDS: usize = 16;
const LISTING_BUFFER: usize = 32 << 10;

#[derive(Default)]
struct Opened {
    count: u32,
    reader: Option<Arc<OwnedFd>>,
    writer: Option<Arc<OwnedFd>>,
}

/// All open files, by node id.
pub struct Opens {
    shards: Vec<Mutex<HashMap<u64, Opened>>>,
}

impl Default for Opens {
    fn default() -> Self {
        Opens { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }
}

impl Opens {
    /// A descriptor of the file if an application has it open; `writable` where it must take writes.
    pub fn get(&self, nodeid: u64, writable: bool) -> Option<Arc<OwnedFd>> {
        let shard = self.shard(nodeid);
        let opened = shard.get(&nodeid)?;
        opened.writer.as_ref().or(opened.reader.as_ref().filter(|_| !writable)).cloned()
    }

    /// One more open of a file that has a fitting descriptor; false when it has none.
    pub fn again(&self, nodeid: u64, writable: bool) -> bool {
        let mut shard = self.shard(nodeid);
        match shard.get_mut(&nodeid) {
            Some(opened) if opened.writer.is_some() || (!writable && opened.reader.is_some()) => {
                opened.count += 1;
                true
            }
            _ => false,
        }
    }

    /// One more open, with its descriptor. Where another thread was faster, its descriptor stays.
    pub fn add(&self, nodeid: u64, fd: Arc<OwnedFd>, writable: bool) {
        let mut shard = self.shard(nodeid);
        let opened = shard.entry(nodeid).or_default();
        opened.count += 1;
        let place = if writable { &mut opened.writer } else { &mut opened.reader };
        place.get_or_insert(fd);
    }

    /// One open less; the last one returns the descriptor that was used for writing, or else for reading.
    pub fn release(&self, nodeid: u64) -> Option<Arc<OwnedFd>> {
        let mut shard = self.shard(nodeid);
        let opened = shard.get_mut(&nodeid)?;
        opened.count -= 1;
        if opened.count > 0 {
            return None;
        }
        shard.remove(&nodeid).and_then(|opened| opened.writer.or(opened.reader))
    }

    fn shard(&self, nodeid: u64) -> MutexGuard<'_, HashMap<u64, Opened>> {
        lock(&self.shards[(nodeid as usize ^ (nodeid >> 4) as usize) % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that an application reads, at the place where it stands.
pub struct Listing {
    pub fd: Arc<OwnedFd>,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    unread: std::ops::Range<usize>,
    /// The position behind what was handed out last.
    position: u64,
}

/// One entry as the file system below gives it.
pub struct Listed<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    /// The position behind this entry.
    pub next: u64,
}

impl Listing {
    fn new(fd: OwnedFd) -> Listing {
        Listing { fd: Arc::new(fd), buffer: vec![0; LISTING_BUFFER], unread: 0..0, position: 0 }
    }

    /// Goes to `position`, one that an entry gave as `next`, or 0.
    ///
    /// # Errors
    /// What `lseek(2)` says.
    pub fn seek(&mut self, position: u64) -> Result<(), Errno> {
        // A rewind reads anew, or it would show what was there before.
        if position != self.position || position == 0 {
            rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(position))?;
            self.unread = 0..0;
            self.position = position;
        }
        Ok(())
    }

    /// The next entry, which stays the next until `consume`.
    ///
    /// # Errors
    /// What `getdents64(2)` says.
    pub fn peek(&mut self) -> Result<Option<Listed<'_>>, Errno> {
        if self.unread.is_empty() {
            let length = sys::getdents(std::os::fd::AsFd::as_fd(&*self.fd), &mut self.buffer)?;
            self.unread = 0..length;
            if length == 0 {
                return Ok(None);
            }
        }
        let record = &self.buffer[self.unread.clone()];
        let next = u64::from_ne_bytes(record.get(8..16).and_then(|b| b.try_into().ok()).ok_or(Errno::IO)?);
        let length = usize::from(u16::from_ne_bytes([record[16], record[17]]));
        let name = record.get(19..length).ok_or(Errno::IO)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Some(Listed { name, kind: record[18], next }))
    }

    /// Steps over the entry that `peek` showed.
    pub fn consume(&mut self) {
        let record = &self.buffer[self.unread.clone()];
        if record.len() >= 18 {
            let next: [u8; 8] = record[8..16].try_into().unwrap_or_default();
            self.position = u64::from_ne_bytes(next);
            self.unread.start += usize::from(u16::from_ne_bytes([record[16], record[17]]));
        }
    }
}

/// All open directories, by the number that the kernel got for each open.
#[derive(Default)]
pub struct Listings {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Mutex<Listing>>>>,
}

impl Listings {
    pub fn add(&self, fd: OwnedFd) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.open).insert(number, Arc::new(Mutex::new(Listing::new(fd))));
        number
    }

    /// # Errors
    /// `BADF` for a number that is not open.
    pub fn get(&self, number: u64) -> Result<Arc<Mutex<Listing>>, Errno> {
        lock(&self.open).get(&number).cloned().ok_or(Errno::BADF)
    }

    pub fn release(&self, number: u64) {
        lock(&self.open).remove(&number);
    }
}
