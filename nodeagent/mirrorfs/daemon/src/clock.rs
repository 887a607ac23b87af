//! The two clocks: CLOCK_BOOTTIME, on which the protocol counts, and how far CLOCK_REALTIME stands from it.

use mirror_core::Time;
use rustix::time::{ClockId, clock_gettime};

fn milliseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

/// Now, in whole milliseconds of this machine's CLOCK_BOOTTIME.
pub fn now() -> Time {
    Time(milliseconds(ClockId::Boottime))
}

/// Notices when the two clocks drift apart at once: one of them was set, or stood still.
pub struct JumpWatch {
    apart: i64,
}

/// More than this at once drops the lease.
const JUMP: i64 = 500;

impl JumpWatch {
    pub fn new() -> JumpWatch {
        JumpWatch { apart: Self::measure() }
    }

    fn measure() -> i64 {
        milliseconds(ClockId::Realtime) - milliseconds(ClockId::Boottime)
    }

    /// Whether they jumped since the last look.
    pub fn jumped(&mut self) -> bool {
        let apart = Self::measure();
        let jumped = (apart - self.apart).abs() > JUMP;
        self.apart = apart;
        jumped
    }
}
