//! The seam between the file system and what replicates: resolved operations go through here, on the FUSE thread itself.
//!
//! Peer first, then local: the file system hands an operation over (`send`), waits until the peer has it
//! (`acknowledged`), does it locally, and only then answers the application. It holds the inodes' locks all that time,
//! so whoever numbers operations in `send` numbers conflicting ones in the order in which they happen. No thread
//! in between, no queue: a session belongs to one FUSE thread. Roles, windows and resends live behind this seam.

use rustix::io::Errno;

use crate::op::Op;

/// Why an operation must not be done locally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The peer's file system refused it and has changed nothing; the application gets the same answer.
    Errno(Errno),
    /// Nobody knows whether the peer has it, or this node may not write: the application gets EIO.
    Lost,
}

impl Refusal {
    pub fn errno(self) -> Errno {
        match self {
            Refusal::Errno(errno) => errno,
            Refusal::Lost => Errno::IO,
        }
    }
}

/// What replicates.
pub trait Replicate: Send + Sync {
    /// The session of one FUSE thread; `worker` counts them from 0.
    ///
    /// # Errors
    /// A sentence for people: the file system is not mounted then.
    fn session(&self, worker: usize) -> Result<Box<dyn Session>, String>;
}

/// One FUSE thread's way to the peer. `send` and `acknowledged` are called in turn, never two operations at once.
pub trait Session: Send {
    /// Hands the operation over. Its data is read before this returns.
    ///
    /// # Errors
    /// `Refusal`: it must not be done locally.
    fn send(&mut self, op: &Op<'_>) -> Result<(), Refusal>;

    /// Waits until the peer has done what was sent last.
    ///
    /// # Errors
    /// `Refusal`: it must not be done locally, nor acknowledged.
    fn acknowledged(&mut self) -> Result<(), Refusal>;

    /// The peer did the operation and the local file system refused it: the copies differ in what it names.
    fn diverged(&mut self, op: &Op<'_>, errno: Errno);
}

/// No peer: every operation is local. For a node that is ALONE by decision, and for tests of the file system alone.
pub struct Local;

impl Replicate for Local {
    fn session(&self, _worker: usize) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(Local))
    }
}

impl Session for Local {
    fn send(&mut self, _op: &Op<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn acknowledged(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn diverged(&mut self, _op: &Op<'_>, _errno: Errno) {}
}
