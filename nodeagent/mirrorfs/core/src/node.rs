//! One member of a mirror: its whole state, and the one way in (`Node::handle`).
//!
//! An event is first noted as facts (`absorb`); then the rows of the current role are tried in their order until none applies
//! (`role`); then what follows from role and facts goes out: operations (`pump`), state to disk, the witness (`cas`),
//! beacons, the serving gate (`timing`). So a row never waits for anything: it applies when its condition holds.

use crate::cas::{Cas, Talk};
use crate::checkpoint::Cut;
use crate::config::Settings;
use crate::difflog::{DiffLog, Image};
use crate::durable::{DataMark, Durable};
use crate::event::{Action, Event, Notice, Order};
use crate::guard::Mutation;
use crate::ids::{Generation, Incarnation, NodeId, ObjectId, Seq};
use crate::intake::Intake;
use crate::message::{Frame, Message, View};
use crate::pump::Terms;
use crate::record::Record;
use crate::resync::Resync;
use crate::role::{self, Role, RoleName};
use crate::time::{Span, Time};
use crate::window::Window;

/// What a node begins its life with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Which member this is.
    pub me: NodeId,
    /// The other member.
    pub peer: NodeId,
    /// This boot, this process.
    pub incarnation: Incarnation,
    /// What the state file holds; `None`: nothing, or nothing readable.
    pub disk: Option<Durable>,
    /// What the difference log holds; `None`: nothing readable.
    pub log: Option<Image>,
    /// What the data file system says about itself.
    pub found: DataMark,
    /// Whether an agent is there.
    pub agent: bool,
    /// The time.
    pub now: Time,
}

/// What is known of the other member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub node: NodeId,
    /// The life that spoke last.
    pub inc: Option<Incarnation>,
    /// What it said of itself.
    pub view: Option<View>,
    /// When it was last heard.
    pub heard: Option<Time>,
}

/// What is wrong with the own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trouble {
    /// EIO, or it hangs.
    Failed,
    /// ENOSPC.
    Full,
}

/// Where a planned hand-over stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Handing {
    /// The application is asked to stop, or the window drains.
    Stopping { stopped: bool },
    /// Nothing is served here any more; the other side is asked for its mark.
    Asking { session: u32 },
    /// Its mark is on its disk.
    Marked,
}

/// One member of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub(crate) cfg: Settings,
    pub(crate) me: NodeId,
    pub(crate) inc: Incarnation,
    pub(crate) role: Role,
    /// What is on disk, what shall be, and what is on its way.
    pub(crate) disk: Durable,
    pub(crate) goal: Durable,
    pub(crate) writing: Option<Durable>,
    /// What the data file system said at the start.
    pub(crate) found: DataMark,
    /// The last record read, and the talk with the witness.
    pub(crate) record: Option<Record>,
    pub(crate) talk: Talk,
    pub(crate) cas: Option<Cas>,
    pub(crate) proposals: u32,
    pub(crate) peer: Peer,
    /// Primary: the incarnation whose acknowledgements count.
    pub(crate) second: Option<Incarnation>,
    /// Secondary: the incarnation that is promised to.
    pub(crate) follows: Option<Incarnation>,
    /// Send time of the last beacon that was answered; and of the last that renewed the promise.
    pub(crate) answered: Option<Time>,
    pub(crate) granted: Option<Time>,
    /// No takeover before this.
    pub(crate) promise: Time,
    pub(crate) next_beacon: Time,
    pub(crate) window: Window,
    pub(crate) terms: Terms,
    pub(crate) intake: Option<Intake>,
    pub(crate) log: DiffLog,
    pub(crate) resync: Option<Resync>,
    pub(crate) sessions: u32,
    pub(crate) cut: Option<Cut>,
    pub(crate) next_cut: Option<Time>,
    pub(crate) handing: Option<Handing>,
    pub(crate) order: Option<Order>,
    pub(crate) overwrite: bool,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) halted: Option<&'static str>,
    pub(crate) agent: bool,
    pub(crate) mounted: bool,
    pub(crate) frozen: bool,
    /// The application was stopped for a switch that came to nothing: it starts when this node serves again.
    pub(crate) idle: bool,
    pub(crate) gate: Option<Time>,
    pub(crate) put_off: bool,
    pub(crate) out: Vec<Action>,
}

impl Node {
    /// A member that has just started: in WAIT, with no promise remembered, so a whole one is waited for.
    pub fn new(cfg: Settings, start: Start) -> (Node, Vec<Action>) {
        let log = start.log.unwrap_or_else(Image::unreadable);
        let disk = start.disk.unwrap_or_default();
        let wait = cfg.on(Mutation::NoWaitAfterStart);
        let promise = if wait { start.now + cfg.promise() } else { start.now };
        let peer = Peer { node: start.peer, inc: None, view: None, heard: None };
        let log = DiffLog::new(log, cfg.log_objects);
        let mut node = Node {
            me: start.me,
            inc: start.incarnation,
            role: Role::wait(start.now),
            disk,
            goal: disk,
            writing: None,
            found: start.found,
            record: None,
            talk: Talk::new(start.now),
            cas: None,
            proposals: 0,
            peer,
            second: None,
            follows: None,
            answered: None,
            granted: None,
            promise,
            next_beacon: start.now,
            window: Window::new(disk.generation),
            terms: Terms::default(),
            intake: None,
            log,
            resync: None,
            sessions: 0,
            cut: None,
            next_cut: None,
            handing: None,
            order: None,
            overwrite: false,
            trouble: None,
            halted: None,
            agent: start.agent,
            mounted: false,
            frozen: false,
            idle: false,
            gate: None,
            put_off: false,
            out: Vec::new(),
            cfg,
        };
        if disk.is_initial() {
            node.goal.mark = start.found;
            node.goal.boot = start.incarnation.boot;
        } else if !node.disk_is_ours() {
            node.goal.inconsistent = true;
            node.log.lose();
        }
        let actions = node.handle(start.now, Event::Tick);
        (node, actions)
    }

    /// Something happened at `now`: what is to be done about it, in this order.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Action> {
        self.absorb(now, event);
        loop {
            let applied = self.rows().iter().any(|row| row(self, now));
            let moved = self.pump(now);
            if !applied && !moved {
                break;
            }
        }
        self.refuse_late_force();
        self.persist();
        self.ask_witness(now);
        self.beacon(now);
        self.set_gate(now);
        std::mem::take(&mut self.out)
    }

    /// The rows of the table that may apply now. A halted node keeps its role, but never serves past its lease.
    fn rows(&self) -> &'static [role::Row] {
        let (all, halted) = match self.role {
            Role::Stop => (role::stop::ROWS, role::stop::HALTED),
            Role::Wait(_) => (role::wait::ROWS, role::wait::HALTED),
            Role::Second => (role::second::ROWS, role::second::HALTED),
            Role::Prim => (role::prim::ROWS, role::prim::HALTED),
            Role::Frozen(_) => (role::frozen::ROWS, role::frozen::HALTED),
            Role::Alone(_) => (role::alone::ROWS, role::alone::HALTED),
            Role::Join => (role::join::ROWS, role::join::HALTED),
            Role::Taking(_) => (role::taking::ROWS, role::taking::HALTED),
        };
        if self.halted.is_some() { halted } else { all }
    }

    /// From now on with these settings.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.cfg = settings.clone();
    }

    /// Whether the difference log names this object in the present epoch, on disk or soon.
    pub fn logs(&self, object: ObjectId) -> bool {
        self.log.names(object)
    }

    /// The role.
    pub fn role(&self) -> RoleName {
        self.role.name()
    }

    /// The generation on disk.
    pub fn generation(&self) -> Generation {
        self.disk.generation
    }

    /// The durable state as last confirmed.
    pub fn durable(&self) -> &Durable {
        &self.disk
    }

    /// The incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.inc
    }

    /// Whether the own disk failed or is full: only a new process, on a mended disk, takes part again.
    pub fn in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Why roles are frozen, if they are.
    pub fn halted(&self) -> Option<&'static str> {
        self.halted
    }

    /// Whether file operations of the application are answered.
    pub fn serves(&self) -> bool {
        self.may_reply()
    }

    /// Until when file operations may be answered, should no further event reach this node; `None`: not now.
    pub fn serves_until(&self) -> Option<Time> {
        match self.role {
            Role::Prim | Role::Join => self.lease(),
            Role::Alone(_) if self.may_reply() => Some(Time(i64::MAX)),
            _ => None,
        }
    }

    /// Whether an operation that arrived is still to be answered. If not, its sender has to send it again.
    pub fn owes_answer(&self, generation: Generation, seq: Seq) -> bool {
        let intake = self.intake.as_ref().filter(|intake| intake.generation == generation);
        intake.is_some_and(|intake| intake.waiting.contains_key(&seq) || intake.applying.contains_key(&seq))
    }

    /// How the other member described itself last, and when.
    pub fn peer_view(&self) -> Option<(View, Time)> {
        self.peer.view.zip(self.peer.heard)
    }

    /// Whether this life of the peer may change this copy, in this generation, by other ways than operations (a resync's pieces).
    pub fn takes_in(&self, from: Incarnation, generation: Generation) -> bool {
        let intake = self.intake.as_ref().filter(|intake| intake.open && intake.from == from);
        intake.is_some_and(|intake| intake.generation == generation) && generation >= self.highest_fence()
    }

    /// The fence that stands, shall stand, or is on its way to the disk, whichever is highest.
    pub(crate) fn highest_fence(&self) -> Generation {
        let writing = self.writing.map_or(Generation(0), |state| state.fence);
        self.disk.fence.max(self.goal.fence).max(writing)
    }

    /// Whose acknowledgement an operation needs before it is answered, besides the own.
    pub fn requires_peer(&self) -> Option<NodeId> {
        (self.needs_both() || !self.role.is_primary()).then_some(self.peer.node)
    }

    /// The generation for which a primary's operations are stamped.
    pub fn epoch(&self) -> Generation {
        match self.role {
            _ if self.role.is_primary() => self.window.generation,
            _ => self.intake.as_ref().map_or(self.goal.generation, |intake| intake.generation),
        }
    }

    /// Whether an own compare-and-swap may still take effect.
    pub fn has_open_cas(&self) -> bool {
        self.cas.is_some() || self.record.is_some_and(|r| r.generation > self.window.generation)
    }

    /// What may differ as far as this node's log knows; `None`: everything.
    pub fn touched(&self) -> Option<std::collections::BTreeSet<crate::ids::ObjectId>> {
        self.log.touched()
    }

    /// The running resync, if this node is its source.
    pub fn resync(&self) -> Option<&Resync> {
        self.resync.as_ref()
    }

    /// The primary's window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.act(Action::Tell(notice));
    }

    pub(crate) fn send(&mut self, message: Message) {
        let frame = Frame { node: self.me, from: self.inc, message };
        self.act(Action::Send(frame));
    }

    pub(crate) fn on(&self, guard: Mutation) -> bool {
        self.cfg.on(guard)
    }

    /// How this node describes itself.
    pub(crate) fn view(&self) -> View {
        View {
            role: self.role.name(),
            generation: self.epoch(),
            held: self.disk.generation,
            fence: self.highest_fence(),
            lineage: self.disk.lineage,
            target: self.goal.inconsistent || self.goal.outdated || self.is_named_in_vain(),
            lost: self.lost_memory(),
            open: self.disk.cas.is_some() || self.goal.cas.is_some(),
            leaving: matches!(self.order, Some(Order::Stop)) || self.trouble.is_some(),
        }
    }

    /// The data file system is the one that the state file belongs to.
    pub(crate) fn disk_is_ours(&self) -> bool {
        self.found.filesystem == self.disk.mark.filesystem && self.found.checkpoint >= self.disk.mark.checkpoint
    }

    /// Whether the record's `inSync` counts for this node: its own disk must prove it.
    ///
    /// The proof is the generation itself, the fsynced mark 'joining' it, or an own proposal that became the record (whoever
    /// learns that its copy is not whole forgets its proposals: `distrust`). A proposal brings its own lineage: the first one, or
    /// one that a person forced.
    pub(crate) fn counts(&self, record: &Record) -> bool {
        if !self.on(Mutation::NoInSyncCheck) {
            return true;
        }
        let Some(_) = record.holder(self.me) else { return false };
        if !self.on(Mutation::LostStateTrusted) {
            return true;
        }
        let outdated = self.disk.outdated && self.on(Mutation::OutdatedForgotten);
        let whole = !self.disk.inconsistent && !outdated;
        let held = self.disk.generation == record.generation && record.generation > Generation(0) && whole;
        let joined = self.disk.joining == Some(record.generation);
        let proposed = self.owns(record);
        let proved = self.disk.lineage == record.lineage && (held || joined);
        self.goal.mark.filesystem == self.found.filesystem && (proved || proposed)
    }

    /// The record has this node in sync and its own disk proves nothing (it was imaged anew): a peer that lost its memory must not
    /// wait for this copy.
    fn is_named_in_vain(&self) -> bool {
        let named = self.record.filter(|record| record.holder(self.me).is_some());
        let waits = matches!(self.role, Role::Wait(_)) && self.on(Mutation::LostStateUntold);
        waits && named.is_some_and(|record| !self.counts(&record) && self.forced_here(&record).is_none())
    }

    /// Whether the record is what this node, in this or an earlier life, proposed.
    pub(crate) fn owns(&self, record: &Record) -> bool {
        let ours = |n: crate::ids::Nonce| n.process == record.nonce.process && n.count >= record.nonce.count;
        self.disk.cas.is_some_and(ours)
    }

    /// This copy is not whole any more. A proposal of an earlier life proves nothing from now on.
    pub(crate) fn distrust(&mut self, flag: impl FnOnce(&mut Durable)) {
        flag(&mut self.goal);
        self.goal.cas = None;
    }

    /// Whether this copy may lack what the memory of an earlier boot held, and nobody was told yet.
    ///
    /// The own disk says so, not the record: that names the new life as soon as a takeover is won.
    pub(crate) fn lost_memory(&self) -> bool {
        let named = self.record.is_some_and(|record| record.primary.inc.boot == self.inc.boot);
        self.goal.boot != self.inc.boot && (!named || self.on(Mutation::NoticeForgotten))
    }

    /// Takes over a record that names this node in sync: its generation becomes ours.
    pub(crate) fn adopt(&mut self, record: Record) {
        self.goal.generation = record.generation;
        self.goal.lineage = record.lineage;
        self.goal.joining = None;
        self.goal.cas = None;
        self.goal.primary = Some(record.primary.node);
        self.goal.both = record.other.is_some();
        self.goal.outdated = false;
        self.goal.inconsistent = false;
    }

    /// The state with every time relative to `by`: two states that differ only in when they happened become equal.
    pub fn shift(&mut self, by: Span, floor: Time) {
        let shift = |time: &mut Time| *time = time.shift(by, floor);
        let times = [&mut self.promise, &mut self.next_beacon, &mut self.talk.next];
        times.into_iter().for_each(shift);
        let times = [&mut self.answered, &mut self.granted, &mut self.peer.heard, &mut self.gate, &mut self.next_cut];
        times.into_iter().flatten().for_each(shift);
        self.window.shift(by, floor);
        self.resync.iter_mut().filter_map(|resync| resync.frozen.as_mut()).for_each(shift);
        self.role.times_mut().into_iter().flatten().for_each(shift);
    }
}
