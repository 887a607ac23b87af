//! What moves by itself: operations to the peer, to the own copy, to their replies; state and log to the disk.
//!
//! The acknowledgement rule is `needs_both`: an operation is answered when both hold it, or when the witness durably says that
//! only this node counts. Peer first, then local, so that the secondary holds at least what this disk holds.

use crate::event::{Action, Notice};
use crate::guard::Mutation;
use crate::ids::{Body, ObjectId, Seq};
use crate::message::{Kind, Message, Outcome};
use crate::node::{Node, Trouble};
use crate::resync::Phase;
use crate::role::Role;
use crate::time::Time;
use crate::window::{Here, There};

/// What the role allows operations now. When it changes, every operation of the window may be able to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Terms {
    sends: bool,
    needs_both: bool,
    may_reply: bool,
}

impl Node {
    /// An operation must be held by the peer before it is answered.
    pub(crate) fn needs_both(&self) -> bool {
        let early = !self.on(Mutation::AckBeforeWitness) && self.cas.is_some();
        match self.role {
            Role::Prim | Role::Frozen(_) => !early,
            Role::Join => self.on(Mutation::AddBeforeAcks),
            _ => false,
        }
    }

    /// Replies go out at all.
    pub(crate) fn may_reply(&self) -> bool {
        let disk = self.disk.generation == self.goal.generation || !self.on(Mutation::ServeBeforePersist);
        match self.role {
            Role::Prim | Role::Join => true,
            Role::Alone(_) => disk,
            _ => false,
        }
    }

    /// Operations go to the peer: for its acknowledgement, or because a resync is under way.
    fn sends(&self) -> bool {
        let resyncing = self.resync.as_ref().is_some_and(|r| r.phase != Phase::Asking);
        matches!(self.role, Role::Prim | Role::Join) || resyncing
    }

    /// The application wants something changed.
    pub(crate) fn change(&mut self, now: Time, kind: Kind, objects: (ObjectId, Option<ObjectId>), body: Body) {
        let held = self.resync.as_ref().is_some_and(|resync| resync.holds_calls());
        let room = self.window.len() < self.cfg.window;
        let serves = matches!(self.role, Role::Prim | Role::Join | Role::Alone(_));
        if !serves || held && self.on(Mutation::JoinBeforeDrained) || !room {
            self.put_off = true;
            return self.act(Action::Later { body });
        }
        self.window.submit(kind, objects, body, self.cfg.stall.map(|_| now));
    }

    /// Moves every operation as far as it may go. Returns whether the window shrank: a row may wait for that.
    pub(crate) fn pump(&mut self, now: Time) -> bool {
        let changed = if self.role.is_primary() { self.pump_window() } else { false };
        self.pump_intake();
        let cut = self.begin_checkpoint(now);
        self.offer_room();
        changed || cut
    }

    fn pump_window(&mut self) -> bool {
        let terms = Terms { sends: self.sends(), needs_both: self.needs_both(), may_reply: self.may_reply() };
        if self.terms != terms {
            self.terms = terms;
            self.window.all_due();
        }
        let before = self.window.len();
        while let Some(seq) = self.window.take_due() {
            self.send_operation(seq, terms);
            self.apply_here(seq, terms);
            self.reply(seq, terms);
        }
        before != self.window.len()
    }

    fn send_operation(&mut self, seq: Seq, terms: Terms) {
        let Some(entry) = self.window.get(seq).filter(|entry| entry.there == There::Unsent && terms.sends) else {
            return;
        };
        // A copy is read when it is sent: what came before must be in it.
        if entry.op.kind == Kind::Copy && !self.window.in_turn(seq) {
            return;
        }
        self.window.link(seq);
        self.window.set_there(seq, There::Sent);
        let Some(op) = self.window.get(seq).map(|entry| entry.op) else { return };
        if let Some(resync) = &mut self.resync {
            resync.sent(op);
        }
        self.send(Message::Operation { generation: self.window.generation, low: self.window.low(), op });
    }

    fn apply_here(&mut self, seq: Seq, terms: Terms) {
        let Some(entry) = self.window.get(seq) else { return };
        // A barrier changes nothing: both sides are at work on it at once.
        let first = entry.there != There::Done
            && entry.op.kind != Kind::Sync
            && terms.needs_both
            && self.on(Mutation::LocalFirst);
        if entry.here != Here::Waiting || first || !self.window.in_turn(seq) {
            return;
        }
        let op = entry.op;
        if !self.log.covers(&op, self.cfg.on(Mutation::LogForgetsUnderWay)) && self.on(Mutation::LogAfterChange) {
            return self.window.wait_for_log(seq);
        }
        self.window.set_here(seq, Here::Applying);
        self.act(Action::Apply { generation: self.window.generation, op });
    }

    fn reply(&mut self, seq: Seq, terms: Terms) {
        let Some(entry) = self.window.get(seq) else { return };
        let here = matches!(entry.here, Here::Done | Here::Failed);
        let single = entry.op.kind == Kind::Sync && !self.on(Mutation::SyncOneSide);
        let there = entry.there == There::Done;
        let answers = entry.called && here && (there || !terms.needs_both || single) && terms.may_reply;
        let (body, done, called) = (entry.op.body, entry.here == Here::Done, entry.called && !answers);
        if answers {
            self.window.replied(seq);
            self.act(Action::Reply { body, done });
        }
        let travels = terms.needs_both || terms.sends;
        if !called && here && (there || !travels) {
            self.window.finish(seq);
        }
    }

    /// The peer answered about an operation.
    pub(crate) fn acknowledged(&mut self, seq: Seq, outcome: Outcome) {
        let counts = self.on(Mutation::NotYetIsDone);
        if let Some(resync) = &mut self.resync {
            resync.answered(seq, outcome, counts);
        }
        if self.window.get(seq).is_none_or(|entry| entry.there != There::Sent) {
            return;
        }
        match outcome {
            Outcome::Done => self.window.set_there(seq, There::Done),
            Outcome::NotYet if self.resync.is_some() => self.window.set_there(seq, There::Done),
            // In sync a peer that can't do what this node does is a lost peer; it says so in its view as well.
            Outcome::NotYet | Outcome::Refused | Outcome::DiskError => {
                if let Some(view) = &mut self.peer.view {
                    view.leaving = true;
                }
            }
        }
    }

    /// An operation was done on this node, as primary or as secondary.
    pub(crate) fn applied(&mut self, now: Time, seq: Seq, outcome: Outcome) {
        if outcome == Outcome::DiskError {
            self.disk_failed();
        }
        if self.role.is_primary() { self.applied_here(now, seq, outcome) } else { self.applied_for_peer(seq, outcome) }
    }

    fn applied_here(&mut self, now: Time, seq: Seq, outcome: Outcome) {
        let Some(entry) = self.window.get(seq).filter(|entry| entry.here == Here::Applying) else { return };
        let objects = (entry.op.object, entry.op.also);
        self.window.set_here(seq, if outcome == Outcome::Done { Here::Done } else { Here::Failed });
        if outcome != Outcome::Refused {
            return;
        }
        // The peer did it and this node could not: the peer's copy is mended from ours at once, or by the resync under way.
        if self.needs_both() {
            self.window.submit(Kind::Copy, objects, Body(0), self.cfg.stall.map(|_| now));
        } else if let Some(resync) = self.resync.as_mut().filter(|resync| resync.phase != Phase::Asking) {
            resync.rejoin(objects);
        }
    }

    /// The driver wants an object of the peer's copy made like ours, or what was set aside there deleted (verification).
    pub(crate) fn mend(&mut self, now: Time, kind: Kind, object: ObjectId, body: Body) {
        if !matches!(self.role, Role::Prim) || self.window.len() >= self.cfg.window {
            return self.act(Action::Reply { body, done: false });
        }
        self.window.submit(kind, (object, None), body, self.cfg.stall.map(|_| now));
    }

    fn applied_for_peer(&mut self, seq: Seq, outcome: Outcome) {
        let Some(intake) = &mut self.intake else { return };
        let generation = intake.generation;
        // What a copy that is being made equal lacks the ground for comes again as a whole; nobody else may miss anything.
        let target = matches!(self.role, Role::Wait(_)) && self.goal.joining != Some(generation);
        let missed = outcome == Outcome::NotYet && !target;
        if intake.finish(seq, if missed { Outcome::Refused } else { outcome }).is_none() {
            return;
        }
        if outcome == Outcome::Refused || missed {
            self.trouble = self.trouble.or(Some(Trouble::Full));
        }
        self.send(Message::Acknowledgement { generation, seq, outcome });
    }

    fn pump_intake(&mut self) {
        let Some(intake) = &mut self.intake else { return };
        let generation = intake.generation;
        while let Some(op) = intake.take_ready() {
            let looks_ahead = self.cfg.on(Mutation::LogForgetsUnderWay);
            if !self.log.covers(&op, looks_ahead) && self.cfg.on(Mutation::LogAfterChange) {
                intake.wait_for_log(op.seq);
                continue;
            }
            intake.start(op.seq);
            self.out.push(Action::Apply { generation, op });
        }
    }

    /// The own disk reported an error. Never retried to success.
    pub(crate) fn disk_failed(&mut self) {
        if self.trouble != Some(Trouble::Failed) && matches!(self.role, Role::Alone(_)) {
            self.tell(Notice::DiskFailed);
        }
        self.trouble = Some(Trouble::Failed);
    }

    /// Every call that waits gets EIO.
    pub(crate) fn fail_calls(&mut self) {
        let calls: Vec<_> = self.window.iter().filter(|e| e.called).map(|e| e.op.body).collect();
        calls.into_iter().for_each(|body| self.act(Action::Reply { body, done: false }));
        self.window.clear();
    }

    fn offer_room(&mut self) {
        let held = self.resync.as_ref().is_some_and(|resync| resync.holds_calls());
        let serves = matches!(self.role, Role::Prim | Role::Join | Role::Alone(_));
        if self.put_off && serves && !held && self.window.len() < self.cfg.window {
            self.put_off = false;
            self.act(Action::Room);
        }
    }

    /// What shall be on disk goes there, one write at a time.
    pub(crate) fn persist(&mut self) {
        if self.writing.is_none() && self.goal != self.disk {
            self.writing = Some(self.goal);
            self.act(Action::Persist(self.goal));
        }
        if let Some(image) = self.log.to_write() {
            self.act(Action::PersistLog(image));
        }
    }
}
