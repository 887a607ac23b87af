//! What an inode looks like in one digest: all but its names, and its data where that fits one extent.

use std::os::fd::{AsFd, OwnedFd};

use mirrorfs_fs::id::FileId;
use mirrorfs_fs::tree::{Tree, proc_path};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::extents::{self, EXTENT};
use crate::meta::Meta;
use crate::wire::{self, Digest};

/// Whether the data of an inode is part of what it looks like; of a larger file it is compared extent by extent.
pub fn is_small(meta: &Meta) -> bool {
    meta.kind() == FileType::RegularFile && meta.size <= EXTENT
}

/// Opens the data of the regular file behind an `O_PATH` descriptor.
///
/// # Errors
/// What opening says.
pub fn reopen(fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(proc_path(fd.as_fd()), flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// What the inode is like, its digest, and how many bytes of data were read for that.
///
/// # Errors
/// What reading says.
pub fn sight(tree: &Tree, fd: &OwnedFd, id: FileId) -> Result<(Meta, Digest, u64), Errno> {
    let meta = Meta::of(tree, fd.as_fd(), id)?;
    let mut digest = meta.digest();
    let mut read = 0;
    if is_small(&meta) && meta.size > 0 {
        let (data, bytes) = extents::digests(reopen(fd, OFlags::RDONLY)?.as_fd(), 0, 1, meta.size)?;
        read = bytes;
        digest = wire::digest(&[digest, data[0]].concat());
    }
    Ok((meta, digest, read))
}
