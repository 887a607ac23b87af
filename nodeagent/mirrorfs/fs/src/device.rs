//! `/dev/fuse`: the mount, the descriptors that threads read requests from, and replies.
//!
//! One back end of the file system; the other is `ring`. Handlers see `Request` and `Reply` only. Mounts with mount(2) as root: no helper program, and set-user-id and device files work as below.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::{InHeader, OutHeader};
use crate::op::DATA_MAX;
use crate::sys;

/// The file system type that `/proc/mounts` shows.
pub const TYPE: &str = "fuse.farmstead-mirrorfs";

/// A request never exceeds its data and this.
const REQUEST_HEADROOM: usize = 8192;

/// One descriptor of a mount's connection; a thread reads a request from it and replies on it.
pub struct Device(OwnedFd);

impl Device {
    /// Mounts a new connection over `mountpoint`; unmounted when the `Mount` is dropped.
    ///
    /// # Errors
    /// What `/dev/fuse` and mount(2) say.
    pub fn mount(mountpoint: &Path, source: &str) -> Result<(Device, Mount), Errno> {
        let device = sys::open_device()?;
        // Permission checks by the kernel, as the calling user; everybody may try.
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device.as_raw_fd());
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(source, mountpoint, TYPE, MountFlags::empty(), options.as_c_str())?;
        Ok((Device(device), Mount { mountpoint: Some(mountpoint.to_path_buf()) }))
    }

    /// A further descriptor of the same connection, with a queue of its own for what it has read.
    ///
    /// # Errors
    /// What the clone ioctl says.
    pub fn another(&self) -> Result<Device, Errno> {
        sys::clone_device(self.0.as_fd()).map(Device)
    }

    /// The number of the descriptor, for a ring.
    pub(crate) fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }

    /// Waits for the next request and reads it into `buffer`; `None` when the mount is gone.
    ///
    /// # Errors
    /// What reading says.
    pub fn read<'b>(&self, buffer: &'b mut RequestBuffer) -> Result<Option<Request<'b>>, Errno> {
        let length = loop {
            match rustix::io::read(&self.0, &mut buffer.0[..]) {
                Ok(length) => break length,
                // Taken back before we could read it, or a signal: wait for the next.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::NODEV) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        };
        let (header, arguments) = InHeader::read_from_prefix(&buffer.0[..length]).map_err(|_| Errno::IO)?;
        Ok(Some(Request { header, arguments: Arguments::new(arguments) }))
    }

    /// Answers request `unique` with an error, or with what was put into `reply`.
    ///
    /// # Errors
    /// `NOENT` when the caller no longer waits.
    pub fn reply(&self, unique: u64, result: Result<(), Errno>, reply: &Reply) -> Result<(), Errno> {
        let (error, body) = match result {
            Ok(()) => (0, reply.body()),
            Err(errno) => (-errno.raw_os_error(), &[][..]),
        };
        let header = OutHeader { len: (size_of::<OutHeader>() + body.len()) as u32, error, unique };
        rustix::io::writev(&self.0, &[IoSlice::new(header.as_bytes()), IoSlice::new(body)]).map(drop)
    }
}

/// A mount of ours.
pub struct Mount {
    mountpoint: Option<PathBuf>,
}

impl Mount {
    /// Takes the mount away; who has files open in it keeps them until closed.
    ///
    /// # Errors
    /// What umount2(2) says.
    pub fn unmount(mut self) -> Result<(), Errno> {
        self.mountpoint.take().map_or(Ok(()), |path| rustix::mount::unmount(path, UnmountFlags::DETACH))
    }

    /// Takes the mount away and ends its connection: who has files open in it gets errors from now on.
    ///
    /// # Errors
    /// What umount2(2) says.
    pub fn abort(mut self) -> Result<(), Errno> {
        let flags = UnmountFlags::DETACH | UnmountFlags::FORCE;
        self.mountpoint.take().map_or(Ok(()), |path| rustix::mount::unmount(path, flags))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(path) = self.mountpoint.take() {
            // On the way out of a failure there is nobody left to tell, and nobody left to answer what is open.
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::FORCE);
        }
    }
}

/// Room for one request.
pub struct RequestBuffer(Box<[u8]>);

impl Default for RequestBuffer {
    fn default() -> Self {
        RequestBuffer(vec![0; DATA_MAX + REQUEST_HEADROOM].into_boxed_slice())
    }
}

/// A request of the kernel.
pub struct Request<'b> {
    pub header: InHeader,
    pub arguments: Arguments<'b>,
}

/// What follows a request's header, taken off from the front.
#[derive(Clone, Copy)]
pub struct Arguments<'b> {
    /// Over io_uring the operation's own structure lies apart from names and data.
    first: &'b [u8],
    rest: &'b [u8],
}

impl<'b> Arguments<'b> {
    pub fn new(bytes: &'b [u8]) -> Arguments<'b> {
        Arguments::parts(&[], bytes)
    }

    /// Two pieces, one behind the other; no argument lies across them.
    pub fn parts(first: &'b [u8], rest: &'b [u8]) -> Arguments<'b> {
        Arguments { first, rest }
    }

    fn front(&mut self) -> &mut &'b [u8] {
        if self.first.is_empty() { &mut self.rest } else { &mut self.first }
    }

    /// The next structure.
    ///
    /// # Errors
    /// `INVAL` when the request is too short for it.
    pub fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Errno> {
        let front = self.front();
        let (value, rest) = T::read_from_prefix(front).map_err(|_| Errno::INVAL)?;
        *front = rest;
        Ok(value)
    }

    /// The next string, without its NUL.
    ///
    /// # Errors
    /// `INVAL` when there is none.
    pub fn name(&mut self) -> Result<&'b [u8], Errno> {
        let front = self.front();
        let end = front.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let (name, rest) = (&front[..end], &front[end + 1..]);
        *front = rest;
        Ok(name)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// `INVAL` when there are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&'b [u8], Errno> {
        let front = self.front();
        let (head, rest) = front.split_at_checked(length).ok_or(Errno::INVAL)?;
        *front = rest;
        Ok(head)
    }
}

/// The body of a reply, put together piece by piece in memory that is kept from one reply to the next.
#[derive(Default)]
pub struct Reply {
    memory: Vec<u8>,
    used: usize,
    /// The memory is lent: it may not move.
    lent: bool,
}

impl Reply {
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Answers into `memory` until `take_back`. False where a reply might outgrow it.
    pub(crate) fn lend(&mut self, memory: &mut Vec<u8>) -> bool {
        let fits = memory.len() >= DATA_MAX;
        if fits {
            std::mem::swap(&mut self.memory, memory);
            self.lent = true;
        }
        fits
    }

    /// Gives back what `lend` was given, at the place where it was.
    pub(crate) fn take_back(&mut self, memory: &mut Vec<u8>) {
        std::mem::swap(&mut self.memory, memory);
        self.lent = false;
    }

    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.put_bytes(value.as_bytes());
    }

    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.used += bytes.len();
    }

    pub fn body(&self) -> &[u8] {
        &self.memory[..self.used]
    }

    /// The next `size` bytes behind what is there, zeroed at most once in their life.
    fn room(&mut self, size: usize) -> &mut [u8] {
        let end = self.used + size;
        if self.memory.len() < end {
            assert!(!self.lent, "a reply of {end} bytes: the kernel asks for {DATA_MAX} at most");
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.used..end]
    }

    /// Fills up to `size` bytes from the file, fewer at its end.
    ///
    /// # Errors
    /// What `pread(2)` says.
    pub fn read_file(&mut self, fd: &OwnedFd, offset: u64, size: usize) -> Result<(), Errno> {
        let room = self.room(size);
        let mut done = 0;
        while done < size {
            match rustix::io::pread(fd, &mut room[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.used += done;
        Ok(())
    }
}
