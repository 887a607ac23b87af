//! The target's side of a resync: makes inodes, fills them, gives directories their entries.
//!
//! A new inode lies in the hidden folder without an id until it is complete, so no operation can name it before.
//! What a directory must not have is set aside there; it may be wanted by another directory, and is deleted last (`Purge`).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use mirrorfs_fs::exclude::{EXCLUDED, Exclude};
use mirrorfs_fs::id::{FileId, ID_XATTR};
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::tree::{HIDDEN, Tree, file_type, proc_path, set_mode, set_times, statx};
use mirrorfs_net::frame::Refused;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::limbo;
use super::piece::{Inode, Piece, Xattrs, decode};
use super::source::place;
use crate::log;

/// What the target says to a piece.
pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const MISSING: u8 = 2;

type Key = (u16, FileId);

#[derive(Default)]
struct State {
    /// Inodes that are not complete yet.
    pending: HashMap<Key, Arc<OwnedFd>>,
    /// Entries that came of directories whose last have not.
    lists: HashMap<Key, Vec<(Vec<u8>, FileId)>>,
    set_aside: u64,
}

/// The copies that are made equal.
pub struct Target {
    trees: Vec<Arc<Tree>>,
    excludes: Vec<Exclude>,
    state: Mutex<State>,
}

impl Target {
    pub fn new(trees: Vec<Arc<Tree>>, excludes: Vec<Exclude>) -> Target {
        Target { trees, excludes, state: Mutex::default() }
    }

    /// Takes one piece in; what came of it is appended to `answer`.
    ///
    /// # Errors
    /// The piece can't be read.
    pub fn answer(&self, payload: &[u8], answer: &mut Vec<u8>) -> Result<(), Refused> {
        let piece = decode(payload).ok_or(Refused::Payload)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.take(&mut state, piece) {
            Ok(missing) if missing.is_empty() => answer.push(DONE),
            Ok(missing) => {
                answer.push(MISSING);
                missing.iter().for_each(|id| answer.extend(id.to_bytes()));
            }
            Err(errno) => {
                log::error("a piece of the resync failed", &[("reason", &errno)]);
                answer.push(FAILED);
            }
        }
        Ok(())
    }

    fn tree(&self, number: u16) -> Result<&Arc<Tree>, Errno> {
        self.trees.get(usize::from(number)).ok_or(Errno::INVAL)
    }

    fn take(&self, state: &mut State, piece: Piece<'_>) -> Result<Vec<FileId>, Errno> {
        match piece {
            Piece::Begin | Piece::Purge => {
                state.pending.clear();
                state.lists.clear();
                self.trees.iter().try_for_each(|tree| limbo::empty(tree))?;
            }
            Piece::Inode { tree, id, inode } => self.inode(state, tree, id, &inode)?,
            Piece::Data { tree, id, offset, data } => {
                let fd = self.file(state, tree, id)?;
                let mut done = 0;
                while done < data.len() {
                    done += rustix::io::pwrite(&fd, &data[done..], offset + done as u64)?;
                }
            }
            Piece::Hole { tree, id, offset, length } => {
                let fd = self.file(state, tree, id)?;
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&fd, flags, offset, length)?;
            }
            Piece::Complete { tree, id } => {
                if let Some(fd) = state.pending.remove(&(tree, id)) {
                    let tree = self.tree(tree)?;
                    tree.set_id(fd.as_fd(), id)?;
                    rustix::fs::renameat(tree.limbo(), unfinished(id), tree.limbo(), id.to_string())?;
                }
            }
            Piece::Entries { tree, id, last, entries } => {
                state.lists.entry((tree, id)).or_default().extend(entries);
                if last {
                    let wanted = state.lists.remove(&(tree, id)).unwrap_or_default();
                    return self.entries(state, tree, id, wanted);
                }
            }
        }
        Ok(Vec::new())
    }

    /// A file that is filled, for writing.
    fn file(&self, state: &State, tree: u16, id: FileId) -> Result<OwnedFd, Errno> {
        match state.pending.get(&(tree, id)) {
            Some(fd) => rustix::fs::open(proc_path(fd.as_fd()), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()),
            None => self.tree(tree)?.open_id(id, OFlags::RDWR | OFlags::NOFOLLOW),
        }
    }

    fn inode(&self, state: &mut State, number: u16, id: FileId, inode: &Inode) -> Result<(), Errno> {
        let tree = self.tree(number)?;
        let known = match state.pending.get(&(number, id)) {
            Some(fd) => Some(fd.clone()),
            None => match tree.open_id(id, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(fd) => Some(Arc::new(fd)),
                Err(Errno::STALE) => None,
                Err(errno) => return Err(errno),
            },
        };
        let fd = match known {
            Some(fd) => fd,
            None => {
                let fd = Arc::new(make(tree, id, inode)?);
                state.pending.insert((number, id), fd.clone());
                fd
            }
        };
        tree.late.forget(id);
        dress(&fd, inode)
    }

    /// Gives a directory exactly these entries; returns the ids that are wanted and not here, in which case nothing was changed.
    fn entries(
        &self,
        state: &mut State,
        number: u16,
        id: FileId,
        wanted: Vec<(Vec<u8>, FileId)>,
    ) -> Result<Vec<FileId>, Errno> {
        let tree = self.tree(number)?;
        let path = match state.pending.get(&(number, id)) {
            Some(fd) => fd.clone(),
            None => Arc::new(tree.open_id(id, OFlags::PATH | OFlags::NOFOLLOW)?),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&path, ".", flags, Mode::empty())?;
        let missing: Vec<FileId> = wanted
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| tree.open_id(*id, OFlags::PATH | OFlags::NOFOLLOW).is_err())
            .collect();
        if !missing.is_empty() {
            return Ok(missing);
        }
        let mut wanted: HashMap<Vec<u8>, FileId> = wanted.into_iter().collect();
        let exclude = &self.excludes[usize::from(number)];
        let at = place(tree, exclude, directory.as_fd())?;
        for name in limbo::entries(directory.as_fd())? {
            if id == FileId::ROOT && name == HIDDEN.as_bytes() || exclude.child(at, &name) == EXCLUDED {
                continue;
            }
            let found = tree.id_of(open_entry(&directory, &name)?.as_fd())?;
            if found.is_some() && wanted.get(&name) == found.as_ref() {
                wanted.remove(&name);
                continue;
            }
            state.set_aside += 1;
            let aside = format!("aside-{}", state.set_aside);
            rustix::fs::renameat(&directory, &name[..], tree.limbo(), aside)?;
        }
        for (name, id) in wanted {
            self.bring(state, tree, &directory, &name, id)?;
        }
        Ok(Vec::new())
    }

    /// Gives the inode a name in the directory.
    fn bring(&self, state: &mut State, tree: &Tree, directory: &OwnedFd, name: &[u8], id: FileId) -> Result<(), Errno> {
        match rustix::fs::renameat(tree.limbo(), id.to_string(), directory, name) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let fd = tree.open_id(id, OFlags::PATH | OFlags::NOFOLLOW)?;
        if file_type(&statx(fd.as_fd())?) != FileType::Directory {
            return rustix::fs::linkat(&fd, c"", directory, name, AtFlags::EMPTY_PATH);
        }
        let (parent, old) = whereabouts(&fd)?;
        match rustix::fs::renameat(&parent, &old[..], directory, name) {
            // It lies above the directory: what leads down to it is set aside, and has its place elsewhere.
            Err(Errno::INVAL) => {
                state.set_aside += 1;
                cut_loose(tree, &fd, directory, &format!("aside-{}", state.set_aside))?;
                let (parent, old) = whereabouts(&fd)?;
                rustix::fs::renameat(&parent, &old[..], directory, name)
            }
            other => other,
        }
    }
}

fn unfinished(id: FileId) -> String {
    format!("unfinished-{id}")
}

/// A directory's parent, and its name in it.
fn whereabouts(directory: &OwnedFd) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(directory, "..", flags, Mode::empty())?;
    let stat = statx(directory.as_fd())?;
    for name in limbo::entries(parent.as_fd())? {
        let found = rustix::fs::statat(&parent, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
        if found.st_ino == stat.stx_ino && FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Ok((parent, name));
        }
    }
    Err(Errno::STALE)
}

/// Moves the child of `above` that leads down to `below` into the hidden folder.
fn cut_loose(tree: &Tree, above: &OwnedFd, below: &OwnedFd, aside: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = statx(above.as_fd())?.stx_ino;
    let mut at = rustix::fs::openat(below, ".", flags, Mode::empty())?;
    loop {
        let parent = rustix::fs::openat(&at, "..", flags, Mode::empty())?;
        if statx(parent.as_fd())?.stx_ino == top {
            let (parent, name) = whereabouts(&at)?;
            return rustix::fs::renameat(&parent, &name[..], tree.limbo(), aside);
        }
        if statx(parent.as_fd())?.stx_ino == statx(at.as_fd())?.stx_ino {
            return Err(Errno::STALE);
        }
        at = parent;
    }
}

/// A new inode of the right kind, without an id.
fn make(tree: &Tree, id: FileId, inode: &Inode) -> Result<OwnedFd, Errno> {
    let (folder, name) = (tree.limbo(), unfinished(id));
    let mode = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(inode.mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return rustix::fs::openat(folder, name, flags, mode);
        }
        FileType::Directory => rustix::fs::mkdirat(folder, &name[..], Mode::from_raw_mode(0o700))?,
        FileType::Symlink => rustix::fs::symlinkat(&inode.target[..], folder, &name[..])?,
        kind => rustix::fs::mknodat(folder, &name[..], kind, mode, u64::from(inode.rdev))?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Sets all that an inode is, apart from data and entries.
fn dress(fd: &OwnedFd, inode: &Inode) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(inode.mode);
    if kind == FileType::RegularFile {
        let file = rustix::fs::open(proc_path(fd.as_fd()), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        if statx(file.as_fd())?.stx_size != inode.size {
            rustix::fs::ftruncate(&file, inode.size)?;
        }
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(inode.uid), rustix::fs::Gid::from_raw(inode.gid));
    rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if kind != FileType::Symlink {
        set_mode(fd.as_fd(), inode.mode)?;
    }
    let path = proc_path(fd.as_fd());
    for (name, _) in xattrs(fd)? {
        if !inode.xattrs.iter().any(|(wanted, _)| *wanted == name) {
            rustix::fs::removexattr(&path[..], &name[..])?;
        }
    }
    for (name, value) in &inode.xattrs {
        rustix::fs::setxattr(&path[..], &name[..], value, XattrFlags::empty())?;
    }
    set_times(fd.as_fd(), Some(inode.atime), Some(inode.mtime))
}

/// All extended attributes but our own.
///
/// # Errors
/// What reading them says.
pub fn xattrs(fd: &OwnedFd) -> Result<Xattrs, Errno> {
    let path = proc_path(fd.as_fd());
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::listxattr(&path[..], &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut all = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != ID_XATTR.as_bytes())
    {
        let mut value = vec![0; 64 << 10];
        match rustix::fs::getxattr(&path[..], name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                all.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(all)
}
