//! This machine's copies: the replicated directories below their mounts, and the mark that ties them to the state file.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mirror_core::durable::DataMark;
use mirror_core::ids::ObjectId;
use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::tree::{HIDDEN, Tree, file_type, statx};
use mirrorfs_sync::object::Object;
use mirrorfs_sync::target::Target;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::config::Config;
use crate::under;

/// All replicated directories of a mirror, in the configuration's order.
pub struct Copies {
    pub trees: Vec<Arc<Tree>>,
    pub appliers: Vec<Arc<Applier>>,
    /// What makes them equal to the peer's.
    pub target: Target,
}

impl Copies {
    /// Takes hold of the directories below whatever is mounted over them.
    ///
    /// # Errors
    /// A sentence that names the directory.
    pub fn open(config: &Config) -> Result<Copies, String> {
        let mut trees = Vec::new();
        for (number, directory) in config.directories.iter().enumerate() {
            trees.push(Arc::new(under::open(&config.state, number, &directory.path)?));
        }
        let appliers: Vec<_> = trees.iter().cloned().map(|tree| Arc::new(Applier::new(tree))).collect();
        let mut sides = Vec::new();
        for (directory, applier) in config.directories.iter().zip(&appliers) {
            sides.push((applier.clone(), Exclude::new(directory.exclude.iter().map(String::as_str))?));
        }
        let target = Target::new(sides).map_err(|errno| format!("the hidden folder of a copy: {errno}"))?;
        Ok(Copies { trees, appliers, target })
    }

    /// How many bytes are in use on the file systems of the copies.
    pub fn bytes_in_use(&self) -> u64 {
        let mut counted = BTreeSet::new();
        let roots = self.trees.iter().map(|tree| tree.root());
        let fresh = roots.filter(|root| rustix::fs::fstat(root).is_ok_and(|stat| counted.insert(stat.st_dev)));
        let used = |root| rustix::fs::fstatvfs(root).map(|stat| (stat.f_blocks - stat.f_bfree) * stat.f_frsize);
        fresh.filter_map(|root| used(root).ok()).sum()
    }

    /// How many bytes a file takes on the disk; 0 for what is gone, and for a directory.
    pub fn bytes_of(&self, object: ObjectId) -> u64 {
        let find = |Object { tree, id }| {
            let fd = self.trees.get(usize::from(tree))?.open_id(id, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
            statx(fd.as_fd()).ok().filter(|stat| file_type(stat) == FileType::RegularFile)
        };
        Object::from_core(object).and_then(find).map_or(0, |stat| stat.stx_blocks * 512)
    }

    /// Lets go of what a secondary keeps open, and sets all times that still wait: before this copy is mounted.
    ///
    /// # Errors
    /// What setting one says.
    pub fn leave_second(&self) -> Result<(), Errno> {
        self.appliers.iter().try_for_each(|applier| {
            applier.close_all();
            applier.tree().settle_all()
        })
    }

    /// What the copies say about themselves: one mark for all of them.
    ///
    /// # Errors
    /// What reading or making one says.
    pub fn mark(&self) -> Result<DataMark, Errno> {
        let mut all = DataMark { filesystem: 0, checkpoint: u64::MAX };
        for tree in &self.trees {
            let mark = read_mark(tree)?;
            all.filesystem = all.filesystem.rotate_left(1) ^ mark.filesystem;
            all.checkpoint = all.checkpoint.min(mark.checkpoint);
        }
        Ok(all)
    }

    /// Everything so far is on the disks, and the checkpoint's number with it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn flush(&self, checkpoint: u64) -> Result<(), Errno> {
        for tree in &self.trees {
            tree.settle_all()?;
            let mark = read_mark(tree)?;
            write_mark(tree, DataMark { checkpoint: checkpoint.max(mark.checkpoint), ..mark })?;
            rustix::fs::syncfs(&**tree.root())?;
        }
        Ok(())
    }
}

const MARK: &str = "mark";

fn hidden(tree: &Tree) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(tree.root().as_fd(), HIDDEN, flags, Mode::empty())
}

/// The mark of one directory; a directory without one gets one.
fn read_mark(tree: &Tree) -> Result<DataMark, Errno> {
    let folder = hidden(tree)?;
    let mut bytes = [0; 24];
    let read = rustix::fs::openat(&folder, MARK, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::pread(file, &mut bytes[..], 0));
    match read {
        Ok(24) => {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[16..]);
            let mut uuid = [0; 16];
            uuid.copy_from_slice(&bytes[..16]);
            Ok(DataMark { filesystem: u128::from_le_bytes(uuid), checkpoint: u64::from_le_bytes(number) })
        }
        Ok(_) | Err(Errno::NOENT) => {
            let mut uuid = [0; 16];
            rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())?;
            let mark = DataMark { filesystem: u128::from_le_bytes(uuid), checkpoint: 0 };
            write_mark(tree, mark)?;
            rustix::fs::syncfs(&folder)?;
            Ok(mark)
        }
        Err(errno) => Err(errno),
    }
}

/// Replaces the mark. It is on disk after the next syncfs; a torn one can't be, because a name leads to the old or the new file.
fn write_mark(tree: &Tree, mark: DataMark) -> Result<(), Errno> {
    let folder = hidden(tree)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, "mark.new", flags, Mode::from_raw_mode(0o600))?;
    let bytes = [&mark.filesystem.to_le_bytes()[..], &mark.checkpoint.to_le_bytes()].concat();
    if rustix::io::pwrite(&file, &bytes, 0)? != bytes.len() {
        return Err(Errno::IO);
    }
    rustix::fs::fsync(&file)?;
    rustix::fs::renameat(&folder, "mark.new", &folder, MARK)
}
