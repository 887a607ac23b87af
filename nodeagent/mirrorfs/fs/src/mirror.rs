//! The primary's file system: what all request handlers share.
//!
//! A handler turns a request into a resolved operation and calls `change`: peer first, then local. Handlers are grouped by
//! concern in `names`, `data`, `attributes`, `xattrs` and `listing`; `dispatch` knows which request is whose.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, OFlags, Statx};
use rustix::io::Errno;

use crate::abi::{Attr, EntryOut, InHeader, ROOT_NODE, init};
use crate::device::Reply;
use crate::exclude::{EXCLUDED, Exclude};
use crate::id::{FileId, NewIds};
use crate::locks::{Locks, Span};
use crate::op::{Entry, Op};
use crate::opens::{Listings, Opens};
use crate::perform::{Access, Effect, Resolve, open_entry, perform};
use crate::replicate::Session;
use crate::sys::{self, Handle};
use crate::table::{Node, Table, flag};
use crate::tree::{HIDDEN, Tree};

/// How long the kernel may keep entries and attributes, seconds: nobody else writes, and what a request changes
/// besides its own inode the kernel drops by itself.
pub const VALID: u64 = 24 * 3600;

/// One replicated directory on its primary.
pub struct Mirror {
    pub(crate) tree: Arc<Tree>,
    pub(crate) exclude: Exclude,
    pub(crate) table: Table,
    pub(crate) ids: NewIds,
    pub(crate) opens: Opens,
    pub(crate) listings: Listings,
    pub(crate) locks: Locks,
    /// What the kernel granted at INIT.
    features: AtomicU64,
}

/// What one FUSE thread has at hand for a request.
pub struct Context<'c> {
    pub header: &'c InHeader,
    pub session: &'c mut dyn Session,
    pub reply: &'c mut Reply,
}

/// An inode found under a name.
pub(crate) struct Found {
    pub fd: Arc<OwnedFd>,
    pub handle: Handle,
    pub id: FileId,
    pub place: u16,
}

/// The inodes of one operation, already open.
pub(crate) struct Known<'k>(pub &'k [(FileId, &'k Arc<OwnedFd>)]);

impl Resolve for Known<'_> {
    fn inode(&self, id: FileId, _access: Access) -> Result<Arc<OwnedFd>, Errno> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, fd)| (*fd).clone()).ok_or(Errno::STALE)
    }

    fn entry(&self, _parent: &OwnedFd, _name: &[u8], id: FileId) -> Result<Arc<OwnedFd>, Errno> {
        self.inode(id, Access::Path)
    }

    fn hides_nameless(&self) -> bool {
        false
    }
}

impl Mirror {
    pub fn new(tree: impl Into<Arc<Tree>>, exclude: Exclude) -> Mirror {
        Mirror {
            tree: tree.into(),
            exclude,
            table: Table::default(),
            ids: NewIds::default(),
            opens: Opens::default(),
            listings: Listings::default(),
            locks: Locks::default(),
            features: AtomicU64::new(0),
        }
    }

    /// Takes note of what was agreed with the kernel.
    pub(crate) fn granted(&self, flags: u64) {
        self.features.store(flags, Ordering::Relaxed);
    }

    /// Whether SETXATTR comes with flags of its own.
    pub(crate) fn extended_setxattr(&self) -> bool {
        self.features.load(Ordering::Relaxed) & init::SETXATTR_EXT != 0
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What exists on this side alone.
    pub fn exclude(&self) -> &Exclude {
        &self.exclude
    }

    /// Who is at work on what: also for a resync, which comes between operations like any of them.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// The inode's id. One that bears none, or brought another's along, gets one on this side alone.
    ///
    /// # Errors
    /// What reading or setting it says.
    pub fn identify(&self, fd: BorrowedFd<'_>) -> Result<FileId, Errno> {
        if let Some(id) = self.tree.identity(fd, &sys::handle_of(fd)?)? {
            return Ok(id);
        }
        let id = FileId::random()?;
        self.tree.set_id(fd, id)?;
        Ok(id)
    }

    /// How many inodes the kernel knows, and the bytes that they take.
    pub fn usage(&self) -> (usize, usize) {
        self.table.usage()
    }

    /// The inode that a request is about.
    pub(crate) fn node(&self, nodeid: u64) -> Result<Node, Errno> {
        if nodeid != ROOT_NODE {
            return self.table.get(nodeid).ok_or(Errno::STALE);
        }
        let handle = Handle { kind: 0, len: 0, bytes: [0; sys::HANDLE_MAX] };
        Ok(Node { nodeid, id: FileId::ROOT, handle, place: self.exclude.root(), flags: 0 })
    }

    /// A descriptor of the inode that names and attributes can be worked on with.
    pub(crate) fn inode(&self, node: &Node) -> Result<Arc<OwnedFd>, Errno> {
        if node.nodeid == ROOT_NODE {
            return Ok(self.tree.root().clone());
        }
        // An open file first: an inode without a name may no longer open by its handle.
        if let Some(fd) = self.opens.get(node.nodeid, false) {
            return Ok(fd);
        }
        self.tree.open_handle(&node.handle, OFlags::PATH | OFlags::NOFOLLOW).map(Arc::new)
    }

    /// Whether changes to this inode go to the peer.
    pub(crate) fn mirrored(node: &Node) -> bool {
        node.place != EXCLUDED && node.flags & flag::ORPHAN == 0
    }

    /// Peer first, then local. Call with the locks of all that the operation touches.
    pub(crate) fn change(
        &self,
        cx: &mut Context<'_>,
        mirrored: bool,
        op: &Op<'_>,
        known: &[(FileId, &Arc<OwnedFd>)],
    ) -> Result<Effect, Errno> {
        if !mirrored {
            return perform(&self.tree, op, &Known(known));
        }
        cx.session.begin(op)?;
        let effect = perform(&self.tree, op, &Known(known));
        cx.session.done(op, effect.as_ref().map(drop).map_err(|errno| *errno))?;
        effect
    }

    /// Opens what stands under `name`; gives it an id where it has none. `locked`: the caller holds the parent's lock.
    pub(crate) fn find(
        &self,
        cx: &mut Context<'_>,
        parent: &Node,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        locked: bool,
    ) -> Result<Found, Errno> {
        if parent.id == FileId::ROOT && name == HIDDEN.as_bytes() {
            return Err(Errno::NOENT);
        }
        let fd = Arc::new(open_entry(directory, name)?);
        let handle = sys::handle_of(fd.as_fd())?;
        let place = self.exclude.child(parent.place, name);
        if let Some(node) = self.table.find(&handle) {
            return Ok(Found { fd, handle, id: node.id, place });
        }
        if let Some(id) = self.tree.identity(fd.as_fd(), &handle)? {
            return Ok(Found { fd, handle, id, place });
        }
        let _guard = (!locked).then(|| self.locks.hold([Span::whole(parent.id)]));
        self.adopt(cx, parent, directory, name, place)
    }

    /// Gives the inode under `name` an id, on both sides. Call with the parent's lock.
    fn adopt(
        &self,
        cx: &mut Context<'_>,
        parent: &Node,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        place: u16,
    ) -> Result<Found, Errno> {
        // The name may have moved on, or another thread may have been faster.
        let fd = Arc::new(open_entry(directory, name)?);
        let handle = sys::handle_of(fd.as_fd())?;
        if let Some(id) = self.tree.identity(fd.as_fd(), &handle)? {
            return Ok(Found { fd, handle, id, place });
        }
        let id = FileId::random()?;
        let op = Op::Adopt { id, entry: Entry { parent: parent.id, name } };
        let mirrored = Self::mirrored(parent) && place != EXCLUDED;
        self.change(cx, mirrored, &op, &[(parent.id, directory)])?;
        Ok(Found { fd, handle, id, place })
    }

    /// Tells the kernel of an inode, which counts as a lookup.
    pub(crate) fn entry_out(&self, found: &Found) -> Result<EntryOut, Errno> {
        let stat = self.tree.attributes(found.fd.as_fd(), found.id)?;
        let node = self.table.enter(found.handle, found.id, found.place);
        Ok(EntryOut {
            nodeid: node.nodeid,
            entry_valid: VALID,
            attr_valid: VALID,
            attr: attr(&stat, found.id),
            ..EntryOut::default()
        })
    }
}

/// Attributes as the kernel wants them.
pub(crate) fn attr(stat: &Statx, id: FileId) -> Attr {
    Attr {
        ino: id.ino(),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: stat.stx_atime.tv_sec as u64,
        mtime: stat.stx_mtime.tv_sec as u64,
        ctime: stat.stx_ctime.tv_sec as u64,
        atimensec: stat.stx_atime.tv_nsec,
        mtimensec: stat.stx_mtime.tv_nsec,
        ctimensec: stat.stx_ctime.tv_nsec,
        mode: u32::from(stat.stx_mode),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: device(stat),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

/// A device's number in the kernel's 32-bit form.
fn device(stat: &Statx) -> u32 {
    match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::CharacterDevice | FileType::BlockDevice => {
            let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
            minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12
        }
        _ => 0,
    }
}
