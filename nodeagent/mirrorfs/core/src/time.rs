//! Time as the protocol needs it: CLOCK_BOOTTIME of one machine, in milliseconds. Never compared between machines.
//!
//! The one rule that rests on clocks: the primary counts its lease from the SEND time of a beacon that was answered, the
//! secondary its promise from the RECEIVE time of the same beacon. Since `t_send <= t_recv`, no bound on a message's
//! delay is needed; only that both clocks run equally fast, within `rho`.

use std::ops::{Add, Sub};

/// A point on this machine's CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub i64);

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0 + span.0)
    }
}

impl Sub<Time> for Time {
    type Output = Span;
    fn sub(self, earlier: Time) -> Span {
        Span(self.0 - earlier.0)
    }
}

impl Time {
    /// The same point seen from an origin `by` later; what lies before `floor` is all one past.
    pub fn shift(self, by: Span, floor: Time) -> Time {
        Time(self.0 - by.0).max(floor)
    }
}
