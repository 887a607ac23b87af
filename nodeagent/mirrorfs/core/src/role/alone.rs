//! ALONE: the witness says `inSync = {self}`. Acknowledges by itself, counts what differs, brings the peer back.

use super::{Role, Row};
use crate::event::{Action, Notice, Order};
use crate::guard::Mutation;
use crate::ids::{Body, Incarnation, ObjectId};
use crate::message::{Kind, Message, Purpose};
use crate::node::{Handing, Node};
use crate::resync::{Phase, Resync};
use crate::role::RoleName;
use crate::time::Time;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] = &[
    deposed,
    bumped,
    super::forced::record_local,
    stop,
    stopped,
    switch_refused,
    replace_peer,
    peer_left,
    resync,
    ask_target,
    copy,
    purge,
    freeze,
    prepare,
    join,
    look_again,
];
/// A halted node serves on.
pub const HALTED: &[Row] = &[stop, stopped, peer_left, copy];

/// ALONE reads W too, and stops serving on a newer generation.
fn deposed(n: &mut Node, now: Time) -> bool {
    if n.deposed() {
        n.become_frozen(now);
        return true;
    }
    false
}

/// An own step that changed only the members took effect.
fn bumped(n: &mut Node, _: Time) -> bool {
    let Some(record) = n.promoted() else { return false };
    n.adopt(record);
    n.window.generation = record.generation;
    n.resync = None;
    true
}

/// The machine or the mirror stops: there is nobody to hand over to.
fn stop(n: &mut Node, _: Time) -> bool {
    if n.order != Some(Order::Stop) || n.handing.is_some() {
        return false;
    }
    n.handing = Some(Handing::Stopping { stopped: false });
    n.act(Action::StopApplication);
    true
}

fn stopped(n: &mut Node, now: Time) -> bool {
    if n.handing != Some(Handing::Stopping { stopped: true }) {
        return false;
    }
    n.tear_down();
    n.become_wait(now);
    true
}

/// A switch needs somebody to switch to.
fn switch_refused(n: &mut Node, _: Time) -> bool {
    let refused = n.order == Some(Order::SwitchOver);
    if refused {
        n.order = None;
        n.tell(Notice::Refused("the other member is not in sync"));
    }
    refused
}

/// A member that is neither primary nor in `inSync` may be replaced: the primary changes `members` by CAS.
fn replace_peer(n: &mut Node, _: Time) -> bool {
    let Some(Order::ReplacePeer { new }) = n.order else { return false };
    if n.peer.node == new {
        n.order = None;
        return true;
    }
    let (me, old) = (n.holder(), n.peer.node);
    if n.record.is_some_and(|record| record.holder(old).is_some()) {
        // An open proposal, or one that the witness is still to hear, may end that.
        return false;
    }
    n.propose(|record| {
        record.primary = me;
        record.other = None;
        let members = record.members.iter_mut();
        members.filter(|member| **member == old).for_each(|member| *member = new);
    })
}

/// The target is silent, another incarnation, or failing; or the freeze lasts too long: the application goes first.
fn peer_left(n: &mut Node, now: Time) -> bool {
    let Some(resync) = &n.resync else { return false };
    let other = n.peer.inc != Some(resync.target);
    let leaving = n.peer.view.is_some_and(|view| view.leaving || view.role != RoleName::Wait);
    let late = resync.frozen.is_some_and(|since| now >= since + n.cfg.doubt());
    if n.hears_peer(now) && !other && !leaving && !late {
        return false;
    }
    n.resync = None;
    true
}

/// | ALONE | peer in WAIT | resync; |
///
/// A different lineage is never resynced over without an Operation.
fn resync(n: &mut Node, now: Time) -> bool {
    let Some((target, view)) = n.peer.inc.zip(n.peer.view) else { return false };
    let waits = view.role == RoleName::Wait && !view.leaving && n.hears_peer(now);
    let busy = n.resync.is_some() || n.cas.is_some() || n.order.is_some() || n.handing.is_some();
    if !waits || busy || n.trouble.is_some() || n.disk.generation != n.goal.generation {
        return false;
    }
    let fresh = view.held.0 == 0;
    let same = view.lineage == n.disk.lineage || fresh || !n.on(Mutation::ResyncOtherLineage);
    if !same && !n.overwrite {
        report_lineage(n, target);
        return false;
    }
    n.sessions += 1;
    n.resync = Some(Resync::new(n.sessions, target));
    n.next_beacon = now;
    true
}

/// Once for each life of the peer: a person decides (Operation Overwrite).
fn report_lineage(n: &mut Node, peer: Incarnation) {
    let Role::Alone(alone) = &mut n.role else { return };
    if alone.reported.replace(peer) != Some(peer) {
        n.tell(Notice::OtherLineage);
    }
}

/// | ALONE | ... | resync; | — the target flags itself inconsistent and names what it touched; asked with each beacon.
fn ask_target(n: &mut Node, now: Time) -> bool {
    let Some(resync) = n.resync.as_ref().filter(|r| r.phase == Phase::Asking) else { return false };
    if now < n.next_beacon {
        return false;
    }
    let (generation, session, first) = (n.window.generation, resync.session, n.window.next);
    n.send(Message::ResyncBegin { generation, session, first });
    n.beacon(now);
    true
}

/// Each object is compared and copied, a few at a time.
fn copy(n: &mut Node, now: Time) -> bool {
    let Some(resync) = &mut n.resync else { return false };
    let Some(object) = resync.next_copy() else { return false };
    let seq = n.window.submit(Kind::Copy, (object, None), Body(0), n.cfg.stall.map(|_| now));
    resync.begun(seq, object);
    true
}

/// Surplus names went to the limbo directory; they are deleted when all else is equal.
fn purge(n: &mut Node, now: Time) -> bool {
    let settled =
        |r: &&mut Resync| r.phase == Phase::Copying && (r.is_settled() || !n.cfg.on(Mutation::JoinBeforeDrained));
    let Some(resync) = n.resync.as_mut().filter(settled) else { return false };
    resync.phase = Phase::Purging;
    let seq = n.window.submit(Kind::Purge, (ObjectId(0), None), Body(0), n.cfg.stall.map(|_| now));
    resync.begun(seq, ObjectId(0));
    true
}

/// The drain ends when the set is empty under the freeze: new calls wait.
fn freeze(n: &mut Node, now: Time) -> bool {
    let drained = !n.cfg.on(Mutation::JoinBeforeDrained);
    let settled = |r: &&mut Resync| r.phase == Phase::Purging && (r.is_settled() || drained);
    let Some(resync) = n.resync.as_mut().filter(settled) else { return false };
    resync.phase = Phase::Freezing;
    resync.frozen = Some(now);
    true
}

/// | ALONE | ... | drained: the joiner GRANTS a serving lease; |
fn prepare(n: &mut Node, now: Time) -> bool {
    let drained = n.window.is_empty() || !n.on(Mutation::JoinBeforeDrained);
    let Some(resync) = &mut n.resync else { return false };
    let settled = resync.is_settled() || !n.cfg.on(Mutation::JoinBeforeDrained);
    if resync.phase == Phase::Freezing && drained && settled {
        resync.phase = Phase::Preparing;
        n.next_beacon = now;
        return true;
    }
    if resync.phase != Phase::Preparing || now < n.next_beacon {
        return false;
    }
    let (session, generation, first) = (resync.session, n.window.generation.next(), n.window.next);
    n.send(Message::Prepare { purpose: Purpose::Join, generation, session, first, sent: now });
    n.beacon(now);
    true
}

/// | ALONE | ... | JOIN: acks now need both; |
fn join(n: &mut Node, now: Time) -> bool {
    let Some((target, sent)) = n.resync.as_ref().and_then(|r| r.granted.map(|sent| (r.target, sent))) else {
        return false;
    };
    n.resync = None;
    n.answered = n.answered.max(Some(sent));
    n.granted = None;
    n.renew_lease(now, sent);
    if !n.lease_holds(now) || n.cas.is_some() || n.order.is_some() {
        return true;
    }
    n.second = Some(target);
    n.window.generation = n.window.generation.next();
    n.role = Role::Join;
    n.overwrite = false;
    true
}

/// The proposal was not there when the record was read: the same PUT again.
fn look_again(n: &mut Node, _: Time) -> bool {
    n.propose_again()
}
