//! All of an inode but its data and names: type, owner, mode, size, time, device, link target, extended attributes, ACLs.
//!
//! Read on one side, compared by digest, applied on the other: what is equal already is left alone.

use std::os::fd::{AsFd, BorrowedFd};

use mirrorfs_fs::id::{FileId, ID_XATTR};
use mirrorfs_fs::op::{TARGET_MAX, Time, XATTR_MAX};
use mirrorfs_fs::tree::{Tree, proc_path, set_mode, set_times, statx};
use rustix::fs::{AtFlags, FileType, Statx, XattrFlags};
use rustix::io::Errno;

use crate::wire::{self, Digest, Malformed, Reader, Writer};

/// Attributes beyond this many bytes in all don't travel: no file system that we know keeps as many.
const XATTRS_MAX: usize = 512 << 10;

/// Name and value.
type Xattr = (Vec<u8>, Vec<u8>);

/// What both copies must agree on, apart from names and data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a regular file, else 0.
    pub size: u64,
    pub mtime: Time,
    /// Of a device, else 0.
    pub rdev: u64,
    /// Of a symbolic link, else empty.
    pub target: Vec<u8>,
    /// Sorted by name; without our own.
    pub xattrs: Vec<Xattr>,
}

impl Meta {
    /// Of the inode behind `fd` (`O_PATH` will do), a modification time that is not yet set included.
    ///
    /// # Errors
    /// What reading says; `TOOBIG` for more extended attributes than travel.
    pub fn of(tree: &Tree, fd: BorrowedFd<'_>, id: FileId) -> Result<Meta, Errno> {
        let stat = tree.attributes(fd, id)?;
        let kind = kind(&stat);
        let target = match kind {
            FileType::Symlink => rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        Ok(Meta {
            mode: u32::from(stat.stx_mode),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: if kind == FileType::RegularFile { stat.stx_size } else { 0 },
            mtime: Time { sec: stat.stx_mtime.tv_sec, nsec: stat.stx_mtime.tv_nsec },
            rdev: match kind {
                FileType::BlockDevice | FileType::CharacterDevice => {
                    rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor)
                }
                _ => 0,
            },
            target,
            xattrs: xattrs(fd)?,
        })
    }

    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Equal digests, equal attributes.
    pub fn digest(&self) -> Digest {
        let mut bytes = Writer::default();
        self.write(&mut bytes);
        wire::digest(&bytes.0)
    }

    pub fn write(&self, to: &mut Writer) {
        to.u32(self.mode).u32(self.uid).u32(self.gid).u64(self.size).time(self.mtime).u64(self.rdev);
        to.long(&self.target).u16(self.xattrs.len() as u16);
        for (name, value) in &self.xattrs {
            to.name(name).long(value);
        }
    }

    /// # Errors
    /// `Malformed`.
    pub fn read(from: &mut Reader<'_>) -> Result<Meta, Malformed> {
        let (mode, uid, gid, size) = (from.u32()?, from.u32()?, from.u32()?, from.u64()?);
        let (mtime, rdev, target) = (from.time()?, from.u64()?, from.long()?.to_vec());
        if target.len() > TARGET_MAX || mtime.nsec >= 1_000_000_000 {
            return Err(Malformed("an attribute beyond its bound"));
        }
        let count = from.u16()?;
        let mut one = || Ok((from.name()?.to_vec(), from.long()?.to_vec()));
        let xattrs = (0..count).map(|_| one()).collect::<Result<_, _>>()?;
        Ok(Meta { mode, uid, gid, size, mtime, rdev, target, xattrs })
    }

    /// Makes the inode behind `fd` be like this, but for type, device, link target and data. The size is the caller's too.
    ///
    /// # Errors
    /// What setting one says.
    pub fn apply(&self, tree: &Tree, fd: BorrowedFd<'_>, id: FileId) -> Result<(), Errno> {
        let stat = statx(fd)?;
        // The owner first: a change of owner takes set-user-id and capabilities away.
        if (stat.stx_uid, stat.stx_gid) != (self.uid, self.gid) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(self.uid), rustix::fs::Gid::from_raw(self.gid));
            rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        self.apply_xattrs(fd)?;
        // After the ACL, which changes the mode's bits.
        if self.kind() != FileType::Symlink && u32::from(statx(fd)?.stx_mode) != self.mode {
            set_mode(fd, self.mode)?;
        }
        tree.late.forget(id);
        set_times(fd, None, Some(self.mtime))
    }

    fn apply_xattrs(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let path = proc_path(fd);
        let there = xattrs(fd)?;
        for (name, _) in there.iter().filter(|(name, _)| !self.xattrs.iter().any(|(other, _)| other == name)) {
            rustix::fs::removexattr(&path, &name[..])?;
        }
        for (name, value) in self.xattrs.iter().filter(|pair| !there.contains(pair)) {
            rustix::fs::setxattr(&path, &name[..], value, XattrFlags::empty())?;
        }
        Ok(())
    }
}

fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let path = proc_path(fd.as_fd());
    let mut small = [0; 1024];
    let names = match rustix::fs::listxattr(&path, &mut small[..]) {
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut names = vec![0; XATTR_MAX];
            let length = rustix::fs::listxattr(&path, &mut names[..])?;
            names.truncate(length);
            names
        }
        // A file system without any.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut xattrs = Vec::new();
    let mut total = 0;
    // XFS lists each ACL a second time, in its own form.
    let ours = |name: &[u8]| name == ID_XATTR.as_bytes() || name.starts_with(b"trusted.SGI_ACL_");
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !ours(name)) {
        let mut value = vec![0; XATTR_MAX];
        match rustix::fs::getxattr(&path, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // Taken away since it was listed.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        }
        total += name.len() + value.len();
        xattrs.push((name.to_vec(), value));
    }
    if total > XATTRS_MAX {
        return Err(Errno::TOOBIG);
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}
