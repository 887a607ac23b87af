//! The secondary: carries out resolved operations on its copy, by id, and keeps a bounded number of files open.
//!
//! May be called from many threads at once; whoever calls keeps conflicting operations in order (the primary does, by
//! waiting for each answer under the inodes' locks).

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::id::FileId;
use crate::op::Op;
use crate::perform::{Access, Resolve, open_entry, perform};
use crate::tree::Tree;

const SHARDS: usize = 16;
/// Open files a shard: 16 x 64 in all, far below a process' limit.
const SHARD_ROOM: usize = 64;

/// The secondary's copy.
pub struct Applier {
    tree: Arc<Tree>,
    open: Vec<Mutex<HashMap<FileId, Opened>>>,
}

struct Opened {
    fd: Arc<OwnedFd>,
    access: Access,
}

impl Applier {
    pub fn new(tree: impl Into<Arc<Tree>>) -> Applier {
        Applier { tree: tree.into(), open: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// What the file system says, with nothing changed; `STALE`: the copies differ in what the operation names.
    pub fn apply(&self, op: &Op<'_>) -> Result<(), Errno> {
        let effect = perform(&self.tree, op, self)?;
        if let (Op::Create { birth, .. } | Op::Tmpfile { birth, .. }, Some(fd)) = (op, effect.born) {
            let file = FileType::from_raw_mode(birth.mode) == FileType::RegularFile;
            self.keep(birth.id, fd, if file { Access::Write } else { Access::Path });
        }
        if let Some(id) = effect.gone {
            self.shard(id).remove(&id);
        }
        Ok(())
    }

    /// Closes what is open of an inode: another one bears its id from now on, or none does.
    pub fn forget(&self, id: FileId) {
        self.shard(id).remove(&id);
    }

    /// Brings what an operation changed to the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn harden(&self, op: &Op<'_>) -> Result<(), Errno> {
        self.tree.harden(op)
    }

    /// Lets go of every open file.
    pub fn close_all(&self) {
        self.open.iter().for_each(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).clear());
    }

    fn shard(&self, id: FileId) -> MutexGuard<'_, HashMap<FileId, Opened>> {
        self.open[id.0 as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: FileId, fd: Arc<OwnedFd>, access: Access) {
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_ROOM {
            // Any one will do: what is in use comes back with one call.
            if let Some(victim) = shard.keys().next().copied() {
                shard.remove(&victim);
            }
        }
        shard.insert(id, Opened { fd, access });
    }
}

impl Resolve for Applier {
    fn inode(&self, id: FileId, access: Access) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(opened) = self.shard(id).get(&id)
            && (opened.access == access || access == Access::Path || opened.access == Access::Write)
        {
            return Ok(opened.fd.clone());
        }
        let flags = match access {
            Access::Path => OFlags::PATH | OFlags::NOFOLLOW,
            Access::Read => OFlags::RDONLY | OFlags::NONBLOCK,
            Access::Write => OFlags::RDWR | OFlags::NONBLOCK,
        };
        let fd = Arc::new(self.tree.open_id(id, flags)?);
        self.keep(id, fd.clone(), access);
        Ok(fd)
    }

    fn entry(&self, parent: &OwnedFd, name: &[u8], id: FileId) -> Result<Arc<OwnedFd>, Errno> {
        let fd = match open_entry(parent, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(Errno::STALE),
            Err(errno) => return Err(errno),
        };
        if self.tree.id_of(fd.as_fd())? == Some(id) { Ok(Arc::new(fd)) } else { Err(Errno::STALE) }
    }

    fn hides_nameless(&self) -> bool {
        true
    }
}
