//! How fast a resync may send, and how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token bucket of bytes. Whoever has sent is in debt; whoever wants to send waits until the debt is paid off.
pub struct Pace {
    /// Bytes a second; 0: as fast as it goes.
    rate: u64,
    paid: Mutex<Instant>,
}

impl Pace {
    /// `rate` in bytes a second; 0: as fast as it goes.
    pub fn new(rate: u64) -> Pace {
        Pace { rate, paid: Mutex::new(Instant::now()) }
    }

    /// How long to wait before the next message.
    pub fn debt(&self, now: Instant) -> Duration {
        if self.rate == 0 { Duration::ZERO } else { self.lock().saturating_duration_since(now) }
    }

    /// So many bytes were sent.
    pub fn spent(&self, now: Instant, bytes: u64) {
        if self.rate > 0 {
            let mut paid = self.lock();
            *paid = (*paid).max(now) + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a resync or a verification has done so far.
#[derive(Default)]
pub(crate) struct Counters {
    pub compared: AtomicU64,
    pub read: AtomicU64,
    pub named: AtomicU64,
    pub copied: AtomicU64,
    pub asked: AtomicU64,
    pub sent: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub fn clear(&self) {
        for counter in [&self.compared, &self.read, &self.named, &self.copied, &self.asked, &self.sent] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// How far a resync is, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Since it began.
    pub elapsed: Duration,
    /// Inodes that the walk has compared; 0 in a delta resync, which has no walk.
    pub compared: u64,
    /// Inodes that there are to compare at most: those in use on the file system.
    pub to_compare: u64,
    /// Bytes of data read for digests on this side.
    pub read: u64,
    /// Objects that were found to differ, or are named by the logs.
    pub named: u64,
    /// Objects that are equal by now.
    pub copied: u64,
    /// Bytes of questions.
    pub asked: u64,
    /// Bytes of bodies: what the target did not have.
    pub sent: u64,
}

impl Progress {
    /// How much longer at the rate so far; `left` are the objects that the core still holds, `walking` whether more may come.
    /// `None`: nothing can be said yet.
    pub fn remaining(&self, left: u64, walking: bool) -> Option<Duration> {
        let (done, left) =
            if walking { (self.compared, self.to_compare.saturating_sub(self.compared)) } else { (self.copied, left) };
        match (done, left) {
            (_, 0) => Some(Duration::ZERO),
            (0, _) => None,
            _ => Some(self.elapsed.mul_f64(left as f64 / done as f64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_paid_off_at_the_rate() {
        let (pace, start) = (Pace::new(1_000_000), Instant::now());
        assert_eq!(pace.debt(start), Duration::ZERO);
        pace.spent(start, 500_000);
        pace.spent(start, 500_000);
        assert_eq!(pace.debt(start).as_millis(), 1_000);
        assert_eq!(pace.debt(start + Duration::from_millis(600)).as_millis(), 400);
        // An idle time is no credit: a burst after it would break the limit.
        let late = start + Duration::from_secs(60);
        pace.spent(late, 100_000);
        assert_eq!(pace.debt(late).as_millis(), 100);
        let unbounded = Pace::new(0);
        unbounded.spent(late, u64::MAX);
        assert_eq!(unbounded.debt(late), Duration::ZERO);
    }

    #[test]
    fn the_remaining_time_follows_the_rate_so_far() {
        let progress = Progress {
            elapsed: Duration::from_secs(10),
            compared: 100,
            to_compare: 400,
            read: 0,
            named: 50,
            copied: 20,
            asked: 0,
            sent: 0,
        };
        assert_eq!(progress.remaining(30, true), Some(Duration::from_secs(30)));
        assert_eq!(progress.remaining(30, false), Some(Duration::from_secs(15)));
        assert_eq!(progress.remaining(0, false), Some(Duration::ZERO));
        assert_eq!(Progress { copied: 0, ..progress }.remaining(1, false), None);
    }
}
