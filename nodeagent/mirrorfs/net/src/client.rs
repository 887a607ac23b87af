//! The side that calls: a link a thread, one operation under way on each.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::frame::{Header, Kind, Refused};
use crate::hello::{Channel, Hello};
use crate::link::{Broken, Link};

/// How long the other side may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// Whom to call, and as whom.
#[derive(Clone)]
pub struct Call {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    /// Who calls; the channel is the connection's.
    pub hello: Hello,
    /// The member that must answer.
    pub peer: u128,
    /// How long connecting may take.
    pub connecting: Duration,
    /// How long any answer may take afterwards.
    pub patience: Duration,
}

/// What became of an operation on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The file system there refused it with this errno and has changed nothing.
    Refused(i32),
    /// The disk there fails.
    Failed,
    /// The copy there lacks what the operation builds on.
    NotYet,
}

impl Outcome {
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        let code = match self {
            Outcome::Done => 0,
            Outcome::Refused(errno) => errno,
            Outcome::Failed => -1,
            Outcome::NotYet => -2,
        };
        code.to_le_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Outcome> {
        Some(match i32::from_le_bytes(bytes.try_into().ok()?) {
            0 => Outcome::Done,
            errno @ 1..=4095 => Outcome::Refused(errno),
            -1 => Outcome::Failed,
            -2 => Outcome::NotYet,
            _ => return None,
        })
    }
}

/// Connects, shakes hands, and makes sure that the other side is the peer.
///
/// `known` gets a second handle of the socket before the handshake, so that another thread can shut it at any time.
///
/// # Errors
/// `Broken`, also when another member or mirror answers.
pub fn connect(call: &Call, channel: Channel, known: impl FnOnce(TcpStream)) -> Result<(Link, Hello), Broken> {
    let socket = TcpStream::connect_timeout(&call.address, call.connecting)?;
    known(socket.try_clone()?);
    // Keys are pinned, names are not looked at.
    let name = ServerName::IpAddress(call.address.ip().into());
    let tls = ClientConnection::new(call.tls.clone(), name)?;
    let mut link = Link::new(socket, tls.into(), HANDSHAKE)?;
    let hello = Hello { channel, ..call.hello };
    link.send(Kind::Hello, 0, 0, 0, [&hello.to_bytes(), &[]])?;
    let (answer, payload) = link.receive()?;
    if answer.kind != Kind::Hello {
        return Err(Refused::Place.into());
    }
    let found = Hello::parse(payload)?;
    if found.mirror != call.hello.mirror || found.node != call.peer {
        return Err(Refused::Place.into());
    }
    let handle = link.handle()?;
    handle.set_read_timeout(Some(call.patience))?;
    handle.set_write_timeout(Some(call.patience))?;
    Ok((link, found))
}

/// Whether it pays to look for the next frame before sleeping: not while others have work for the processor, and not where
/// looking was in vain before.
#[derive(Default)]
pub(crate) struct Looking {
    /// How many frames in a row came with nothing else going on.
    alone: u32,
}

/// So many frames in a row before it is tried (again).
const ALONE: u32 = 8;

impl Looking {
    /// The next frame.
    pub(crate) fn receive<'l>(&mut self, link: &'l mut Link, alone: bool) -> Result<(Header, &'l [u8]), Broken> {
        self.alone = if alone { self.alone.saturating_add(1) } else { 0 };
        if self.alone <= ALONE {
            return link.receive();
        }
        let (frame, found) = link.look()?;
        if !found {
            self.alone = 0;
        }
        Ok(frame)
    }
}

/// One thread's connection to the secondary.
pub struct Caller {
    link: Link,
    peer: Hello,
    /// The operation that was sent and not yet answered.
    open: Option<u64>,
    /// Generation and number of the last operation sent.
    last: (u64, u64),
    looking: Looking,
}

impl Caller {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// As `connect`.
    pub fn connect(call: &Call, channel: Channel, known: impl FnOnce(TcpStream)) -> Result<Caller, Broken> {
        connect(call, channel, known).map(|(link, peer)| Caller {
            link,
            peer,
            open: None,
            last: (0, 0),
            looking: Looking::default(),
        })
    }

    /// Who answered.
    pub fn peer(&self) -> &Hello {
        &self.peer
    }

    /// Generation and number of the last operation that was sent: later ones only may follow on the same connection.
    pub fn last(&self) -> (u64, u64) {
        self.last
    }

    /// Sends operation `sequence` of `tree`; its payload is two pieces, one behind the other.
    ///
    /// # Errors
    /// `Broken`: nobody knows whether it arrived.
    pub fn send(&mut self, tree: u16, generation: u64, sequence: u64, payload: [&[u8]; 2]) -> Result<(), Broken> {
        self.open = Some(sequence);
        self.last = (generation, sequence);
        self.link.send(Kind::Operation, tree, generation, sequence, payload)
    }

    /// Waits for the answer to what was sent last.
    ///
    /// # Errors
    /// `Broken`: nobody knows whether it was done.
    pub fn answer(&mut self) -> Result<Outcome, Broken> {
        self.answer_to(false)
    }

    /// As `answer`. `alone`: nothing else is under way, so that this thread may use a processor to look for the answer.
    ///
    /// # Errors
    /// As `answer`.
    pub fn answer_to(&mut self, alone: bool) -> Result<Outcome, Broken> {
        let expected = self.open.take().ok_or(Broken::Closed)?;
        let (header, payload) = self.looking.receive(&mut self.link, alone)?;
        if header.kind != Kind::Answer || header.sequence != expected {
            return Err(Refused::Sequence { expected, found: header.sequence }.into());
        }
        Ok(Outcome::from_bytes(payload).ok_or(Refused::Payload)?)
    }

    /// Sends a piece of a resync. Several may be on their way; what is said to them comes in the same order (`told`).
    ///
    /// # Errors
    /// `Broken`: nobody knows whether it arrived.
    pub fn tell(&mut self, generation: u64, piece: &[u8]) -> Result<(), Broken> {
        self.link.send(Kind::Piece, 0, generation, 0, [piece, &[]])
    }

    /// Waits for what the other side says to the oldest piece without an answer.
    ///
    /// # Errors
    /// `Broken`: it will not come any more.
    pub fn told(&mut self) -> Result<&[u8], Broken> {
        let (header, payload) = self.link.receive()?;
        if header.kind != Kind::Piece {
            return Err(Refused::Place.into());
        }
        Ok(payload)
    }
}
