//! Where the copying of an object stands, when one body was not enough: what is compared, what is still to be sent.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::body::FULL;
use crate::extents::EXTENT;
use crate::names::Listing;
use crate::object::Object;
use crate::question::EXTENTS;

/// A file's.
#[derive(Default)]
pub struct FileCursor {
    /// The first extent that is not compared yet.
    pub next: u64,
    /// What was compared and differs.
    pub differing: VecDeque<Range<u64>>,
    /// How many extents did, over all.
    found: u64,
    /// Something was sent, or differs besides the data: attributes follow at the end.
    pub dirty: bool,
}

impl FileCursor {
    /// From an extent on.
    pub fn at(next: u64) -> FileCursor {
        FileCursor { next, ..FileCursor::default() }
    }

    /// How many extents differ.
    pub fn extents(&self) -> u64 {
        self.differing.iter().map(|range| range.end - range.start).sum()
    }

    /// One body takes no more.
    pub fn is_enough(&self) -> bool {
        self.extents() >= if self.is_sparse() { EXTENTS } else { (FULL as u64).div_ceil(EXTENT) }
    }

    /// Few extents differ, so of these few blocks may: it is worth asking.
    pub fn is_sparse(&self) -> bool {
        self.found * 2 <= self.next
    }

    /// One more extent that differs.
    pub fn differs(&mut self, extent: u64) {
        self.found += 1;
        match self.differing.back_mut() {
            Some(last) if last.end == extent => last.end += 1,
            _ => self.differing.push_back(extent..extent + 1),
        }
    }

    /// The first of those that differ, at most so many.
    pub fn first(&self, count: usize) -> Vec<u64> {
        self.differing.iter().cloned().flatten().take(count).collect()
    }

    /// The first of them was sent.
    pub fn sent(&mut self) {
        if let Some(first) = self.differing.front_mut() {
            first.start += 1;
        }
        if self.differing.front().is_some_and(Range::is_empty) {
            self.differing.pop_front();
        }
    }
}

/// A directory's.
pub struct DirectoryCursor {
    /// Kept open: where it stands means something only there, on some file systems.
    pub listing: Listing,
    /// Names up to this one are led to the right inodes.
    pub cookie: u64,
    /// All are: now the target's names are looked at, from this cookie of its own on.
    pub surplus: Option<u64>,
    /// As a file's.
    pub dirty: bool,
}

/// Either.
pub enum Cursor {
    File(FileCursor),
    Directory(DirectoryCursor),
}

enum State {
    Waiting(Cursor),
    /// Somebody is at work with it; `spoiled`: it may not come back.
    Taken {
        spoiled: bool,
    },
}

/// All of them.
#[derive(Default)]
pub struct Cursors(Mutex<HashMap<Object, State>>);

impl Cursors {
    fn lock(&self) -> MutexGuard<'_, HashMap<Object, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the object in hand. `None`: somebody else has it.
    pub fn take(&self, object: Object) -> Option<Option<Cursor>> {
        let mut all = self.lock();
        match all.insert(object, State::Taken { spoiled: false }) {
            None => Some(None),
            Some(State::Waiting(cursor)) => Some(Some(cursor)),
            Some(taken @ State::Taken { .. }) => {
                all.insert(object, taken);
                None
            }
        }
    }

    /// Lets go of the object, and keeps where it stands.
    pub fn put_back(&self, object: Object, cursor: Option<Cursor>) {
        let mut all = self.lock();
        let spoiled = matches!(all.remove(&object), Some(State::Taken { spoiled: true }));
        if let Some(cursor) = cursor.filter(|_| !spoiled) {
            all.insert(object, State::Waiting(cursor));
        }
    }

    /// How many bytes of a compared file differ.
    pub fn differing(&self, object: Object) -> Option<u64> {
        match self.lock().get(&object)? {
            State::Waiting(Cursor::File(cursor)) => Some(cursor.extents() * EXTENT),
            _ => None,
        }
    }

    /// The target refused a change of the object: what was compared no longer counts.
    pub fn spoil(&self, object: Object) {
        let mut all = self.lock();
        match all.get_mut(&object) {
            Some(State::Taken { spoiled }) => *spoiled = true,
            Some(State::Waiting(_)) => drop(all.remove(&object)),
            None => {}
        }
    }

    /// What the walk found out about a large file.
    pub fn keep(&self, object: Object, cursor: FileCursor) {
        self.lock().entry(object).or_insert(State::Waiting(Cursor::File(cursor)));
    }

    /// A new resync: nothing that was compared counts.
    pub fn clear(&self) {
        self.lock().retain(|_, state| match state {
            State::Taken { spoiled } => {
                *spoiled = true;
                true
            }
            State::Waiting(_) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorfs_fs::id::FileId;

    const OBJECT: Object = Object { tree: 0, id: FileId(9) };

    #[test]
    fn what_differs_is_kept_in_ranges() {
        let mut cursor = FileCursor::default();
        [3, 4, 5, 9].into_iter().for_each(|extent| cursor.differs(extent));
        assert_eq!(cursor.differing, [3..6, 9..10]);
        assert_eq!(cursor.first(9), [3, 4, 5, 9]);
        (0..3).for_each(|_| cursor.sent());
        assert_eq!((cursor.first(9), cursor.extents()), (vec![9], 1));
    }

    #[test]
    fn one_at_a_time_and_what_is_spoiled_does_not_come_back() {
        let cursors = Cursors::default();
        let file = || Some(Cursor::File(FileCursor::default()));
        assert!(matches!(cursors.take(OBJECT), Some(None)));
        assert!(cursors.take(OBJECT).is_none() && cursors.take(OBJECT).is_none());
        cursors.put_back(OBJECT, file());
        assert!(matches!(cursors.take(OBJECT), Some(Some(_))));
        cursors.spoil(OBJECT);
        cursors.put_back(OBJECT, file());
        assert!(matches!(cursors.take(OBJECT), Some(None)));
        cursors.clear();
        cursors.put_back(OBJECT, file());
        assert!(matches!(cursors.take(OBJECT), Some(None)));
    }
}
