//! PRIM: serves under the lease that the secondary grants; acknowledges what both hold.

use super::{Row, handing};
use crate::guard::Mutation;
use crate::node::Node;
use crate::time::Time;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] = &[
    deposed,
    cas_succeeded,
    lease_over,
    handing::begin,
    handing::drained,
    handing::own_disk_failed,
    peer_lost,
    look_again,
];
/// A halted primary serves on, within its lease.
pub const HALTED: &[Row] = &[lease_over];

/// | FROZEN | the record names B | deposed | — found while still PRIM: stop serving first, FROZEN's rows do the rest.
fn deposed(n: &mut Node, now: Time) -> bool {
    if n.deposed() {
        n.become_frozen(now);
        return true;
    }
    false
}

/// | PRIM | that CAS succeeds | ALONE: persist, open the difference log, release the held replies |
fn cas_succeeded(n: &mut Node, now: Time) -> bool {
    let Some(record) = n.promoted().filter(|record| record.other.is_none()) else { return false };
    if n.goal.generation < record.generation {
        n.adopt(record);
        return true;
    }
    let persisted = n.disk.generation == record.generation || !n.on(Mutation::ServeBeforePersist);
    if persisted {
        n.become_alone(now);
    }
    persisted
}

/// | PRIM | serving lease over | FROZEN: serve nothing, hold the replies |
fn lease_over(n: &mut Node, now: Time) -> bool {
    if n.lease_holds(now) {
        return false;
    }
    n.become_frozen(now);
    true
}

/// | PRIM | no answer for L/2 | start the CAS (g,A,{A,B}) -> (g+1,A,{A}), go on serving |
///
/// Also: another incarnation of the peer, its fence, its asking to be removed (graceful stop, ENOSPC, EIO), a stall.
fn peer_lost(n: &mut Node, now: Time) -> bool {
    n.lost_peer(now).is_some() && n.handing.is_none() && n.promoted().is_none() && n.propose_alone()
}

/// The proposal was not there when the record was read: the same PUT again.
fn look_again(n: &mut Node, _: Time) -> bool {
    n.propose_again()
}

impl Node {
    /// Why the peer counts as lost for a primary that still serves.
    pub(crate) fn lost_peer(&self, now: Time) -> Option<&'static str> {
        let stalled = self.cfg.stall.zip(self.window.oldest_unanswered()).is_some_and(|(stall, t)| now >= t + stall);
        match self.unfit_peer() {
            _ if self.unanswered(now) => Some("it has not answered for half the lease"),
            None if stalled => Some("an operation is unacknowledged for too long"),
            reason => reason,
        }
    }

    /// Why the peer, as it last described itself, can't be this primary's secondary.
    pub(crate) fn unfit_peer(&self) -> Option<&'static str> {
        let view = self.peer.view.as_ref();
        let other = self.peer.inc.is_some() && self.peer.inc != self.second;
        match () {
            () if other => Some("another incarnation of it speaks: what it held in memory may be lost"),
            () if view.is_some_and(|v| v.leaving) => Some("it asks to be removed"),
            () => None,
        }
    }
}
