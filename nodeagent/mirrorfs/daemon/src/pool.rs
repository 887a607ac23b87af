//! The connections that operations go over, for all FUSE threads of a mount: the one used last is taken first.
//!
//! `/dev/fuse` hands requests to its readers in turn. Had each thread a connection of its own, one writer's operations would
//! go round all of them, and wake another thread of the peer each time. An operation has its connection to itself.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mirrorfs_net::client::Caller;

/// A connection, and a handle for another thread to shut it by.
pub struct Line {
    pub caller: Caller,
    pub socket: Arc<TcpStream>,
}

/// The idle connections, the one used last at the end.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Line>>);

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that this operation (its generation and number) may go over: they only grow on one.
    pub fn take(&self, operation: (u64, u64)) -> Option<Line> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|line| line.caller.last() < operation)?;
        Some(idle.remove(at))
    }

    pub fn give_back(&self, line: Line) {
        self.idle().push(line);
    }

    /// Closes all that are idle: the peer they led to may be gone.
    pub fn clear(&self) {
        self.idle().clear();
    }
}
