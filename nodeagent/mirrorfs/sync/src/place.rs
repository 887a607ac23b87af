//! The target's names: led to the inodes that the source says, with what stood there set aside and nothing thrown away.
//!
//! What has no name (any more, or not yet) lies in the folder `aside` of the hidden folder, under its id. It may turn out to be
//! wanted elsewhere; what is not is deleted at the end of the resync.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::id::{FileId, ID_XATTR};
use mirrorfs_fs::locks::Locks;
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::sys;
use mirrorfs_fs::tree::{HIDDEN, Tree, proc_path, statx};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::extents::Sent;
use crate::meta::Meta;
use crate::sight::reopen;

/// The folder in the hidden folder.
const ASIDE: &str = "aside";

/// One replicated directory on the target.
pub struct Side {
    pub applier: Arc<Applier>,
    pub exclude: Exclude,
    pub locks: Locks,
    pub aside: OwnedFd,
    /// Who makes an inode, so that no id is born twice. Nothing else is waited for with one of these held.
    births: Vec<Mutex<()>>,
}

/// How many inodes can be made at once.
const BIRTHS: usize = 64;

impl Side {
    /// # Errors
    /// What making the folder says.
    pub fn new(applier: Arc<Applier>, exclude: Exclude) -> Result<Side, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let hidden = rustix::fs::openat(&**applier.tree().root(), HIDDEN, flags, Mode::empty())?;
        match rustix::fs::mkdirat(&hidden, ASIDE, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let aside = rustix::fs::openat(&hidden, ASIDE, flags, Mode::empty())?;
        let births = std::iter::repeat_with(Mutex::default).take(BIRTHS).collect();
        Ok(Side { applier, exclude, locks: Locks::default(), aside, births })
    }

    pub fn tree(&self) -> &Tree {
        self.applier.tree()
    }

    /// Held while it is found out whether an inode is there, and made where it is not.
    pub fn birth(&self, id: FileId) -> MutexGuard<'_, ()> {
        self.births[id.0 as usize % BIRTHS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inode that bears `id`, for names and attributes; `None` where there is none.
    ///
    /// # Errors
    /// What opening says.
    pub fn find(&self, id: FileId) -> Result<Option<OwnedFd>, Errno> {
        match self.tree().open_id(id, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) if statx(fd.as_fd())?.stx_nlink > 0 => Ok(Some(fd)),
            Ok(_) | Err(Errno::STALE) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// As `find`, for one that can become like `meta`. What bears the id and can't loses it.
    ///
    /// # Errors
    /// What opening says.
    pub fn find_like(&self, id: FileId, meta: &Meta) -> Result<Option<OwnedFd>, Errno> {
        let Some(fd) = self.find(id)? else { return Ok(None) };
        if self.can_become(&fd, id, meta)? {
            return Ok(Some(fd));
        }
        rustix::fs::removexattr(proc_path(fd.as_fd()), ID_XATTR)?;
        self.tree().index.remove(id)?;
        self.applier.forget(id);
        Ok(None)
    }

    /// Whether type, device and link target are right: nothing can change those.
    fn can_become(&self, fd: &OwnedFd, id: FileId, meta: &Meta) -> Result<bool, Errno> {
        match meta.kind() {
            kind @ (FileType::RegularFile | FileType::Directory) => Ok(kind_of(fd)? == kind),
            kind => {
                let there = Meta::of(self.tree(), fd.as_fd(), id)?;
                Ok((there.kind(), there.rdev, &there.target) == (kind, meta.rdev, &meta.target))
            }
        }
    }

    /// Makes `name` in `directory` lead to the inode `id`.
    ///
    /// # Errors
    /// What the file system says. Whatever was moved before that is where a repetition finds it.
    pub fn put(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        id: FileId,
        meta: &Meta,
        data: Option<&Sent<'_>>,
    ) -> Result<(), Errno> {
        let _birth = self.birth(id);
        let wanted = self.find_like(id, meta)?;
        match open_entry(directory, name) {
            Ok(fd) => {
                let there = self.tree().identity(fd.as_fd(), &sys::handle_of(fd.as_fd())?)?;
                if there == Some(id) {
                    return Ok(());
                }
                if there.is_none() && wanted.is_none() && self.can_become(&fd, id, meta)? {
                    self.applier.forget(id);
                    return self.tree().set_id(fd.as_fd(), id).map(drop);
                }
                self.set_aside(directory, name, &fd)?;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        match wanted {
            None => self.create(directory, name, id, meta, data).map(drop),
            Some(fd) if meta.kind() == FileType::Directory => self.move_directory(&fd, directory, name),
            Some(fd) => {
                rustix::fs::linkat(&fd, c"", directory, name, AtFlags::EMPTY_PATH)?;
                self.take_from_aside(id)
            }
        }
    }

    /// Takes a name away. What it led to stays, aside.
    ///
    /// # Errors
    /// What the file system says.
    pub fn drop_name(&self, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match open_entry(directory, name) {
            Ok(fd) => self.set_aside(directory, name, &fd),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn create(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        id: FileId,
        meta: &Meta,
        data: Option<&Sent<'_>>,
    ) -> Result<OwnedFd, Errno> {
        let fd = Side::make(directory, name, meta)?;
        if let Some(data) = data {
            let file = reopen(&fd, OFlags::RDWR)?;
            data.apply(file.as_fd())?;
            if statx(file.as_fd())?.stx_size != meta.size {
                rustix::fs::ftruncate(&file, meta.size)?;
            }
        }
        meta.apply(self.tree(), fd.as_fd(), id)?;
        // Last: from now on changes find it, and none of them may be overwritten.
        self.applier.forget(id);
        self.tree().set_id(fd.as_fd(), id)?;
        Ok(fd)
    }

    /// A new inode under a name, of the type, device and link target that `meta` says.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(directory: &OwnedFd, name: &[u8], meta: &Meta) -> Result<OwnedFd, Errno> {
        let mode = Mode::from_raw_mode(meta.mode & 0o7777);
        match meta.kind() {
            FileType::RegularFile => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600)).map(drop)?;
            }
            FileType::Directory => rustix::fs::mkdirat(directory, name, mode)?,
            FileType::Symlink => rustix::fs::symlinkat(&meta.target[..], directory, name)?,
            kind => rustix::fs::mknodat(directory, name, kind, mode, meta.rdev)?,
        }
        open_entry(directory, name)
    }

    /// A directory has one name: wherever it is, it goes to the new one.
    fn move_directory(&self, fd: &OwnedFd, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let (parent, old) = stands(fd)?;
        match rustix::fs::renameat_with(&parent, &old[..], directory, name, RenameFlags::NOREPLACE) {
            // It would go into itself: where it goes to is set aside first, and gets its own place from its own parent.
            Err(Errno::INVAL) => {
                let (above, own) = stands(directory)?;
                self.set_aside(&above, &own, directory)?;
                let (parent, old) = stands(fd)?;
                rustix::fs::renameat_with(&parent, &old[..], directory, name, RenameFlags::NOREPLACE)
            }
            other => other,
        }
    }

    /// Moves what stands under a name aside.
    fn set_aside(&self, directory: &OwnedFd, name: &[u8], fd: &OwnedFd) -> Result<(), Errno> {
        let id = match self.tree().id_of(fd.as_fd())? {
            Some(id) => id,
            None => FileId::random()?,
        };
        let to = id.to_string();
        match rustix::fs::renameat_with(directory, name, &self.aside, &to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if same_inode(fd, &open_entry(&self.aside, to.as_bytes())?)? => {
                rustix::fs::unlinkat(directory, name, AtFlags::empty())
            }
            Err(Errno::EXIST) => {
                let to = FileId::random()?.to_string();
                rustix::fs::renameat_with(directory, name, &self.aside, to, RenameFlags::NOREPLACE)
            }
            other => other,
        }
    }

    /// An inode that has a name of its own again needs none aside, nor as a nameless file.
    fn take_from_aside(&self, id: FileId) -> Result<(), Errno> {
        for folder in [self.aside.as_fd(), self.tree().limbo()] {
            match rustix::fs::unlinkat(folder, id.to_string(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// The type of an inode.
pub fn kind_of(fd: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(u32::from(statx(fd.as_fd())?.stx_mode)))
}

fn same_inode(a: &OwnedFd, b: &OwnedFd) -> Result<bool, Errno> {
    let (a, b) = (statx(a.as_fd())?, statx(b.as_fd())?);
    Ok((a.stx_ino, a.stx_dev_major, a.stx_dev_minor) == (b.stx_ino, b.stx_dev_major, b.stx_dev_minor))
}

/// Where a directory stands: its parent, and its name there.
fn stands(directory: &OwnedFd) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(directory, "..", flags, Mode::empty())?;
    let path = rustix::fs::readlink(proc_path(directory.as_fd()), Vec::new())?.into_bytes();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    // The path is the kernel's, but the directory may have moved between the two calls.
    if same_inode(&open_entry(&parent, &name)?, directory)? { Ok((parent, name)) } else { Err(Errno::STALE) }
}
