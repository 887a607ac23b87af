//! JOIN: the drained peer is being added. Both must acknowledge already, the record does not say so yet.

use super::Role;
use super::Row;
use crate::guard::Mutation;
use crate::node::Node;
use crate::record::Holder;
use crate::time::Time;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] = &[deposed, joined, failed, add];
/// A halted node adds nobody; without its lease it freezes.
pub const HALTED: &[Row] = &[failed];

fn deposed(n: &mut Node, now: Time) -> bool {
    if n.deposed() {
        n.become_frozen(now);
        return true;
    }
    false
}

/// | ALONE | ... | JOIN: acks now need both; CAS to (g+1,A,{A,B}); |
fn add(n: &mut Node, _: Time) -> bool {
    let Some(second) = n.second else { return false };
    let (me, peer) = (n.holder(), Holder { node: n.peer.node, inc: second });
    n.propose(|record| {
        record.primary = me;
        record.other = Some(peer);
    })
}

/// | ALONE | ... | PRIM. The order is strict |
fn joined(n: &mut Node, now: Time) -> bool {
    let Some(record) = n.record.filter(|r| r.other.is_some() && r.generation == n.window.generation) else {
        return false;
    };
    if record.primary.inc != n.inc || record.other.is_none_or(|other| Some(other.inc) != n.second) {
        return false;
    }
    n.adopt(record);
    n.next_cut = Some(now);
    n.role = Role::Prim;
    true
}

/// | JOIN | the peer is lost, the CAS fails or is unknown | FROZEN until the record is bumped, then ALONE |
fn failed(n: &mut Node, now: Time) -> bool {
    let unsure = n.cas.as_ref().is_some_and(|cas| !cas.is_under_way());
    let moved = n.record.is_some_and(|record| record.generation >= n.window.generation);
    let lost = n.lost_peer(now).is_some() || !n.lease_holds(now);
    if !lost && !unsure && !moved {
        return false;
    }
    n.window.generation = n.goal.generation;
    if !n.on(Mutation::NoBumpAfterJoin) {
        n.cas = None;
        n.become_alone(now);
        return true;
    }
    n.become_frozen(now);
    true
}
