//! Lease, promise, beacons and the serving gate: the one place where clocks matter.
//!
//! The lease counts from the SEND time of a beacon that was answered, the promise from the receipt of the same beacon;
//! both lengths are in `config`. Acknowledged writes never depend on anything here.

use crate::event::Action;
use crate::guard::Mutation;
use crate::ids::Incarnation;
use crate::message::{Message, View};
use crate::node::Node;
use crate::role::Role;
use crate::time::{Span, Time};

impl Node {
    /// Until when this primary may serve under the lease that its peer granted.
    pub(crate) fn lease(&self) -> Option<Time> {
        self.granted.map(|sent| sent + self.cfg.serve())
    }

    pub(crate) fn lease_holds(&self, now: Time) -> bool {
        self.lease().is_some_and(|until| now < until)
    }

    /// No beacon renewed the promise for L/2.
    pub(crate) fn unanswered(&self, now: Time) -> bool {
        self.granted.is_none_or(|sent| now >= sent + self.cfg.doubt())
    }

    /// The peer was heard within the last L.
    pub(crate) fn hears_peer(&self, now: Time) -> bool {
        self.peer.heard.is_some_and(|heard| now < heard + self.cfg.lease)
    }

    /// When this node may take over: after its promise and the head start; one L more without an agent.
    pub(crate) fn takeover_at(&self) -> Time {
        if !self.on(Mutation::NoPromise) {
            return Time(i64::MIN / 2);
        }
        let patience = if self.agent { Span(0) } else { self.cfg.lease };
        self.promise + self.cfg.head_start + patience
    }

    /// Sends a beacon when one is due. A secondary sends none: it answers, and its silence is what is noticed.
    pub(crate) fn beacon(&mut self, now: Time) {
        if now < self.next_beacon || matches!(self.role, Role::Stop | Role::Second | Role::Taking(_)) {
            return;
        }
        self.next_beacon = now + self.cfg.beacon;
        if let Role::Alone(alone) = &mut self.role {
            alone.gate = now + self.cfg.lease;
        }
        let renew = self.asks_renewal();
        let beacon = Message::Beacon { sent: now, answered: self.answered, renew, view: self.view() };
        self.send(beacon);
        self.ask_cut_again();
    }

    /// A frozen primary's beacons renew nothing, unless it is only a grant away from resuming.
    fn asks_renewal(&self) -> bool {
        match self.role {
            Role::Prim | Role::Join => self.handing.is_none_or(|h| h.still_serves()),
            Role::Frozen(_) => !self.on(Mutation::FrozenRenews) || self.may_resume(),
            _ => false,
        }
    }

    /// Answers a beacon; renews the promise if its sender is the primary that is followed and hears this node.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        from: Incarnation,
        sent: Time,
        heard: Option<Time>,
        asked: (bool, View),
    ) {
        let (renew, view) = asked;
        let recent = heard.is_some_and(|answered| sent <= answered + self.cfg.doubt());
        let recent = recent || !self.on(Mutation::FrozenRenews);
        let granted = renew && recent && self.may_grant(from, &view);
        if granted {
            self.promise = self.promise.max(now + self.cfg.promise());
        }
        self.send(Message::Answer { to: sent, granted, view: self.view() });
    }

    fn may_grant(&self, from: Incarnation, view: &View) -> bool {
        let follows = matches!(self.role, Role::Second | Role::Wait(_)) && self.follows == Some(from);
        let intake = self.intake.as_ref().filter(|intake| intake.open && intake.from == from);
        let joined = matches!(self.role, Role::Second)
            || self.goal.joining == Some(view.generation) && self.disk.joining == Some(view.generation);
        follows && joined && intake.is_some_and(|intake| intake.generation == view.generation)
    }

    /// The peer answered a beacon that was sent at `to`.
    pub(crate) fn answered(&mut self, now: Time, from: Incarnation, to: Time, granted: bool, view: &View) {
        if to > now {
            return;
        }
        self.answered = self.answered.max(Some(to));
        let granted = granted || !self.on(Mutation::UngrantedRenews);
        let other = self.second.is_some_and(|second| second != from) && !self.on(Mutation::ResumeOther);
        let ours = self.second == Some(from) && granted || other;
        if ours && view.generation == self.epoch() {
            self.renew_lease(now, to);
        }
    }

    pub(crate) fn renew_lease(&mut self, now: Time, sent: Time) {
        let from = if self.on(Mutation::LeaseFromAnswer) { sent } else { now };
        self.granted = self.granted.max(Some(from));
    }

    /// Tells the kernel until when traffic may pass. In ALONE nobody else can serve, so the length is only for a dead daemon.
    pub(crate) fn set_gate(&mut self, now: Time) {
        let gate = match &self.role {
            Role::Prim => self.lease(),
            Role::Join if self.on(Mutation::JoinKeepsGate) => self.lease(),
            Role::Join => self.gate.max(self.lease()),
            Role::Alone(alone) => Some(alone.gate),
            Role::Frozen(_) if self.handing.is_some() && !self.on(Mutation::SwitchWhileServing) => self.gate,
            _ => None,
        };
        let gate = gate.filter(|until| now < *until);
        if gate != self.gate.filter(|until| now < *until) {
            self.act(Action::Gate(gate));
        }
        self.gate = gate;
    }

    /// When the node wants a `Tick` next, if nothing else happens.
    pub fn next_wake(&self, now: Time) -> Time {
        let silent = matches!(self.role, Role::Second | Role::Taking(_));
        let mut times = Vec::with_capacity(8);
        times.extend((!silent).then_some(self.next_beacon));
        times.extend(self.reads_witness().then_some(self.talk.next));
        match &self.role {
            Role::Prim | Role::Join => {
                times.extend(self.granted.map(|sent| sent + self.cfg.doubt()));
                times.extend(self.lease());
                times.extend(self.cfg.stall.zip(self.window.oldest_unanswered()).map(|(stall, t)| t + stall));
                times.extend(self.next_cut);
            }
            Role::Frozen(frozen) => {
                times.push(frozen.since + self.cfg.give_up);
                times.push(self.granted.unwrap_or(frozen.since) + self.cfg.doubt());
            }
            Role::Alone(_) => {
                times.extend(self.peer.heard.map(|heard| heard + self.cfg.lease));
                times.extend(self.resync.as_ref().and_then(|r| r.frozen).map(|t| t + self.cfg.doubt()));
            }
            Role::Second | Role::Taking(_) => times.push(self.takeover_at()),
            Role::Wait(wait) => {
                times.extend([self.takeover_at(), wait.since + self.cfg.crash_hold]);
                times.extend(self.peer.heard.map(|heard| heard + self.cfg.lease));
                times.extend(self.peer.heard.map(|heard| heard + self.cfg.crash_hold));
            }
            Role::Stop => return now + Span(i64::MAX / 4),
        }
        times.into_iter().filter(|time| *time > now).min().unwrap_or(now + self.cfg.beacon)
    }
}
