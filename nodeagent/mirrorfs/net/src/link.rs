//! One connection, used by one thread: frames out, frames in, no thread of its own and no lock.
//!
//! A frame goes out as one vectored write: header, fields and data are sealed where they lie. What comes in is read in
//! large pieces and believed frame by frame. After any error the link is dead and says so: half a frame is never
//! continued.
//!
//! Whoever expects an answer within microseconds can look for it before it sleeps (`look`): to be woken costs more than such
//! an answer takes, most of all on virtual machines.

use std::io::{BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::frame::{self, HEADER, Header, Kind, Refused};
use crate::tls::KeyPin;

/// One read from the socket: a 1 MiB frame in four.
const READ_BUFFER: usize = 256 << 10;
/// Plaintext comes in records of at most this size.
const RECORD: usize = 16 << 10;

/// Why a link ended.
#[derive(Debug)]
pub enum Broken {
    /// The other side closed it, between two frames.
    Closed,
    /// Nothing came within the time allowed.
    Silent,
    /// What came is no frame that we may believe.
    Refused(Refused),
    /// The handshake, the certificate, or a record's seal.
    Tls(rustls::Error),
    Io(std::io::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Closed => f.write_str("the peer closed the connection"),
            Broken::Silent => f.write_str("the peer did not answer in time"),
            Broken::Refused(refused) => write!(f, "{refused}"),
            Broken::Tls(error) => write!(f, "TLS: {error}"),
            Broken::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<Refused> for Broken {
    fn from(refused: Refused) -> Broken {
        Broken::Refused(refused)
    }
}

impl From<rustls::Error> for Broken {
    fn from(error: rustls::Error) -> Broken {
        Broken::Tls(error)
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Broken {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Broken::Silent,
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Broken::Closed,
            _ => Broken::Io(error),
        }
    }
}

/// How long a look takes at most. What does not come within this time is not worth a processor.
const LOOK: Duration = Duration::from_micros(30);

/// The socket, and how it is read.
struct Source {
    stream: TcpStream,
    /// Look first, then sleep.
    looks: bool,
    /// The last look found something.
    seen: bool,
}

impl Source {
    /// What is there, or comes within a moment.
    fn look(&self, buffer: &mut [u8]) -> Option<std::io::Result<usize>> {
        let until = Instant::now() + LOOK;
        loop {
            match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
                // The other side may be on this very processor.
                Err(Errno::AGAIN) if Instant::now() < until => std::thread::yield_now(),
                Err(Errno::AGAIN) => return None,
                Ok((got, _)) => return Some(Ok(got)),
                Err(errno) => return Some(Err(errno.into())),
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.looks {
            let found = self.look(buffer);
            self.seen = found.is_some();
            if let Some(found) = found {
                return found;
            }
        }
        self.stream.read(buffer)
    }
}

/// A connection after its TLS handshake.
pub struct Link {
    socket: BufReader<Source>,
    tls: rustls::Connection,
    /// Plaintext that came in; `taken` bytes of it are used up.
    inbox: Vec<u8>,
    taken: usize,
    /// The peer has said that nothing more comes.
    ended: bool,
}

impl Link {
    /// Shakes hands. `patience` is how long any later read or write may take.
    ///
    /// # Errors
    /// `Broken`, also when the peer's key is not pinned.
    pub fn new(socket: TcpStream, mut tls: rustls::Connection, patience: Duration) -> Result<Link, Broken> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        // A frame is handed over whole, and is out when `send` returns.
        tls.set_buffer_limit(None);
        let mut link = Link {
            socket: BufReader::with_capacity(READ_BUFFER, Source { stream: socket, looks: false, seen: false }),
            tls,
            inbox: Vec::new(),
            taken: 0,
            ended: false,
        };
        while link.tls.is_handshaking() {
            link.flush()?;
            if link.tls.is_handshaking() {
                link.pull()?;
            }
        }
        link.flush()?;
        Ok(link)
    }

    /// The key that the peer has proved to hold.
    pub fn peer(&self) -> Option<KeyPin> {
        self.tls.peer_certificates()?.first().and_then(|certificate| KeyPin::of(certificate).ok())
    }

    /// A second handle of the socket, to shut the link from another thread.
    ///
    /// # Errors
    /// What duplicating the descriptor says.
    pub fn handle(&self) -> std::io::Result<TcpStream> {
        self.socket.get_ref().stream.try_clone()
    }

    /// Sends one frame, whole.
    ///
    /// # Errors
    /// `Broken`: nobody knows how much of it arrived.
    pub fn send(
        &mut self,
        kind: Kind,
        flags: u16,
        generation: u64,
        sequence: u64,
        parts: [&[u8]; 2],
    ) -> Result<(), Broken> {
        let header = frame::header(kind, flags, generation, sequence, &parts);
        let total = HEADER + parts[0].len() + parts[1].len();
        let slices = [IoSlice::new(&header), IoSlice::new(parts[0]), IoSlice::new(parts[1])];
        if self.tls.writer().write_vectored(&slices)? != total {
            return Err(Broken::Io(std::io::Error::other("a frame was taken in part")));
        }
        self.flush()
    }

    /// Waits for the next frame and returns it with its payload.
    ///
    /// # Errors
    /// `Broken`: the link must be dropped.
    pub fn receive(&mut self) -> Result<(Header, &[u8]), Broken> {
        self.fill(HEADER)?;
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&self.inbox[self.taken..self.taken + HEADER]);
        let header = frame::parse(&bytes)?;
        self.fill(HEADER + header.length)?;
        let start = self.taken + HEADER;
        self.taken = start + header.length;
        let payload = &self.inbox[start..self.taken];
        header.check(&bytes, payload)?;
        Ok((header, payload))
    }

    /// As `receive`, but looks for the frame for a moment before it sleeps. Says besides whether looking found something.
    ///
    /// # Errors
    /// As `receive`.
    pub fn look(&mut self) -> Result<((Header, &[u8]), bool), Broken> {
        let source = self.socket.get_mut();
        (source.looks, source.seen) = (true, false);
        self.fill(1)?;
        let source = self.socket.get_mut();
        source.looks = false;
        let seen = source.seen;
        Ok((self.receive()?, seen))
    }

    /// Ends the connection both ways.
    pub fn shut(&self) {
        // It may be gone already; then there is nothing to end.
        let _ = self.socket.get_ref().stream.shutdown(Shutdown::Both);
    }

    /// Makes sure that `needed` unused bytes are in the inbox.
    fn fill(&mut self, needed: usize) -> Result<(), Broken> {
        if self.taken == self.inbox.len() {
            self.inbox.clear();
            self.taken = 0;
        } else if self.taken > 0 && self.inbox.len() - self.taken < needed {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        while self.inbox.len() - self.taken < needed {
            self.pull()?;
        }
        Ok(())
    }

    /// Reads what the socket has, at least something, and opens its records.
    fn pull(&mut self) -> Result<(), Broken> {
        if self.ended || whole(|| self.tls.read_tls(&mut self.socket))? == 0 {
            return Err(Broken::Closed);
        }
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert tells the other side why; it may no longer listen.
                let _ = self.flush();
                return Err(error.into());
            }
        };
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let start = self.inbox.len();
            self.inbox.resize(start + left.min(RECORD), 0);
            let got = self.tls.reader().read(&mut self.inbox[start..])?;
            self.inbox.truncate(start + got);
            left -= got;
        }
        self.ended = state.peer_has_closed();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        while self.tls.wants_write() {
            whole(|| self.tls.write_tls(&mut self.socket.get_mut().stream))?;
        }
        Ok(())
    }
}

/// Again, as often as a signal came in between: a process that was stopped and goes on sees one, and nothing is lost.
fn whole(mut call: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
