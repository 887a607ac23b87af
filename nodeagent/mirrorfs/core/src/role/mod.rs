//! The table of roles: one module a role, one function a row, the row quoted above it.
//!
//! Each role lists its rows in the order in which they are tried (`ROWS`), and those that still apply while the node is halted
//! (`HALTED`: it keeps its role, but never serves past its lease). A row returns whether it applied.

pub mod alone;
pub mod forced;
pub mod frozen;
pub mod handing;
pub mod join;
pub mod prim;
pub mod second;
pub mod stop;
pub mod taking;
pub mod wait;

use crate::config::Acknowledgement;
use crate::event::{Action, Notice};
use crate::guard::Mutation;
use crate::ids::{Incarnation, OperationId};
use crate::intake::Intake;
use crate::node::Node;
use crate::time::Time;
use crate::window::Window;

/// One row of the table.
pub type Row = fn(&mut Node, Time) -> bool;

/// A role's name, as the peer and people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoleName {
    /// Not taking part.
    Stop,
    /// Not serving, not promised to anybody; a resync target is here too.
    Wait,
    /// Holds every acknowledged operation; promises the primary not to take over.
    Second,
    /// Serves under a lease; acknowledges what both hold.
    Prim,
    /// Primary without a lease: serves nothing, holds the replies.
    Frozen,
    /// Recorded as the only one in sync: acknowledges by itself.
    Alone,
    /// ALONE, and a drained peer is being added: acknowledges what both hold.
    Join,
    /// On the way from SECOND or WAIT to ALONE.
    Taking,
}

impl RoleName {
    /// All of them.
    pub const ALL: [RoleName; 8] = [
        RoleName::Stop,
        RoleName::Wait,
        RoleName::Second,
        RoleName::Prim,
        RoleName::Frozen,
        RoleName::Alone,
        RoleName::Join,
        RoleName::Taking,
    ];
}

/// A role and what only it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Stop,
    Wait(Wait),
    Second,
    Prim,
    Frozen(Frozen),
    Alone(Alone),
    Join,
    Taking(Taking),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wait {
    pub since: Time,
    /// Both came back without a witness: whether the comparison was asked for, and what it found.
    pub compared: Option<Option<bool>>,
    /// The attempt to make equal that this node is the target of, once its flag is on disk.
    pub session: Option<u32>,
    /// `ResyncBegin` or `Prepare` to be answered once the flag or the mark is on disk.
    pub owes: Option<Owed>,
}

/// An answer that waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owed {
    Ready { session: u32 },
    Grant { purpose: crate::message::Purpose, session: u32, sent: Time },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Frozen {
    pub since: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Alone {
    /// Until when the serving gate stays open without this daemon.
    pub gate: Time,
    /// The life of the peer whose copy of another lineage was reported.
    pub reported: Option<Incarnation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Taking {
    pub since: Time,
    /// The intake was SECOND's: its incarnation must be the recorded one, and the way back is open.
    pub from_second: bool,
    /// The fence is on disk.
    pub fenced: bool,
    /// Ordered by a person.
    pub forced: Option<OperationId>,
}

impl Role {
    pub(crate) fn wait(now: Time) -> Role {
        Role::Wait(Wait { since: now, compared: None, session: None, owes: None })
    }

    pub(crate) fn name(&self) -> RoleName {
        match self {
            Role::Stop => RoleName::Stop,
            Role::Wait(_) => RoleName::Wait,
            Role::Second => RoleName::Second,
            Role::Prim => RoleName::Prim,
            Role::Frozen(_) => RoleName::Frozen,
            Role::Alone(_) => RoleName::Alone,
            Role::Join => RoleName::Join,
            Role::Taking(_) => RoleName::Taking,
        }
    }

    /// Whether operations of the application are this node's to number.
    pub(crate) fn is_primary(&self) -> bool {
        matches!(self, Role::Prim | Role::Frozen(_) | Role::Alone(_) | Role::Join)
    }

    pub(crate) fn times_mut(&mut self) -> [Option<&mut Time>; 2] {
        match self {
            Role::Wait(wait) => {
                let owed = match &mut wait.owes {
                    Some(Owed::Grant { sent, .. }) => Some(sent),
                    _ => None,
                };
                [Some(&mut wait.since), owed]
            }
            Role::Frozen(frozen) => [Some(&mut frozen.since), None],
            Role::Alone(alone) => [Some(&mut alone.gate), None],
            Role::Taking(taking) => [Some(&mut taking.since), None],
            _ => [None, None],
        }
    }
}

impl Node {
    /// A record above the own generation that names this node primary: an own step took effect, or the peer handed over.
    pub(crate) fn promoted(&self) -> Option<crate::record::Record> {
        let above = if self.role.is_primary() { self.window.generation } else { self.goal.generation };
        self.record.filter(|record| record.generation > above && record.primary.node == self.me)
    }

    /// A record above the own generation that names the peer primary.
    pub(crate) fn deposed(&self) -> bool {
        let above = if self.role.is_primary() { self.window.generation } else { self.goal.generation };
        self.record.is_some_and(|record| record.generation > above && record.primary.node != self.me)
    }

    /// Serves under nobody's lease: only after the witness says `inSync = {self}` and the own disk says so too.
    pub(crate) fn become_alone(&mut self, now: Time) {
        if !self.role.is_primary() {
            self.window = Window::new(self.goal.generation);
            self.intake = None;
        }
        self.window.generation = self.goal.generation;
        self.second = None;
        self.follows = None;
        self.granted = None;
        self.handing = None;
        self.resync = None;
        self.cut = None;
        self.role = Role::Alone(Alone { gate: now + self.cfg.lease, reported: None });
        self.next_beacon = self.next_beacon.min(now + self.cfg.beacon);
        self.serve();
    }

    /// The application sees its data: mounted and started, or thawed. What the copy may lack is told before.
    pub(crate) fn serve(&mut self) {
        if self.lost_memory() && self.cfg.acknowledgement == Acknowledgement::Memory {
            self.tell(Notice::MayMiss);
        }
        self.goal.boot = self.inc.boot;
        if !self.mounted {
            self.mounted = true;
            self.act(Action::Mount);
            self.act(Action::StartApplication);
        } else if self.frozen {
            self.act(Action::Thaw);
        }
        if std::mem::take(&mut self.idle) {
            self.act(Action::StartApplication);
        }
        self.frozen = false;
    }

    /// Serves nothing, holds the replies; decides afterwards.
    pub(crate) fn become_frozen(&mut self, now: Time) {
        self.act(Action::Gate(None));
        self.gate = None;
        if self.mounted && !self.frozen {
            self.frozen = true;
            self.act(Action::Freeze);
        }
        self.resync = None;
        self.cut = None;
        self.role = Role::Frozen(Frozen { since: now });
        self.talk.next = self.talk.next.min(now);
    }

    /// Takes this node off its data, without asking the application: a frozen or held process can't be asked.
    pub(crate) fn tear_down(&mut self) {
        self.act(Action::Gate(None));
        self.gate = None;
        if self.mounted {
            let steps = [Action::Kill, Action::Unmount, Action::DropCaches, Action::PostStop];
            steps.into_iter().for_each(|step| self.act(step));
        }
        self.mounted = false;
        self.frozen = false;
        self.idle = false;
        self.fail_calls();
    }

    /// Waits: not serving, not promised to anybody new.
    pub(crate) fn become_wait(&mut self, now: Time) {
        self.window = Window::new(self.goal.generation);
        self.intake = None;
        self.second = None;
        self.follows = None;
        self.granted = None;
        self.handing = None;
        self.resync = None;
        self.cut = None;
        self.cas = None;
        self.promise = self.promise.max(now + self.cfg.promise());
        self.role = Role::wait(now);
        self.talk.next = self.talk.next.min(now);
    }

    /// Takes nothing more in, and discards what has not begun: before the fence rises.
    pub(crate) fn close_intake(&mut self) {
        if let Some(intake) = self.intake.as_mut().filter(|_| self.cfg.on(Mutation::IntakeStaysOpen)) {
            intake.close();
        }
    }

    /// Follows one life of the peer as its secondary.
    pub(crate) fn become_second(&mut self, now: Time, from: Incarnation, intake: Intake) {
        self.follows = Some(from);
        self.intake = Some(intake);
        self.second = None;
        self.granted = None;
        self.handing = None;
        self.window = Window::new(self.goal.generation);
        self.promise = self.promise.max(now + self.cfg.promise());
        self.role = Role::Second;
    }
}
