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
