//! Requests about names: lookup, create, link, unlink, rename, nameless files.
//!
//! Resolve, lock in id order, resolve again under the locks (the first look may be stale), then change.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::abi::{CreateIn, EntryOut, MknodIn, OPEN_KEEP_CACHE, OpenOut};
use crate::acl::{Parent, born};
use crate::data::open_flags;
use crate::exclude::{EXCLUDED, PLAIN};
use crate::id::FileId;
use crate::locks::Span;
use crate::mirror::{Context, Found, Mirror};
use crate::op::{Birth, Entry, Op, Time};
use crate::sys;
use crate::table::{Node, flag};
use crate::tree::{HIDDEN, proc_path, statx};

/// What a caller asks for when it makes an inode.
pub(crate) struct Wish<'w> {
    pub name: &'w [u8],
    pub mode: u32,
    pub umask: u32,
    pub rdev: u32,
    pub target: &'w [u8],
}

impl Mirror {
    pub(crate) fn lookup(&self, cx: &mut Context<'_>, name: &[u8]) -> Result<(), Errno> {
        let parent = self.node(cx.header.nodeid)?;
        let directory = self.inode(&parent)?;
        let entry = match self.find(cx, &parent, &directory, name, false) {
            Ok(found) => self.entry_out(&found)?,
            // Worth remembering: only we can make it appear.
            Err(Errno::NOENT) => EntryOut { entry_valid: crate::mirror::VALID, ..EntryOut::default() },
            Err(errno) => return Err(errno),
        };
        cx.reply.put(&entry);
        Ok(())
    }

    /// mkdir, mknod, symlink.
    pub(crate) fn make(&self, cx: &mut Context<'_>, wish: &Wish<'_>) -> Result<(), Errno> {
        let parent = self.node(cx.header.nodeid)?;
        let _guard = self.locks.hold([Span::whole(parent.id)]);
        let directory = self.inode(&parent)?;
        let found = self.bring_up(cx, &parent, &directory, wish)?;
        cx.reply.put(&self.entry_out(&found)?);
        Ok(())
    }

    pub(crate) fn mknod(&self, cx: &mut Context<'_>, arguments: &MknodIn, name: &[u8]) -> Result<(), Errno> {
        let (mode, umask, rdev) = (arguments.mode, arguments.umask, arguments.rdev);
        self.make(cx, &Wish { name, mode, umask, rdev, target: b"" })
    }

    /// Open with O_CREAT: the kernel has seen no such name.
    pub(crate) fn create(&self, cx: &mut Context<'_>, arguments: &CreateIn, name: &[u8]) -> Result<(), Errno> {
        let parent = self.node(cx.header.nodeid)?;
        let guard = self.locks.hold([Span::whole(parent.id)]);
        let directory = self.inode(&parent)?;
        let mode = FileType::RegularFile.as_raw_mode() | arguments.mode & 0o7777;
        let wish = Wish { name, mode, umask: arguments.umask, rdev: 0, target: b"" };
        let flags = OFlags::from_bits_retain(arguments.flags);
        let (found, fresh) = match self.bring_up(cx, &parent, &directory, &wish) {
            Ok(found) => (found, true),
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => {
                (self.find(cx, &parent, &directory, name, true)?, false)
            }
            Err(errno) => return Err(errno),
        };
        drop(guard);
        let entry = self.entry_out(&found)?;
        if fresh {
            self.opens.add(entry.nodeid, found.fd, true);
        } else if let Err(errno) = self.open_node(&self.node(entry.nodeid)?, flags) {
            self.table.forget(entry.nodeid, 1);
            return Err(errno);
        }
        cx.reply.put(&entry);
        cx.reply.put(&OpenOut { fh: 0, open_flags: open_flags(flags), backing_id: 0 });
        Ok(())
    }

    /// Makes an inode under a name. Call with the parent's lock.
    fn bring_up(
        &self,
        cx: &mut Context<'_>,
        parent: &Node,
        directory: &Arc<OwnedFd>,
        wish: &Wish<'_>,
    ) -> Result<Found, Errno> {
        if parent.id == FileId::ROOT && wish.name == HIDDEN.as_bytes() {
            return Err(Errno::PERM);
        }
        // Known before the peer makes it: afterwards it would be too late to refuse.
        match rustix::fs::accessat(
            directory,
            wish.name,
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Err(Errno::NOENT) => {}
            Ok(()) => return Err(Errno::EXIST),
            Err(errno) => return Err(errno),
        }
        let birth = self.birth(cx, directory, wish)?;
        let entry = Entry { parent: parent.id, name: wish.name };
        let op = Op::Create { entry, birth, rdev: wish.rdev, target: wish.target };
        let place = self.exclude.child(parent.place, wish.name);
        let mirrored = Self::mirrored(parent) && place != EXCLUDED;
        let fd = self.change(cx, mirrored, &op, &[(parent.id, directory)])?.born.ok_or(Errno::IO)?;
        let handle = sys::handle_of(fd.as_fd())?;
        Ok(Found { fd, handle, id: birth.id, place })
    }

    /// Id, final mode, owner and time of a new inode.
    fn birth(&self, cx: &Context<'_>, directory: &Arc<OwnedFd>, wish: &Wish<'_>) -> Result<Birth, Errno> {
        let stat = statx(directory.as_fd())?;
        let mut acl = [0; 4096];
        let default_acl = match rustix::fs::getxattr(proc_path(directory.as_fd()), "system.posix_acl_default", &mut acl)
        {
            Ok(length) => Some(&acl[..length]),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
            Err(errno) => return Err(errno),
        };
        let parent = Parent { mode: u32::from(stat.stx_mode), gid: stat.stx_gid, default_acl };
        let (mode, gid) = born(parent, wish.mode, wish.umask, cx.header.gid);
        Ok(Birth { id: self.ids.next()?, mode, uid: cx.header.uid, gid, time: Time::now() })
    }

    /// O_TMPFILE.
    pub(crate) fn tmpfile(&self, cx: &mut Context<'_>, arguments: &CreateIn) -> Result<(), Errno> {
        let parent = self.node(cx.header.nodeid)?;
        let directory = self.inode(&parent)?;
        let mode = FileType::RegularFile.as_raw_mode() | arguments.mode & 0o7777;
        let wish = Wish { name: b"", mode, umask: arguments.umask, rdev: 0, target: b"" };
        let birth = self.birth(cx, &directory, &wish)?;
        let op = Op::Tmpfile { parent: parent.id, birth };
        let fd = self.change(cx, Self::mirrored(&parent), &op, &[(parent.id, &directory)])?.born.ok_or(Errno::IO)?;
        let handle = sys::handle_of(fd.as_fd())?;
        let place = if parent.place == EXCLUDED { EXCLUDED } else { PLAIN };
        let entry = self.entry_out(&Found { fd: fd.clone(), handle, id: birth.id, place })?;
        self.table.mark(&handle, flag::NAMELESS, 0);
        self.opens.add(entry.nodeid, fd, true);
        cx.reply.put(&entry);
        let flags = OFlags::from_bits_retain(arguments.flags);
        cx.reply.put(&OpenOut { fh: 0, open_flags: open_flags(flags) | OPEN_KEEP_CACHE, backing_id: 0 });
        Ok(())
    }

    pub(crate) fn link(&self, cx: &mut Context<'_>, old: u64, name: &[u8]) -> Result<(), Errno> {
        let (parent, node) = (self.node(cx.header.nodeid)?, self.node(old)?);
        let place = self.exclude.child(parent.place, name);
        // One inode can't be on one machine and on both: the border is a file system's border.
        if place != node.place {
            return Err(Errno::XDEV);
        }
        if parent.id == FileId::ROOT && name == HIDDEN.as_bytes() {
            return Err(Errno::PERM);
        }
        let _guard = self.locks.hold([Span::whole(parent.id), Span::whole(node.id)]);
        let node = self.node(old)?;
        let (directory, fd) = (self.inode(&parent)?, self.inode(&node)?);
        let op = Op::Link { id: node.id, entry: Entry { parent: parent.id, name }, time: Time::now() };
        self.change(cx, Self::mirrored(&node), &op, &[(parent.id, &directory), (node.id, &fd)])?;
        self.table.mark(&node.handle, 0, flag::NAMELESS);
        let found = Found { fd, handle: node.handle, id: node.id, place };
        cx.reply.put(&self.entry_out(&found)?);
        Ok(())
    }

    pub(crate) fn unlink(&self, cx: &mut Context<'_>, name: &[u8], directory: bool) -> Result<(), Errno> {
        let parent = self.node(cx.header.nodeid)?;
        let parent_fd = self.inode(&parent)?;
        loop {
            let seen = self.find(cx, &parent, &parent_fd, name, false)?;
            let _guard = self.locks.hold([Span::whole(parent.id), Span::whole(seen.id)]);
            let found = self.find(cx, &parent, &parent_fd, name, true)?;
            if found.id != seen.id {
                continue;
            }
            let op =
                Op::Unlink { id: found.id, entry: Entry { parent: parent.id, name }, directory, time: Time::now() };
            let mirrored = Self::mirrored(&parent) && found.place != EXCLUDED;
            let effect = self.change(cx, mirrored, &op, &[(parent.id, &parent_fd), (found.id, &found.fd)])?;
            if effect.gone.is_some() {
                self.table.mark(&found.handle, flag::ORPHAN, 0);
            }
            return Ok(());
        }
    }

    pub(crate) fn rename(
        &self,
        cx: &mut Context<'_>,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let known = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(known) {
            return Err(Errno::INVAL);
        }
        let (old, new) = (self.node(cx.header.nodeid)?, self.node(new_parent)?);
        if new.id == FileId::ROOT && new_name == HIDDEN.as_bytes() {
            return Err(Errno::PERM);
        }
        let (old_fd, new_fd) = (self.inode(&old)?, self.inode(&new)?);
        loop {
            let seen = self.find(cx, &old, &old_fd, name, false)?;
            let seen_target = self.find_maybe(cx, &new, &new_fd, new_name, false)?;
            let other = seen_target.as_ref().map_or(seen.id, |found| found.id);
            let spans = [old.id, new.id, seen.id, other].map(Span::whole);
            let _guard = self.locks.hold(spans);
            let moved = self.find(cx, &old, &old_fd, name, true)?;
            let target = self.find_maybe(cx, &new, &new_fd, new_name, true)?;
            if moved.id != seen.id
                || target.as_ref().map(|found| found.id) != seen_target.as_ref().map(|found| found.id)
            {
                continue;
            }
            let place = self.exclude.child(new.place, new_name);
            self.same_side(moved.place, place)?;
            let (from, to) = (Entry { parent: old.id, name }, Entry { parent: new.id, name: new_name });
            let (replaced, time) = (target.as_ref().map(|found| found.id), Time::now());
            let op = Op::Rename { id: moved.id, from, to, replaced, flags, time };
            let target_fd = target.as_ref().map_or(&moved.fd, |found| &found.fd);
            let inodes = [(old.id, &old_fd), (new.id, &new_fd), (moved.id, &moved.fd), (other, target_fd)];
            let effect = self.change(cx, place != EXCLUDED, &op, &inodes)?;
            if let (Some(_), Some(target)) = (effect.gone, target) {
                self.table.mark(&target.handle, flag::ORPHAN, 0);
            }
            return Ok(());
        }
    }

    /// A rename may not carry anything over the border of the excluded paths, nor move the border.
    fn same_side(&self, from: u16, to: u16) -> Result<(), Errno> {
        if from == to && [PLAIN, EXCLUDED].contains(&from) { Ok(()) } else { Err(Errno::XDEV) }
    }

    fn find_maybe(
        &self,
        cx: &mut Context<'_>,
        parent: &Node,
        directory: &Arc<OwnedFd>,
        name: &[u8],
        locked: bool,
    ) -> Result<Option<Found>, Errno> {
        match self.find(cx, parent, directory, name, locked) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}
