//! What comes from the peer: operations are carried out on this copy once the core says so, messages go to the core.

use std::sync::Arc;

use mirror_core::config::Acknowledgement;
use mirror_core::ids::{Body, Generation, Incarnation, ObjectId, Seq};
use mirror_core::message::{Frame, Kind, Message, Op, Outcome};
use mirror_core::{Event, RoleName};
use mirrorfs_fs::codec;
use mirrorfs_fs::op::Op as FileOp;
use mirrorfs_net::client::Outcome as Answer;
use mirrorfs_net::frame::{Header, Refused};
use mirrorfs_net::hello::Hello;
use mirrorfs_net::server::{Serve, Verdict};
use mirrorfs_sync::object::{Object, changed};
use mirrorfs_sync::target::Verdict as TargetVerdict;
use rustix::io::Errno;

use crate::ahead::look_ahead;
use crate::copies::Copies;
use crate::driver::Driver;
use crate::keeper::Keeper;
use crate::log;
use crate::session::{disk_failed, is_full};
use crate::wire;

type Read<'p> = (Work<'p>, Kind, (ObjectId, Option<ObjectId>));

/// The peer's counterpart on this machine.
pub struct Intake {
    pub driver: Arc<Driver>,
    pub copies: Arc<Copies>,
    pub keeper: Arc<Keeper>,
    pub acknowledgement: Acknowledgement,
}

impl Intake {
    fn frame(&self, peer: &Hello, message: Message) -> Frame {
        Frame { node: self.driver.peer, from: Incarnation { boot: peer.boot, process: peer.process }, message }
    }

    /// What a frame asks for, as the core's kind and objects too.
    fn read<'p>(&self, place: u16, fields: &'p [u8]) -> Result<Read<'p>, String> {
        let malformed = |error: &dyn std::fmt::Display| error.to_string();
        match place {
            wire::PURGE => Ok((Work::Purge, Kind::Purge, (ObjectId(0), None))),
            wire::COPY => {
                let object = mirrorfs_sync::object_of(fields).map_err(|error| malformed(&error))?;
                Ok((Work::Copy(fields), Kind::Copy, (object.into(), None)))
            }
            tree if usize::from(tree) >= self.copies.appliers.len() => {
                Err(format!("directory number {tree} is not configured here"))
            }
            tree => {
                let op = codec::decode(fields).map_err(|error| malformed(&error))?;
                let kind = if matches!(op, FileOp::Sync { .. }) { Kind::Sync } else { Kind::Change };
                let object = |id| Object { tree, id }.into();
                let (id, also) = changed(&op);
                Ok((Work::Change(tree, op), kind, (object(id), also.map(object))))
            }
        }
    }

    /// The end of the copies. A resync's target brings them to the disk now, while nobody waits: the flush under the freeze is short.
    fn purge(&self) -> Outcome {
        let outcome = told(&self.copies.target.purge());
        if outcome != Outcome::Done || self.driver.lock().node.role() != RoleName::Wait {
            return outcome;
        }
        match self.copies.trees.iter().try_for_each(|tree| rustix::fs::syncfs(&**tree.root())) {
            Ok(()) => Outcome::Done,
            Err(errno) => {
                log::error("what was copied can't be brought to the disk", &[("reason", &errno)]);
                Outcome::DiskError
            }
        }
    }

    /// Changes this copy. The errno, where the file system itself refused, is for the application on the other machine.
    fn apply(&self, generation: Generation, work: &Work<'_>) -> (Outcome, Option<Errno>) {
        let (tree, op) = match work {
            Work::Copy(body) => return (told(&self.copies.target.copy(body)), None),
            Work::Purge => return (self.purge(), None),
            Work::Change(tree, op) => (*tree, op),
        };
        let waits = {
            let inner = self.driver.lock();
            inner.node.role() == RoleName::Wait && inner.node.durable().joining != Some(generation)
        };
        if waits {
            return (told(&self.copies.target.change(tree, op)), None);
        }
        let applier = &self.copies.appliers[usize::from(tree)];
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
            // A secondary refuses what its primary would.
            Err(errno) => (Outcome::Done, Some(errno)),
        }
    }
}

impl Serve for Intake {
    fn operation(&self, peer: &Hello, header: &Header, payload: &[u8]) -> Verdict {
        let Some((low, after, fields)) = wire::split_operation(payload) else {
            return Verdict::Refused(Refused::Payload);
        };
        let (generation, seq) = (Generation(header.generation), Seq(header.sequence));
        let (work, kind, objects) = match self.read(header.flags, fields) {
            Ok(read) => read,
            Err(reason) => {
                log::error("operation refused", &[("reason", &reason)]);
                return Verdict::Refused(Refused::Payload);
            }
        };
        let core = Op { seq, after, kind, object: objects.0, also: objects.1, body: Body(0) };
        let message = Message::Operation { generation, low, op: core };
        if let Work::Change(tree, op @ (FileOp::Create { .. } | FileOp::Tmpfile { .. })) = &work {
            look_ahead(&self.driver, &mut self.driver.lock(), *tree, op);
        }
        let errno = std::cell::Cell::new(None);
        let answer = self.driver.receive(self.frame(peer, message), (generation, seq), || {
            let (outcome, refused) = self.apply(generation, &work);
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
        if let Message::ResyncBegin { session, .. } = message
            && wire::keeps(payload)
            && !self.keeper.has_kept(Incarnation { boot: peer.boot, process: peer.process }, session)
        {
            // It is said again with every beacon.
            return Ok(());
        }
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
        answer.extend(self.copies.target.answer(payload));
        Ok(())
    }
}

/// What an operation's frame asks for.
enum Work<'p> {
    Change(u16, FileOp<'p>),
    Copy(&'p [u8]),
    Purge,
}

/// What the core is told of a resync's step; people are told what no repetition will mend.
fn told(verdict: &TargetVerdict) -> Outcome {
    if let (Outcome::Refused | Outcome::DiskError, Some(why)) = (verdict.outcome, &verdict.why) {
        log::error("this copy can't be made equal", &[("reason", why)]);
    }
    verdict.outcome
}
