//! The primary's side: a link a thread, one operation under way on each.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::frame::{Kind, Refused};
use crate::link::{Broken, Link};

/// Whom to call, and as whom.
#[derive(Clone)]
pub struct Call {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    /// The mirror's uid: a secondary serves one mirror.
    pub mirror: [u8; 16],
    pub generation: u64,
    /// How long connecting, and then any answer, may take.
    pub patience: Duration,
}

/// What became of an operation on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The file system there refused it with this errno and has changed nothing.
    Refused(i32),
    /// It could not be carried out there: the copies differ, or the disk fails.
    Failed,
}

impl Outcome {
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        let code = match self {
            Outcome::Done => 0,
            Outcome::Refused(errno) => errno,
            Outcome::Failed => -1,
        };
        code.to_le_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Outcome> {
        Some(match i32::from_le_bytes(bytes.try_into().ok()?) {
            0 => Outcome::Done,
            errno @ 1..=4095 => Outcome::Refused(errno),
            _ => Outcome::Failed,
        })
    }
}

/// One thread's connection to the secondary.
pub struct Caller {
    link: Link,
    generation: u64,
    /// The operation that was sent and not yet answered.
    open: Option<u64>,
}

impl Caller {
    /// Connects and introduces itself.
    ///
    /// # Errors
    /// `Broken`, also when the other side does not want this mirror or generation.
    pub fn connect(call: &Call) -> Result<Caller, Broken> {
        let socket = TcpStream::connect_timeout(&call.address, call.patience)?;
        // Keys are pinned, names are not looked at.
        let name = ServerName::IpAddress(call.address.ip().into());
        let tls = ClientConnection::new(call.tls.clone(), name)?;
        let mut link = Link::new(socket, tls.into(), call.patience)?;
        link.send(Kind::Hello, 0, call.generation, 0, [&call.mirror, &[]])?;
        let (answer, _) = link.receive()?;
        if answer.kind != Kind::Hello || answer.generation != call.generation {
            return Err(Refused::Generation { expected: call.generation, found: answer.generation }.into());
        }
        Ok(Caller { link, generation: call.generation, open: None })
    }

    /// Sends operation `sequence` of `tree`; its payload is two pieces, one behind the other.
    ///
    /// # Errors
    /// `Broken`: nobody knows whether it arrived.
    pub fn send(&mut self, tree: u16, sequence: u64, payload: [&[u8]; 2]) -> Result<(), Broken> {
        self.open = Some(sequence);
        self.link.send(Kind::Operation, tree, self.generation, sequence, payload)
    }

    /// Waits for the answer to what was sent last.
    ///
    /// # Errors
    /// `Broken`: nobody knows whether it was done.
    pub fn answer(&mut self) -> Result<Outcome, Broken> {
        let expected = self.open.take().ok_or(Broken::Closed)?;
        let (header, payload) = self.link.receive()?;
        if header.generation != self.generation {
            return Err(Refused::Generation { expected: self.generation, found: header.generation }.into());
        }
        if header.kind != Kind::Answer || header.sequence != expected {
            return Err(Refused::Sequence { expected, found: header.sequence }.into());
        }
        Ok(Outcome::from_bytes(payload).unwrap_or(Outcome::Failed))
    }
}
