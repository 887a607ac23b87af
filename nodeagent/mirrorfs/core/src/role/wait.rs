//! WAIT: not serving. After a start it finds out what it is; without a place in `inSync` it is only ever a resync target.

use super::{Owed, Role, Row, Taking};
use crate::config::Acknowledgement;
use crate::event::{Action, Order};
use crate::guard::Mutation;
use crate::ids::Generation;
use crate::message::{Message, Purpose};
use crate::node::Node;
use crate::role::RoleName;
use crate::time::Time;

/// The rows, in the order in which they are tried.
pub const ROWS: &[Row] = &[
    stop,
    replaced,
    first_record,
    first_won,
    not_in_sync,
    own_disk_trusted,
    handed_answer,
    joined,
    super::forced::promote,
    take_over,
    compare,
    resume_both,
    look_again,
];
/// A halted node stays where it is.
pub const HALTED: &[Row] = &[stop];

/// The machine or the mirror stops: by now nothing depends on this node.
fn stop(n: &mut Node, _: Time) -> bool {
    if n.order != Some(Order::Stop) {
        return false;
    }
    n.role = Role::Stop;
    true
}

/// A former member never serves again.
fn replaced(n: &mut Node, _: Time) -> bool {
    if n.record.is_none_or(|record| record.members.contains(&n.me)) {
        return false;
    }
    n.distrust(|goal| goal.outdated = true);
    n.role = Role::Stop;
    true
}

/// First record: made by the operator in generation 0; the source CASes (1, source, {source}).
fn first_record(n: &mut Node, _: Time) -> bool {
    let first = n.record.is_some_and(|r| r.generation == Generation(0) && r.primary.node == n.me);
    let fresh = n.disk.generation == Generation(0) && n.disk.joining.is_none();
    first && fresh && n.propose_alone()
}

/// ... and serves once that is recorded, and recorded here.
fn first_won(n: &mut Node, now: Time) -> bool {
    let first = |r: &crate::Record| r.generation == Generation(1) && r.primary.inc == n.inc && r.other.is_none();
    let Some(record) = n.record.filter(first) else { return false };
    if n.goal.generation < record.generation {
        n.adopt(record);
        return true;
    }
    if n.disk.generation != record.generation || n.goal.outdated || n.goal.inconsistent {
        return false;
    }
    n.become_alone(now);
    true
}

/// | WAIT | ... | Not in inSync: only ever a resync target |
fn not_in_sync(n: &mut Node, _: Time) -> bool {
    let Some(record) = n.record.filter(|r| r.generation >= n.disk.generation) else { return false };
    let away = record.holder(n.me).is_none() && record.generation > Generation(0);
    let fresh = away && !n.goal.outdated && n.on(Mutation::OutdatedForgotten);
    if fresh {
        n.distrust(|goal| goal.outdated = true);
    }
    fresh
}

/// (Only with the guard off: the disk alone says who is primary.)
fn own_disk_trusted(n: &mut Node, now: Time) -> bool {
    let trusts = !n.on(Mutation::BootTrustsDisk);
    if !trusts || n.disk.primary != Some(n.me) || n.disk.both || n.disk.generation == Generation(0) {
        return false;
    }
    n.become_alone(now);
    true
}

/// What a resync's source or a resuming primary asked for is on disk: answer it.
fn handed_answer(n: &mut Node, now: Time) -> bool {
    let flagged = n.disk.inconsistent || !n.on(Mutation::ResyncUnflagged);
    let Role::Wait(wait) = &mut n.role else { return false };
    match wait.owes {
        Some(Owed::Ready { session }) if flagged && n.disk.joining.is_none() => {
            wait.owes = None;
            wait.session = Some(session);
            let touched = n.log.touched().map(|set| set.into_iter().collect());
            n.send(Message::ResyncReady { session, touched });
            true
        }
        Some(Owed::Grant { purpose: Purpose::Resume, session, sent }) => {
            n.grant(now, Purpose::Resume, session, sent);
            let follows = n.follows.zip(n.intake.take());
            if let Some((from, intake)) = follows {
                n.become_second(now, from, intake);
            }
            true
        }
        Some(Owed::Grant { purpose: Purpose::Join, .. }) if n.goal.joining.is_none() => {
            let flushed = n.cut.is_some_and(|cut| cut.here);
            if let Some(intake) = n.intake.as_ref().filter(|_| flushed) {
                n.goal.joining = Some(intake.generation);
                n.goal.boot = n.inc.boot;
            }
            flushed
        }
        Some(Owed::Grant { purpose, session, sent })
            if n.disk.joining.is_some() && n.disk.joining == n.goal.joining =>
        {
            wait.owes = None;
            n.grant(now, purpose, session, sent);
            true
        }
        _ => false,
    }
}

/// | ALONE | ... | ... PRIM | — seen from the joiner: the primary says that the record has both. SECOND.
fn joined(n: &mut Node, now: Time) -> bool {
    let (Some(from), Some(view)) = (n.follows, n.peer.view) else { return false };
    let landed = view.role == RoleName::Prim && Some(view.held) == n.disk.joining && n.peer.inc == Some(from);
    let Some(intake) = n.intake.take_if(|intake| landed && intake.from == from) else { return false };
    n.goal.generation = view.held;
    n.goal.joining = None;
    n.goal.inconsistent = false;
    n.goal.outdated = false;
    n.goal.lineage = view.lineage;
    n.goal.primary = Some(n.peer.node);
    n.goal.both = true;
    n.become_second(now, from, intake);
    true
}

/// | WAIT | after boot or restart | ask the peer, read W. In inSync, own disk as recorded, boot id unchanged (a restarted process
/// lost nothing), promise over: TAKING. Boot id changed and `Memory`: takes over by itself only after `crashHoldSeconds` without
/// any path to the peer, and says what may be missing (`Disk`: at once) |
fn take_over(n: &mut Node, now: Time) -> bool {
    if n.stays_away(now).is_some() {
        return false;
    }
    let forced = n.record.and_then(|record| n.forced_here(&record));
    n.close_intake();
    n.record = None;
    n.role = Role::Taking(Taking { since: now, from_second: false, fenced: false, forced });
    true
}

/// | WAIT on both | witness away, both of the last inSync present with equal generation, lineage and data | — first: are they equal?
fn compare(n: &mut Node, now: Time) -> bool {
    let both = n.both_are_back(now);
    let Role::Wait(wait) = &mut n.role else { return false };
    if !both {
        let asked = wait.compared.take();
        return asked.is_some();
    }
    if wait.compared.is_some() {
        return false;
    }
    let equal = (!n.cfg.on(Mutation::ResumeUncompared)).then_some(true);
    wait.compared = Some(equal);
    n.act(Action::Compare);
    true
}

/// | WAIT on both | ... | the recorded primary resumes as PRIM in g (a site that reboots during an API outage) |
fn resume_both(n: &mut Node, now: Time) -> bool {
    let Role::Wait(wait) = &n.role else { return false };
    if wait.compared != Some(Some(true)) || !n.both_are_back(now) || now < n.next_beacon {
        return false;
    }
    n.sessions += 1;
    let (generation, first) = (n.disk.generation, n.window.next);
    let purpose = Purpose::Resume;
    n.send(Message::Prepare { purpose, generation, session: n.sessions, first, sent: now });
    n.beacon(now);
    true
}

/// The proposal was not there when the record was read: the same PUT again.
fn look_again(n: &mut Node, _: Time) -> bool {
    n.propose_again()
}

impl Node {
    /// Why a waiting node does not take over. The checks, in the order in which a person would ask.
    pub(crate) fn stays_away(&self, now: Time) -> Option<&'static str> {
        let Some(record) = self.record else { return Some("the witness is not read yet") };
        let view = self.peer.view.filter(|_| self.hears_peer(now));
        let serving = |role| matches!(role, RoleName::Prim | RoleName::Alone | RoleName::Join);
        match () {
            () if record.generation == Generation(0) => Some("the source makes the first step"),
            () if !self.counts(&record) && self.forced_here(&record).is_none() => {
                Some("not in sync, as far as record and own disk prove")
            }
            () if self.trouble.is_some() => Some("the own disk failed"),
            () if now < self.takeover_at() => Some("the promise is not over"),
            () if view.is_some_and(|v| v.held > record.generation) => Some("the peer holds a newer generation"),
            () if view.is_some_and(|v| serving(v.role)) => Some("the peer serves"),
            () => self.crashed_and_not_alone(now, &record),
        }
    }

    /// After an operating system crash the other copy is the better one, as long as there may be another one.
    fn crashed_and_not_alone(&self, now: Time, record: &crate::Record) -> Option<&'static str> {
        let Role::Wait(wait) = &self.role else { return None };
        let memory = self.cfg.acknowledgement == Acknowledgement::Memory;
        // A copy that was recorded as the only one in sync, or forced to be, is not improved by waiting for the other.
        let only = record.other.is_none() || self.forced_here(record).is_some();
        if !memory || only || !self.lost_memory() || !self.on(Mutation::CrashedTakesOver) {
            return None;
        }
        let view = self.peer.view.filter(|_| self.hears_peer(now));
        let both_crashed = view.is_some_and(|v| v.role == RoleName::Wait && (v.lost || v.target));
        if both_crashed && (record.primary.node == self.me || view.is_some_and(|v| v.target)) {
            return None;
        }
        let silent = self.peer.heard.is_none_or(|heard| now >= heard + self.cfg.crash_hold);
        let waited = now >= wait.since + self.cfg.crash_hold;
        (!silent || !waited).then_some("memory may be lost, and the peer may come")
    }

    /// Both members of the last recorded `inSync` wait, in the same generation, with nothing of theirs in flight, and no
    /// witness to ask; this one is the recorded primary.
    fn both_are_back(&self, now: Time) -> bool {
        let whole = !self.goal.inconsistent && !self.goal.outdated && self.disk_is_ours();
        let mine = self.disk.primary == Some(self.me) && self.disk.both && whole && self.trouble.is_none();
        let closed = self.disk.cas.is_none() && self.goal.cas.is_none();
        let equal = |v: &crate::message::View| {
            v.held == self.disk.generation && v.lineage == self.disk.lineage && v.fence <= v.held && !v.open
        };
        let peer = self.peer.view.filter(|v| v.role == RoleName::Wait && !v.target && !v.leaving && equal(v));
        self.talk.failed && mine && closed && peer.is_some() && self.hears_peer(now)
    }

    /// Grants a lease that counts from `sent` on the asking side, and promises to stay away as long.
    pub(crate) fn grant(&mut self, now: Time, purpose: Purpose, session: u32, sent: Time) {
        if self.on(Mutation::JoinWithoutGrant) || purpose != Purpose::Join {
            self.promise = self.promise.max(now + self.cfg.promise());
        }
        let generation = self.disk.joining.unwrap_or(self.disk.generation);
        self.send(Message::Granted { purpose, generation, session, to: sent });
    }
}
