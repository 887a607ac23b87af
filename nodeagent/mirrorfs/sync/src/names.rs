//! A directory's names on one copy: listed without our own folder and the excluded paths, counted, and led to inodes.

use std::os::fd::{AsFd, OwnedFd};

use mirrorfs_fs::exclude::{EXCLUDED, Exclude, PLAIN};
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::sys::getdents;
use mirrorfs_fs::tree::{HIDDEN, Tree, proc_path};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::wire;

/// Bytes read from a directory at once.
const BUFFER: usize = 64 << 10;
/// Fields of a `linux_dirent64` before its name.
const FIXED: usize = 19;

/// Reads a directory name by name. Where it stopped it can go on, also after names came and went.
pub struct Listing {
    fd: OwnedFd,
    root: bool,
    place: u16,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl Listing {
    /// Of the directory behind `directory` (`O_PATH` will do), which bears `id`.
    ///
    /// # Errors
    /// What opening says; `NOTDIR` for anything else.
    pub fn open(tree: &Tree, exclude: &Exclude, directory: &OwnedFd, id: FileId) -> Result<Listing, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
        let place = place(tree, exclude, &fd)?;
        Ok(Listing { fd, root: id == FileId::ROOT, place, buffer: vec![0; BUFFER], at: 0, end: 0 })
    }

    /// Goes on behind the name whose `cookie` this is; 0: from the beginning.
    ///
    /// # Errors
    /// What `lseek(2)` says.
    pub fn seek(&mut self, cookie: u64) -> Result<(), Errno> {
        (self.at, self.end) = (0, 0);
        rustix::fs::seek(&self.fd, SeekFrom::Start(cookie)).map(drop)
    }

    /// The next name and its cookie.
    ///
    /// # Errors
    /// What `getdents64(2)` says.
    pub fn next(&mut self, exclude: &Exclude) -> Result<Option<(Vec<u8>, u64)>, Errno> {
        loop {
            if self.at >= self.end {
                self.end = getdents(self.fd.as_fd(), &mut self.buffer)?;
                self.at = 0;
                if self.end == 0 {
                    return Ok(None);
                }
            }
            let record = &self.buffer[self.at..self.end];
            let long = |at: usize| record[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
            let length = usize::from(u16::from_le_bytes([record[16], record[17]])).max(FIXED);
            let cookie = long(8);
            let name = record[FIXED..length.min(record.len())].split(|byte| *byte == 0).next().unwrap_or_default();
            self.at += length;
            let ours = self.root && name == HIDDEN.as_bytes();
            if !matches!(name, b"" | b"." | b"..") && !ours && exclude.child(self.place, name) != EXCLUDED {
                return Ok(Some((name.to_vec(), cookie)));
            }
        }
    }

    /// The directory itself.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// Where a directory lies with regard to the excluded paths.
///
/// # Errors
/// What reading its path says.
pub fn place(tree: &Tree, exclude: &Exclude, directory: &OwnedFd) -> Result<u16, Errno> {
    if exclude.root() == PLAIN {
        return Ok(PLAIN);
    }
    let path =
        |fd: &OwnedFd| rustix::fs::readlink(proc_path(fd.as_fd()), Vec::new()).map(std::ffi::CString::into_bytes);
    let (root, path) = (path(tree.root())?, path(directory)?);
    let below = path.strip_prefix(&root[..]).unwrap_or_default();
    let names = below.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    Ok(names.fold(exclude.root(), |place, name| exclude.child(place, name)))
}

/// How many names, and a sum over them that does not depend on their order: equal on two copies, equal names.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census {
    pub count: u64,
    pub sum: u128,
}

impl Census {
    pub fn add(&mut self, name: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(wire::digest(name)));
    }

    /// Of a whole directory.
    ///
    /// # Errors
    /// What reading it says.
    pub fn take(listing: &mut Listing, exclude: &Exclude) -> Result<Census, Errno> {
        let mut census = Census::default();
        listing.seek(0)?;
        while let Some((name, _)) = listing.next(exclude)? {
            census.add(&name);
        }
        Ok(census)
    }
}
