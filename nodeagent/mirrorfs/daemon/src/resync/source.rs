//! The source's side of a resync: one thread that carries out the core's tasks, each object whole.
//!
//! A piece of a file is read and sent under the lock of its range, everything else under the inode's: changes of the application
//! come before or after it on both sides. An inode that the target lacks is copied before the directory that names it, with all
//! below it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mirror_core::ids::{Incarnation, ObjectId};
use mirror_core::message::{Frame, Kind, Message, Outcome};
use mirror_core::{Event, RoleName};
use mirrorfs_fs::exclude::{EXCLUDED, Exclude, PLAIN};
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::locks::Span;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::op::{DATA_MAX, Time};
use mirrorfs_fs::perform::open_entry;
use mirrorfs_fs::tree::{HIDDEN, Tree, file_type, proc_path, statx};
use mirrorfs_net::client::{Call, Caller, Outcome as Answer};
use mirrorfs_net::hello::Channel;
use mirrorfs_net::link::Broken;
use mirrorfs_sync::object::Object;
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use super::limbo;
use super::piece::{Inode, Piece, encode};
use super::target::{DONE, MISSING, xattrs};
use crate::driver::{Driver, Sending, Task};
use crate::intake::COPIED;
use crate::log;
use crate::metrics::Metrics;

/// How many entries of a directory travel in one piece.
const ENTRIES: usize = 2_000;
/// How long the thread waits before it calls again.
const PAUSE: Duration = Duration::from_millis(50);

/// The mounted file systems, for whoever has to hold their locks.
#[derive(Default)]
pub struct Mounted(Mutex<Vec<Arc<Mirror>>>);

impl Mounted {
    pub fn set(&self, mirrors: Vec<Arc<Mirror>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mirrors;
    }

    fn get(&self, tree: u16) -> Option<Arc<Mirror>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(usize::from(tree)).cloned()
    }

    fn all(&self) -> Vec<Arc<Mirror>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a copy did not come about.
enum Failure {
    Peer(Broken),
    /// The target could not do it, or nothing is mounted here any more.
    Target,
    Local(Errno),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Peer(broken) => write!(f, "{broken}"),
            Failure::Target => f.write_str("the target could not do it, or nothing is mounted here any more"),
            Failure::Local(errno) => write!(f, "reading it here: {errno}"),
        }
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Failure {
        Failure::Peer(broken)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Local(errno)
    }
}

/// The thread's state.
pub struct Source {
    pub driver: Arc<Driver>,
    pub mounted: Arc<Mounted>,
    pub call: Call,
    metrics: Arc<Metrics>,
    pieces: Option<Caller>,
    operations: Option<Caller>,
    /// The resync that the target has begun with us.
    session: Option<u32>,
    generation: u64,
    memory: Vec<u8>,
}

impl Source {
    pub fn new(driver: Arc<Driver>, mounted: Arc<Mounted>, call: Call, metrics: Arc<Metrics>) -> Source {
        Source {
            driver,
            mounted,
            call,
            metrics,
            pieces: None,
            operations: None,
            session: None,
            generation: 0,
            memory: Vec::new(),
        }
    }

    /// Carries out the core's tasks, until the process ends.
    pub fn work(&mut self, tasks: &Receiver<Task>) {
        while let Ok(task) = tasks.recv() {
            match task {
                Task::Copy(sending) => self.copy(&sending),
                Task::Walk { session } => self.walk(session),
                // Whether both are equal is not compared yet: they are taken for different, and a witness decides.
                Task::Compare => self.driver.tell(Event::Compared { equal: false }),
            }
        }
    }

    /// Names every object of the mounted copies.
    fn walk(&self, session: u32) {
        for (number, mirror) in self.mounted.all().iter().enumerate() {
            if let Err(errno) = self.walk_tree(session, number as u16, mirror) {
                log::error("walking over the copy failed", &[("reason", &errno)]);
                return self.driver.tell(Event::DiskError);
            }
        }
        self.driver.walked(session, None);
    }

    fn walk_tree(&self, session: u32, tree: u16, mirror: &Mirror) -> Result<(), Errno> {
        let mut folders = vec![FileId::ROOT];
        self.driver.walked(session, Some(Object { tree, id: FileId::ROOT }.into()));
        while let Some(id) = folders.pop() {
            for (_, child, kind) in children(mirror, id)? {
                self.driver.walked(session, Some(Object { tree, id: child }.into()));
                if kind == FileType::Directory {
                    folders.push(child);
                }
            }
        }
        Ok(())
    }

    /// One object, or the end of them all; whatever comes of it, the core hears of it.
    fn copy(&mut self, sending: &Sending) {
        let op = sending.op;
        let (target, session) = {
            let inner = self.driver.lock();
            match inner.node.resync() {
                Some(resync) => (resync.target, Some(resync.session)),
                None if inner.node.role() == RoleName::Prim => (Incarnation::default(), None),
                None => return,
            }
        };
        self.generation = sending.generation.0;
        let result = self.begin(session).and_then(|()| match op.kind {
            Kind::Purge => self.send(&Piece::Purge).map(drop),
            _ => self.object(op.object),
        });
        let result = result.and_then(|()| self.announce(sending));
        let outcome = match &result {
            Ok(()) => {
                self.metrics.resync_objects.fetch_add(1, Ordering::Relaxed);
                Outcome::Done
            }
            Err(failure) => {
                log::error("an object was not copied", &[("reason", failure)]);
                (self.pieces, self.operations, self.session) = (None, None, None);
                std::thread::sleep(PAUSE);
                Outcome::NotYet
            }
        };
        let from = if target == Incarnation::default() { self.peer().unwrap_or_default() } else { target };
        let message = Message::Acknowledgement { generation: sending.generation, seq: op.seq, outcome };
        self.driver.tell(Event::Received(Frame { node: self.driver.peer, from, message }));
    }

    fn peer(&self) -> Option<Incarnation> {
        self.operations.as_ref().map(|c| Incarnation { boot: c.peer().boot, process: c.peer().process })
    }

    /// The target forgets what an earlier resync left.
    fn begin(&mut self, session: Option<u32>) -> Result<(), Failure> {
        if session.is_some() && self.session != session {
            (self.pieces, self.operations) = (None, None);
            self.send(&Piece::Begin)?;
            self.session = session;
        }
        Ok(())
    }

    /// The target's core hears that everything before this number has arrived.
    fn announce(&mut self, sending: &Sending) -> Result<(), Failure> {
        if self.operations.is_none() {
            self.operations = Some(Caller::connect(&self.call, Channel::Data, drop)?);
        }
        let caller = self.operations.as_mut().ok_or(Failure::Target)?;
        let low = sending.low.0.to_le_bytes();
        caller.send(0, sending.generation.0, sending.op.seq.0, [&low, COPIED])?;
        match caller.answer()? {
            Answer::Done => Ok(()),
            _ => Err(Failure::Target),
        }
    }

    /// Sends a piece; returns the ids that the target lacks.
    fn send(&mut self, piece: &Piece<'_>) -> Result<Vec<FileId>, Failure> {
        if self.pieces.is_none() {
            self.pieces = Some(Caller::connect(&self.call, Channel::Resync, drop)?);
        }
        let caller = self.pieces.as_mut().ok_or(Failure::Target)?;
        self.memory.clear();
        let data = encode(piece, &mut self.memory);
        self.metrics.resync_bytes.fetch_add((self.memory.len() + data.len()) as u64, Ordering::Relaxed);
        match caller.piece(self.generation, [&self.memory, data])?.split_first() {
            Some((&DONE, _)) => Ok(Vec::new()),
            Some((&MISSING, ids)) => Ok(ids.chunks_exact(16).filter_map(FileId::from_bytes).collect()),
            _ => Err(Failure::Target),
        }
    }

    /// Makes one object equal. An inode that is gone here needs nothing: whatever named it is an object of its own.
    fn object(&mut self, object: ObjectId) -> Result<(), Failure> {
        let Some(Object { tree, id }) = Object::from_core(object) else { return Ok(()) };
        let mirror = self.mounted.get(tree).ok_or(Failure::Target)?;
        // What is missing is copied first, with all below it: a stack instead of recursion, a directory once before and once
        // after what is in it.
        let mut stack = vec![id];
        while let Some(id) = stack.last().copied() {
            let missing = self.inode(tree, &mirror, id)?;
            if missing.is_empty() {
                stack.pop();
            } else if missing.iter().any(|id| stack.contains(id)) {
                // Moved while we looked: the core will name it again.
                return Err(Failure::Target);
            } else {
                stack.extend(missing);
            }
        }
        Ok(())
    }

    /// One inode. Returns what has to be there before it can be complete.
    fn inode(&mut self, tree: u16, mirror: &Mirror, id: FileId) -> Result<Vec<FileId>, Failure> {
        let fd = match mirror.tree().open_id(id, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            Err(Errno::STALE | Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let kind = file_type(&statx(fd.as_fd())?);
        {
            let _guard = mirror.locks().hold([Span::whole(id)]);
            self.send(&Piece::Inode { tree, id, inode: describe(mirror.tree(), &fd, id)? })?;
        }
        match kind {
            FileType::RegularFile => self.data(tree, mirror, id)?,
            FileType::Directory => {
                // Without the lock first: what is missing may take long.
                let missing = self.entries(tree, children(mirror, id)?, id)?;
                if !missing.is_empty() {
                    return Ok(missing);
                }
            }
            _ => {}
        }
        let _guard = mirror.locks().hold([Span::whole(id)]);
        if kind == FileType::Directory {
            let missing = self.entries(tree, children(mirror, id)?, id)?;
            if !missing.is_empty() {
                return Ok(missing);
            }
        }
        // Again: the times of what was just filled.
        self.send(&Piece::Inode { tree, id, inode: describe(mirror.tree(), &fd, id)? })?;
        self.send(&Piece::Complete { tree, id })?;
        Ok(Vec::new())
    }

    fn entries(
        &mut self,
        tree: u16,
        children: Vec<(Vec<u8>, FileId, FileType)>,
        id: FileId,
    ) -> Result<Vec<FileId>, Failure> {
        let mut left = children.into_iter().map(|(name, id, _)| (name, id)).peekable();
        loop {
            let entries: Vec<_> = left.by_ref().take(ENTRIES).collect();
            let last = left.peek().is_none();
            let missing = self.send(&Piece::Entries { tree, id, last, entries })?;
            if last {
                return Ok(missing);
            }
        }
    }

    fn data(&mut self, tree: u16, mirror: &Mirror, id: FileId) -> Result<(), Failure> {
        let file = mirror.tree().open_id(id, OFlags::RDONLY | OFlags::NOFOLLOW)?;
        let mut buffer = vec![0; DATA_MAX];
        let mut at = 0;
        loop {
            let _guard = mirror.locks().hold([Span::bytes(id, at, DATA_MAX as u64)]);
            let size = statx(file.as_fd())?.stx_size;
            if at >= size {
                return Ok(());
            }
            let end = size.min(at + DATA_MAX as u64);
            let data = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data.min(end),
                Err(Errno::NXIO) => end,
                Err(errno) => return Err(errno.into()),
            };
            if data > at {
                self.send(&Piece::Hole { tree, id, offset: at, length: data - at })?;
                at = data;
                continue;
            }
            let length = (end - at) as usize;
            let got = rustix::io::pread(&file, &mut buffer[..length], at)?;
            if got == 0 {
                return Ok(());
            }
            self.send(&Piece::Data { tree, id, offset: at, data: &buffer[..got] })?;
            at += got as u64;
        }
    }
}

/// What an inode is.
fn describe(tree: &Tree, fd: &OwnedFd, id: FileId) -> Result<Inode, Errno> {
    let stat = tree.attributes(fd.as_fd(), id)?;
    let time = |t: &rustix::fs::StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
    let target = if file_type(&stat) == FileType::Symlink {
        rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes()
    } else {
        Vec::new()
    };
    Ok(Inode {
        mode: u32::from(stat.stx_mode),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor) as u32,
        size: stat.stx_size,
        atime: time(&stat.stx_atime),
        mtime: time(&stat.stx_mtime),
        target,
        xattrs: xattrs(fd)?,
    })
}

/// The replicated entries of a directory. What has no id yet gets one.
fn children(mirror: &Mirror, id: FileId) -> Result<Vec<(Vec<u8>, FileId, FileType)>, Errno> {
    let tree = mirror.tree();
    let directory = match tree.open_id(id, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
        Ok(directory) => directory,
        Err(Errno::STALE | Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let at = place(tree, mirror.exclude(), directory.as_fd())?;
    let mut all = Vec::new();
    for name in limbo::entries(directory.as_fd())? {
        if id == FileId::ROOT && name == HIDDEN.as_bytes() || mirror.exclude().child(at, &name) == EXCLUDED {
            continue;
        }
        let fd = match open_entry(&directory, &name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let child = mirror.identify(fd.as_fd())?;
        all.push((name, child, file_type(&statx(fd.as_fd())?)));
    }
    Ok(all)
}

/// A directory's place among the excluded paths.
///
/// # Errors
/// What finding its path says.
pub fn place(tree: &Tree, exclude: &Exclude, directory: BorrowedFd<'_>) -> Result<u16, Errno> {
    if exclude.root() == PLAIN {
        return Ok(PLAIN);
    }
    let path = |fd: BorrowedFd<'_>| rustix::fs::readlink(proc_path(fd), Vec::new()).map(std::ffi::CString::into_bytes);
    let (root, path) = (path(tree.root().as_fd())?, path(directory)?);
    let below = path.strip_prefix(&root[..]).unwrap_or_default();
    let names = below.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    Ok(names.fold(exclude.root(), |at, name| exclude.child(at, name)))
}
