//! Carrying out a resolved operation on one copy: the same code on the primary and on the secondary.
//!
//! They differ in how ids become descriptors (`Resolve`), and in one rule: the secondary gives a nameless file a
//! hidden name, because nobody holds it open there. An operation that fails has changed nothing, as far as the file
//! system can undo it; what it can't undo is the caller's to report (`Session::diverged`).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;

use crate::id::FileId;
use crate::op::{Birth, Changes, Entry, Op, Time};
use crate::sys;
use crate::tree::{Tree, proc_path, set_mode, set_times, statx};

/// What a descriptor is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Names, attributes: `O_PATH` will do.
    Path,
    Read,
    Write,
}

/// How ids become descriptors on this side.
pub trait Resolve {
    /// The inode that bears `id`.
    ///
    /// # Errors
    /// `STALE` when this copy has none.
    fn inode(&self, id: FileId, access: Access) -> Result<Arc<OwnedFd>, Errno>;

    /// The inode under `name` in `parent`, which must bear `id`.
    ///
    /// # Errors
    /// `STALE` when another inode, or none, stands there: the copies differ.
    fn entry(&self, parent: &OwnedFd, name: &[u8], id: FileId) -> Result<Arc<OwnedFd>, Errno>;

    /// Whether a nameless file needs a hidden name here to stay alive.
    fn hides_nameless(&self) -> bool;
}

/// What the caller wants to know of an operation that was carried out.
#[derive(Default, Debug)]
pub struct Effect {
    /// The inode that was made: open for reading and writing where it is a file.
    pub born: Option<Arc<OwnedFd>>,
    /// The inode that lost its last name.
    pub gone: Option<FileId>,
}

/// Carries out `op` on `tree`.
///
/// # Errors
/// What the file system says; `STALE` when an id is not, or not there, where the operation says.
pub fn perform(tree: &Tree, op: &Op<'_>, resolve: &impl Resolve) -> Result<Effect, Errno> {
    match *op {
        Op::Create { entry, birth, rdev, target } => create(tree, entry, birth, rdev, target, resolve),
        Op::Tmpfile { parent, birth } => tmpfile(tree, parent, birth, resolve),
        Op::Discard { id } => discard(tree, id, resolve),
        Op::Link { id, entry, time } => link(tree, id, entry, time, resolve),
        Op::Unlink { id, entry, directory, time } => unlink(tree, id, entry, directory, time, resolve),
        Op::Rename { id, from, to, replaced, flags, time } => {
            rename(tree, id, from, to, replaced, flags, time, resolve)
        }
        Op::Write { id, offset, time, data } => {
            write_whole(&*resolve.inode(id, Access::Write)?, offset, data)?;
            tree.modified(id, time);
            Ok(Effect::default())
        }
        Op::SetAttr { id, changes, time } => set_attributes(tree, id, &changes, time, resolve),
        Op::Allocate { id, mode, offset, length, time } => {
            let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
            rustix::fs::fallocate(&*resolve.inode(id, Access::Write)?, mode, offset, length)?;
            tree.modified(id, time);
            Ok(Effect::default())
        }
        Op::Copy { from, from_offset, to, to_offset, length, time } => {
            let (from, target) = (resolve.inode(from, Access::Read)?, resolve.inode(to, Access::Write)?);
            copy(&from, from_offset, &target, to_offset, length)?;
            tree.modified(to, time);
            Ok(Effect::default())
        }
        Op::SetXattr { id, flags, name, value } => {
            let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
            let fd = resolve.inode(id, Access::Path)?;
            rustix::fs::setxattr(proc_path(fd.as_fd()), name, value, flags)?;
            Ok(Effect::default())
        }
        Op::RemoveXattr { id, name } => {
            rustix::fs::removexattr(proc_path(resolve.inode(id, Access::Path)?.as_fd()), name)?;
            Ok(Effect::default())
        }
        Op::Sync { id, data_only } => sync(tree, id, data_only, resolve),
        Op::Adopt { id, entry } => {
            let parent = resolve.inode(entry.parent, Access::Path)?;
            let fd = open_entry(&parent, entry.name)?;
            tree.set_id(fd.as_fd(), id)?;
            Ok(Effect::default())
        }
    }
}

/// Opens what stands under a name, itself and not where it may point.
///
/// # Errors
/// What `openat(2)` says.
pub fn open_entry(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn create(
    tree: &Tree,
    entry: Entry<'_>,
    birth: Birth,
    rdev: u32,
    target: &[u8],
    resolve: &impl Resolve,
) -> Result<Effect, Errno> {
    let parent = resolve.inode(entry.parent, Access::Path)?;
    let kind = FileType::from_raw_mode(birth.mode);
    let mode = Mode::from_raw_mode(birth.mode & 0o7777);
    let fd = match kind {
        FileType::RegularFile => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, entry.name, flags, mode)?
        }
        FileType::Directory => {
            rustix::fs::mkdirat(&parent, entry.name, mode)?;
            open_entry(&parent, entry.name)?
        }
        FileType::Symlink => {
            rustix::fs::symlinkat(target, &parent, entry.name)?;
            open_entry(&parent, entry.name)?
        }
        _ => {
            rustix::fs::mknodat(&parent, entry.name, kind, mode, decode_device(rdev))?;
            open_entry(&parent, entry.name)?
        }
    };
    if let Err(errno) = bear(tree, &fd, birth) {
        let flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        // Best effort: what failed is the inode's id (no room for it), and the name was ours a moment ago.
        let _ = rustix::fs::unlinkat(&parent, entry.name, flags);
        return Err(errno);
    }
    tree.modified(entry.parent, birth.time);
    Ok(Effect { born: Some(Arc::new(fd)), gone: None })
}

/// FUSE carries device numbers in the kernel's old 32-bit form.
fn decode_device(rdev: u32) -> u64 {
    rustix::fs::makedev((rdev & 0xfff00) >> 8, rdev & 0xff | (rdev >> 12) & 0xfff00)
}

/// Gives a new inode its id, owner, exact mode and times.
fn bear(tree: &Tree, fd: &OwnedFd, birth: Birth) -> Result<(), Errno> {
    tree.set_id(fd.as_fd(), birth.id)?;
    let stat = statx(fd.as_fd())?;
    if (stat.stx_uid, stat.stx_gid) != (birth.uid, birth.gid) {
        set_owner(fd, Some(birth.uid), Some(birth.gid))?;
    }
    // The process' own umask, and chown, take bits away; a symbolic link has no mode of its own.
    let symlink = FileType::from_raw_mode(birth.mode) == FileType::Symlink;
    if !symlink && u32::from(statx(fd.as_fd())?.stx_mode) != birth.mode {
        set_mode(fd.as_fd(), birth.mode)?;
    }
    set_times(fd.as_fd(), Some(birth.time), Some(birth.time))
}

fn set_owner(fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
}

fn tmpfile(tree: &Tree, parent: FileId, birth: Birth, resolve: &impl Resolve) -> Result<Effect, Errno> {
    // In the parent itself, so that it inherits the same default ACL as with a name.
    let directory = resolve.inode(parent, Access::Path)?;
    let mode = Mode::from_raw_mode(birth.mode & 0o7777);
    let fd = rustix::fs::openat(&directory, ".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode)?;
    bear(tree, &fd, birth)?;
    if resolve.hides_nameless() {
        sys::link_descriptor(fd.as_fd(), tree.limbo(), &hidden_name(birth.id))?;
    }
    Ok(Effect { born: Some(Arc::new(fd)), gone: None })
}

/// The name under which a secondary keeps a nameless file.
fn hidden_name(id: FileId) -> std::ffi::CString {
    // Hexadecimal digits hold no NUL.
    std::ffi::CString::new(id.to_string()).unwrap_or_default()
}

fn discard(tree: &Tree, id: FileId, resolve: &impl Resolve) -> Result<Effect, Errno> {
    if resolve.hides_nameless() {
        rustix::fs::unlinkat(tree.limbo(), hidden_name(id), AtFlags::empty())?;
    }
    tree.index.remove(id)?;
    tree.late.forget(id);
    Ok(Effect { born: None, gone: Some(id) })
}

fn link(tree: &Tree, id: FileId, entry: Entry<'_>, time: Time, resolve: &impl Resolve) -> Result<Effect, Errno> {
    let parent = resolve.inode(entry.parent, Access::Path)?;
    let hidden = if resolve.hides_nameless() {
        let from_limbo =
            rustix::fs::renameat_with(tree.limbo(), hidden_name(id), &parent, entry.name, RenameFlags::NOREPLACE);
        match from_limbo {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(errno),
        }
    } else {
        false
    };
    if !hidden {
        let fd = resolve.inode(id, Access::Path)?;
        rustix::fs::linkat(&fd, c"", &parent, entry.name, AtFlags::EMPTY_PATH)?;
    }
    tree.modified(entry.parent, time);
    Ok(Effect::default())
}

fn unlink(
    tree: &Tree,
    id: FileId,
    entry: Entry<'_>,
    directory: bool,
    time: Time,
    resolve: &impl Resolve,
) -> Result<Effect, Errno> {
    let parent = resolve.inode(entry.parent, Access::Path)?;
    let target = resolve.entry(&parent, entry.name, id)?;
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(&parent, entry.name, flags)?;
    tree.modified(entry.parent, time);
    Ok(Effect { born: None, gone: bury_if_nameless(tree, id, &target)? })
}

/// Forgets an inode that has lost its last name.
fn bury_if_nameless(tree: &Tree, id: FileId, fd: &OwnedFd) -> Result<Option<FileId>, Errno> {
    if statx(fd.as_fd())?.stx_nlink > 0 {
        return Ok(None);
    }
    tree.index.remove(id)?;
    tree.late.forget(id);
    Ok(Some(id))
}

#[expect(clippy::too_many_arguments, reason = "the operation's own fields")]
fn rename(
    tree: &Tree,
    id: FileId,
    from: Entry<'_>,
    to: Entry<'_>,
    replaced: Option<FileId>,
    flags: u32,
    time: Time,
    resolve: &impl Resolve,
) -> Result<Effect, Errno> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
    let (old, new) = (resolve.inode(from.parent, Access::Path)?, resolve.inode(to.parent, Access::Path)?);
    resolve.entry(&old, from.name, id)?;
    let target = replaced.map(|id| resolve.entry(&new, to.name, id).map(|fd| (id, fd))).transpose()?;
    rustix::fs::renameat_with(&old, from.name, &new, to.name, flags)?;
    tree.modified(from.parent, time);
    tree.modified(to.parent, time);
    let gone = match target {
        Some((id, fd)) if !flags.contains(RenameFlags::EXCHANGE) => bury_if_nameless(tree, id, &fd)?,
        _ => None,
    };
    Ok(Effect { born: None, gone })
}

/// So much is written at once. The kernel keeps what comes in one write in one folio, and ext4 then looks at each of its blocks
/// again at every later write into it: 4 KiB into a 1 MiB folio take 16 us, into a 32 KiB one 2.6 us (kernel 6.18).
const PIECE: usize = 32 << 10;

/// Writes all of `data`, or nothing beyond the old end of the file.
fn write_whole(fd: &OwnedFd, offset: u64, data: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < data.len() {
        let piece = &data[done..data.len().min(done + PIECE)];
        match rustix::io::pwrite(fd, piece, offset + done as u64) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(errno) => {
                // A part that made the file longer is taken back, so that the other copy needs no knowledge of it.
                if done > 0 && statx(fd.as_fd())?.stx_size == offset + done as u64 {
                    rustix::fs::ftruncate(fd, offset)?;
                }
                return Err(errno);
            }
        }
    }
    Ok(())
}

fn set_attributes(
    tree: &Tree,
    id: FileId,
    changes: &Changes,
    time: Time,
    resolve: &impl Resolve,
) -> Result<Effect, Errno> {
    let access = if changes.size.is_some() { Access::Write } else { Access::Path };
    let fd = resolve.inode(id, access)?;
    if let Some(size) = changes.size {
        rustix::fs::ftruncate(&fd, size)?;
        tree.modified(id, time);
    }
    // The owner before the mode: a change of owner takes set-user-id away.
    if changes.uid.is_some() || changes.gid.is_some() {
        set_owner(&fd, changes.uid, changes.gid)?;
    }
    if let Some(mode) = changes.mode {
        set_mode(fd.as_fd(), mode)?;
    }
    if changes.mtime.is_some() {
        tree.late.forget(id);
    }
    if changes.atime.is_some() || changes.mtime.is_some() {
        set_times(fd.as_fd(), changes.atime, changes.mtime)?;
    }
    Ok(Effect::default())
}

/// Copies within the machine, holes and shared extents as the file system likes; all of `length` or an error.
fn copy(from: &OwnedFd, from_offset: u64, to: &OwnedFd, to_offset: u64, length: u64) -> Result<(), Errno> {
    let (mut source, mut target, mut left) = (from_offset, to_offset, length);
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), step) {
            // The caller has measured the source under its lock: an early end means that the copies differ.
            Ok(0) => return Err(Errno::IO),
            Ok(copied) => left -= copied as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn sync(tree: &Tree, id: FileId, data_only: bool, resolve: &impl Resolve) -> Result<Effect, Errno> {
    let fd = resolve.inode(id, Access::Read)?;
    if data_only {
        rustix::fs::fdatasync(&fd)?;
    } else {
        tree.settle(fd.as_fd(), id)?;
        rustix::fs::fsync(&fd)?;
    }
    Ok(Effect::default())
}
