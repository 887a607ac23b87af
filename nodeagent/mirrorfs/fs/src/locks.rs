//! Who is at work on which inode: operations that conflict are held apart, others run side by side.
//!
//! A lock covers a byte range of a file, or all of an inode. It is held from before an operation is numbered and sent
//! until it is done locally, so both copies see conflicting operations in one order. Several inodes are locked in id
//! order, so no two operations wait for each other in a circle. Not fair: waits are as short as an operation.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::id::FileId;

const SHARDS: usize = 64;

/// A part of an inode, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    id: FileId,
    start: u64,
    end: u64,
}

impl Span {
    /// All of the inode: its data, attributes and, for a directory, entries.
    pub fn whole(id: FileId) -> Span {
        Span { id, start: 0, end: u64::MAX }
    }

    /// The bytes of one write. A write that grows the file conflicts with no other range: the larger size wins.
    pub fn bytes(id: FileId, offset: u64, length: u64) -> Span {
        Span { id, start: offset, end: offset.saturating_add(length.max(1)) }
    }

    fn conflicts(&self, other: &Span) -> bool {
        self.id == other.id && self.start < other.end && other.start < self.end
    }
}

#[derive(Default)]
struct Shard {
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Default)]
struct Held {
    spans: Vec<Span>,
    waiting: usize,
}

/// All operations under way in one file system.
pub struct Locks {
    shards: Vec<Shard>,
}

impl Default for Locks {
    fn default() -> Self {
        Locks { shards: std::iter::repeat_with(Shard::default).take(SHARDS).collect() }
    }
}

impl Locks {
    /// Waits until no conflicting span is held, then holds all of `spans` until the guard is dropped.
    pub fn hold<const N: usize>(&self, mut spans: [Span; N]) -> Guard<'_, N> {
        spans.sort_by_key(|span| (span.id, span.start));
        // The same inode twice (rename within a directory) is one lock, else it would wait for itself.
        let mut taken = [None; N];
        for (at, span) in spans.iter().enumerate() {
            if !taken.iter().flatten().any(|earlier: &Span| earlier.conflicts(span)) {
                self.take(span);
                taken[at] = Some(*span);
            }
        }
        Guard { locks: self, taken }
    }

    /// As `hold` with one span, for somebody who can do without: `None` when others hold it for longer than `patience`.
    pub fn hold_within(&self, span: Span, patience: Duration) -> Option<Guard<'_, 1>> {
        let deadline = Instant::now() + patience;
        let shard = self.shard(span.id);
        let mut held = lock(&shard.held);
        while held.spans.iter().any(|other| other.conflicts(&span)) {
            let left = deadline.checked_duration_since(Instant::now())?;
            held.waiting += 1;
            held = shard.freed.wait_timeout(held, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
            held.waiting -= 1;
        }
        held.spans.push(span);
        Some(Guard { locks: self, taken: [Some(span)] })
    }

    fn shard(&self, id: FileId) -> &Shard {
        &self.shards[(id.0 >> 64) as usize % SHARDS]
    }

    fn take(&self, span: &Span) {
        let shard = self.shard(span.id);
        let mut held = lock(&shard.held);
        while held.spans.iter().any(|other| other.conflicts(span)) {
            held.waiting += 1;
            held = shard.freed.wait(held).unwrap_or_else(std::sync::PoisonError::into_inner);
            held.waiting -= 1;
        }
        held.spans.push(*span);
    }

    fn release(&self, span: &Span) {
        let shard = self.shard(span.id);
        let mut held = lock(&shard.held);
        if let Some(at) = held.spans.iter().position(|other| other == span) {
            held.spans.swap_remove(at);
        }
        if held.waiting > 0 {
            shard.freed.notify_all();
        }
    }
}

/// A list of spans is whole after every statement, so a panic elsewhere leaves it usable.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Holds its spans until dropped.
#[must_use = "the lock ends when this is dropped"]
pub struct Guard<'a, const N: usize> {
    locks: &'a Locks,
    taken: [Option<Span>; N],
}

impl<const N: usize> Drop for Guard<'_, N> {
    fn drop(&mut self) {
        for span in self.taken.iter().flatten() {
            self.locks.release(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn ranges_that_touch_no_common_byte_do_not_wait() {
        let locks = Locks::default();
        let _first = locks.hold([Span::bytes(FileId(9), 0, 4096)]);
        let _second = locks.hold([Span::bytes(FileId(9), 4096, 4096)]);
        let _other = locks.hold([Span::whole(FileId(10))]);
    }

    #[test]
    fn the_same_inode_twice_is_one_lock() {
        let locks = Locks::default();
        drop(locks.hold([Span::whole(FileId(9)), Span::whole(FileId(9))]));
        drop(locks.hold([Span::whole(FileId(9))]));
    }

    #[test]
    fn whoever_can_do_without_is_turned_away_in_time_and_let_in_when_it_is_free() {
        let locks = Locks::default();
        let held = locks.hold([Span::bytes(FileId(9), 0, 1)]);
        assert!(locks.hold_within(Span::whole(FileId(9)), Duration::from_millis(5)).is_none());
        drop(held);
        let guard = locks.hold_within(Span::whole(FileId(9)), Duration::from_millis(5));
        assert!(guard.is_some());
        drop(guard);
        drop(locks.hold([Span::whole(FileId(9))]));
    }

    /// Crossed pairs from two threads: deadlock without the order, a lost exclusion without the wait.
    #[test]
    fn crossed_pairs_finish_and_exclude_each_other() {
        let (locks, inside) = (Locks::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for (a, b) in [(1, 2), (2, 1), (1, 2), (2, 1)] {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let _guard = locks.hold([Span::whole(FileId(a)), Span::whole(FileId(b))]);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
