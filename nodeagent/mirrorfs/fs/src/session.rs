//! A mounted file system: INIT, and the threads that each read a request, do it, and answer it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::abi::{InitIn, InitOut, MAJOR, MINOR, init, opcode};
use crate::device::{Device, Mount, Reply, Request, RequestBuffer};
use crate::dispatch::Answer;
use crate::mirror::Mirror;
use crate::op::DATA_MAX;
use crate::replicate::{Replicate, Session};
use crate::ring::{Ring, queues};

/// What we ask for; the kernel grants what it has, and nothing of it is required but `BIG_WRITES` and `MAX_PAGES`.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::DONT_MASK
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::ASYNC_DIO
    | init::PARALLEL_DIROPS
    | init::POSIX_ACL
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::INIT_EXT
    | init::DIRECT_IO_ALLOW_MMAP;

/// Which way requests may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Over io_uring where the kernel offers it, else as `Device`.
    Ring,
    /// Through `/dev/fuse`.
    Device,
}

/// A file system that serves requests until it is unmounted.
pub struct Served {
    mount: Mount,
    workers: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
    mirror: Arc<Mirror>,
    way: Way,
}

impl Served {
    /// As `start_by`, the fastest way there is.
    ///
    /// # Errors
    /// As `start_by`.
    pub fn start(
        mirror: Mirror,
        mountpoint: &Path,
        replicator: &dyn Replicate,
        threads: usize,
    ) -> Result<Served, String> {
        Served::start_by(Way::Ring, mirror, mountpoint, replicator, threads)
    }

    /// Mounts `mirror` over `mountpoint` and serves it with `threads` threads, each with a session of `replicator`.
    ///
    /// # Errors
    /// A sentence for people; nothing is mounted then.
    pub fn start_by(
        way: Way,
        mirror: Mirror,
        mountpoint: &Path,
        replicator: &dyn Replicate,
        threads: usize,
    ) -> Result<Served, String> {
        // Modes arrive with the caller's umask applied by us; our own must not take away more.
        rustix::process::umask(rustix::fs::Mode::empty());
        let threads = threads.max(1);
        let mut sessions = Vec::new();
        for worker in 0..threads {
            sessions.push(replicator.session(worker)?);
        }
        let at = mountpoint.display();
        let (device, mount) =
            Device::mount(mountpoint, "farmstead-mirrorfs").map_err(|e| format!("mount over {at}: {e}"))?;
        // Before the greeting: once agreed on, the kernel waits for the rings.
        let rings = if way == Way::Ring { rings(threads) } else { Vec::new() };
        let flags = greet(&device, !rings.is_empty())
            .map_err(|e| format!("FUSE at {at}: the kernel's greeting failed: {e}"))?;
        mirror.granted(flags);
        let way = if flags & init::OVER_IO_URING == 0 { Way::Device } else { Way::Ring };
        let mut rings = rings.into_iter().filter(|_| way == Way::Ring);
        let mirror = Arc::new(mirror);
        let mut workers = Vec::new();
        let (farewell, ended) = std::sync::mpsc::channel();
        for (number, session) in sessions.into_iter().enumerate() {
            let own = device.another().map_err(|e| format!("FUSE at {at}: no descriptor for a thread: {e}"))?;
            let (mirror, ring) = (mirror.clone(), rings.next());
            let thread = std::thread::Builder::new().name(format!("fuse-{number}"));
            let farewell = Farewell(farewell.clone());
            let work = move || {
                let _farewell = farewell;
                serve(&mirror, &own, ring, session);
            };
            let worker = thread.spawn(work).map_err(|e| format!("FUSE thread: {e}"))?;
            workers.push(worker);
        }
        Ok(Served { mount, workers, ended, mirror, way })
    }

    /// The way that requests come.
    pub fn way(&self) -> Way {
        self.way
    }

    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Unmounts, waits until the last open file is closed and every request answered, and sets what times still wait.
    ///
    /// False when the mount was still in use after `patience`: by open files, or because another mount namespace has a
    /// copy of it. Its threads then serve on, and it ends with this process.
    ///
    /// # Errors
    /// What unmounting or setting a time says.
    pub fn stop(self, patience: Duration) -> Result<bool, Errno> {
        self.mount.unmount()?;
        Served::finish(&self.workers, &self.ended, &self.mirror, patience)
    }

    /// As `stop`, but ends the connection at once: every request that is held or yet to come gets an error.
    ///
    /// # Errors
    /// As `stop`.
    pub fn abort(self, patience: Duration) -> Result<bool, Errno> {
        self.mount.abort()?;
        Served::finish(&self.workers, &self.ended, &self.mirror, patience)
    }

    fn finish(
        workers: &[JoinHandle<()>],
        ended: &Receiver<()>,
        mirror: &Mirror,
        patience: Duration,
    ) -> Result<bool, Errno> {
        let deadline = Instant::now() + patience;
        // A worker says farewell when it ends, however it ends.
        let ended = workers.iter().all(|_| {
            let left = deadline.saturating_duration_since(Instant::now());
            !matches!(ended.recv_timeout(left), Err(RecvTimeoutError::Timeout))
        });
        mirror.tree().settle_all()?;
        Ok(ended)
    }
}

/// Tells `Served` of a worker's end.
struct Farewell(Sender<()>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens unless somebody stops the mount.
        let _ = self.0.send(());
    }
}

/// A ring for each thread but the last, which takes what still comes through `/dev/fuse`; each CPU's queue is in one of
/// them. None where io_uring is not to be had.
fn rings(threads: usize) -> Vec<Ring> {
    let Ok(queues) = queues() else { return Vec::new() };
    let count = threads.saturating_sub(1).max(1);
    let of = |worker: usize| match count.cmp(&usize::from(queues)) {
        std::cmp::Ordering::Less => (0..queues).filter(|queue| usize::from(*queue) % count == worker).collect(),
        _ => vec![(worker % usize::from(queues)) as u16],
    };
    if threads < 2 {
        Vec::new()
    } else {
        (0..count).map(|worker| Ring::new(of(worker))).collect::<Result<_, _>>().unwrap_or_default()
    }
}

/// Answers INIT, which comes before all else, and returns what was agreed on.
fn greet(device: &Device, rings: bool) -> Result<u64, Errno> {
    let mut buffer = RequestBuffer::default();
    let mut reply = Reply::default();
    let request = device.read(&mut buffer)?.ok_or(Errno::NODEV)?;
    if request.header.opcode != opcode::INIT {
        return Err(Errno::PROTO);
    }
    let mut arguments = request.arguments;
    let hello = arguments.take::<InitIn>()?;
    if hello.major != MAJOR {
        return Err(Errno::PROTO);
    }
    let extended = u64::from(hello.flags) & init::INIT_EXT != 0;
    let more = if extended { arguments.take::<u32>()? } else { 0 };
    let wanted = if rings { WANTED | init::OVER_IO_URING } else { WANTED };
    let flags = (u64::from(hello.flags) | u64::from(more) << 32) & wanted;
    reply.put(&InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead: hello.max_readahead.max(DATA_MAX as u32),
        flags: flags as u32,
        flags2: (flags >> 32) as u32,
        max_background: 64,
        congestion_threshold: 48,
        max_write: DATA_MAX as u32,
        max_pages: (DATA_MAX / 4096) as u16,
        time_gran: 1,
        ..InitOut::default()
    });
    device.reply(request.header.unique, Ok(()), &reply)?;
    Ok(flags)
}

/// One thread's life: requests in, answers out, until the mount is gone.
fn serve(mirror: &Mirror, device: &Device, ring: Option<Ring>, mut session: Box<dyn Session>) {
    let mut reply = Reply::default();
    if let Some(ring) = ring {
        ring.settle();
        let ended = ring.serve(device, &mut reply, |request, reply| answer(mirror, &mut *session, request, reply));
        if ended.is_ok() {
            return;
        }
    }
    let mut buffer = RequestBuffer::default();
    // Any error of the device itself means that the connection is gone: there is nobody to answer.
    while let Ok(Some(request)) = device.read(&mut buffer) {
        if let Answer::Reply(result) = answer(mirror, &mut *session, &request, &mut reply) {
            // A caller that was killed no longer waits; what it asked for is done all the same.
            let _ = device.reply(request.header.unique, result, &reply);
        }
    }
}

/// Whichever way a request came: nothing is answered unless this node may.
fn answer(mirror: &Mirror, session: &mut dyn Session, request: &Request<'_>, reply: &mut Reply) -> Answer {
    let asks = !matches!(request.header.opcode, opcode::FORGET | opcode::BATCH_FORGET);
    match if asks { session.admit() } else { Ok(()) } {
        Ok(()) => mirror.handle(request, session, reply),
        Err(errno) => Answer::Reply(Err(errno)),
    }
}
