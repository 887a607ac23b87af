//! Requests about file data: open, read, write, fsync, fallocate, seek, copy, release.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{OFlags, Statx};
use rustix::io::Errno;

use crate::abi::{
    CopyFileRangeIn, FSYNC_FDATASYNC, FallocateIn, FsyncIn, LseekIn, LseekOut, OPEN_DIRECT_IO, OPEN_KEEP_CACHE,
    OPEN_PARALLEL_DIRECT_WRITES, OpenIn, OpenOut, ReadIn, WRITE_KILL_SUIDGID, WriteIn, WriteOut,
};
use crate::acl::without_privileges;
use crate::locks::Span;
use crate::mirror::{Context, Mirror};
use crate::op::{Changes, DATA_MAX, Op, Time};
use crate::table::{Node, flag};
use crate::tree::{proc_path, statx};

/// What O_DIRECT demands of offset and length on the file systems below; ours would take anything.
const DIRECT_ALIGNMENT: u64 = 512;

/// The most that one copy_file_range holds the locks for; the caller sees a short count and goes on.
const COPY_MAX: u64 = 64 << 20;

/// How the kernel is to treat an open file.
pub(crate) fn open_flags(flags: OFlags) -> u32 {
    // KEEP_CACHE: nobody but us writes, so what was read before is still right.
    if flags.contains(OFlags::DIRECT) {
        OPEN_DIRECT_IO | OPEN_PARALLEL_DIRECT_WRITES | OPEN_KEEP_CACHE
    } else {
        OPEN_KEEP_CACHE
    }
}

fn writes(flags: OFlags) -> bool {
    flags.contains(OFlags::WRONLY) || flags.contains(OFlags::RDWR)
}

impl Mirror {
    pub(crate) fn open(&self, cx: &mut Context<'_>, arguments: &OpenIn) -> Result<(), Errno> {
        let flags = OFlags::from_bits_retain(arguments.flags);
        self.open_node(&self.node(cx.header.nodeid)?, flags)?;
        cx.reply.put(&OpenOut { fh: 0, open_flags: open_flags(flags), backing_id: 0 });
        Ok(())
    }

    /// One more open of a file. Writers share a read-write descriptor: the kernel checked what each may do.
    pub(crate) fn open_node(&self, node: &Node, flags: OFlags) -> Result<(), Errno> {
        let writable = writes(flags);
        if self.opens.again(node.nodeid, writable) {
            return Ok(());
        }
        // O_APPEND, O_SYNC, O_TRUNC stay with the kernel above: it sends offsets, fsyncs and truncations.
        let mode = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = match self.opens.get(node.nodeid, false) {
            // A file without a name may no longer open by its handle.
            Some(open) if node.flags & (flag::ORPHAN | flag::NAMELESS) != 0 => {
                rustix::fs::open(proc_path(open.as_fd()), mode | OFlags::CLOEXEC, rustix::fs::Mode::empty())?
            }
            _ => self.tree.open_handle(&node.handle, mode | OFlags::NOFOLLOW)?,
        };
        self.opens.add(node.nodeid, Arc::new(fd), writable);
        Ok(())
    }

    pub(crate) fn release(&self, cx: &mut Context<'_>) -> Result<(), Errno> {
        let nodeid = cx.header.nodeid;
        let Some(fd) = self.opens.release(nodeid) else { return Ok(()) };
        let node = self.node(nodeid)?;
        if node.flags & flag::NAMELESS != 0 {
            self.change(cx, Self::mirrored(&node), &Op::Discard { id: node.id }, &[])?;
            return Ok(());
        }
        self.tree.settle(fd.as_fd(), node.id)
    }

    fn file(&self, node: &Node, writable: bool) -> Result<Arc<OwnedFd>, Errno> {
        self.opens.get(node.nodeid, writable).ok_or(Errno::BADF)
    }

    pub(crate) fn read(&self, cx: &mut Context<'_>, arguments: &ReadIn) -> Result<(), Errno> {
        let fd = self.file(&self.node(cx.header.nodeid)?, false)?;
        check_direct(arguments.flags, arguments.offset, arguments.size)?;
        cx.reply.read_file(&fd, arguments.offset, arguments.size as usize)
    }

    pub(crate) fn write(&self, cx: &mut Context<'_>, arguments: &WriteIn, data: &[u8]) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let fd = self.file(&node, true)?;
        check_direct(arguments.flags, arguments.offset, arguments.size)?;
        if arguments.write_flags & WRITE_KILL_SUIDGID != 0 {
            self.drop_privileges(cx, &node, &fd)?;
        }
        let _guard = self.locks.hold([Span::bytes(node.id, arguments.offset, data.len() as u64)]);
        // Under the lock: an unlink that has finished made it local.
        let node = self.node(node.nodeid)?;
        let op = Op::Write { id: node.id, offset: arguments.offset, time: Time::now(), data };
        self.change(cx, Self::mirrored(&node), &op, &[(node.id, &fd)])?;
        cx.reply.put(&WriteOut { size: data.len() as u32, padding: 0 });
        Ok(())
    }

    /// Takes set-user-id and set-group-id away, where there are any, for a writer that may not keep them.
    fn drop_privileges(&self, cx: &mut Context<'_>, node: &Node, fd: &Arc<OwnedFd>) -> Result<(), Errno> {
        if privileges_lost(cx, &statx(fd.as_fd())?).is_none() {
            return Ok(());
        }
        let _guard = self.locks.hold([Span::whole(node.id)]);
        let Some(mode) = privileges_lost(cx, &statx(fd.as_fd())?) else { return Ok(()) };
        let changes = Changes { mode: Some(mode), ..Changes::default() };
        let op = Op::SetAttr { id: node.id, changes, time: Time::now() };
        self.change(cx, Self::mirrored(&self.node(node.nodeid)?), &op, &[(node.id, fd)]).map(drop)
    }

    /// As `drop_privileges`, for requests that don't say whether the caller may keep them: the superuser may.
    fn drop_privileges_of_others(&self, cx: &mut Context<'_>, node: &Node, fd: &Arc<OwnedFd>) -> Result<(), Errno> {
        if cx.header.uid == 0 { Ok(()) } else { self.drop_privileges(cx, node, fd) }
    }

    /// A barrier on both sides, at work on both at once.
    pub(crate) fn fsync(&self, cx: &mut Context<'_>, arguments: &FsyncIn, directory: bool) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let fd = if directory {
            let listing = self.listings.get(arguments.fh)?;
            listing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fd.clone()
        } else {
            self.file(&node, false)?
        };
        let op = Op::Sync { id: node.id, data_only: arguments.fsync_flags & FSYNC_FDATASYNC != 0 };
        self.change(cx, Self::mirrored(&node), &op, &[(node.id, &fd)]).map(drop)
    }

    pub(crate) fn fallocate(&self, cx: &mut Context<'_>, arguments: &FallocateIn) -> Result<(), Errno> {
        let node = self.node(cx.header.nodeid)?;
        let fd = self.file(&node, true)?;
        self.drop_privileges_of_others(cx, &node, &fd)?;
        let _guard = self.locks.hold([Span::whole(node.id)]);
        let node = self.node(node.nodeid)?;
        let FallocateIn { offset, length, mode, .. } = *arguments;
        let op = Op::Allocate { id: node.id, mode, offset, length, time: Time::now() };
        self.change(cx, Self::mirrored(&node), &op, &[(node.id, &fd)]).map(drop)
    }

    pub(crate) fn lseek(&self, cx: &mut Context<'_>, arguments: &LseekIn) -> Result<(), Errno> {
        let fd = self.file(&self.node(cx.header.nodeid)?, false)?;
        let whence = match arguments.whence.cast_signed() {
            libc::SEEK_DATA => rustix::fs::SeekFrom::Data(arguments.offset),
            libc::SEEK_HOLE => rustix::fs::SeekFrom::Hole(arguments.offset),
            _ => return Err(Errno::INVAL),
        };
        cx.reply.put(&LseekOut { offset: rustix::fs::seek(&fd, whence)? });
        Ok(())
    }

    pub(crate) fn copy_file_range(&self, cx: &mut Context<'_>, arguments: &CopyFileRangeIn) -> Result<(), Errno> {
        let (from, to) = (self.node(cx.header.nodeid)?, self.node(arguments.nodeid_out)?);
        let (source, target) = (self.file(&from, false)?, self.file(&to, true)?);
        self.drop_privileges_of_others(cx, &to, &target)?;
        let wanted = arguments.len.min(COPY_MAX);
        let _guard = self
            .locks
            .hold([Span::bytes(from.id, arguments.off_in, wanted), Span::bytes(to.id, arguments.off_out, wanted)]);
        let (from, to) = (self.node(from.nodeid)?, self.node(to.nodeid)?);
        let size = statx(source.as_fd())?.stx_size;
        let length = wanted.min(size.saturating_sub(arguments.off_in));
        let op = Op::Copy {
            from: from.id,
            from_offset: arguments.off_in,
            to: to.id,
            to_offset: arguments.off_out,
            length,
            time: Time::now(),
        };
        let done = if length == 0 {
            0
        } else if Self::mirrored(&to) && !Self::mirrored(&from) {
            self.copy_as_writes(cx, &source, &op, (&to, &target))?
        } else {
            self.change(cx, Self::mirrored(&to), &op, &[(from.id, &source), (to.id, &target)])?;
            length
        };
        cx.reply.put(&WriteOut { size: done as u32, padding: 0 });
        Ok(())
    }

    /// The peer does not have the source (excluded, or already without a name): it gets the data instead.
    fn copy_as_writes(
        &self,
        cx: &mut Context<'_>,
        source: &OwnedFd,
        op: &Op<'_>,
        (to, target): (&Node, &Arc<OwnedFd>),
    ) -> Result<u64, Errno> {
        let Op::Copy { from_offset, to_offset, length, time, .. } = *op else { return Err(Errno::INVAL) };
        let mut data = vec![0; DATA_MAX.min(usize::try_from(length).unwrap_or(DATA_MAX))];
        let got = rustix::io::pread(source, &mut data[..], from_offset)?;
        let write = Op::Write { id: to.id, offset: to_offset, time, data: &data[..got] };
        self.change(cx, true, &write, &[(to.id, target)])?;
        Ok(got as u64)
    }
}

/// The mode that the caller's change of data or owner leaves, `None` where it stays as it is.
pub(crate) fn privileges_lost(cx: &Context<'_>, stat: &Statx) -> Option<u32> {
    let in_group = || cx.header.gid == stat.stx_gid || has_group(cx.header.pid, stat.stx_gid);
    without_privileges(u32::from(stat.stx_mode), in_group)
}

/// Whether a process has a supplementary group. Requests don't carry them; a process that is gone has none.
fn has_group(pid: u32, gid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().any(|group| group.parse() == Ok(gid))
}

fn check_direct(flags: u32, offset: u64, size: u32) -> Result<(), Errno> {
    let direct = OFlags::from_bits_retain(flags).contains(OFlags::DIRECT);
    if direct && !(offset | u64::from(size)).is_multiple_of(DIRECT_ALIGNMENT) { Err(Errno::INVAL) } else { Ok(()) }
}
