//! The secondary's side: a thread a connection that reads an operation, has it carried out, and answers.
//!
//! The fence stands here: no operation of a generation below it is carried out, and whoever raises it waits until those
//! under way are done. Everything refused is counted by reason.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use crate::client::Outcome;
use crate::frame::{Kind, Refused};
use crate::link::{Broken, Link};

/// How long a stranger may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connected peer may be silent for long: beacons, on a connection of their own, tell whether it lives.
const SILENCE: Duration = Duration::from_secs(3600);

/// What carries operations out.
pub trait Carry: Send + Sync {
    /// One operation of replicated directory `tree`.
    fn carry(&self, tree: u16, payload: &[u8]) -> Outcome;
}

/// Counts of what was refused, by reason, and of what was done.
#[derive(Debug, Default)]
pub struct Counters {
    pub operations: AtomicU64,
    pub bad_handshakes: AtomicU64,
    pub bad_frames: AtomicU64,
    pub bad_generations: AtomicU64,
    pub too_many: AtomicU64,
}

/// Hears of a connection's bad end: from whom, and why.
pub type Report = Box<dyn Fn(&SocketAddr, &Broken) + Send + Sync>;

/// What a server is told.
pub struct Listen {
    pub tls: Arc<ServerConfig>,
    pub mirror: [u8; 16],
    /// The generation that is spoken; also the fence.
    pub generation: u64,
    pub connections: usize,
    pub report: Report,
}

/// A listening secondary.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    listen: Listen,
    carry: Arc<dyn Carry>,
    counters: Counters,
    /// Operations are carried out under its read side, so raising it waits for them.
    fence: RwLock<u64>,
    stopping: AtomicBool,
    open: Mutex<Vec<(u64, TcpStream)>>,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// What binding says.
    pub fn start(address: SocketAddr, listen: Listen, carry: Arc<dyn Carry>) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let fence = RwLock::new(listen.generation);
        let shared = Arc::new(Shared {
            listen,
            carry,
            counters: Counters::default(),
            fence,
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let acceptor = std::thread::Builder::new().name("accept".into()).spawn({
            let shared = shared.clone();
            move || accept(&shared, &listener)
        })?;
        Ok(Server { shared, address, acceptor: Some(acceptor) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// From now on nothing below `generation` is carried out; returns when nothing of the kind is under way.
    pub fn fence(&self, generation: u64) {
        let mut fence = self.shared.fence.write().unwrap_or_else(PoisonError::into_inner);
        *fence = generation.max(*fence);
    }

    /// Ends all connections and stops listening.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for (_, socket) in lock(&self.shared.open).iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            // Wakes the acceptor out of its wait.
            drop(TcpStream::connect_timeout(&self.address, HANDSHAKE));
            let _ = acceptor.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for number in 0.. {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let (socket, from) = match accepted {
            Ok(accepted) => accepted,
            // Out of descriptors, or the caller gave up: others may come.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if lock(&shared.open).len() >= shared.listen.connections {
            shared.counters.too_many.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let Ok(handle) = socket.try_clone() else { continue };
        lock(&shared.open).push((number, handle));
        let own = shared.clone();
        let spawned = std::thread::Builder::new().name(format!("peer-{number}")).spawn(move || {
            if let Err(broken) = converse(&own, socket) {
                own.count(&broken);
                (own.listen.report)(&from, &broken);
            }
            lock(&own.open).retain(|(other, _)| *other != number);
        });
        if spawned.is_err() {
            lock(&shared.open).retain(|(other, _)| *other != number);
        }
    }
}

/// One connection's life. Ends with an error unless the peer closes it between two operations.
fn converse(shared: &Shared, socket: TcpStream) -> Result<(), Broken> {
    let tls = ServerConnection::new(shared.listen.tls.clone())?;
    let mut link = Link::new(socket, tls.into(), HANDSHAKE)?;
    let (hello, mirror) = link.receive()?;
    let (kind, generation, expected) = (hello.kind, hello.generation, shared.listen.generation);
    if kind != Kind::Hello || mirror != shared.listen.mirror {
        return Err(Broken::Refused(Refused::Magic));
    }
    if generation != expected {
        return Err(Refused::Generation { expected, found: generation }.into());
    }
    link.send(Kind::Hello, 0, generation, 0, [&[], &[]])?;
    link.handle()?.set_read_timeout(Some(SILENCE))?;
    let mut last = 0;
    loop {
        let (header, payload) = match link.receive() {
            Ok(frame) => frame,
            Err(Broken::Closed) => return Ok(()),
            Err(broken) => return Err(broken),
        };
        if header.kind != Kind::Operation || header.generation != generation {
            return Err(Refused::Generation { expected: generation, found: header.generation }.into());
        }
        // Numbers are shared by all connections: on one of them they only grow.
        if header.sequence <= last {
            return Err(Refused::Sequence { expected: last + 1, found: header.sequence }.into());
        }
        last = header.sequence;
        let outcome = shared.carry_out(generation, header.flags, payload)?;
        link.send(Kind::Answer, header.flags, generation, last, [&outcome.to_bytes(), &[]])?;
    }
}

impl Shared {
    fn carry_out(&self, generation: u64, tree: u16, payload: &[u8]) -> Result<Outcome, Refused> {
        let fence = self.fence.read().unwrap_or_else(PoisonError::into_inner);
        if generation < *fence {
            return Err(Refused::Generation { expected: *fence, found: generation });
        }
        self.counters.operations.fetch_add(1, Ordering::Relaxed);
        Ok(self.carry.carry(tree, payload))
    }

    fn count(&self, broken: &Broken) {
        let counter = match broken {
            Broken::Refused(Refused::Generation { .. }) => &self.counters.bad_generations,
            Broken::Refused(_) => &self.counters.bad_frames,
            Broken::Tls(_) => &self.counters.bad_handshakes,
            Broken::Closed | Broken::Silent | Broken::Io(_) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
