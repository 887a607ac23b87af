//! A mounted file system: INIT, and the threads that each read a request, do it, and answer it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::abi::{InitIn, InitOut, MAJOR, MINOR, init, opcode};
use crate::device::{Device, Mount, Reply, RequestBuffer};
use crate::dispatch::Answer;
use crate::mirror::Mirror;
use crate::op::DATA_MAX;
use crate::replicate::{Replicate, Session};

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

/// A file system that serves requests until it is unmounted.
pub struct Served {
    mount: Mount,
    workers: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
    mirror: Arc<Mirror>,
}

impl Served {
    /// Mounts `mirror` over `mountpoint` and serves it with `threads` threads, each with a session of `replicator`.
    ///
    /// # Errors
    /// A sentence for people; nothing is mounted then.
    pub fn start(
        mirror: Mirror,
        mountpoint: &Path,
        replicator: &dyn Replicate,
        threads: usize,
    ) -> Result<Served, String> {
        // Modes arrive with the caller's umask applied by us; our own must not take away more.
        rustix::process::umask(rustix::fs::Mode::empty());
        let mut sessions = Vec::new();
        for worker in 0..threads.max(1) {
            sessions.push(replicator.session(worker)?);
        }
        let at = mountpoint.display();
        let (device, mount) =
            Device::mount(mountpoint, "farmstead-mirrorfs").map_err(|e| format!("mount over {at}: {e}"))?;
        let flags = greet(&device).map_err(|e| format!("FUSE at {at}: the kernel's greeting failed: {e}"))?;
        mirror.granted(flags);
        let mirror = Arc::new(mirror);
        let mut workers = Vec::new();
        let (farewell, ended) = std::sync::mpsc::channel();
        for (number, session) in sessions.into_iter().enumerate() {
            let own = device.another().map_err(|e| format!("FUSE at {at}: no descriptor for a thread: {e}"))?;
            let mirror = mirror.clone();
            let thread = std::thread::Builder::new().name(format!("fuse-{number}"));
            let farewell = Farewell(farewell.clone());
            let work = move || {
                let _farewell = farewell;
                serve(&mirror, &own, session);
            };
            let worker = thread.spawn(work).map_err(|e| format!("FUSE thread: {e}"))?;
            workers.push(worker);
        }
        Ok(Served { mount, workers, ended, mirror })
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

/// Answers INIT, which comes before all else, and returns what was agreed on.
fn greet(device: &Device) -> Result<u64, Errno> {
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
    let flags = (u64::from(hello.flags) | u64::from(more) << 32) & WANTED;
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
fn serve(mirror: &Mirror, device: &Device, mut session: Box<dyn Session>) {
    let mut buffer = RequestBuffer::default();
    let mut reply = Reply::default();
    // Any error of the device itself means that the connection is gone: there is nobody to answer.
    while let Ok(Some(request)) = device.read(&mut buffer) {
        let answer = match request.header.opcode {
            opcode::FORGET | opcode::BATCH_FORGET => mirror.handle(&request, &mut *session, &mut reply),
            _ => match session.admit() {
                Ok(()) => mirror.handle(&request, &mut *session, &mut reply),
                Err(errno) => Answer::Reply(Err(errno)),
            },
        };
        if let Answer::Reply(result) = answer {
            // A caller that was killed no longer waits; what it asked for is done all the same.
            let _ = device.reply(request.header.unique, result, &reply);
        }
    }
}
