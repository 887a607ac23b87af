//! Keeping a copy that is about to be overwritten, in the folder `kept` of its hidden folder.
//!
//! Where the file system can, files are cloned: they share their blocks until those are overwritten. Elsewhere everything is moved,
//! and the resync begins with an empty directory; then there must be room for as much again. No kept inode can be found by an id.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use mirrorfs_fs::exclude::EXCLUDED;
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::sys::{self, Handle};
use mirrorfs_fs::tree::{HIDDEN, statx};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx};
use rustix::io::Errno;

use crate::meta::Meta;
use crate::names::{Listing, place};
use crate::place::Side;
use crate::sight::reopen;
use crate::target::Target;

const KEPT: &str = "kept";
/// A clone that is not complete: of no use after a crash.
const UNFINISHED: &str = "unfinished";

/// How a copy was kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It shares its blocks with the live one.
    Cloned,
    /// It was moved; the live one is empty.
    Moved,
}

/// Why it was not; nothing has changed then, but for what `Errno` interrupted.
#[derive(Debug)]
pub enum Unkept {
    /// Bytes that the copy has, and that are free.
    NoRoom {
        /// As many would be needed.
        needed: u64,
        /// As many are there.
        free: u64,
    },
    /// The file system said so.
    Io(Errno),
}

impl std::fmt::Display for Unkept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unkept::NoRoom { needed, free } => write!(
                f,
                "the copy has {needed} bytes and {free} are free: make room, or order it overwritten without keeping it"
            ),
            Unkept::Io(errno) => write!(f, "keeping the copy: {errno}"),
        }
    }
}

impl std::error::Error for Unkept {}

impl From<Errno> for Unkept {
    fn from(errno: Errno) -> Unkept {
        Unkept::Io(errno)
    }
}

impl Target {
    /// Keeps every copy as it is, under `name`.
    ///
    /// # Errors
    /// `Unkept`: it must not be overwritten. Copies before it in the configuration's order have been kept.
    pub fn keep(&self, name: &str) -> Result<Vec<Kept>, Unkept> {
        self.sides().iter().map(|side| side.keep(name)).collect()
    }
}

/// Given an entry (its directory's clone, its name, itself, its attributes); gives the clone of a directory.
type Each<'e> = &'e mut dyn FnMut(Option<&OwnedFd>, &[u8], &OwnedFd, &Statx) -> Result<Option<OwnedFd>, Errno>;

/// A directory on the way through a tree.
struct Frame {
    listing: Listing,
    fd: OwnedFd,
    /// Where its clone is made.
    clone: Option<OwnedFd>,
}

impl Side {
    fn keep(&self, name: &str) -> Result<Kept, Unkept> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = self.tree().root();
        let hidden = rustix::fs::openat(&**root, HIDDEN, flags, Mode::empty())?;
        let kept = folder(&hidden, KEPT)?;
        self.delete_all(&folder(&kept, UNFINISHED)?)?;
        if clones(&kept)? {
            self.tree().settle_all()?;
            let unfinished = folder(&kept, UNFINISHED)?;
            self.clone_into(&unfinished)?;
            rustix::fs::renameat(&kept, UNFINISHED, &kept, name)?;
            rustix::fs::syncfs(&kept)?;
            return Ok(Kept::Cloned);
        }
        rustix::fs::unlinkat(&kept, UNFINISHED, AtFlags::REMOVEDIR)?;
        let needed = self.size()?;
        let stat = rustix::fs::fstatvfs(&kept)?;
        let free = stat.f_bavail * stat.f_frsize;
        if free < needed {
            return Err(Unkept::NoRoom { needed, free });
        }
        self.tree().settle_all()?;
        self.forget_all()?;
        let to = folder(&kept, name)?;
        for (entry, _) in self.names_of(root)? {
            rustix::fs::renameat(&**root, &entry[..], &to, &entry[..])?;
        }
        rustix::fs::syncfs(&kept)?;
        Ok(Kept::Moved)
    }

    /// The names that are replicated in a directory.
    fn names_of(&self, directory: &OwnedFd) -> Result<Vec<(Vec<u8>, u64)>, Errno> {
        let mut listing = Listing::open(self.tree(), &self.exclude, directory, FileId::ROOT)?;
        std::iter::from_fn(|| listing.next(&self.exclude).transpose()).collect()
    }

    fn frame(&self, fd: OwnedFd, id: FileId, clone: Option<OwnedFd>) -> Result<Frame, Errno> {
        Ok(Frame { listing: Listing::open(self.tree(), &self.exclude, &fd, id)?, fd, clone })
    }

    /// Goes through the whole copy: `each` is given every entry, with its directory's clone, and gives that of a directory.
    /// `left` is told of each directory when all in it is done.
    fn through(
        &self,
        clone: Option<OwnedFd>,
        each: Each<'_>,
        left: &mut dyn FnMut(&OwnedFd, &OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let root = rustix::fs::openat(&**self.tree().root(), ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let mut stack = vec![self.frame(root, FileId::ROOT, clone)?];
        while let Some(frame) = stack.last_mut() {
            let Some((name, _)) = frame.listing.next(&self.exclude)? else {
                if let Some(Frame { fd, clone: Some(clone), .. }) = stack.pop() {
                    left(&fd, &clone)?;
                }
                continue;
            };
            let fd = open_entry(frame.listing.fd(), &name)?;
            let stat = statx(fd.as_fd())?;
            let clone = each(frame.clone.as_ref(), &name, &fd, &stat)?;
            if FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory {
                // Any id but the root's: only there our own folder is hidden.
                let at = place(self.tree(), &self.exclude, &fd)?;
                if at != EXCLUDED {
                    let next = self.frame(fd, FileId(2), clone)?;
                    stack.push(next);
                }
            }
        }
        Ok(())
    }

    /// The bytes that the copy takes on the disk; each name of an inode counts.
    fn size(&self) -> Result<u64, Errno> {
        let mut size = 0;
        self.through(
            None,
            &mut |_, _, _, stat| {
                size += stat.stx_blocks * 512;
                Ok(None)
            },
            &mut |_, _| Ok(()),
        )?;
        Ok(size)
    }

    /// No id leads to any inode of the copy any more.
    fn forget_all(&self) -> Result<(), Errno> {
        self.through(
            None,
            &mut |_, _, fd, _| {
                if let Some(id) = self.tree().id_of(fd.as_fd())? {
                    self.tree().index.remove(id)?;
                    self.applier.forget(id);
                }
                Ok(None)
            },
            &mut |_, _| Ok(()),
        )
    }

    fn clone_into(&self, folder: &OwnedFd) -> Result<(), Errno> {
        let nobody = FileId::random()?;
        let dress = |from: &OwnedFd, to: &OwnedFd| {
            let id = self.tree().id_of(from.as_fd())?.unwrap_or(nobody);
            Meta::of(self.tree(), from.as_fd(), id)?.apply(self.tree(), to.as_fd(), nobody)
        };
        let mut linked: HashMap<u64, Handle> = HashMap::new();
        self.through(
            Some(folder.try_clone().map_err(|_| Errno::MFILE)?),
            &mut |directory, name, fd, stat| {
                let directory = directory.ok_or(Errno::STALE)?;
                let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
                if kind != FileType::Directory
                    && let Some(handle) = linked.get(&stat.stx_ino)
                {
                    let there = self.tree().open_handle(handle, OFlags::PATH | OFlags::NOFOLLOW)?;
                    rustix::fs::linkat(&there, c"", directory, name, AtFlags::EMPTY_PATH)?;
                    return Ok(None);
                }
                let meta = Meta::of(self.tree(), fd.as_fd(), nobody)?;
                let made = Side::make(directory, name, &meta)?;
                if kind == FileType::Directory {
                    return Ok(Some(made));
                }
                if kind == FileType::RegularFile && meta.size > 0 {
                    rustix::fs::ioctl_ficlone(reopen(&made, OFlags::WRONLY)?, reopen(fd, OFlags::RDONLY)?)?;
                }
                dress(fd, &made)?;
                if stat.stx_nlink > 1 {
                    linked.insert(stat.stx_ino, sys::handle_of(made.as_fd())?);
                }
                Ok(None)
            },
            // Whatever is made in it changes its time.
            &mut |from, to| dress(from, to),
        )
    }
}

fn folder(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Whether files of this file system can share blocks.
fn clones(folder: &OwnedFd) -> Result<bool, Errno> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let make = || rustix::fs::openat(folder, ".", flags, Mode::from_raw_mode(0o600));
    let (from, to) = match (make(), make()) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(Errno::OPNOTSUPP), _) | (_, Err(Errno::OPNOTSUPP)) => return Ok(false),
        (Err(errno), _) | (_, Err(errno)) => return Err(errno),
    };
    rustix::io::pwrite(&from, &[1; 4096], 0)?;
    match rustix::fs::ioctl_ficlone(&to, &from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(errno),
    }
}
