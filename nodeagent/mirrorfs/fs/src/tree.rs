//! One copy of a replicated directory on its file system: ids, handles, attributes, late times, the hidden folder.
//!
//! Both sides use it: the primary's file system below its own mount, and the applier of the secondary. It reaches
//! files by descriptors and handles only; the one path it ever resolves is the directory's own, at the start.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::id::{FileId, ID_XATTR};
use crate::index::Index;
use crate::op::{Op, Time};
use crate::sys::{self, Handle};
use crate::times::LateTimes;

/// The folder in the root that holds our own state: on the data's own file system, never shown through the mount.
pub const HIDDEN: &str = ".farmstead-mirror";

/// One copy of a replicated directory.
pub struct Tree {
    root: Arc<OwnedFd>,
    limbo: OwnedFd,
    pub index: Index,
    pub late: LateTimes,
}

impl Tree {
    /// Takes hold of `directory`. Mounts made over it later don't matter: everything goes through this descriptor.
    ///
    /// # Errors
    /// What opening says; `OPNOTSUPP` where the file system offers no handles or no `trusted.*` attributes.
    pub fn open(directory: &Path) -> Result<Tree, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Tree::from_root(rustix::fs::open(directory, flags, Mode::empty())?)
    }

    /// As `open`, with a descriptor of the directory.
    ///
    /// # Errors
    /// As `open`.
    pub fn from_root(root: OwnedFd) -> Result<Tree, Errno> {
        let hidden = open_or_make(root.as_fd(), HIDDEN)?;
        let limbo = open_or_make(hidden.as_fd(), "limbo")?;
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let index = rustix::fs::openat(&hidden, "index", flags, mode)?;
        let index = Index::open(index.into()).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let tree = Tree { root: Arc::new(root), limbo, index, late: LateTimes::default() };
        tree.set_id(tree.root.as_fd(), FileId::ROOT)?;
        Ok(tree)
    }

    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Where a secondary keeps what has no name on the primary.
    pub fn limbo(&self) -> BorrowedFd<'_> {
        self.limbo.as_fd()
    }

    /// Opens an inode by its handle.
    ///
    /// # Errors
    /// `STALE` when it is gone.
    pub fn open_handle(&self, handle: &Handle, flags: OFlags) -> Result<OwnedFd, Errno> {
        sys::open_handle(self.root.as_fd(), handle, flags)
    }

    /// Opens the inode that bears `id`, found through the index and checked against its own attribute.
    ///
    /// # Errors
    /// `STALE` when no inode with this id is known.
    pub fn open_id(&self, id: FileId, flags: OFlags) -> Result<OwnedFd, Errno> {
        if id == FileId::ROOT {
            return rustix::fs::openat(&*self.root, ".", flags | OFlags::CLOEXEC, Mode::empty());
        }
        let handle = self.index.get(id)?.ok_or(Errno::STALE)?;
        let fd = self.open_handle(&handle, flags)?;
        if self.id_of(fd.as_fd())? == Some(id) { Ok(fd) } else { Err(Errno::STALE) }
    }

    /// The id that the inode bears, `None` where it bears none.
    ///
    /// # Errors
    /// What reading the attribute says.
    pub fn id_of(&self, fd: BorrowedFd<'_>) -> Result<Option<FileId>, Errno> {
        let mut value = [0u8; 16];
        match rustix::fs::getxattr(proc_path(fd), ID_XATTR, &mut value) {
            Ok(length) => Ok(FileId::from_bytes(&value[..length])),
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The id of the inode behind `fd`, whose handle is `handle`; `None` where it bears none, or a copy of another's that came
    /// along with its attributes. Mends the index where a crash lost the entry.
    ///
    /// # Errors
    /// What reading the attribute or the index says.
    pub fn identity(&self, fd: BorrowedFd<'_>, handle: &Handle) -> Result<Option<FileId>, Errno> {
        let Some(id) = self.id_of(fd)? else { return Ok(None) };
        if self.index.get(id)? == Some(*handle) {
            return Ok(Some(id));
        }
        match self.open_id(id, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(_other) => Ok(None),
            Err(Errno::STALE) => {
                self.index.insert(id, *handle)?;
                Ok(Some(id))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Gives the inode its id, and the index its place.
    ///
    /// # Errors
    /// What writing the attribute or the index says.
    pub fn set_id(&self, fd: BorrowedFd<'_>, id: FileId) -> Result<Handle, Errno> {
        let handle = sys::handle_of(fd)?;
        rustix::fs::setxattr(proc_path(fd), ID_XATTR, &id.to_bytes(), XattrFlags::empty())?;
        if id != FileId::ROOT {
            self.index.insert(id, handle)?;
        }
        Ok(handle)
    }

    /// The inode's attributes as both copies show them: a modification time that is not yet set counts.
    ///
    /// # Errors
    /// What `statx(2)` says.
    pub fn attributes(&self, fd: BorrowedFd<'_>, id: FileId) -> Result<Statx, Errno> {
        let (stat, kept) = self.late.beside(id, || statx(fd));
        let mut stat = stat?;
        if let Some(time) = kept {
            (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec) = (time.sec, time.nsec);
        }
        Ok(stat)
    }

    /// Records that `id` was modified at `time`; it is set on the file later.
    pub fn modified(&self, id: FileId, time: Time) {
        self.late.keep(id, time, |id, time| {
            // The inode may be gone by now, and then its time matters to nobody.
            if let Ok(fd) = self.open_id(id, OFlags::PATH) {
                let _ = set_mtime(fd.as_fd(), time);
            }
        });
    }

    /// Sets the time that waits for this inode, if one does.
    ///
    /// # Errors
    /// What setting it says.
    pub fn settle(&self, fd: BorrowedFd<'_>, id: FileId) -> Result<(), Errno> {
        self.late.settle(id, |time| set_mtime(fd, time))
    }

    /// Brings what an operation changed to the disk: the file, or the directories whose entries it changed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn harden(&self, op: &Op<'_>) -> Result<(), Errno> {
        let ids = match *op {
            Op::Create { entry, birth, .. } => [Some(entry.parent), Some(birth.id)],
            Op::Link { entry, .. } | Op::Unlink { entry, .. } | Op::Adopt { entry, .. } => [Some(entry.parent), None],
            Op::Rename { from, to, .. } => [Some(from.parent), (to.parent != from.parent).then_some(to.parent)],
            Op::Write { id, .. }
            | Op::SetAttr { id, .. }
            | Op::Allocate { id, .. }
            | Op::Copy { to: id, .. }
            | Op::SetXattr { id, .. }
            | Op::RemoveXattr { id, .. } => [Some(id), None],
            // Nobody can find a nameless file after a crash; a barrier has done it already.
            Op::Tmpfile { .. } | Op::Discard { .. } | Op::Sync { .. } => [None, None],
        };
        for id in ids.into_iter().flatten() {
            let fd = match self.open_id(id, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK) {
                Ok(fd) => fd,
                // Gone, or no file with data of its own: its directory holds all there is.
                Err(Errno::STALE | Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => continue,
                Err(errno) => return Err(errno),
            };
            self.settle(fd.as_fd(), id)?;
            rustix::fs::fsync(&fd)?;
        }
        Ok(())
    }

    /// Sets every time that waits: before the copy is compared, mounted, or left.
    ///
    /// # Errors
    /// What setting one says; inodes that are gone don't count.
    pub fn settle_all(&self) -> Result<(), Errno> {
        self.late.settle_all(|id, time| match self.open_id(id, OFlags::PATH) {
            Ok(fd) => set_mtime(fd.as_fd(), time),
            Err(Errno::STALE) => Ok(()),
            Err(errno) => Err(errno),
        })
    }
}

fn open_or_make(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The magic link of a descriptor, for calls that take paths only. Leads to the inode itself, also a symbolic link's.
pub fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// All attributes of the inode behind a descriptor.
///
/// # Errors
/// What `statx(2)` says.
pub fn statx(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// The type of the inode.
pub fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

/// Sets access and modification time; `None` leaves one as it is.
///
/// # Errors
/// What `utimensat(2)` says.
pub fn set_times(fd: BorrowedFd<'_>, atime: Option<Time>, mtime: Option<Time>) -> Result<(), Errno> {
    let spec = |time: Option<Time>| match time {
        Some(time) => Timespec { tv_sec: time.sec, tv_nsec: i64::from(time.nsec) },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    };
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)
}

fn set_mtime(fd: BorrowedFd<'_>, time: Time) -> Result<(), Errno> {
    set_times(fd, None, Some(time))
}

/// Sets the permission bits, which a descriptor opened with `O_PATH` can do only through its magic link.
///
/// # Errors
/// What `chmod(2)` says.
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmodat(CWD, proc_path(fd), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
}
