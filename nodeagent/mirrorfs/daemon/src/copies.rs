//! This machine's copies: the replicated directories below their mounts, and the mark that ties them to the state file.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mirror_core::durable::DataMark;
use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::tree::{HIDDEN, Tree};
use mirrorfs_net::frame::Refused;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::config::Config;
use crate::resync::target::Target;
use crate::under;

/// All replicated directories of a mirror, in the configuration's order.
pub struct Copies {
    pub trees: Vec<Arc<Tree>>,
    pub appliers: Vec<Applier>,
    target: Target,
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
        let appliers = trees.iter().cloned().map(Applier::new).collect();
        let excludes = config.directories.iter().map(|d| Exclude::new(d.exclude.iter().map(String::as_str)));
        let target = Target::new(trees.clone(), excludes.collect::<Result<_, _>>()?);
        Ok(Copies { trees, appliers, target })
    }

    /// A piece of a resync.
    ///
    /// # Errors
    /// It can't be read.
    pub fn piece(&self, payload: &[u8], answer: &mut Vec<u8>) -> Result<(), Refused> {
        self.target.answer(payload, answer)
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
