//! The primary's window: operations between the application's call and its reply.
//!
//! Peer first, then local: an operation is sent, applied here once the peer has it, and answered when both have it (or,
//! ALONE, when this node has it). It knows order, resend and back-pressure; whether anything may be answered at all
//! is the role's business (`node::pump`).

use crate::ids::{Body, Generation, ObjectId, Seq};
use crate::message::{Kind, Op};
use crate::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};

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
///
/// Who may move is kept as a list (`due`), so that a step costs the operations that it concerns and not the whole window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The generation whose acknowledgement is asked for.
    pub generation: Generation,
    /// The next number.
    pub next: Seq,
    entries: BTreeMap<Seq, Entry>,
    /// The unfinished of each object, in order.
    chains: BTreeMap<ObjectId, BTreeSet<Seq>>,
    /// What the peer has not answered.
    unanswered: BTreeSet<Seq>,
    /// What may be able to move since something happened to it, or to the one before it on its object.
    due: BTreeSet<Seq>,
    /// What waits for the difference log.
    unlogged: BTreeSet<Seq>,
}

impl Window {
    /// An empty window for a new primary.
    pub fn new(generation: Generation) -> Self {
        Window {
            generation,
            next: Seq(1),
            entries: BTreeMap::new(),
            chains: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            due: BTreeSet::new(),
            unlogged: BTreeSet::new(),
        }
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
        self.chains.entry(object).or_default().insert(seq);
        self.unanswered.insert(seq);
        self.due.insert(seq);
        self.link(seq);
        seq
    }

    /// One of the unfinished.
    pub fn get(&self, seq: Seq) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// All of the unfinished, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many are unfinished.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the peer is still to be asked, or to answer, about anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Finds what an operation must wait for there: the last unfinished one before it on the same object.
    ///
    /// Again at each sending: what finished here meanwhile without ever being sent (the peer was away) will not come.
    pub fn link(&mut self, seq: Seq) {
        let after = self.before(seq).next().map(|entry| entry.op.seq).unwrap_or_default();
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.op.after = after;
        }
    }

    /// The unfinished before `seq` on its object, the nearest first.
    fn before(&self, seq: Seq) -> impl Iterator<Item = &Entry> {
        let chain = self.entries.get(&seq).and_then(|entry| self.chains.get(&entry.op.object));
        let before = chain.into_iter().flat_map(move |chain| chain.range(..seq).rev());
        before.filter_map(|seq| self.entries.get(seq))
    }

    /// The last unfinished copy before `seq` on its object; 0: none. What is read for a copy must not be written over what
    /// comes after it, also where nothing else about the object's order has to be told.
    pub fn copy_before(&self, seq: Seq) -> Seq {
        let copy = self.before(seq).find(|before| before.op.kind == Kind::Copy);
        copy.map(|entry| entry.op.seq).unwrap_or_default()
    }

    /// Whether everything before `seq` on its object is done here (a copy only counts once it is read, that is sent).
    ///
    /// What is done was in turn itself, so the nearest one speaks for all before it; only a purge waits for nobody.
    pub fn in_turn(&self, seq: Seq) -> bool {
        let nearest = self.before(seq).find(|before| before.op.kind != Kind::Purge);
        self.entries.contains_key(&seq)
            && nearest.is_none_or(|before| match before.op.kind {
                Kind::Copy => before.there != There::Unsent,
                _ => matches!(before.here, Here::Done | Here::Failed),
            })
    }

    /// The next operation that may be able to move.
    pub fn take_due(&mut self) -> Option<Seq> {
        self.due.pop_first()
    }

    /// Any operation may be able to move now.
    pub fn all_due(&mut self) {
        self.due.extend(self.entries.keys());
    }

    /// It waits until the difference log names its object.
    pub fn wait_for_log(&mut self, seq: Seq) {
        self.unlogged.insert(seq);
    }

    /// The difference log was written.
    pub fn logged(&mut self) {
        self.due.append(&mut self.unlogged);
    }

    /// How it stands there.
    pub fn set_there(&mut self, seq: Seq, there: There) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        entry.there = there;
        if there == There::Done {
            self.unanswered.remove(&seq)
        } else {
            self.unanswered.insert(seq)
        };
        self.moved(seq);
    }

    /// How it stands here.
    pub fn set_here(&mut self, seq: Seq, here: Here) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        entry.here = here;
        self.moved(seq);
    }

    /// Its call was answered.
    pub fn replied(&mut self, seq: Seq) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.called = false;
        }
    }

    /// Nothing is left to be done about it.
    pub fn finish(&mut self, seq: Seq) {
        self.moved(seq);
        let Some(entry) = self.entries.remove(&seq) else { return };
        if let Some(chain) = self.chains.get_mut(&entry.op.object) {
            chain.remove(&seq);
            if chain.is_empty() {
                self.chains.remove(&entry.op.object);
            }
        }
        for set in [&mut self.unanswered, &mut self.due, &mut self.unlogged] {
            set.remove(&seq);
        }
    }

    /// Forgets all of them; numbers go on.
    pub fn clear(&mut self) {
        *self = Window { next: self.next, ..Window::new(self.generation) };
    }

    /// It, and the next one on its object, may be able to move.
    fn moved(&mut self, seq: Seq) {
        let chain = self.entries.get(&seq).and_then(|entry| self.chains.get(&entry.op.object));
        let next = chain.and_then(|chain| chain.range(seq.next()..).next().copied());
        self.due.insert(seq);
        self.due.extend(next);
    }

    /// Everything sent and unanswered is to be sent again (the connection was lost).
    pub fn resend(&mut self) {
        for seq in &self.unanswered {
            if let Some(entry) = self.entries.get_mut(seq) {
                entry.there = There::Unsent;
                self.due.insert(*seq);
            }
        }
    }

    /// The oldest operation that the peer has not answered.
    pub fn oldest_unanswered(&self) -> Option<Time> {
        self.unanswered.first().and_then(|seq| self.entries.get(seq)?.since)
    }

    /// Everything below this number is finished.
    pub fn low(&self) -> Seq {
        self.entries.keys().next().copied().unwrap_or(self.next)
    }

    /// Every time `by` earlier.
    pub(crate) fn shift(&mut self, by: Span, floor: Time) {
        let times = self.entries.values_mut().filter_map(|entry| entry.since.as_mut());
        times.for_each(|time| *time = time.shift(by, floor));
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
        let after: Vec<u64> = window.iter().map(|entry| entry.op.after.0).collect();
        assert_eq!(after, [0, 0, 1]);
        assert!(window.in_turn(Seq(2)) && !window.in_turn(Seq(3)));
        window.set_here(Seq(1), Here::Done);
        assert!(window.in_turn(Seq(3)));
    }

    #[test]
    fn an_operation_does_not_wait_for_one_that_was_never_sent() {
        let mut window = window();
        let first = window.submit(Kind::Change, (ObjectId(7), None), Body(1), None);
        let second = window.submit(Kind::Change, (ObjectId(7), None), Body(2), None);
        window.finish(first);
        window.link(second);
        assert_eq!(window.get(second).map(|entry| entry.op.after), Some(Seq(0)));
    }

    #[test]
    fn what_is_done_is_not_sent_again() {
        let mut window = window();
        for _ in 0..3 {
            window.submit(Kind::Change, (ObjectId(7), None), Body(0), None);
        }
        window.set_there(Seq(1), There::Done);
        window.set_there(Seq(2), There::Sent);
        window.resend();
        let after: Vec<There> = window.iter().map(|entry| entry.there).collect();
        assert_eq!(after, [There::Done, There::Unsent, There::Unsent]);
    }

    #[test]
    fn a_copy_is_read_after_what_came_before_and_holds_back_what_comes_after() {
        let mut window = window();
        let first = window.submit(Kind::Change, (ObjectId(7), None), Body(1), None);
        let copy = window.submit(Kind::Copy, (ObjectId(7), None), Body(0), None);
        let last = window.submit(Kind::Change, (ObjectId(7), None), Body(2), None);
        assert!(!window.in_turn(copy));
        window.set_here(first, Here::Done);
        assert!(window.in_turn(copy) && !window.in_turn(last));
        window.set_there(copy, There::Sent);
        assert!(window.in_turn(last));
    }

    fn all_of(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.take_due()).map(|seq| seq.0).collect()
    }

    #[test]
    fn what_happens_to_one_concerns_it_and_the_next_on_its_object_alone() {
        let mut window = window();
        for object in 0..1_000 {
            window.submit(Kind::Change, (ObjectId(object % 500), None), Body(0), None);
        }
        assert_eq!(all_of(&mut window).len(), 1_000);
        window.set_there(Seq(7), There::Done);
        assert_eq!(all_of(&mut window), [7, 507]);
        window.set_here(Seq(507), Here::Done);
        assert_eq!(all_of(&mut window), [507]);
        window.finish(Seq(8));
        assert_eq!(all_of(&mut window), [508]);
        window.wait_for_log(Seq(9));
        assert_eq!(all_of(&mut window), []);
        window.logged();
        assert_eq!(all_of(&mut window), [9]);
    }

    #[test]
    fn the_oldest_that_the_peer_has_not_answered_counts() {
        let mut window = window();
        for time in [3, 4, 5] {
            window.submit(Kind::Change, (ObjectId(7), None), Body(0), Some(Time(time)));
        }
        window.set_there(Seq(1), There::Done);
        assert_eq!(window.oldest_unanswered(), Some(Time(4)));
        window.finish(Seq(2));
        assert_eq!(window.oldest_unanswered(), Some(Time(5)));
        window.set_there(Seq(3), There::Done);
        assert_eq!(window.oldest_unanswered(), None);
    }

    #[test]
    fn a_purge_neither_waits_nor_speaks_for_what_is_before_it() {
        let mut window = window();
        window.submit(Kind::Change, (ObjectId(0), None), Body(1), None);
        let purge = window.submit(Kind::Purge, (ObjectId(0), None), Body(0), None);
        let last = window.submit(Kind::Change, (ObjectId(0), None), Body(2), None);
        assert_eq!(window.get(purge).map(|entry| entry.here), Some(Here::Done));
        assert!(!window.in_turn(last));
        window.set_here(Seq(1), Here::Failed);
        assert!(window.in_turn(last));
    }
}
