//! The secondary's side of the window: what arrived, what may be applied now, what was applied already.
//!
//! rename, create and link are not idempotent: a resent operation is answered from the applied set, never done twice.
//! Which generation and which sender may speak at all is decided before (`node::receive`).

use crate::ids::{Generation, Incarnation, ObjectId, Seq};
use crate::message::Op;
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
    /// It was applied before: answer again.
    Known,
    /// It is on its way, or had to be taken in: the answer follows.
    Taken,
    /// No room, or the intake is closed: say nothing, it will be sent again.
    Dropped,
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
    /// What arrived and waits for what it depends on.
    pub waiting: BTreeMap<Seq, Op>,
    /// What is being applied.
    pub applying: BTreeMap<Seq, Op>,
    /// What is applied here and perhaps not on the primary: no checkpoint may forget it yet.
    pub recent: BTreeMap<Seq, Op>,
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
            applying: BTreeMap::new(),
            recent: BTreeMap::new(),
        }
    }

    /// Takes an operation in, within `room` unfinished ones.
    pub fn arrive(&mut self, op: Op, room: usize, remembers: bool) -> Arrival {
        if remembers && self.applied.contains(op.seq) {
            return Arrival::Known;
        }
        if self.applying.contains_key(&op.seq) {
            return Arrival::Taken;
        }
        if !self.open || self.waiting.len() + self.applying.len() >= room {
            return Arrival::Dropped;
        }
        self.waiting.insert(op.seq, op);
        Arrival::Taken
    }

    /// What could be applied now.
    pub fn ready(&self, in_order: bool) -> Vec<Op> {
        self.waiting.values().filter(|op| !in_order || self.applied.contains(op.after)).copied().collect()
    }

    /// An operation is being applied.
    pub fn start(&mut self, seq: Seq) {
        if let Some(op) = self.waiting.remove(&seq) {
            self.applying.insert(seq, op);
        }
    }

    /// An operation was applied (or refused for good): returns it if it was ours.
    pub fn finish(&mut self, seq: Seq, applied: bool) -> Option<Op> {
        let op = self.applying.remove(&seq)?;
        if applied {
            self.applied.insert(seq);
            self.recent.insert(seq, op);
        }
        Some(op)
    }

    /// Everything below `low` is finished on the primary too.
    pub fn trim(&mut self, low: Seq) {
        self.recent = self.recent.split_off(&low);
    }

    /// The objects that a checkpoint's cut must leave in the log.
    pub fn unfinished(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.recent.values().chain(self.waiting.values()).chain(self.applying.values()).flat_map(Op::objects)
    }

    /// Takes nothing more in and forgets what has not begun.
    pub fn close(&mut self) {
        self.open = false;
        self.waiting.clear();
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

    fn intake() -> Intake {
        Intake::new(Incarnation::default(), Generation(1), Seq(1))
    }

    #[test]
    fn dependent_operations_wait_and_independent_ones_overtake() {
        let mut intake = intake();
        for op in [op(3, 1), op(2, 0)] {
            assert_eq!(intake.arrive(op, 8, true), Arrival::Taken);
        }
        assert_eq!(intake.ready(true), [op(2, 0)]);
        intake.arrive(op(1, 0), 8, true);
        intake.start(Seq(1));
        intake.finish(Seq(1), true);
        assert_eq!(intake.ready(true), [op(2, 0), op(3, 1)]);
    }

    #[test]
    fn a_resent_operation_is_answered_and_not_applied() {
        let mut intake = intake();
        intake.arrive(op(1, 0), 8, true);
        intake.start(Seq(1));
        assert_eq!(intake.arrive(op(1, 0), 8, true), Arrival::Taken);
        assert!(intake.ready(true).is_empty());
        intake.finish(Seq(1), true);
        assert_eq!(intake.arrive(op(1, 0), 8, true), Arrival::Known);
    }

    #[test]
    fn the_room_is_bounded_and_a_closed_intake_takes_nothing() {
        let mut intake = intake();
        assert_eq!(intake.arrive(op(1, 0), 1, true), Arrival::Taken);
        assert_eq!(intake.arrive(op(2, 0), 1, true), Arrival::Dropped);
        intake.close();
        assert!(intake.waiting.is_empty());
        assert_eq!(intake.arrive(op(1, 0), 8, true), Arrival::Dropped);
    }

    #[test]
    fn what_the_primary_may_not_have_stays_in_the_log() {
        let mut intake = intake();
        for seq in [1, 2] {
            intake.arrive(op(seq, 0), 8, true);
            intake.start(Seq(seq));
            intake.finish(Seq(seq), true);
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
}
