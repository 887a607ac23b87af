//! TAKING: the takeover, in its strict order. Fence, read the witness, compare-and-swap, serve.

use super::{Role, Row, Taking};
use crate::guard::Mutation;
use crate::ids::Generation;
use crate::node::Node;
use crate::role::RoleName;
use crate::time::Time;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] = &[
    back_to_second,
    back_to_wait,
    super::forced::peer_speaks,
    not_ours,
    drained_and_fenced,
    won,
    primary_already,
    swap,
    look_again,
];
/// A halted node takes nothing over.
pub const HALTED: &[Row] = &[back_to_second, back_to_wait];

fn taking(n: &Node) -> Option<&Taking> {
    match &n.role {
        Role::Taking(taking) => Some(taking),
        _ => None,
    }
}

/// | TAKING | witness never reached, nothing of ours in flight | un-fence, back to SECOND |
///
/// Once the followed primary is heard again; while it is silent there is nothing to go back to. The intake stays closed until the
/// lowered fence is on disk (`second::reopen`).
fn back_to_second(n: &mut Node, _: Time) -> bool {
    let Some(taking) = taking(n) else { return false };
    let heard = n.peer.heard.is_some_and(|heard| heard > taking.since) && n.peer.inc == n.follows;
    let primary =
        n.peer.view.as_ref().is_some_and(|view| {
            matches!(view.role, RoleName::Prim | RoleName::Frozen) && view.held == n.goal.generation
        });
    let untouched = n.cas.is_none() && n.record.is_none() && !n.talk.busy;
    let blocked = !untouched && n.on(Mutation::UnfenceWithOpenCas);
    if !heard || !primary || !taking.from_second || blocked {
        return false;
    }
    let generation = n.goal.generation;
    n.goal.fence = n.goal.fence.min(generation);
    n.promise = n.promise.max(n.peer.heard.unwrap_or_default() + n.cfg.promise());
    n.role = Role::Second;
    true
}

/// The same, where there is no primary to go back to: WAIT, so that both can find each other without a witness.
fn back_to_wait(n: &mut Node, now: Time) -> bool {
    let Some(taking) = taking(n) else { return false };
    let waits = n.hears_peer(now) && n.peer.view.is_some_and(|view| view.role == RoleName::Wait);
    let untouched = n.cas.is_none() && n.record.is_none() && !n.talk.busy && n.talk.failed;
    if !untouched || taking.forced.is_some() || taking.from_second && !waits {
        return false;
    }
    n.goal.fence = n.goal.fence.min(n.goal.generation);
    n.become_wait(now);
    true
}

/// | SECOND | ... | intake closed, accepted operations applied or discarded, fence = g+1 fsynced, |
///
/// Where the record turns out to be ahead of the own disk (it had joined, or was handed to), the fence follows it; but only for
/// a node that may take over (`not_ours` comes first): else it would refuse the primary that makes it equal.
fn drained_and_fenced(n: &mut Node, now: Time) -> bool {
    if n.intake.as_ref().is_some_and(|intake| !intake.applying.is_empty()) {
        return false;
    }
    let ours = n.record.filter(|record| record.primary.inc == n.inc);
    if ours.is_some() && taking(n).is_some_and(|taking| taking.fenced) {
        return false;
    }
    // The old primary may have handed over just now: then the record's own generation is the first that counts.
    let newest = n.record.map_or(Generation(0), |record| record.generation);
    let fence = ours.map_or(n.goal.generation.max(newest).next(), |record| record.generation);
    let raises = n.on(Mutation::NoFence);
    if n.goal.fence < fence && raises {
        n.goal.fence = fence;
        return true;
    }
    let standing = n.disk.fence >= fence || !raises;
    let Role::Taking(taking) = &mut n.role else { return false };
    if taking.fenced == standing {
        return false;
    }
    taking.fenced = standing;
    if n.record.is_none() {
        n.talk.next = now;
    }
    true
}

/// | SECOND | ... | CAS to (g+1,B,{B}), ALONE, mount, start the application |
fn won(n: &mut Node, _: Time) -> bool {
    let Some(record) = n.promoted().filter(|record| record.other.is_none()) else { return false };
    if !n.counts(&record) && !n.owns(&record) || !taking(n).is_some_and(|taking| taking.fenced) {
        return false;
    }
    if n.goal.generation < record.generation {
        n.adopt(record);
        return true;
    }
    false
}

/// The generation that was won is on disk: serve.
///
/// Apart from `won`, because by then the record is no longer above the own generation. Where a proposal of its own may still land
/// (a join that failed, before this node gave up), the record is bumped first (`swap`).
fn primary_already(n: &mut Node, now: Time) -> bool {
    let Some(record) = n.record.filter(|record| record.primary.node == n.me) else { return false };
    if n.is_recorded_alone(&record) && n.goal.generation == record.generation {
        let persisted = n.disk.generation == record.generation || !n.on(Mutation::ServeBeforePersist);
        if persisted {
            n.become_alone(now);
        }
        return persisted;
    }
    // The old primary had named this node in a planned switch: serve nothing until it grants, or is CASed out.
    let fenced = taking(n).is_some_and(|taking| taking.fenced);
    if fenced && record.other.is_some() && record.generation > n.goal.generation && record.primary.inc == n.inc {
        n.adopt(record);
        n.become_recorded_primary(now, record);
        return true;
    }
    false
}

/// | SECOND | ... | read W, require B in inSync with this incarnation, |
fn not_ours(n: &mut Node, now: Time) -> bool {
    let (Some(record), Some(taking)) = (n.record, taking(n)) else { return false };
    let this = record.holder(n.me).is_some_and(|holder| holder.inc == n.inc);
    let ours = n.goal.generation == record.generation && record.primary.inc == n.inc;
    let accepted = n.counts(&record) && (this || !taking.from_second || !n.on(Mutation::NoInSyncCheck));
    // What was forced on this machine holds as long as nobody went on without it; an Operation holds in any case.
    let forced = taking.forced.is_some_and(|by| !n.is_forced_by(by) || n.forced_here(&record).is_some());
    if accepted || ours || forced || n.cas.is_some() {
        return false;
    }
    if record.holder(n.me).is_none() {
        n.distrust(|goal| goal.outdated = true);
    }
    n.become_wait(now);
    true
}

/// | SECOND | ... | CAS to (g+1,B,{B}), |
fn swap(n: &mut Node, _: Time) -> bool {
    let Some(taking) = taking(n).filter(|taking| taking.fenced) else { return false };
    let Some(record) = n.record else { return false };
    if n.is_recorded_alone(&record) && n.goal.generation >= record.generation {
        return false;
    }
    match taking.forced {
        None => n.propose_alone(),
        Some(operation) => n.propose_forced(operation),
    }
}

/// The proposal was not there when the record was read: the same PUT again.
fn look_again(n: &mut Node, _: Time) -> bool {
    n.propose_again()
}

impl Node {
    /// The record names this life alone, and nothing that it proposed can change that any more.
    fn is_recorded_alone(&self, record: &crate::Record) -> bool {
        let settled = self.goal.cas.is_none() || !self.on(Mutation::NoBumpAfterJoin);
        record.primary.inc == self.inc && record.other.is_none() && settled
    }
}
