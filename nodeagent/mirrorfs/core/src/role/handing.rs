//! Handing over on purpose: a planned switch, a machine that shuts down, a primary whose disk failed.
//!
//! The application stops, the window drains, serving ends, the peer fsyncs its mark 'joining g+1', and only then does the
//! record name it. Without that mark its own disk could not prove that the record's word counts for it.

use crate::event::{Action, Notice, Order};
use crate::guard::Mutation;
use crate::message::{Message, Purpose};
use crate::node::{Handing, Node, Trouble};
use crate::record::Holder;
use crate::time::Time;

impl Handing {
    /// While the application is being stopped its last calls are served like any other.
    pub(crate) fn still_serves(self) -> bool {
        matches!(self, Handing::Stopping { .. })
    }
}

/// | PRIM | planned switch, or the machine shuts down | stop the application, |
pub fn begin(n: &mut Node, now: Time) -> bool {
    if n.handing.is_some() || !matches!(n.order, Some(Order::SwitchOver | Order::Stop)) || n.cas.is_some() {
        return false;
    }
    if n.lost_peer(now).is_some() {
        return false;
    }
    n.handing = Some(Handing::Stopping { stopped: false });
    n.act(Action::StopApplication);
    true
}

/// | PRIM | planned switch, ... | drain, | — then nobody serves until the record is read.
pub fn drained(n: &mut Node, now: Time) -> bool {
    if n.handing != (Some(Handing::Stopping { stopped: true })) || !n.window.is_empty() {
        return false;
    }
    leave(n, now);
    true
}

/// Own disk hung or EIO as PRIM: kill, CAS (g+1, B, {B}).
pub fn own_disk_failed(n: &mut Node, now: Time) -> bool {
    if n.trouble != Some(Trouble::Failed) || !n.on(Mutation::DiskErrorIgnored) {
        return false;
    }
    n.tear_down();
    n.distrust(|goal| goal.inconsistent = true);
    n.tell(Notice::DiskFailed);
    leave(n, now);
    true
}

fn leave(n: &mut Node, now: Time) {
    n.sessions += 1;
    if n.on(Mutation::SwitchWhileServing) {
        n.become_frozen(now);
    } else {
        let gate = n.gate;
        n.become_frozen(now);
        n.act(Action::Gate(gate));
        n.gate = gate;
    }
    n.next_beacon = now;
    let marked = !n.on(Mutation::SwitchWithoutMark);
    n.handing = Some(if marked { Handing::Marked } else { Handing::Asking { session: n.sessions } });
}

/// The peer shall fsync 'joining g+1' first: asked with each beacon.
pub fn ask(n: &mut Node, now: Time) -> bool {
    let Some(Handing::Asking { session }) = n.handing else { return false };
    if now < n.next_beacon {
        return false;
    }
    n.send(Message::Prepare {
        purpose: Purpose::Switch,
        generation: n.window.generation.next(),
        session,
        first: n.window.next,
        sent: now,
    });
    n.beacon(now);
    true
}

/// | PRIM | planned switch, ... | CAS to (g+1,B,{A,B}), B starts. Unknown outcome: nobody serves until it is read |
pub fn hand_over(n: &mut Node, _: Time) -> bool {
    let (Some(Handing::Marked), Some(second)) = (n.handing, n.second) else { return false };
    let failed = n.trouble.is_some();
    let (me, peer) = (n.holder(), Holder { node: n.peer.node, inc: second });
    n.propose(|record| {
        record.primary = peer;
        record.other = (!failed).then_some(me);
    }) || n.propose_again()
}

/// The peer that should take over is lost: the switch is off, this node goes on as if it had just lost its peer.
///
/// A node whose disk failed does not go on: its peer takes over by itself when its promise is over.
pub fn give_up(n: &mut Node, now: Time) -> bool {
    let Some(Handing::Asking { .. }) = n.handing else { return false };
    if n.hears_peer(now) && n.peer.inc == n.second || n.trouble == Some(Trouble::Failed) {
        return false;
    }
    n.handing = None;
    n.order = n.order.filter(|order| *order != Order::SwitchOver);
    n.tell(Notice::Refused("the other member was lost during the switch"));
    n.idle = n.mounted;
    true
}
