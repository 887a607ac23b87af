//! The primary's way to the secondary: a session of each FUSE thread over a connection of its own.
//!
//! Numbers are given under the inodes' locks and shared by all connections. Once any connection is lost, nobody knows
//! what the peer has; what follows (the peer removed by the witness, or this node frozen) is the protocol core's to decide,
//! so until it does every further change is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mirrorfs_fs::codec;
use mirrorfs_fs::op::Op;
use mirrorfs_fs::replicate::{Refusal, Replicate, Session};
use mirrorfs_net::client::{Call, Caller, Outcome};
use mirrorfs_net::link::Broken;
use rustix::io::Errno;

use crate::log;

/// The secondary, as the primary sees it.
pub struct Peer {
    call: Call,
    sequence: AtomicU64,
    lost: AtomicBool,
}

impl Peer {
    pub fn new(call: Call) -> Arc<Peer> {
        Arc::new(Peer { call, sequence: AtomicU64::new(0), lost: AtomicBool::new(false) })
    }

    fn lose(&self, why: &dyn std::fmt::Display) -> Refusal {
        if !self.lost.swap(true, Ordering::SeqCst) {
            log::error("the peer is lost: changes are refused from here on", &[("reason", why)]);
        }
        Refusal::Lost
    }
}

/// The peer's copy of one replicated directory.
pub struct PeerTree {
    pub peer: Arc<Peer>,
    pub tree: u16,
}

impl Replicate for PeerTree {
    fn session(&self, _worker: usize) -> Result<Box<dyn Session>, String> {
        let call = &self.peer.call;
        let caller = Caller::connect(call).map_err(|broken| format!("peer {}: {broken}", call.address))?;
        Ok(Box::new(PeerSession { peer: self.peer.clone(), tree: self.tree, caller, fields: Vec::new() }))
    }
}

struct PeerSession {
    peer: Arc<Peer>,
    tree: u16,
    caller: Caller,
    /// Memory for an operation's fields, kept from one to the next.
    fields: Vec<u8>,
}

impl Session for PeerSession {
    fn send(&mut self, op: &Op<'_>) -> Result<(), Refusal> {
        if self.peer.lost.load(Ordering::SeqCst) {
            return Err(Refusal::Lost);
        }
        self.fields.clear();
        let data = codec::encode(op, &mut self.fields);
        let sequence = self.peer.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        self.caller.send(self.tree, sequence, [&self.fields, data]).map_err(|broken: Broken| self.peer.lose(&broken))
    }

    fn acknowledged(&mut self) -> Result<(), Refusal> {
        match self.caller.answer() {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Refused(errno)) => Err(Refusal::Errno(Errno::from_raw_os_error(errno))),
            Ok(Outcome::Failed) => Err(self.peer.lose(&"it could not carry out an operation")),
            Err(broken) => Err(self.peer.lose(&broken)),
        }
    }

    fn diverged(&mut self, op: &Op<'_>, errno: Errno) {
        self.peer.lose(&format!("it did a {} that failed here: {errno}", op.kind()));
    }
}
