//! FUSE over io_uring: the back end of kernels from 6.14 on, where the administrator has it enabled.
//!
//! A thread has a ring of its own. The kernel puts a request of one CPU's queue into the thread's memory; the answer goes
//! back and the next request is waited for in one system call, with no hand-over to another CPU. INIT, FORGET and
//! INTERRUPT still come through `/dev/fuse`. What a request means is not known here.
#![allow(unsafe_code)]

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{InHeader, OutHeader, RingCommand, RingEntry, ring};
use crate::device::{Arguments, Device, Reply, Request};
use crate::dispatch::Answer;
use crate::op::DATA_MAX;

/// One thread's ring, and its memory for one request of each of its queues.
pub struct Ring {
    // First, so that the kernel is done with the memory before that goes.
    uring: IoUring<squeue::Entry128, cqueue::Entry>,
    slots: Vec<Slot>,
}

struct Slot {
    /// The queue is the CPU's whose callers' requests come here.
    queue: u16,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// How many queues the kernel has: one for each CPU that may ever be there.
///
/// # Errors
/// What reading it from sysfs says.
pub fn queues() -> std::io::Result<u16> {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = possible.trim().rsplit([',', '-']).next().and_then(|number| number.parse::<u16>().ok());
    last.map(|number| number + 1).ok_or_else(|| std::io::Error::other("possible CPUs"))
}

impl Ring {
    /// A ring that takes requests of `queues`. It begins to work in the thread that calls `serve`.
    ///
    /// # Errors
    /// What io_uring_setup(2) says; it may be forbidden.
    pub fn new(queues: Vec<u16>) -> std::io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled();
        let uring = builder.build(queues.len().max(1) as u32)?;
        let slot = |queue| Slot { queue, header: vec![0; ring::HEADER], payload: vec![0; DATA_MAX] };
        Ok(Ring { uring, slots: queues.into_iter().map(slot).collect() })
    }

    /// Runs on the CPU whose callers it serves, if there is one such CPU: a request then wakes nobody elsewhere.
    pub fn settle(&self) {
        if let [slot] = &self.slots[..] {
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(usize::from(slot.queue));
            // A CPU that is not there, or not ours: then wherever the scheduler likes.
            let _ = rustix::thread::sched_setaffinity(None, &cpus);
        }
    }

    /// Serves requests until the mount is gone.
    ///
    /// # Errors
    /// The kernel does not want this ring: it sends everything through `/dev/fuse` then.
    pub fn serve(
        mut self,
        device: &Device,
        reply: &mut Reply,
        mut handle: impl FnMut(&Request<'_>, &mut Reply) -> Answer,
    ) -> Result<(), Errno> {
        self.uring.submitter().register_enable_rings().map_err(|error| errno(&error))?;
        let mut spans = Vec::new();
        for slot in &mut self.slots {
            let part = |bytes: &mut Vec<u8>| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            spans.push([part(&mut slot.header), part(&mut slot.payload)]);
        }
        for (at, span) in spans.iter().enumerate() {
            let command = RingCommand { qid: self.slots[at].queue, ..RingCommand::default() };
            self.push(device, at, ring::REGISTER, command, Some(span));
        }
        let mut served = false;
        loop {
            match self.uring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if matches!(errno(&error), Errno::INTR | Errno::AGAIN | Errno::BUSY) => continue,
                Err(error) => return Err(errno(&error)),
            }
            while let Some((at, code)) = self.next_done() {
                match code {
                    0.. => {}
                    // Once a request has come the ring is wanted: what ends it is the end of the mount.
                    _ if served => return Ok(()),
                    code if code == -libc::ENOTCONN || code == -libc::ECONNABORTED => return Ok(()),
                    code => return Err(Errno::from_raw_os_error(-code)),
                }
                served = true;
                let commit = self.slots[at].answer(reply, &mut handle);
                let command = RingCommand { commit_id: commit, qid: self.slots[at].queue, ..RingCommand::default() };
                self.push(device, at, ring::COMMIT_AND_FETCH, command, None);
                // Not to be kept waiting by the next one.
                if !self.uring.completion().is_empty() {
                    self.uring.submit().map_err(|error| errno(&error))?;
                }
            }
        }
    }

    /// Which slot's command is done, and how it ended.
    fn next_done(&mut self) -> Option<(usize, i32)> {
        self.uring.completion().next().map(|done| (done.user_data() as usize, done.result()))
    }

    fn push(&mut self, device: &Device, at: usize, code: u32, command: RingCommand, memory: Option<&[libc::iovec; 2]>) {
        let mut bytes = [0; 80];
        bytes[..size_of::<RingCommand>()].copy_from_slice(command.as_bytes());
        let entry = opcode::UringCmd80::new(types::Fd(device.as_raw_fd()), code).cmd(bytes);
        let mut entry = match memory {
            Some(memory) => entry.addr(Some(memory.as_ptr() as u64)).build().user_data(at as u64),
            None => entry.build().user_data(at as u64),
        };
        if let Some(memory) = memory {
            const LENGTH_AT: usize = 24;
            // SAFETY: the entry has the layout of the kernel's `io_uring_sqe`, 128 bytes, with the field `len` there.
            unsafe {
                let field = (&raw mut entry).cast::<u8>().add(LENGTH_AT).cast::<u32>();
                field.write_unaligned(memory.len() as u32);
            }
        }
        // SAFETY: device and memory outlive the ring, which is dropped before them. There is room: each slot has at most
        // one command under way, and the queue has an entry for each slot.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "one command a slot");
    }
}

impl Slot {
    /// Has the request in this slot handled, puts the answer in its place, and returns its number.
    fn answer(&mut self, reply: &mut Reply, handle: &mut impl FnMut(&Request<'_>, &mut Reply) -> Answer) -> u64 {
        // The slot is as long as the structures in it.
        let (Ok((header, _)), Ok((entry, _))) =
            (InHeader::read_from_prefix(&self.header), RingEntry::read_from_prefix(&self.header[ring::ENTRY_AT..]))
        else {
            return 0;
        };
        let length = entry.payload.min(DATA_MAX as u32);
        let own = (header.len as usize).saturating_sub(size_of::<InHeader>() + length as usize).min(ring::OPERATION);
        let operation = &self.header[ring::OPERATION_AT..ring::OPERATION_AT + own];
        // A request without payload is answered where the kernel takes the answer from; others need their own memory.
        let lent = length == 0 && reply.lend(&mut self.payload);
        let payload = if lent { &[][..] } else { &self.payload[..length as usize] };
        let request = Request { header, arguments: Arguments::parts(operation, payload) };
        let result = match handle(&request, reply) {
            Answer::Reply(result) => result,
            Answer::None => Ok(()),
        };
        let used = if result.is_ok() { reply.body().len() } else { 0 };
        if lent {
            reply.take_back(&mut self.payload);
        } else {
            self.payload[..used].copy_from_slice(&reply.body()[..used]);
        }
        let error = result.map_or_else(|errno| -errno.raw_os_error(), |()| 0);
        let out = OutHeader { len: (size_of::<OutHeader>() + used) as u32, error, unique: header.unique };
        self.header[..size_of::<OutHeader>()].copy_from_slice(out.as_bytes());
        let answer = RingEntry { payload: used as u32, ..entry };
        self.header[ring::ENTRY_AT..ring::ENTRY_AT + size_of::<RingEntry>()].copy_from_slice(answer.as_bytes());
        entry.commit_id
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
