//! The primary's window: operations between the application's call and its reply.
//!
//! Peer first, then local: an operation is sent, applied here once the peer has it, and answered when both have it (or,
//! ALONE, when this node has it). It knows order, resend and back-pressure; whether anything may be answered at all
//! is the role's business (`node::pump`).

use crate::ids::{Body, Generation, ObjectId, Seq};
use crate::message::{Kind, Op};
use crate::time::Time;
use std::collections::BTreeMap;

/// Where an operation stands on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum There {
    /// Not sent, or to be sent again.
    Unsent,
    /// Sent, no answer.
    Sent,
    /// The peer holds it (or, during a resync, its object rejoined the set).
    Done,
}

/// Where an operation stands on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Here {
    /// Not begun.
    Waiting,
    /// Begun.
    Applying,
    /// Done.
    Done,
    /// Failed: the call gets an error, the peer's copy is mended from ours.
    Failed,
}

/// One operation in the window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The operation as it travels.
    pub op: Op,
    /// Where it stands there.
    pub there: There,
    /// Where it stands here.
    pub here: Here,
    /// Whether the application waits for it.
    pub called: bool,
    /// When it was taken in; `None` where nobody counts.
    pub since: Option<Time>,
}

/// All unfinished operations of one primary, by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The generation whose acknowledgement is asked for.
    pub generation: Generation,
    /// The next number.
    pub next: Seq,
    /// The unfinished.
    pub entries: BTreeMap<Seq, Entry>,
}

impl Window {
    /// An empty window for a new primary.
    pub fn new(generation: Generation) -> Self {
        Window { generation, next: Seq(1), entries: BTreeMap::new() }
    }

    /// Takes an operation in: gives it its number.
    pub fn submit(
        &mut self,
        kind: Kind,
        (object, also): (ObjectId, Option<ObjectId>),
        body: Body,
        since: Option<Time>,
    ) -> Seq {
        let seq = self.next;
        self.next = seq.next();
        let called = matches!(kind, Kind::Change | Kind::Sync);
        let here = if called { Here::Waiting } else { Here::Done };
        let op = Op { seq, after: Seq(0), kind, object, also, body };
        self.entries.insert(seq, Entry { op, there: There::Unsent, here, called, since });
        self.link(seq);
        seq
    }

    /// Finds what an operation must wait for there: the last unfinished one before it on the same object.
    ///
    /// Again at each sending: what finished here meanwhile without ever being sent (the peer was away) will not come.
    pub fn link(&mut self, seq: Seq) {
        let Some(object) = self.entries.get(&seq).map(|entry| entry.op.object) else { return };
        let before = self.entries.range(..seq).rev().find(|(_, entry)| entry.op.object == object);
        let after = before.map(|(seq, _)| *seq).unwrap_or_default();
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.op.after = after;
        }
    }

    /// Whether everything before `seq` on its object is done here (a copy only counts once it is read, that is sent).
    pub fn in_turn(&self, seq: Seq) -> bool {
        let Some(object) = self.entries.get(&seq).map(|entry| entry.op.object) else { return false };
        self.entries.range(..seq).all(|(_, before)| {
            before.op.object != object
                || (matches!(before.here, Here::Done | Here::Failed)
                    && (before.op.kind != Kind::Copy || before.there != There::Unsent))
        })
    }

    /// Everything sent and unanswered is to be sent again (the connection was lost).
    pub fn resend(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.there == There::Sent) {
            entry.there = There::Unsent;
        }
    }

    /// The oldest operation that the peer has not answered.
    pub fn oldest_unanswered(&self) -> Option<Time> {
        self.entries.values().filter(|entry| entry.there != There::Done).find_map(|entry| entry.since)
    }

    /// Everything below this number is finished.
    pub fn low(&self) -> Seq {
        self.entries.keys().next().copied().unwrap_or(self.next)
    }

    /// Whether the peer is still to be asked, or to answer, about anything.
    pub fn is_drained(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Generation(3))
    }

    #[test]
    fn operations_on_one_object_wait_for_each_other_and_others_do_not() {
        let mut window = window();
        for object in [7, 8, 7] {
            window.submit(Kind::Change, (ObjectId(object), None), Body(0), None);
        }
        let after: Vec<u64> = window.entries.values().map(|entry| entry.op.after.0).collect();
        assert_eq!(after, [0, 0, 1]);
        assert!(window.in_turn(Seq(2)) && !window.in_turn(Seq(3)));
        window.entries.get_mut(&Seq(1)).expect("first").here = Here::Done;
        assert!(window.in_turn(Seq(3)));
    }

    #[test]
    fn an_operation_does_not_wait_for_one_that_was_never_sent() {
        let mut window = window();
        let first = window.submit(Kind::Change, (ObjectId(7), None), Body(1), None);
        let second = window.submit(Kind::Change, (ObjectId(7), None), Body(2), None);
        window.entries.remove(&first);
        window.link(second);
        assert_eq!(window.entries[&second].op.after, Seq(0));
    }

    #[test]
    fn what_is_done_is_not_sent_again() {
        let mut window = window();
        for _ in 0..3 {
            window.submit(Kind::Change, (ObjectId(7), None), Body(0), None);
        }
        let states = [There::Done, There::Sent, There::Unsent];
        for (entry, there) in window.entries.values_mut().zip(states) {
            entry.there = there;
        }
        window.resend();
        let after: Vec<There> = window.entries.values().map(|entry| entry.there).collect();
        assert_eq!(after, [There::Done, There::Unsent, There::Unsent]);
    }

    #[test]
    fn a_copy_is_read_after_what_came_before_and_holds_back_what_comes_after() {
        let mut window = window();
        let first = window.submit(Kind::Change, (ObjectId(7), None), Body(1), None);
        let copy = window.submit(Kind::Copy, (ObjectId(7), None), Body(0), None);
        let last = window.submit(Kind::Change, (ObjectId(7), None), Body(2), None);
        assert!(!window.in_turn(copy));
        window.entries.get_mut(&first).expect("first").here = Here::Done;
        assert!(window.in_turn(copy) && !window.in_turn(last));
        window.entries.get_mut(&copy).expect("copy").there = There::Sent;
        assert!(window.in_turn(last));
    }
}
