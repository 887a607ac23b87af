//! What comes from the peer: operations are carried out on this copy once the core says so, messages go to the core.

use std::sync::Arc;

use mirror_core::config::Acknowledgement;
use mirror_core::ids::{Body, Generation, Incarnation, Seq};
use mirror_core::message::{Frame, Kind, Message, Op, Outcome};
use mirror_core::{Event, RoleName};
use mirrorfs_fs::codec;
use mirrorfs_fs::op::Op as FileOp;
use mirrorfs_net::client::Outcome as Answer;
use mirrorfs_net::frame::{Header, Refused};
use mirrorfs_net::hello::Hello;
use mirrorfs_net::server::{Serve, Verdict};
use mirrorfs_sync::object::{Object, changed};
use rustix::io::Errno;

use crate::copies::Copies;
use crate::driver::Driver;
use crate::log;
use crate::session::{disk_failed, is_full};
use crate::wire;

/// The peer's counterpart on this machine.
pub struct Intake {
    pub driver: Arc<Driver>,
    pub copies: Arc<Copies>,
    pub acknowledgement: Acknowledgement,
}

impl Intake {
    fn frame(&self, peer: &Hello, message: Message) -> Frame {
        Frame { node: self.driver.peer, from: Incarnation { boot: peer.boot, process: peer.process }, message }
    }

    /// Changes this copy. The errno, where the file system itself refused, is for the application on the other machine.
    fn apply(&self, tree: u16, op: &FileOp<'_>) -> (Outcome, Option<Errno>) {
        let applier = &self.copies.appliers[usize::from(tree)];
        // What a copy between files builds on may not be equal yet.
        let target = matches!(op, FileOp::Copy { .. }) && self.driver.lock().node.role() == RoleName::Wait;
        if target {
            return (Outcome::NotYet, None);
        }
        let done = applier.apply(op).and_then(|()| match self.acknowledgement {
            Acknowledgement::Disk => applier.harden(op),
            Acknowledgement::Memory => Ok(()),
        });
        if let Err(errno) = done
            && (disk_failed(op, errno) || is_full(errno))
        {
            log::error("this copy can't hold an operation of the peer", &[("kind", &op.kind()), ("reason", &errno)]);
        }
        match done {
            Ok(()) => (Outcome::Done, None),
            Err(errno) if disk_failed(op, errno) => (Outcome::DiskError, None),
            Err(errno) if is_full(errno) => (Outcome::Refused, Some(errno)),
            // The copies differ in what the operation names.
            Err(Errno::STALE) => (Outcome::NotYet, None),
            // A resync's target may lack what makes the operation sensible; a secondary refuses what its primary would.
            Err(_) if self.driver.lock().node.role() == RoleName::Wait => (Outcome::NotYet, None),
            Err(errno) => (Outcome::Done, Some(errno)),
        }
    }
}

impl Serve for Intake {
    fn operation(&self, peer: &Hello, header: &Header, payload: &[u8]) -> Verdict {
        let tree = header.flags;
        let Some((low, fields)) = payload.split_first_chunk::<8>() else { return Verdict::Refused(Refused::Payload) };
        if usize::from(tree) >= self.copies.appliers.len() {
            log::error("operation for a directory that is not configured", &[("directory", &tree)]);
            return Verdict::Refused(Refused::Payload);
        }
        let (generation, seq) = (Generation(header.generation), Seq(header.sequence));
        let copied = fields == COPIED;
        let op = match codec::decode(fields) {
            _ if copied => None,
            Ok(op) => Some(op),
            Err(malformed) => {
                log::error("operation refused", &[("reason", &malformed)]);
                return Verdict::Refused(Refused::Payload);
            }
        };
        let object = |id| Object { tree, id }.into();
        let (kind, id, also) = match &op {
            Some(op) => {
                let kind = if matches!(op, FileOp::Sync { .. }) { Kind::Sync } else { Kind::Change };
                let (id, also) = changed(op);
                (kind, object(id), also.map(object))
            }
            None => (Kind::Purge, mirror_core::ids::ObjectId(0), None),
        };
        let core = Op { seq, after: Seq(0), kind, object: id, also, body: Body(0) };
        let message = Message::Operation { generation, low: Seq(u64::from_le_bytes(*low)), op: core };
        let errno = std::cell::Cell::new(None);
        let answer = self.driver.receive(self.frame(peer, message), (generation, seq), || {
            let Some(op) = &op else { return Outcome::Done };
            let (outcome, refused) = self.apply(tree, op);
            errno.set(refused);
            outcome
        });
        match (answer, errno.get()) {
            (None, _) if generation < self.driver.lock().node.durable().fence => {
                let expected = self.driver.lock().node.durable().fence.0;
                Verdict::Refused(Refused::Generation { expected, found: generation.0 })
            }
            (None, _) => Verdict::Later,
            (Some(Outcome::Done | Outcome::Refused), Some(errno)) => {
                Verdict::Answer(Answer::Refused(errno.raw_os_error()))
            }
            (Some(Outcome::Done), None) => Verdict::Answer(Answer::Done),
            (Some(Outcome::NotYet), _) => Verdict::Answer(Answer::NotYet),
            (Some(Outcome::Refused | Outcome::DiskError), _) => Verdict::Answer(Answer::Failed),
        }
    }

    fn message(&self, peer: &Hello, payload: &[u8]) -> Result<(), Refused> {
        let message = wire::decode(payload).ok_or(Refused::Payload)?;
        self.driver.tell(Event::Received(self.frame(peer, message)));
        Ok(())
    }

    fn piece(&self, peer: &Hello, header: &Header, payload: &[u8], answer: &mut Vec<u8>) -> Result<(), Refused> {
        let from = Incarnation { boot: peer.boot, process: peer.process };
        let (takes, expected) = {
            let inner = self.driver.lock();
            (inner.node.takes_in(from, Generation(header.generation)), inner.node.epoch().0)
        };
        if !takes {
            return Err(Refused::Generation { expected, found: header.generation });
        }
        self.copies.piece(payload, answer)
    }
}

/// In place of an operation: everything before it in this resync has arrived.
pub const COPIED: &[u8] = b"";
