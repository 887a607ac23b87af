//! The seam between the file system and what replicates: resolved operations go through here, on the FUSE thread itself.
//!
//! Peer first, then local: the file system announces an operation (`begin`), which returns when it is its turn locally; does it;
//! reports what came of it (`done`), which returns when the application may be answered. It holds the inodes' locks all that
//! time, so conflicting operations come one after the other. No thread in between, no queue: a session belongs to one
//! FUSE thread. Roles, leases, windows and resends live behind this seam.

use rustix::io::Errno;

use crate::op::Op;

/// What replicates.
pub trait Replicate: Send + Sync {
    /// The session of one FUSE thread; `worker` counts them from 0.
    ///
    /// # Errors
    /// A sentence for people: the file system is not mounted then.
    fn session(&self, worker: usize) -> Result<Box<dyn Session>, String>;
}

/// One FUSE thread's way to the peer. Never two operations at once.
pub trait Session: Send {
    /// Waits until this node may answer the application. Called for every request, so it costs next to nothing while it may.
    ///
    /// # Errors
    /// The mount is being taken away: nothing is answered any more but this.
    fn admit(&mut self) -> Result<(), Errno>;

    /// Announces an operation, and returns when it is to be done locally. Its data is read before this returns.
    ///
    /// # Errors
    /// It must not be done locally: the peer's file system refused it and has changed nothing (the application gets the same
    /// answer), or this node may not write (EIO).
    fn begin(&mut self, op: &Op<'_>) -> Result<(), Errno>;

    /// The operation was done locally, or failed; returns when the application may be told so.
    ///
    /// # Errors
    /// `EIO`: what became of it is not known, or this node may not answer.
    fn done(&mut self, op: &Op<'_>, result: Result<(), Errno>) -> Result<(), Errno>;
}

/// No peer: every operation is local. For tests of the file system alone.
pub struct Local;

impl Replicate for Local {
    fn session(&self, _worker: usize) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(Local))
    }
}

impl Session for Local {
    fn admit(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn begin(&mut self, _op: &Op<'_>) -> Result<(), Errno> {
        Ok(())
    }

    fn done(&mut self, _op: &Op<'_>, _result: Result<(), Errno>) -> Result<(), Errno> {
        Ok(())
    }
}
