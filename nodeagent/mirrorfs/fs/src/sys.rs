//! The system calls that no safe wrapper offers: file handles, raw directory reads, cloning a FUSE descriptor.
//!
//! All `unsafe` of this crate is in here and in `ring`. Each function checks what it hands to the kernel and owns what it gets back.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// The longest handle that we keep: btrfs needs 20 bytes, ext4 8, XFS 12, tmpfs 12.
pub const HANDLE_MAX: usize = 22;

/// A file's handle as `name_to_handle_at(2)` gives it: opens the inode whatever its name is by now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    pub kind: u8,
    pub len: u8,
    pub bytes: [u8; HANDLE_MAX],
}

/// `struct file_handle` with room for our longest.
#[repr(C)]
struct RawHandle {
    handle_bytes: u32,
    handle_type: i32,
    f_handle: [u8; HANDLE_MAX + 2],
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The handle of the inode behind `fd` (an `O_PATH` descriptor will do).
///
/// # Errors
/// `OVERFLOW` or `OPNOTSUPP` on a file system whose handles are too long or that has none.
pub fn handle_of(fd: BorrowedFd<'_>) -> Result<Handle, Errno> {
    let mut raw = RawHandle { handle_bytes: HANDLE_MAX as u32, handle_type: 0, f_handle: [0; HANDLE_MAX + 2] };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: `raw` is as large as handle_bytes says, the path is a constant C string, both live across the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_raw_fd(),
            c"".as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    };
    if rc != 0 {
        return Err(last_error());
    }
    let (kind, len) = (u8::try_from(raw.handle_type), u8::try_from(raw.handle_bytes));
    let (Ok(kind), Ok(len)) = (kind, len) else { return Err(Errno::OVERFLOW) };
    let mut bytes = [0; HANDLE_MAX];
    bytes[..usize::from(len)].copy_from_slice(&raw.f_handle[..usize::from(len)]);
    Ok(Handle { kind, len, bytes })
}

/// Opens the inode that `handle` names, on the file system that `mount` is on.
///
/// # Errors
/// `STALE` when the inode is gone.
pub fn open_handle(mount: BorrowedFd<'_>, handle: &Handle, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle {
        handle_bytes: u32::from(handle.len),
        handle_type: i32::from(handle.kind),
        f_handle: [0; HANDLE_MAX + 2],
    };
    raw.f_handle[..HANDLE_MAX].copy_from_slice(&handle.bytes);
    let flags = (flags | OFlags::CLOEXEC).bits() as libc::c_int;
    // SAFETY: `raw` outlives the call and is at least handle_bytes long; the result is a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut raw, flags) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Fills `buffer` with `linux_dirent64` records; returns their length, 0 at the end.
///
/// # Errors
/// What `getdents64(2)` says.
pub fn getdents(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and length are those of one live, writable slice.
    let rc = unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(rc).map_err(|_| last_error())
}

/// `struct fiemap` with room for some extents.
#[repr(C)]
struct RawMap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
    extents: [RawExtent; MAP_ROOM],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

const MAP_ROOM: usize = 32;

/// Where a file has blocks between two offsets: written, preallocated, or still on their way to the disk. In order; what touches
/// is one range. Unlike `SEEK_DATA`, this does not depend on what the page cache happens to hold.
///
/// # Errors
/// `OPNOTSUPP` on a file system that can't tell.
pub fn allocated(fd: BorrowedFd<'_>, start: u64, end: u64) -> Result<Vec<(u64, u64)>, Errno> {
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    const LAST: u32 = 1;
    let none = RawExtent { logical: 0, physical: 0, length: 0, reserved64: [0; 2], flags: 0, reserved: [0; 3] };
    let (mut at, mut found) = (start, Vec::<(u64, u64)>::new());
    while at < end {
        let mut map = RawMap {
            start: at,
            length: end - at,
            flags: 0,
            mapped: 0,
            room: MAP_ROOM as u32,
            reserved: 0,
            extents: [none; MAP_ROOM],
        };
        // SAFETY: the kernel writes at most `room` extents into `map`, which has that many and lives across the call.
        let rc = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) };
        if rc != 0 {
            return Err(match last_error() {
                Errno::NOTTY => Errno::OPNOTSUPP,
                errno => errno,
            });
        }
        let extents = &map.extents[..MAP_ROOM.min(map.mapped as usize)];
        for extent in extents {
            let (from, to) = (extent.logical.max(start), extent.logical.saturating_add(extent.length).min(end));
            match found.last_mut() {
                Some((_, last)) if from <= *last => *last = to.max(*last),
                _ if from < to => found.push((from, to)),
                _ => {}
            }
            at = to.max(at + 1);
        }
        if extents.len() < MAP_ROOM || extents.last().is_some_and(|extent| extent.flags & LAST != 0) {
            break;
        }
    }
    Ok(found)
}

/// Another descriptor of the FUSE connection that `device` belongs to, with a queue of its own for what it reads.
///
/// # Errors
/// What opening `/dev/fuse` or the ioctl says.
pub fn clone_device(device: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;
    let clone = open_device()?;
    let mut source = device.as_raw_fd() as u32;
    // SAFETY: the ioctl reads one u32 from the pointer, which lives across the call.
    let rc = unsafe { libc::ioctl(clone.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw mut source) };
    if rc != 0 {
        return Err(last_error());
    }
    Ok(clone)
}

/// Opens `/dev/fuse`.
///
/// # Errors
/// What `open(2)` says.
pub fn open_device() -> Result<OwnedFd, Errno> {
    rustix::fs::open(c"/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())
}

/// Gives `descriptor`'s inode a (further) name.
///
/// # Errors
/// What `linkat(2)` says; needs CAP_DAC_READ_SEARCH.
pub fn link_descriptor(descriptor: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    rustix::fs::linkat(descriptor.as_fd(), c"", parent, name, rustix::fs::AtFlags::EMPTY_PATH)
}
