//! FROZEN: the primary without a lease. Serves nothing, holds the replies, and finds out who goes on.

use super::{Role, Row, handing};
use crate::event::Order;
use crate::guard::Mutation;
use crate::ids::Seq;
use crate::intake::Intake;
use crate::message::View;
use crate::node::{Handing, Node, Trouble};
use crate::role::RoleName;
use crate::time::Time;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] = &[
    super::forced::promote,
    handed_over,
    deposed,
    cas_succeeded,
    join_succeeded,
    resume,
    handing::ask,
    handing::hand_over,
    handing::give_up,
    super::forced::without_witness,
    stop,
    peer_lost,
    witness_out_of_reach,
    look_again,
];
/// A halted primary whose peer is there goes on under its lease.
pub const HALTED: &[Row] = &[resume];

/// | PRIM | planned switch | ..., B starts | — the record names B, and this node as its secondary.
fn handed_over(n: &mut Node, now: Time) -> bool {
    let Some(record) = n.record.filter(|_| n.deposed()) else { return false };
    let Some(holder) = record.holder(n.me) else { return false };
    if holder.inc != n.inc || n.handing != Some(Handing::Marked) || n.trouble.is_some() {
        return false;
    }
    n.tear_down();
    n.adopt(record);
    n.cas = None;
    // Carried out. Kept, it would send away whatever role is handed back later.
    n.order = n.order.filter(|order| *order != Order::SwitchOver);
    let from = record.primary.inc;
    n.become_second(now, from, Intake::new(from, record.generation, Seq(1)));
    true
}

/// | FROZEN | the record names B | deposed: kill the cgroup, then EIO or abort, detach the mount, drop caches, `poststop`; WAIT.
/// No stop script (it would hang) |
fn deposed(n: &mut Node, now: Time) -> bool {
    if !n.deposed() {
        return false;
    }
    n.tear_down();
    n.distrust(|goal| goal.outdated = true);
    n.become_wait(now);
    true
}

/// | FROZEN | CAS to (g+1,A,{A}) succeeds | ALONE |
fn cas_succeeded(n: &mut Node, now: Time) -> bool {
    let Some(record) = n.promoted().filter(|record| record.other.is_none()) else { return false };
    if n.goal.generation < record.generation {
        n.adopt(record);
        return true;
    }
    if n.disk.generation != record.generation {
        return false;
    }
    n.become_alone(now);
    true
}

/// | JOIN | the peer is lost, the CAS fails or is unknown | FROZEN until the record is bumped | — it had succeeded after all.
fn join_succeeded(n: &mut Node, _: Time) -> bool {
    let Some(record) = n.promoted() else { return false };
    let Some(other) = record.other else { return false };
    n.adopt(record);
    n.window.generation = record.generation;
    n.second = Some(other.inc);
    true
}

/// | FROZEN | the **same incarnation** of the peer answers in the same generation, has not fenced, and no own CAS is open |
/// PRIM, resend the window |
fn resume(n: &mut Node, now: Time) -> bool {
    if !n.may_resume() || !n.lease_holds(now) {
        return false;
    }
    if !n.on(Mutation::ResumeWithOpenCas) {
        n.cas = None;
    }
    if n.on(Mutation::NoResend) {
        n.window.resend();
    }
    n.next_cut = n.next_cut.or(n.cfg.checkpoint.map(|every| now + every));
    n.role = Role::Prim;
    n.serve();
    true
}

/// | FROZEN | another incarnation, or a fence | a lost peer: CAS it out, later resync and JOIN |
///
/// Also: silence for L/2, and an own CAS that is open: the record is bumped, so that it can't land later.
fn peer_lost(n: &mut Node, now: Time) -> bool {
    let Role::Frozen(frozen) = &n.role else { return false };
    let silent = now >= n.granted.unwrap_or(frozen.since) + n.cfg.doubt();
    let lost = silent || n.cas.is_some() || n.unfit_peer().is_some();
    let able = n.handing.is_none() && n.trouble != Some(Trouble::Failed) && n.promoted().is_none();
    lost && able && !n.awaits_grant(now) && n.propose_alone()
}

/// | FROZEN | witness out of reach | stays FROZEN (after a set time: kill, EIO, WAIT) |
fn witness_out_of_reach(n: &mut Node, now: Time) -> bool {
    let Role::Frozen(frozen) = &n.role else { return false };
    if now < frozen.since + n.cfg.give_up {
        return false;
    }
    n.tear_down();
    n.become_wait(now);
    true
}

/// A stop is ordered while nothing is served: there is nothing to hand over.
fn stop(n: &mut Node, now: Time) -> bool {
    if n.order != Some(Order::Stop) || n.handing.is_some() || n.awaits_grant(now) {
        return false;
    }
    n.tear_down();
    n.become_wait(now);
    true
}

/// The proposal was not there when the record was read: the same PUT again, or a better one (`peer_lost`).
fn look_again(n: &mut Node, _: Time) -> bool {
    n.propose_again()
}

impl Node {
    /// Only a grant is missing for PRIM, and the peer that may give it speaks: what it said before it fell silent is no promise.
    fn awaits_grant(&self, now: Time) -> bool {
        self.may_resume() && (self.hears_peer(now) || !self.on(Mutation::FrozenWaitsForSilent))
    }

    /// Whether only a grant is missing for PRIM.
    pub(crate) fn may_resume(&self) -> bool {
        let same = self.second.is_some() && self.peer.inc == self.second || !self.on(Mutation::ResumeOther);
        let closed = !self.has_open_cas() || !self.on(Mutation::ResumeWithOpenCas);
        let fit = |view: &View| {
            let there = matches!(view.role, RoleName::Second | RoleName::Wait);
            view.generation == self.window.generation && there && !view.leaving
        };
        let fit = self.peer.view.as_ref().is_some_and(fit);
        // A person has said that the peer is off, and that is on its way to the disk.
        let forcing = matches!(self.order, Some(crate::event::Order::ForceLocal { .. }));
        same && closed && fit && self.handing.is_none() && self.trouble.is_none() && !forcing
    }
}
