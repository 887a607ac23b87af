//! Desks: where a FUSE thread that waits for its call finds what the core wants of it, and how the wait ends.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, MutexGuard};
use std::thread::Thread;
use std::time::{Duration, Instant};

use mirror_core::ids::{Body, Generation, Seq};

use crate::driver::{Driver, Inner};
use crate::jobs::Sending;

/// How many times as long as anything else a sync may take before the disk counts as hanging.
const SYNC_PATIENCE: u32 = 6;

/// Where a FUSE thread finds what the core wants of it.
#[derive(Default)]
pub struct Desk {
    /// The mount that it belongs to; a desk of an earlier one is torn. 0: free.
    pub mount: u64,
    pub send: Option<Sending>,
    pub apply: Option<(Generation, Seq)>,
    pub reply: Option<bool>,
    /// The call was put off; `room` says that it may come again.
    pub later: bool,
    pub room: bool,
    /// Since when the operation is under way on this disk, and whether it is a sync.
    pub local: Option<(Instant, bool)>,
    /// The connection that the thread waits on, while it does (`blocked`).
    pub socket: Option<Arc<TcpStream>>,
    /// The thread, while it is parked.
    parked: Option<Thread>,
}

impl Desk {
    fn clear(&mut self) {
        (self.send, self.apply, self.reply, self.local) = (None, None, None, None);
        (self.later, self.room) = (false, false);
    }

    /// There is something new on the desk: whatever its thread waits for ends.
    pub fn nudge(&mut self) {
        if let Some(socket) = &self.socket {
            // Gone already: then the thread is on its way back.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.parked.take() {
            thread.unpark();
        }
    }
}

impl Driver {
    /// A desk for a FUSE thread of mount number `mount`.
    pub fn take_desk(&self, mount: u64) -> usize {
        let mut inner = self.lock();
        let free = inner.desks.iter().position(|desk| desk.mount == 0);
        let at = free.unwrap_or_else(|| {
            inner.desks.push(Desk::default());
            inner.desks.len() - 1
        });
        inner.desks[at] = Desk { mount, ..Desk::default() };
        at
    }

    /// Gives a desk back.
    pub fn leave_desk(&self, at: usize) {
        self.lock().desks[at] = Desk::default();
    }

    /// Parks until something is on the desk, or for `pause`.
    pub fn wait<'d>(
        &'d self,
        mut inner: MutexGuard<'d, Inner>,
        desk: usize,
        pause: Option<Duration>,
    ) -> MutexGuard<'d, Inner> {
        inner.desks[desk].parked = Some(std::thread::current());
        drop(inner);
        match pause {
            Some(pause) => std::thread::park_timeout(pause),
            None => std::thread::park(),
        }
        let mut inner = self.lock();
        inner.desks[desk].parked = None;
        inner
    }

    /// Does `work`, which waits on `socket` or on one that it makes known to the desk, without the lock; anything new on the
    /// desk ends the wait.
    pub fn blocked<'d, T>(
        &'d self,
        mut inner: MutexGuard<'d, Inner>,
        desk: usize,
        socket: Option<Arc<TcpStream>>,
        work: impl FnOnce() -> T,
    ) -> (MutexGuard<'d, Inner>, T) {
        inner.desks[desk].socket = socket;
        drop(inner);
        let result = work();
        let mut inner = self.lock();
        inner.desks[desk].socket = None;
        (inner, result)
    }
}

impl Inner {
    /// Whether the desk's mount is gone, or going.
    pub fn torn(&self, desk: usize) -> bool {
        self.desks[desk].mount != self.mount
    }

    /// Whether an operation is under way on this disk for longer than that. A sync may have much to write.
    pub fn hangs(&self, patience: Duration) -> bool {
        let mut local = self.desks.iter().filter(|desk| desk.mount == self.mount).filter_map(|desk| desk.local);
        local.any(|(since, sync)| since.elapsed() > patience * if sync { SYNC_PATIENCE } else { 1 })
    }

    /// The desk, cleared for a new call.
    pub fn fresh(&mut self, desk: usize) -> &mut Desk {
        let desk = &mut self.desks[desk];
        desk.clear();
        desk
    }
}

/// A call's handle is its desk's number, counted from one.
pub fn body(desk: usize) -> Body {
    Body(desk as u64 + 1)
}

/// Puts something on the desk of a call, if it is still there.
pub fn on_desk(inner: &mut Inner, body: Body, put: impl FnOnce(&mut Desk)) {
    let at = usize::try_from(body.0).unwrap_or(usize::MAX).wrapping_sub(1);
    if let Some(desk) = inner.desks.get_mut(at) {
        put(desk);
        desk.nudge();
    }
}
