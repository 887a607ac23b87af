//! The side that listens: a thread a connection that reads a frame, has it seen to, and answers where an answer is due.
//!
//! Who may speak is decided here (key, mirror, member), what may be done is not: that is the protocol core's.
//! Everything refused is counted by reason.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use crate::client::{Looking, Outcome};
use crate::frame::{Header, Kind, Refused};
use crate::hello::{Channel, Hello};
use crate::link::{Broken, Link};

/// How long a stranger may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connected peer may be silent for long: beacons, on a connection of their own, tell whether it lives.
const SILENCE: Duration = Duration::from_secs(3600);

/// What becomes of an operation that arrived.
#[derive(Debug)]
pub enum Verdict {
    /// It was taken in, and this came of it.
    Answer(Outcome),
    /// It is not taken in now: the connection ends, the caller may try again on another.
    Later,
    /// It may never be taken in.
    Refused(Refused),
}

/// What listens to the peer. Called from one thread a connection.
pub trait Serve: Send + Sync {
    /// One operation of replicated directory `tree`.
    fn operation(&self, peer: &Hello, header: &Header, payload: &[u8]) -> Verdict;

    /// One message of the protocol.
    ///
    /// # Errors
    /// It can't be read.
    fn message(&self, peer: &Hello, payload: &[u8]) -> Result<(), Refused>;

    /// One piece of a resync; the answer is appended to `answer`.
    fn piece(&self, peer: &Hello, header: &Header, payload: &[u8], answer: &mut Vec<u8>) -> Result<(), Refused>;
}

/// Counts of what was refused, by reason, and of what was done.
#[derive(Debug, Default)]
pub struct Counters {
    pub operations: AtomicU64,
    pub bad_handshakes: AtomicU64,
    pub bad_frames: AtomicU64,
    pub bad_generations: AtomicU64,
    pub too_many: AtomicU64,
    /// Operations that were not taken in when they came.
    pub put_off: AtomicU64,
}

/// Hears of a connection's bad end: from whom, and why.
pub type Report = Box<dyn Fn(&SocketAddr, &Broken) + Send + Sync>;

/// What a server is told.
pub struct Listen {
    pub tls: Arc<ServerConfig>,
    /// Who listens; the channel does not matter.
    pub hello: Hello,
    /// The member that may speak.
    pub peer: u128,
    pub connections: usize,
    pub report: Report,
}

/// A listening member.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    listen: Listen,
    serve: Arc<dyn Serve>,
    counters: Counters,
    stopping: AtomicBool,
    open: Mutex<Vec<(u64, TcpStream)>>,
    /// The connection that the last operation came on.
    busy: AtomicU64,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// What binding says.
    pub fn start(address: SocketAddr, listen: Listen, serve: Arc<dyn Serve>) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            listen,
            serve,
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            busy: AtomicU64::new(u64::MAX),
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
            if let Err(broken) = converse(&own, number, socket) {
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

/// One connection's life. Ends with an error unless the peer closes it between two frames.
fn converse(shared: &Shared, connection: u64, socket: TcpStream) -> Result<(), Broken> {
    let tls = ServerConnection::new(shared.listen.tls.clone())?;
    let mut link = Link::new(socket, tls.into(), HANDSHAKE)?;
    let (header, payload) = link.receive()?;
    let hello = Hello::parse(payload)?;
    let expected = shared.listen.hello;
    if header.kind != Kind::Hello || hello.mirror != expected.mirror || hello.node != shared.listen.peer {
        return Err(Refused::Place.into());
    }
    let answer = Hello { channel: hello.channel, ..expected };
    link.send(Kind::Hello, 0, 0, 0, [&answer.to_bytes(), &[]])?;
    link.handle()?.set_read_timeout(Some(SILENCE))?;
    let (mut last, mut said) = ((0, 0), Vec::new());
    let (mut looking, mut alone) = (Looking::default(), false);
    loop {
        let (header, payload) = match looking.receive(&mut link, alone) {
            Ok(frame) => frame,
            Err(Broken::Closed) => return Ok(()),
            Err(broken) => return Err(broken),
        };
        match (hello.channel, header.kind) {
            (Channel::Data, Kind::Operation) => {
                // Numbers are shared by all connections, and begin anew with a generation: on one of them they only grow.
                let (generation, number) = last;
                if header.generation == generation && header.sequence <= number {
                    return Err(Refused::Sequence { expected: number + 1, found: header.sequence }.into());
                }
                last = (header.generation, header.sequence);
                alone = shared.busy.swap(connection, Ordering::Relaxed) == connection;
                match shared.serve.operation(&hello, &header, payload) {
                    Verdict::Answer(outcome) => {
                        shared.counters.operations.fetch_add(1, Ordering::Relaxed);
                        let bytes = outcome.to_bytes();
                        link.send(Kind::Answer, header.flags, header.generation, header.sequence, [&bytes, &[]])?;
                    }
                    Verdict::Later => {
                        shared.counters.put_off.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    Verdict::Refused(refused) => return Err(refused.into()),
                }
            }
            (Channel::Control, Kind::Message) => shared.serve.message(&hello, payload)?,
            (Channel::Resync, Kind::Piece) => {
                said.clear();
                shared.serve.piece(&hello, &header, payload, &mut said)?;
                link.send(Kind::Piece, 0, header.generation, header.sequence, [&said, &[]])?;
            }
            _ => return Err(Refused::Place.into()),
        }
    }
}

impl Shared {
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
