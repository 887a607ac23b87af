//! Forced promotion: a person says that the other machine is off.

use super::{Role, Taking};
use crate::event::{Notice, Order};
use crate::guard::Mutation;
use crate::ids::{Lineage, OperationId};
use crate::node::Node;
use crate::record::Record;
use crate::time::Time;

/// | any | forced promotion (Operation) | refused while the other's FarmNode Lease is fresh or it answers; needs
/// `otherMachine: ConfirmedOff`; bumps generation and lineage |
pub fn promote(n: &mut Node, now: Time) -> bool {
    let Some(Order::Force { operation, confirmed_off, peer_lease_fresh }) = n.order else { return false };
    n.order = None;
    let answers = n.peer.heard.is_some_and(|heard| now < heard + n.cfg.lease + n.cfg.lease);
    let reason = match () {
        () if !confirmed_off => Some("forcing needs otherMachine: ConfirmedOff"),
        () if peer_lease_fresh => Some("the other machine's lease is fresh: it is not off"),
        () if answers && n.on(Mutation::ForceWhilePeerAnswers) => Some("the other member answers: it is not off"),
        () => None,
    };
    if let Some(reason) = reason {
        n.tell(Notice::Refused(reason));
        return true;
    }
    n.tear_down();
    n.handing = None;
    n.cas = None;
    n.close_intake();
    n.record = None;
    let forced = Some(operation);
    n.role = Role::Taking(Taking { since: now, from_second: false, fenced: false, forced });
    true
}

impl Node {
    /// What a person said holds now, not later: an order to force that no row could follow is refused, never kept.
    pub(crate) fn refuse_late_force(&mut self) {
        let reason = match self.order {
            Some(Order::Force { .. }) => "this member is primary, stopped or taking over already",
            Some(Order::ForceLocal { .. }) if !matches!(self.role, Role::Frozen(_)) => "this member is not frozen",
            _ => return,
        };
        self.order = None;
        self.tell(Notice::Refused(reason));
    }
}

/// The other member speaks after all, before the record was forced: it is not off.
pub fn peer_speaks(n: &mut Node, now: Time) -> bool {
    let Role::Taking(taking) = &n.role else { return false };
    let speaks = n.peer.heard.is_some_and(|heard| heard > taking.since) && n.on(Mutation::ForceWhilePeerAnswers);
    // What was forced on this machine, long ago perhaps, is only being recorded: the other member may be back by now.
    let here = taking.forced.is_some_and(|operation| n.is_forced_by(operation));
    if taking.forced.is_none() || here || !speaks || n.cas.is_some() || n.promoted().is_some() {
        return false;
    }
    n.tell(Notice::Refused("the other member answers: it is not off"));
    n.become_wait(now);
    true
}

/// | FROZEN | witness out of reach | ...; a person may act on the machine itself (`farmstead mirror force --peer-is-off`) |
///
/// The lineage changes here and now, so that whatever the witness says later, this copy and the other are never mixed.
pub fn without_witness(n: &mut Node, now: Time) -> bool {
    let Some(Order::ForceLocal { operation }) = n.order else { return false };
    let lineage = Lineage(operation.0);
    let begun = n.goal.lineage == lineage;
    if !begun && (n.hears_peer(now) || !n.talk.failed) {
        n.order = None;
        n.tell(Notice::Refused("the other member or the witness is in reach: no need to force"));
        return true;
    }
    n.goal.lineage = lineage;
    n.goal.both = false;
    if n.disk.lineage != lineage {
        return false;
    }
    n.order = None;
    n.cas = None;
    n.become_alone(now);
    true
}

/// | FROZEN | witness out of reach | ...; a person may act on the machine itself | — the witness is in reach again: it learns what was
/// forced, before anybody can be made equal or take over beside it.
pub fn record_local(n: &mut Node, _: Time) -> bool {
    let Some(operation) = n.record.and_then(|record| n.forced_here(&record)) else { return false };
    n.propose_forced(operation)
}

impl Node {
    /// Proposes what a person decided: this node alone, under the Operation's lineage.
    pub(crate) fn propose_forced(&mut self, operation: OperationId) -> bool {
        let me = self.holder();
        self.propose(|record| {
            record.primary = me;
            record.other = None;
            record.lineage = Lineage(operation.0);
            record.forced = Some(operation);
        })
    }

    /// Whether this copy's lineage is already that of this Operation.
    pub(crate) fn is_forced_by(&self, operation: OperationId) -> bool {
        self.disk.lineage == Lineage(operation.0)
    }

    /// The Operation that made this copy the only one in its generation, if the record does not know of it. A generation has one
    /// lineage: another one on the own disk can only come from `without_witness`.
    pub(crate) fn forced_here(&self, record: &Record) -> Option<OperationId> {
        let ours = self.disk.primary == Some(self.me) && !self.disk.both && record.primary.node == self.me;
        let whole = !self.disk.inconsistent && !self.disk.outdated && self.disk_is_ours();
        let same = record.generation == self.disk.generation && record.lineage != self.disk.lineage;
        let forced = ours && whole && same && self.on(Mutation::LocalForceUnrecorded);
        forced.then_some(OperationId(self.disk.lineage.0))
    }
}
