//! The talk with the witness: reading it, and one compare-and-swap at a time.
//!
//! A proposal's nonce is on disk before the PUT. An unknown outcome is resolved by reading: the nonce is there (won), the
//! record moved on without it (lost), or the version is unchanged: then the same PUT goes out again, or a newer
//! proposal against the same version takes its place; whichever lands first, the other is refused by its version.

use crate::event::{Action, Notice, Read, Written};
use crate::guard::Mutation;
use crate::ids::Nonce;
use crate::node::{Node, Peer};
use crate::record::{Holder, Record};
use crate::role::Role;
use crate::time::Time;

/// One exchange at a time with the witness.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Talk {
    /// A GET or PUT is under way.
    pub busy: bool,
    /// When to read next.
    pub next: Time,
    /// The last read failed.
    pub failed: bool,
    /// A rule refused the last PUT: nothing is proposed before the next read.
    pub refused: bool,
}

impl Talk {
    pub(crate) fn new(now: Time) -> Self {
        Talk { busy: false, next: now, failed: false, refused: false }
    }
}

/// Where an own proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Its nonce is on its way to the disk.
    Noted,
    /// The PUT is out.
    Sent,
    /// It may or may not have taken effect: read.
    Unknown,
    /// As of the last read it had not; it may yet.
    Open,
}

/// An own proposal whose fate is not known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cas {
    pub proposal: Record,
    pub expect: u64,
    pub stage: Stage,
    /// The PUT, or that of a proposal which this one replaced, has left at least once.
    pub left: bool,
    /// What the state file said of earlier proposals before this one.
    pub before: Option<Nonce>,
}

impl Cas {
    /// Its outcome may come at any moment, and nothing speaks against it yet.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Noted | Stage::Sent)
    }
}

impl Node {
    pub(crate) fn holder(&self) -> Holder {
        Holder { node: self.me, inc: self.inc }
    }

    /// Proposes a successor of the last record read, unless an own proposal is still open.
    /// An open one may be replaced by another against the same version.
    pub(crate) fn propose(&mut self, change: impl FnOnce(&mut Record)) -> bool {
        let Some(record) = self.record else { return false };
        if self.cas.as_ref().is_some_and(|cas| cas.stage != Stage::Open || cas.expect != record.version) {
            return false;
        }
        // After a failed exchange it reads first: without a pause it would knock at a closed door without end.
        if self.talk.failed || self.talk.refused {
            return false;
        }
        let nonce = self.next_nonce();
        let mut proposal = record.successor(nonce);
        change(&mut proposal);
        if let Some(cas) = &self.cas
            && (Record { nonce, ..cas.proposal }) == proposal
        {
            return false;
        }
        if nonce.process == self.inc.process {
            self.proposals = nonce.count;
        }
        let left = self.cas.as_ref().is_some_and(|cas| cas.left);
        let before = self.cas.as_ref().map_or(self.goal.cas, |cas| cas.before);
        self.goal.cas = Some(nonce);
        self.cas = Some(Cas { proposal, expect: record.version, stage: Stage::Noted, left, before });
        true
    }

    /// A proposal of an earlier life may still land. Its nonce must stay recognisable as ours, so this life counts on from it.
    fn next_nonce(&self) -> Nonce {
        match self.goal.cas.filter(|_| self.on(Mutation::NonceForgotten)) {
            Some(earlier) => Nonce { process: earlier.process, count: earlier.count + 1 },
            None => Nonce { process: self.inc.process, count: self.proposals + 1 },
        }
    }

    /// `inSync = {self}`: the proposal that ends a lost peer's membership, and the one that takes over.
    pub(crate) fn propose_alone(&mut self) -> bool {
        let me = self.holder();
        self.propose(|record| {
            record.primary = me;
            record.other = None;
        })
    }

    /// Whether the role wants to read the witness at all.
    pub(crate) fn reads_witness(&self) -> bool {
        let unsure = self.cas.as_ref().is_some_and(|cas| cas.stage == Stage::Unknown);
        let alone = matches!(self.role, Role::Alone(_)) && !self.on(Mutation::AloneNeverLooks);
        match &self.role {
            Role::Stop => false,
            _ if self.halted.is_some() => true,
            Role::Second => self.disk.joining.is_some(),
            Role::Taking(taking) => unsure || taking.fenced,
            _ => unsure || !alone,
        }
    }

    /// Sends what is due to the witness: a noted proposal first, else a read.
    pub(crate) fn ask_witness(&mut self, now: Time) {
        if self.talk.busy {
            return;
        }
        let noted = self.disk.cas;
        let persists = self.on(Mutation::NonceNotPersisted);
        if let Some(cas) = &mut self.cas
            && cas.stage == Stage::Noted
            && (noted == Some(cas.proposal.nonce) || !persists)
        {
            cas.stage = Stage::Sent;
            let action = Action::WriteWitness { expect: cas.expect, record: cas.proposal };
            self.talk.busy = true;
            return self.act(action);
        }
        let resolves = self.cas.as_ref().is_none_or(|cas| cas.stage == Stage::Unknown);
        if now >= self.talk.next && resolves && self.reads_witness() {
            self.talk.busy = true;
            self.act(Action::ReadWitness);
        }
    }

    /// A GET ended.
    pub(crate) fn read(&mut self, now: Time, read: Read) {
        self.talk.busy = false;
        self.talk.failed = read == Read::Unreachable;
        self.talk.refused &= self.talk.failed;
        let settled = matches!(self.role, Role::Prim | Role::Alone(_) | Role::Join) && self.cas.is_none();
        let pause = if settled && !self.talk.failed { self.cfg.witness_poll } else { self.cfg.beacon };
        self.talk.next = now + pause;
        match read {
            Read::Unreachable => {}
            Read::Absent => self.halt("the witness record is gone: a person decides (Operation RecreateWitness)"),
            Read::Found(record) => match self.doubt_record(&record) {
                Some(reason) => self.halt(reason),
                None => self.learn(record),
            },
        }
    }

    /// Why this record can't be the one that followed what is on our disk.
    fn doubt_record(&self, record: &Record) -> Option<&'static str> {
        if !self.on(Mutation::RollbackBelieved) {
            return None;
        }
        if self.goal.witness.is_some_and(|uid| uid != record.uid) {
            return Some(
                "the witness record was deleted and created again: a person decides (Operation RecreateWitness)",
            );
        }
        if record.generation < self.disk.generation {
            return Some(
                "the witness record is older than this node's disk (restored from a backup?): a person decides",
            );
        }
        let primary = self.disk.primary.filter(|_| record.generation == self.disk.generation);
        if primary.is_some_and(|primary| primary != record.primary.node) {
            return Some(
                "the witness record names another primary in this generation than it once did (restored from a backup, \
                 and written again?): a person decides",
            );
        }
        None
    }

    fn halt(&mut self, reason: &'static str) {
        if self.halted.replace(reason) != Some(reason) {
            self.tell(Notice::Halted(reason));
        }
    }

    fn learn(&mut self, record: Record) {
        self.halted = None;
        self.goal.witness = Some(record.uid);
        self.record = Some(record);
        if let Some(peer) = record.members.into_iter().find(|member| *member != self.me)
            && record.members.contains(&self.me)
            && peer != self.peer.node
        {
            self.peer = Peer { node: peer, inc: None, view: None, heard: None };
        }
        let Some(cas) = &mut self.cas else { return };
        if record.version != cas.expect {
            self.cas = None;
        } else if cas.stage == Stage::Unknown {
            cas.stage = Stage::Open;
        }
    }

    /// The same PUT again: nothing better is known, and at most one of the two can take effect.
    pub(crate) fn propose_again(&mut self) -> bool {
        let Some(cas) = self.cas.as_mut().filter(|cas| cas.stage == Stage::Open) else { return false };
        cas.stage = Stage::Noted;
        true
    }

    /// The PUT did not leave: it is as if it had not been proposed, unless it left at an earlier attempt.
    fn not_sent(&mut self, now: Time) {
        self.talk.failed = true;
        self.talk.next = now + self.cfg.beacon;
        let Some(cas) = &mut self.cas else { return };
        if cas.left {
            cas.stage = Stage::Unknown;
            return;
        }
        self.goal.cas = cas.before;
        self.cas = None;
    }

    /// A PUT ended.
    pub(crate) fn written(&mut self, now: Time, written: Written) {
        self.talk.busy = false;
        self.talk.next = now;
        let Some(cas) = &mut self.cas else { return };
        cas.left |= written != Written::NotSent;
        match written {
            Written::Stored(record) => {
                self.cas = None;
                self.learn(record);
                self.talk.next = now + self.cfg.witness_poll;
            }
            Written::Refused => {
                self.cas = None;
                self.talk.refused = true;
                self.talk.next = now + self.cfg.beacon;
                self.tell(Notice::Refused("the API server's rules refused a step of the witness"));
            }
            Written::Conflict => cas.stage = Stage::Unknown,
            Written::Unknown if self.cfg.on(Mutation::UnknownIsFailed) => cas.stage = Stage::Unknown,
            Written::NotSent => self.not_sent(now),
            // (Only with the guard off: taken for a failure, with all that follows from one.)
            Written::Unknown => {
                self.cas = None;
                if matches!(self.role, Role::Join) {
                    self.window.generation = self.goal.generation;
                    self.become_alone(now);
                }
            }
        }
    }
}
