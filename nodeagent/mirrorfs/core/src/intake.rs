//! The secondary's side of the window: what arrived, what may be applied now, what was applied already.
//!
//! rename, create and link are not idempotent: a resent operation is answered from the applied set, never done twice.
//! Which generation and which sender may speak at all is decided before (`node::receive`).

use crate::ids::{Generation, Incarnation, ObjectId, Seq};
use crate::message::{Op, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// Which numbers are applied: all up to `low`, and some above.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Applied {
    low: Seq,
    above: BTreeSet<Seq>,
}

impl Applied {
    /// Whether this number is applied. Number 0 stands for 'nothing before'.
    pub fn contains(&self, seq: Seq) -> bool {
        seq <= self.low || self.above.contains(&seq)
    }

    fn insert(&mut self, seq: Seq) {
        self.above.insert(seq);
        while self.above.remove(&self.low.next()) {
            self.low = self.low.next();
        }
    }
}

/// What becomes of an operation that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was applied before: answer again, as it was answered then.
    Known(Outcome),
    /// It is on its way, or had to be taken in: the answer follows.
    Taken,
    /// No room, or the intake is closed: say nothing, it will be sent again.
    Dropped,
}

/// The guards that an arrival passes: switches for tests.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// What was applied is not applied again.
    pub remembers: bool,
    /// Nothing overtakes what it depends on.
    pub in_order: bool,
}

/// The operations of one primary's incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intake {
    /// Whose operations.
    pub from: Incarnation,
    /// In which generation.
    pub generation: Generation,
    /// Whether new ones are taken in.
    pub open: bool,
    /// What is applied.
    pub applied: Applied,
    /// What arrived and has not begun.
    pub waiting: BTreeMap<Seq, Op>,
    /// Of these, what waits for nothing.
    ready: BTreeSet<Seq>,
    /// Of these, what waits for the difference log.
    unlogged: BTreeSet<Seq>,
    /// Of these, what waits for an operation, by that operation.
    blocked: BTreeMap<Seq, BTreeSet<Seq>>,
    /// What is being applied.
    pub applying: BTreeMap<Seq, Op>,
    /// What is applied here and perhaps not on the primary: no checkpoint may forget it yet.
    pub recent: BTreeMap<Seq, (ObjectId, Option<ObjectId>)>,
    /// What was answered `NotYet`, as long as the answer may have been lost: told again, it must not turn into 'done'.
    not_yet: BTreeSet<Seq>,
}

impl Intake {
    /// An intake whose first number will be `first`.
    pub fn new(from: Incarnation, generation: Generation, first: Seq) -> Self {
        let applied = Applied { low: Seq(first.0 - 1), above: BTreeSet::new() };
        Intake {
            from,
            generation,
            open: true,
            applied,
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            unlogged: BTreeSet::new(),
            blocked: BTreeMap::new(),
            applying: BTreeMap::new(),
            recent: BTreeMap::new(),
            not_yet: BTreeSet::new(),
        }
    }

    /// Takes an operation in, within `room` unfinished ones.
    pub fn arrive(&mut self, op: Op, room: usize, guards: Guards) -> Arrival {
        if guards.remembers && self.applied.contains(op.seq) {
            let not_yet = self.not_yet.contains(&op.seq);
            return Arrival::Known(if not_yet { Outcome::NotYet } else { Outcome::Done });
        }
        if self.applying.contains_key(&op.seq) {
            return Arrival::Taken;
        }
        if !self.open || self.waiting.len() + self.applying.len() >= room {
            return Arrival::Dropped;
        }
        self.unqueue(op.seq);
        self.waiting.insert(op.seq, op);
        if !guards.in_order || self.applied.contains(op.after) {
            self.ready.insert(op.seq);
        } else {
            self.blocked.entry(op.after).or_default().insert(op.seq);
        }
        Arrival::Taken
    }

    /// Sent again, an operation may wait for another one than before.
    fn unqueue(&mut self, seq: Seq) {
        let Some(before) = self.waiting.get(&seq) else { return };
        self.ready.remove(&seq);
        self.unlogged.remove(&seq);
        if let Some(behind) = self.blocked.get_mut(&before.after) {
            behind.remove(&seq);
            if behind.is_empty() {
                self.blocked.remove(&before.after);
            }
        }
    }

    /// The next one that may be applied, as far as order goes.
    pub fn take_ready(&mut self) -> Option<Op> {
        self.ready.pop_first().and_then(|seq| self.waiting.get(&seq).copied())
    }

    /// It waits until the difference log names its object.
    pub fn wait_for_log(&mut self, seq: Seq) {
        self.unlogged.insert(seq);
    }

    /// The difference log was written.
    pub fn logged(&mut self) {
        self.ready.append(&mut self.unlogged);
    }

    /// An operation is being applied.
    pub fn start(&mut self, seq: Seq) {
        if let Some(op) = self.waiting.remove(&seq) {
            self.applying.insert(seq, op);
        }
    }

    /// An operation was applied (or refused for good): returns it if it was ours.
    pub fn finish(&mut self, seq: Seq, outcome: Outcome) -> Option<Op> {
        let op = self.applying.remove(&seq)?;
        if outcome == Outcome::NotYet {
            self.not_yet.insert(seq);
        }
        if matches!(outcome, Outcome::Done | Outcome::NotYet) {
            self.applied.insert(seq);
            self.recent.insert(seq, (op.object, op.also));
            self.ready.extend(self.blocked.remove(&seq).unwrap_or_default());
        }
        Some(op)
    }

    /// Everything below `low` is finished on the primary too.
    pub fn trim(&mut self, low: Seq) {
        self.recent = self.recent.split_off(&low);
        self.not_yet = self.not_yet.split_off(&low);
    }

    /// The objects that a checkpoint's cut must leave in the log.
    pub fn unfinished(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let recent = self.recent.values().flat_map(|(object, also)| [Some(*object), *also].into_iter().flatten());
        recent.chain(self.waiting.values().chain(self.applying.values()).flat_map(Op::objects))
    }

    /// Takes nothing more in and forgets what has not begun.
    pub fn close(&mut self) {
        self.open = false;
        self.waiting.clear();
        self.ready.clear();
        self.unlogged.clear();
        self.blocked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Body;
    use crate::message::Kind;

    fn op(seq: u64, after: u64) -> Op {
        Op { seq: Seq(seq), after: Seq(after), kind: Kind::Change, object: ObjectId(1), also: None, body: Body(seq) }
    }

    const GUARDS: Guards = Guards { remembers: true, in_order: true };

    fn ready(intake: &mut Intake) -> Vec<u64> {
        std::iter::from_fn(|| intake.take_ready()).map(|op| op.seq.0).collect()
    }

    fn intake() -> Intake {
        Intake::new(Incarnation::default(), Generation(1), Seq(1))
    }

    #[test]
    fn dependent_operations_wait_and_independent_ones_overtake() {
        let mut intake = intake();
        for op in [op(3, 1), op(2, 0)] {
            assert_eq!(intake.arrive(op, 8, GUARDS), Arrival::Taken);
        }
        assert_eq!(ready(&mut intake), [2]);
        intake.arrive(op(1, 0), 8, GUARDS);
        assert_eq!(ready(&mut intake), [1]);
        intake.start(Seq(1));
        intake.finish(Seq(1), Outcome::Done);
        assert_eq!(ready(&mut intake), [3]);
    }

    #[test]
    fn a_resent_operation_is_answered_and_not_applied() {
        let mut intake = intake();
        intake.arrive(op(1, 0), 8, GUARDS);
        intake.start(Seq(1));
        assert_eq!(intake.arrive(op(1, 0), 8, GUARDS), Arrival::Taken);
        assert_eq!(ready(&mut intake), []);
        intake.finish(Seq(1), Outcome::Done);
        assert_eq!(intake.arrive(op(1, 0), 8, GUARDS), Arrival::Known(Outcome::Done));
    }

    #[test]
    fn what_was_not_applied_yet_is_not_done_when_it_is_told_again() {
        let mut intake = intake();
        intake.arrive(op(1, 0), 8, GUARDS);
        intake.start(Seq(1));
        intake.finish(Seq(1), Outcome::NotYet);
        assert_eq!(intake.arrive(op(1, 0), 8, GUARDS), Arrival::Known(Outcome::NotYet));
    }

    #[test]
    fn the_room_is_bounded_and_a_closed_intake_takes_nothing() {
        let mut intake = intake();
        assert_eq!(intake.arrive(op(1, 0), 1, GUARDS), Arrival::Taken);
        assert_eq!(intake.arrive(op(2, 0), 1, GUARDS), Arrival::Dropped);
        intake.close();
        assert!(intake.waiting.is_empty());
        assert_eq!(intake.arrive(op(1, 0), 8, GUARDS), Arrival::Dropped);
    }

    #[test]
    fn what_the_primary_may_not_have_stays_in_the_log() {
        let mut intake = intake();
        for seq in [1, 2] {
            intake.arrive(op(seq, 0), 8, GUARDS);
            intake.start(Seq(seq));
            intake.finish(Seq(seq), Outcome::Done);
        }
        intake.trim(Seq(2));
        assert_eq!(intake.unfinished().count(), 1);
        intake.trim(Seq(3));
        assert_eq!(intake.unfinished().count(), 0);
    }

    #[test]
    fn the_applied_set_stays_small() {
        let mut applied = Applied::default();
        for seq in [3, 1, 2, 5] {
            applied.insert(Seq(seq));
        }
        assert_eq!((applied.low, applied.above.len()), (Seq(3), 1));
        assert!(applied.contains(Seq(5)) && !applied.contains(Seq(4)));
    }

    #[test]
    fn a_resent_operation_may_wait_for_another_one() {
        let mut intake = intake();
        intake.arrive(op(5, 4), 8, GUARDS);
        assert_eq!(ready(&mut intake), []);
        intake.arrive(op(5, 0), 8, GUARDS);
        assert_eq!(ready(&mut intake), [5]);
        intake.wait_for_log(Seq(5));
        assert_eq!(ready(&mut intake), []);
        intake.arrive(op(5, 3), 8, GUARDS);
        intake.logged();
        assert_eq!(ready(&mut intake), [], "it is not ready twice, nor before its turn");
        assert_eq!((intake.blocked.len(), intake.waiting.len()), (1, 1));
    }
}
