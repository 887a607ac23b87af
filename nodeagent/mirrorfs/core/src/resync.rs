//! The source's side of a resync: walk, compare and copy, drain, freeze, ask for the grant.
//!
//! The copies travel as operations of the window, so that they keep their order among new writes. What the target could
//! not apply yet rejoins the set; the resync is over when the set is empty while new calls wait (the freeze).

use crate::ids::{Incarnation, ObjectId};
use crate::message::{Op, Outcome};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

use crate::ids::Seq;

/// How far a resync is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The target fsyncs that it is inconsistent and says what it touched.
    Asking,
    /// Objects are compared and copied while the application runs.
    Copying,
    /// All are equal: surplus names are deleted from limbo.
    Purging,
    /// New calls wait, the window drains.
    Freezing,
    /// The target fsyncs 'joining' and grants a lease.
    Preparing,
}

/// One attempt to make one incarnation of the peer equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resync {
    /// The attempt's number.
    pub session: u32,
    /// Whose copy.
    pub target: Incarnation,
    /// How far it is.
    pub phase: Phase,
    /// Objects still to be compared.
    pub set: BTreeSet<ObjectId>,
    /// And those that had their turn and come up again, after all the others: what has to wait for those keeps none back.
    pub again: BTreeSet<ObjectId>,
    /// The walk still names objects.
    pub walking: bool,
    /// Operations of the window that were sent as part of this.
    pub flying: BTreeMap<Seq, (ObjectId, Option<ObjectId>)>,
    /// Of these, the copies.
    pub copies: BTreeSet<Seq>,
    /// When the freeze, if any, began.
    pub frozen: Option<Time>,
    /// The grant that came, by the send time of what asked for it.
    pub granted: Option<Time>,
}

/// How many copies travel at once.
const COPIES: usize = 8;

impl Resync {
    /// A new attempt.
    pub fn new(session: u32, target: Incarnation) -> Self {
        Resync {
            session,
            target,
            phase: Phase::Asking,
            set: BTreeSet::new(),
            again: BTreeSet::new(),
            walking: false,
            flying: BTreeMap::new(),
            copies: BTreeSet::new(),
            frozen: None,
            granted: None,
        }
    }

    /// The target is ready: compare these (`None`: walk over everything).
    pub fn begin(&mut self, touched: Option<BTreeSet<ObjectId>>) {
        self.phase = Phase::Copying;
        match touched {
            Some(objects) => self.set = objects,
            None => self.walking = true,
        }
    }

    /// The next object to copy, if one may be begun.
    pub fn next_copy(&mut self) -> Option<ObjectId> {
        if self.phase != Phase::Copying || self.copies.len() >= COPIES {
            return None;
        }
        if self.set.is_empty() {
            std::mem::swap(&mut self.set, &mut self.again);
        }
        self.set.pop_first()
    }

    /// The copy of an object is on its way.
    pub fn begun(&mut self, seq: Seq, object: ObjectId) {
        self.flying.insert(seq, (object, None));
        self.copies.insert(seq);
    }

    /// An operation was sent to the target.
    pub fn sent(&mut self, op: Op) {
        self.flying.insert(op.seq, (op.object, op.also));
    }

    /// The target answered. What it could not apply rejoins the set, and the freeze is off.
    pub fn answered(&mut self, seq: Seq, outcome: Outcome, not_yet_counts: bool) {
        self.copies.remove(&seq);
        let Some((object, also)) = self.flying.remove(&seq) else { return };
        if outcome == Outcome::NotYet && not_yet_counts {
            self.rejoin((object, also));
        }
    }

    /// These are to be compared again, and the freeze is off.
    pub fn rejoin(&mut self, (object, also): (ObjectId, Option<ObjectId>)) {
        self.again.insert(object);
        self.again.extend(also);
        self.phase = Phase::Copying;
        self.frozen = None;
    }

    /// How many objects are still to be compared.
    pub fn left(&self) -> usize {
        self.set.len() + self.again.len()
    }

    /// Whether every object is known to be equal, apart from what still travels.
    pub fn is_settled(&self) -> bool {
        self.left() == 0 && !self.walking && self.flying.is_empty()
    }

    /// Whether new calls have to wait.
    pub fn holds_calls(&self) -> bool {
        matches!(self.phase, Phase::Freezing | Phase::Preparing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copying(objects: u128) -> Resync {
        let mut resync = Resync::new(1, Incarnation::default());
        resync.begin(Some((0..objects).map(ObjectId).collect()));
        resync
    }

    #[test]
    fn copies_are_bounded_and_each_object_is_begun_once() {
        let mut resync = copying(20);
        let mut begun = 0;
        while let Some(object) = resync.next_copy() {
            begun += 1;
            resync.begun(Seq(begun), object);
        }
        assert_eq!((begun, resync.set.len()), (8, 12));
    }

    #[test]
    fn objects_take_turns_and_operations_of_the_application_keep_no_copy_back() {
        let mut resync = copying(20);
        for seq in 0..100 {
            let kind = crate::message::Kind::Change;
            let (object, body) = (ObjectId(seq.into()), crate::ids::Body(1));
            resync.sent(Op { seq: Seq(1_000 + seq), after: Seq(0), kind, object, also: None, body });
        }
        let mut order = Vec::new();
        for seq in 1..=30 {
            let object = resync.next_copy().expect("one that waits");
            resync.begun(Seq(seq), object);
            resync.answered(Seq(seq), Outcome::NotYet, true);
            order.push(object.0);
        }
        assert_eq!(order, (0..20).chain(0..10).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_not_applied_yet_rejoins_and_ends_the_freeze() {
        let mut resync = copying(1);
        let object = resync.next_copy().expect("one object");
        resync.begun(Seq(1), object);
        assert!(!resync.is_settled());
        resync.phase = Phase::Freezing;
        resync.answered(Seq(1), Outcome::NotYet, true);
        assert_eq!((resync.phase, resync.left(), resync.is_settled()), (Phase::Copying, 1, false));
        let object = resync.next_copy().expect("again");
        resync.begun(Seq(2), object);
        resync.answered(Seq(2), Outcome::Done, true);
        assert!(resync.is_settled());
    }

    #[test]
    fn a_full_resync_is_not_settled_before_the_walk_is_over() {
        let mut resync = Resync::new(1, Incarnation::default());
        resync.begin(None);
        assert!(!resync.is_settled());
        resync.walking = false;
        assert!(resync.is_settled());
    }
}
