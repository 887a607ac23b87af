//! Requests about attributes: stat, chmod, chown, truncate, times, links' targets, the file system's size.

use std::os::fd::AsFd;

use rustix::fs::{OFlags, StatxTimestamp};
use rustix::io::Errno;

use crate::abi::{AttrOut, Kstatfs, SetattrIn, StatxFields, StatxIn, StatxOut, SxTime, fattr};
use crate::data::privileges_lost;
use crate::locks::Span;
use crate::mirror::{Context, Mirror, VALID, attr};
use crate::op::{Changes, Op, Time};
use crate::table::Node;
use crate::tree::statx;

/// `SetattrIn.fh` is set: the request came through an open file (ftruncate, open with O_TRUNC).
const FATTR_FH: u32 = 1 << 6;

impl Mirror {
    pub(crate) fn getattr(&self, cx: &mut Context<'_>) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        self.put_attributes(cx, &node)
    }

    fn put_attributes(&self, cx: &mut Context<'_>, node: &Node) -> Result<(), Errno> {
        let stat = self.tree.attributes(self.inode(node)?.as_fd(), node.id)?;
        cx.reply.put(&AttrOut { attr_valid: VALID, attr: attr(&stat, node.id), ..AttrOut::default() });
        Ok(())
    }

    /// As getattr, with the time of birth.
    pub(crate) fn statx(&self, cx: &mut Context<'_>, arguments: &StatxIn) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let stat = self.tree.attributes(self.inode(&node)?.as_fd(), node.id)?;
        let time = |t: StatxTimestamp| SxTime { tv_sec: t.tv_sec, tv_nsec: t.tv_nsec, reserved: 0 };
        let fields = StatxFields {
            mask: stat.stx_mask & arguments.sx_mask.max(rustix::fs::StatxFlags::BASIC_STATS.bits()),
            blksize: stat.stx_blksize,
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mode: stat.stx_mode,
            ino: node.id.ino(),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: time(stat.stx_atime),
            btime: time(stat.stx_btime),
            ctime: time(stat.stx_ctime),
            mtime: time(stat.stx_mtime),
            rdev_major: stat.stx_rdev_major,
            rdev_minor: stat.stx_rdev_minor,
            ..StatxFields::default()
        };
        cx.reply.put(&StatxOut { attr_valid: VALID, stat: fields, ..StatxOut::default() });
        Ok(())
    }

    pub(crate) fn setattr(&self, cx: &mut Context<'_>, arguments: &SetattrIn) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let _guard = self.locks.hold([Span::whole(node.id)]);
        let node = self.node(node.nodeid)?;
        let now = Time::now();
        let mut changes = wanted(arguments, now);
        let fd = match changes.size {
            None => self.inode(&node)?,
            Some(_) => match self.opens.get(node.nodeid, true) {
                Some(fd) => fd,
                None => self.tree.open_handle(&node.handle, OFlags::RDWR)?.into(),
            },
        };
        if changes == Changes::default() {
            // chown to the same owner, or the kernel's way to say that privileges go: both mean this.
            changes.mode = privileges_lost(cx, &statx(fd.as_fd())?);
        }
        if let Some(size) = changes.size {
            let stat = statx(fd.as_fd())?;
            if arguments.valid & fattr::KILL_SUIDGID != 0 && changes.mode.is_none() {
                changes.mode = privileges_lost(cx, &stat);
            }
            // truncate(2) to the size that it has changes no time, ftruncate(2) and O_TRUNC do.
            if changes.mtime.is_none() && (stat.stx_size != size || arguments.valid & FATTR_FH != 0) {
                changes.mtime = Some(now);
            }
        }
        let op = Op::SetAttr { id: node.id, changes, time: now };
        self.change(cx, Self::mirrored(&node), &op, &[(node.id, &fd)])?;
        self.put_attributes(cx, &node)
    }

    pub(crate) fn readlink(&self, cx: &mut Context<'_>) -> Result<(), Errno> {
        let fd = self.inode(&self.node(cx.header.nodeid)?)?;
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
        cx.reply.put_bytes(target.as_bytes());
        Ok(())
    }

    pub(crate) fn statfs(&self, cx: &mut Context<'_>) -> Result<(), Errno> {
        let stat = rustix::fs::fstatvfs(&**self.tree.root())?;
        cx.reply.put(&Kstatfs {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: stat.f_bsize as u32,
            namelen: stat.f_namemax as u32,
            frsize: stat.f_frsize as u32,
            ..Kstatfs::default()
        });
        Ok(())
    }
}

/// The request's fields that count; "now" is resolved here, once for both sides.
fn wanted(arguments: &SetattrIn, now: Time) -> Changes {
    let has = |bit: u32| arguments.valid & bit != 0;
    let time = |set: u32, set_now: u32, sec: u64, nsec: u32| match (has(set_now), has(set)) {
        (true, _) => Some(now),
        (false, true) => Some(Time { sec: sec.cast_signed(), nsec }),
        (false, false) => None,
    };
    Changes {
        mode: has(fattr::MODE).then_some(arguments.mode & 0o7777),
        uid: has(fattr::UID).then_some(arguments.uid),
        gid: has(fattr::GID).then_some(arguments.gid),
        size: has(fattr::SIZE).then_some(arguments.size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, arguments.atime, arguments.atimensec),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, arguments.mtime, arguments.mtimensec),
    }
}
