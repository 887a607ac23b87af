//! SECOND: holds every acknowledged operation, grants the primary its lease, takes over when that is over.

use super::{Role, Row, Taking};
use crate::event::Order;
use crate::node::Node;
use crate::role::{Frozen, RoleName};
use crate::time::Time;
use crate::window::Window;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] =
    &[removed, handed_to, stopped_alone, disk_failed, whole, reopen, super::forced::promote, promise_over];
/// A halted secondary goes on holding operations.
pub const HALTED: &[Row] = &[];

/// | SECOND | graceful stop | asks to be removed: the primary CASes it out first, so no write stalls |
///
/// The asking is `View::leaving`. Removed, for this or any other reason: the primary says that it is ALONE in a newer generation.
fn removed(n: &mut Node, now: Time) -> bool {
    let alone = |view: &crate::message::View| {
        matches!(view.role, RoleName::Alone | RoleName::Join) && view.held > n.goal.generation
    };
    if !n.peer.view.as_ref().is_some_and(alone) {
        return false;
    }
    n.distrust(|goal| goal.outdated = true);
    n.goal.joining = None;
    n.become_wait(now);
    true
}

/// | PRIM | planned switch, ... | ..., B starts | — the record names this node primary, and its mark proves that it counts.
///
/// It starts as FROZEN: the old primary, now SECOND, grants the first lease; or is CASed out if it is gone.
fn handed_to(n: &mut Node, now: Time) -> bool {
    let Some(record) = n.promoted().filter(|record| n.counts(record)) else { return false };
    if n.goal.fence < record.generation {
        n.goal.fence = record.generation;
        return true;
    }
    if n.disk.fence < record.generation || n.intake.as_ref().is_some_and(|intake| !intake.applying.is_empty()) {
        return false;
    }
    n.adopt(record);
    n.become_recorded_primary(now, record);
    true
}

/// | SECOND | graceful stop | — and no primary is there to be asked: the machine goes down as it is.
fn stopped_alone(n: &mut Node, now: Time) -> bool {
    if n.order != Some(Order::Stop) || now < n.takeover_at() {
        return false;
    }
    n.become_wait(now);
    true
}

/// Any EIO of a local write or fsync: this node declares itself inconsistent and leaves.
fn disk_failed(n: &mut Node, _: Time) -> bool {
    let failed = n.trouble == Some(crate::node::Trouble::Failed) && n.on(crate::Mutation::DiskErrorIgnored);
    if !failed || n.goal.inconsistent {
        return false;
    }
    n.distrust(|goal| goal.inconsistent = true);
    true
}

/// Both came back after a crash: what this copy may lack, the primary has told before it served.
fn whole(n: &mut Node, _: Time) -> bool {
    let told =
        |view: &crate::message::View| view.role == RoleName::Prim && view.generation == n.goal.generation && !view.lost;
    let told = n.peer.inc == n.follows && n.peer.view.as_ref().is_some_and(told);
    if !told || !n.lost_memory() {
        return false;
    }
    n.goal.boot = n.inc.boot;
    true
}

/// | TAKING | ... | un-fence, back to SECOND | — the lower fence is on disk: operations are taken in again.
fn reopen(n: &mut Node, _: Time) -> bool {
    let lowered = n.highest_fence() <= n.goal.generation;
    let Some(intake) = n.intake.as_mut().filter(|intake| lowered && !intake.open) else { return false };
    intake.open = true;
    true
}

/// | SECOND | promise over, no beacon | intake closed, accepted operations applied or discarded, ... then TAKING |
fn promise_over(n: &mut Node, now: Time) -> bool {
    if now < n.takeover_at() || n.goal.inconsistent || n.trouble.is_some() {
        return false;
    }
    n.close_intake();
    n.record = None;
    n.role = Role::Taking(Taking { since: now, from_second: true, fenced: false, forced: None });
    true
}

impl Node {
    /// Both came back without a witness, and the other side granted: the recorded primary goes on in its generation.
    pub(crate) fn resume_recorded(&mut self, now: Time, from: crate::ids::Incarnation, sent: Time) {
        self.window = Window::new(self.disk.generation);
        self.second = Some(from);
        // Equal to a copy that lost nothing, this one lacks nothing either.
        if self.peer.view.is_some_and(|view| !view.lost) {
            self.goal.boot = self.inc.boot;
        }
        self.granted = None;
        self.answered = Some(sent);
        self.role = Role::Frozen(Frozen { since: now });
        self.next_beacon = now;
    }

    /// The record names this node primary with the peer in sync: serve nothing until the peer grants a lease.
    pub(crate) fn become_recorded_primary(&mut self, now: Time, record: crate::record::Record) {
        self.window = Window::new(record.generation);
        self.intake = None;
        self.follows = None;
        self.granted = None;
        self.cas = None;
        self.second = record.other.map(|other| other.inc);
        self.role = Role::Frozen(Frozen { since: now });
        self.next_beacon = now;
    }
}
