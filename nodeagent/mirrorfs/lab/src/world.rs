//! The search's world: two machines, the witness, the network, one clock. Every step is one atomic thing that can happen.
//!
//! All times are kept relative to now, so that two states that differ only in when they happened are one state. Both clocks run
//! alike here (drift and jumps are the simulator's); what is bounded is in `Budget`.

use crate::host::{Content, Host, Out, Parcel};
use mirror_core::ids::{Body, Generation, NodeId, Nonce, ObjectId, OperationId};
use mirror_core::message::{Kind, Message};
use mirror_core::{
    Acknowledgement, Event, Holder, Notice, Order, Read, Record, RoleName, Settings, Span, Time, Written,
};
use std::rc::Rc;

/// How often each thing may still happen in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Changes by the application.
    pub writes: u8,
    /// Deaths of a daemon.
    pub kills: u8,
    /// Deaths of a machine.
    pub crashes: u8,
    /// Machines that come back with empty disks.
    pub reimages: u8,
    /// Single frames lost.
    pub losses: u8,
    /// One direction of the network cut; healing is free.
    pub cuts: u8,
    /// Exchanges with the witness of unknown outcome.
    pub unknowns: u8,
    /// Exchanges with the witness that fail without effect.
    pub failures: u8,
    /// Frames to a node that are under way for long, or a witness that answers late.
    pub delays: u8,
    /// Nodes from which the witness is out of reach.
    pub aways: u8,
    /// Daemons that stand still while time goes on.
    pub pauses: u8,
    /// Planned switches.
    pub switches: u8,
    /// Forced promotions.
    pub forces: u8,
    /// Disks that begin to fail.
    pub disks: u8,
    /// Times that a disk's content is flushed by itself.
    pub flushes: u8,
    /// Record put back to the state before.
    pub rollbacks: u8,
    /// Record versions.
    pub versions: u8,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The next frame of a class (0: beacons, 1: data) arrives at a node.
    Deliver(u8, u8),
    /// ... or is lost.
    Lose(u8, u8),
    /// Frames to a node are lost from now on.
    Cut(u8),
    /// ... no longer.
    Heal(u8),
    /// Frames to a node are under way for long from now on.
    Hold(u8),
    /// ... no longer.
    Release(u8),
    /// The witness is out of reach from a node from now on.
    Away(u8),
    /// ... no longer.
    Near(u8),
    /// A daemon stands still from now on.
    Pause(u8),
    /// ... no longer.
    Resume(u8),
    /// The witness answers a node.
    Witness(u8),
    /// The witness can't be reached: no effect.
    Fail(u8),
    /// The answer is lost; the PUT took effect (true) or is still under way.
    Unknown(u8, bool),
    /// A PUT that was given up arrives after all.
    Land(u8),
    /// The state file's write ends.
    Persist(u8),
    /// Time goes on to whatever is due next.
    Advance,
    /// A node notices what is due.
    Tick(u8),
    /// The application of a node changes an object.
    Write(u8, u8),
    /// The daemon dies, its last write landed or not.
    Kill(u8, bool),
    /// The machine dies.
    Crash(u8, bool),
    /// The machine's disks are lost.
    Reimage(u8),
    /// The daemon starts.
    Start(u8),
    /// A planned switch is ordered.
    Switch(u8),
    /// A forced promotion is ordered.
    Force(u8),
    /// A disk begins to fail.
    DiskFails(u8),
    /// Dirty pages reach the disk.
    Flush(u8),
    /// The witness is restored from a backup one version old.
    Rollback,
}

/// What a node waits for from the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// A GET.
    Get,
    /// A PUT.
    Put(u64, Record),
}

/// The world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Both machines.
    pub hosts: [Rc<Host>; 2],
    /// The witness.
    pub witness: Record,
    /// The record before the last change.
    pub backup: Record,
    /// Frames on their way to each node, by class.
    pub net: [[Vec<Parcel>; 2]; 2],
    /// Frames to this node are lost.
    pub cut: [bool; 2],
    /// The witness is out of reach from here.
    pub away: [bool; 2],
    /// Frames to this node are under way for long.
    pub held: [bool; 2],
    /// This node does nothing, while time goes on.
    pub paused: [bool; 2],
    /// Who asked what.
    pub asked: [Asked; 2],
    /// PUTs that were given up and may still land.
    pub late: Vec<(u64, Record)>,
    /// When each node wants to be woken.
    pub wake: [Time; 2],
    /// Changes that were acknowledged, and by which object.
    pub acked: Vec<u64>,
    /// Who was recorded primary in which generation.
    pub history: Vec<(Generation, NodeId)>,
    /// The next change's handle.
    pub next_body: u8,
    /// A person forced something, or undid the witness: promises about one primary are theirs.
    pub forced: bool,
    /// What may still happen.
    pub left: Budget,
    /// What is broken, if the machine saw it.
    pub broken: Option<&'static str>,
    /// A write that is asked for again when there is room.
    pub waiting: [Vec<(u8, u8)>; 2],
}

const NOW: Time = Time(0);

impl World {
    /// Two new machines and a record in generation 0 that names the first as the source.
    pub fn new(settings: &Settings, objects: usize) -> Self {
        let hosts = [Host::new(1, 2, objects), Host::new(2, 1, objects)].map(Rc::new);
        let witness = Record {
            uid: 1,
            version: 1,
            members: [NodeId(1), NodeId(2)],
            generation: Generation(0),
            primary: Holder { node: NodeId(1), inc: Default::default() },
            other: None,
            lineage: Default::default(),
            nonce: Nonce::default(),
            forced: None,
        };
        let mut world = World {
            hosts,
            witness,
            backup: witness,
            net: Default::default(),
            cut: [false; 2],
            away: [false; 2],
            held: [false; 2],
            paused: [false; 2],
            asked: [Asked::Nothing; 2],
            late: Vec::new(),
            wake: [NOW; 2],
            acked: vec![0; objects],
            history: Vec::new(),
            next_body: 0,
            forced: false,
            left: Budget::default(),
            broken: None,
            waiting: Default::default(),
        };
        for i in 0..2 {
            let outs = world.host(i).start(settings, NOW);
            world.follow(settings, i, outs);
        }
        world
    }

    /// A world in which both are in sync, reached by nothing but the protocol.
    pub fn in_sync(settings: &Settings, objects: usize) -> Self {
        let mut world = World::new(settings, objects);
        let calm = |w: &World| {
            w.hosts[0].role() == Some(RoleName::Prim)
                && w.hosts[1].role() == Some(RoleName::Second)
                && w.is_quiet()
                && w.hosts.iter().all(|h| h.logged().is_some_and(|log| log.is_empty()))
        };
        assert!(world.run_fairly(settings, 400, calm), "the mirror does not come up:\n{world}");
        world
    }

    /// The same world with other settings (a guard switched off).
    pub fn with(&self, settings: &Settings) -> Self {
        let mut world = self.clone();
        for host in world.hosts.iter_mut().map(Rc::make_mut) {
            host.node.iter_mut().for_each(|node| node.reconfigure(settings));
        }
        world
    }

    /// Lets everything happen in turn, nothing fail, until `done`; false if that takes more than `steps`.
    pub fn run_fairly(&mut self, settings: &Settings, steps: usize, done: impl Fn(&World) -> bool) -> bool {
        for _ in 0..steps {
            if done(self) {
                return true;
            }
            let step = self.fair_step();
            self.take(settings, step);
        }
        done(self)
    }

    fn fair_step(&self) -> Step {
        let ready = self.ready();
        ready.into_iter().next().unwrap_or(Step::Advance)
    }

    /// What is ready to happen to one node by itself, without any fault or any time.
    fn ready_at(&self, i: u8) -> Vec<Step> {
        let (mut steps, at) = (Vec::new(), usize::from(i));
        let host = &self.hosts[at];
        if host.node.is_none() || self.paused[at] {
            return steps;
        }
        if self.wake[at] <= NOW {
            steps.push(Step::Tick(i));
        }
        if host.state_next.is_some() {
            steps.push(Step::Persist(i));
        }
        for class in 0..2u8 {
            if !self.held[at] && !self.net[at][usize::from(class)].is_empty() {
                steps.push(Step::Deliver(i, class));
            }
        }
        steps
    }

    fn answers(&self) -> impl Iterator<Item = Step> + '_ {
        (0..2u8).filter(|i| self.asked[usize::from(*i)] != Asked::Nothing).map(Step::Witness)
    }

    /// What may happen next without a fault.
    ///
    /// Two nodes' own steps commute: neither sees the other but through frames, and a frame that is sent before a cut or a
    /// death is lost like one sent after it. So one order of them stands for all: first all of node 0, then of node 1, then
    /// the witness's answers (these do not commute: both orders), then time. What is slow is a fault of its own (`Pause`, `Hold`).
    fn ready(&self) -> Vec<Step> {
        for i in 0..2 {
            let steps = self.ready_at(i);
            if !steps.is_empty() {
                return steps;
            }
        }
        self.answers().collect()
    }

    /// Nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.ready().is_empty()
    }

    /// Everything that may happen now.
    pub fn steps(&self) -> Vec<Step> {
        let left = &self.left;
        let mut steps = self.ready();
        let only_answers = steps.iter().all(|step| matches!(step, Step::Witness(_)));
        if steps.is_empty() || left.delays > 0 && only_answers {
            steps.push(Step::Advance);
        }
        for i in 0..2u8 {
            self.faults_of(i, &mut steps);
        }
        for (k, _) in self.late.iter().enumerate() {
            steps.push(Step::Land(u8::try_from(k).unwrap_or(0)));
        }
        if left.rollbacks > 0 && self.backup != self.witness {
            steps.push(Step::Rollback);
        }
        steps
    }

    fn faults_of(&self, i: u8, steps: &mut Vec<Step>) {
        let (left, at) = (&self.left, usize::from(i));
        let host = &self.hosts[at];
        for class in 0..2u8 {
            if left.losses > 0 && !self.net[at][usize::from(class)].is_empty() {
                steps.push(Step::Lose(i, class));
            }
        }
        if left.cuts > 0 && !self.cut[at] {
            steps.push(Step::Cut(i));
        }
        if self.cut[at] {
            steps.push(Step::Heal(i));
        }
        if self.away[at] {
            steps.push(Step::Near(i));
        } else if left.aways > 0 {
            steps.push(Step::Away(i));
        }
        if self.held[at] {
            steps.push(Step::Release(i));
        } else if left.delays > 0 && !self.net[at].iter().all(Vec::is_empty) {
            steps.push(Step::Hold(i));
        }
        if self.paused[at] {
            steps.push(Step::Resume(i));
        } else if left.pauses > 0 {
            steps.push(Step::Pause(i));
        }
        match self.asked[at] {
            Asked::Get if left.failures > 0 => steps.push(Step::Fail(i)),
            Asked::Put(..) if left.unknowns > 0 => {
                steps.extend([Step::Unknown(i, true), Step::Unknown(i, false)]);
            }
            _ => {}
        }
        if host.node.is_none() {
            steps.push(Step::Start(i));
            if left.reimages > 0 {
                steps.push(Step::Reimage(i));
            }
            return;
        }
        let serves = host.serves(NOW);
        if left.writes > 0 && serves && !self.paused[at] {
            for object in 0..host.cache.len() {
                steps.push(Step::Write(i, u8::try_from(object).unwrap_or(0)));
            }
        }
        let torn: &[bool] = if host.state_next.is_some() { &[false, true] } else { &[false] };
        for landed in torn {
            if left.kills > 0 {
                steps.push(Step::Kill(i, *landed));
            }
            if left.crashes > 0 {
                steps.push(Step::Crash(i, *landed));
            }
        }
        if left.switches > 0 && host.role() == Some(RoleName::Prim) {
            steps.push(Step::Switch(i));
        }
        if left.forces > 0 && !serves && self.hosts[1 - at].node.is_none() && !self.hosts[1 - at].gate_open(NOW) {
            steps.push(Step::Force(i));
        }
        if left.disks > 0 && !host.failing {
            steps.push(Step::DiskFails(i));
        }
        if left.flushes > 0 && host.cache != host.disk {
            steps.push(Step::Flush(i));
        }
    }

    /// One thing happens.
    pub fn take(&mut self, settings: &Settings, step: Step) {
        match step {
            Step::Deliver(i, class) => {
                let parcel = self.net[usize::from(i)][usize::from(class)].remove(0);
                let outs = self.host(i.into()).receive(NOW, parcel);
                self.follow(settings, i.into(), outs);
            }
            Step::Lose(i, class) => {
                self.left.losses -= 1;
                self.net[usize::from(i)][usize::from(class)].remove(0);
            }
            Step::Cut(i) => {
                self.left.cuts -= 1;
                self.cut[usize::from(i)] = true;
                self.net[usize::from(i)] = Default::default();
            }
            Step::Heal(i) => {
                self.cut[usize::from(i)] = false;
                for at in 0..2 {
                    self.event(settings, at, Event::Reconnected);
                }
            }
            Step::Hold(i) => {
                self.left.delays -= 1;
                self.held[usize::from(i)] = true;
            }
            Step::Release(i) => self.held[usize::from(i)] = false,
            Step::Away(i) => {
                self.left.aways -= 1;
                self.away[usize::from(i)] = true;
            }
            Step::Near(i) => self.away[usize::from(i)] = false,
            Step::Pause(i) => {
                self.left.pauses -= 1;
                self.paused[usize::from(i)] = true;
            }
            Step::Resume(i) => self.paused[usize::from(i)] = false,
            Step::Witness(i) => self.witness_answers(settings, i.into()),
            Step::Fail(i) => {
                self.left.failures -= 1;
                self.asked[usize::from(i)] = Asked::Nothing;
                self.event(settings, i.into(), Event::Read(Read::Unreachable));
            }
            Step::Unknown(i, landed) => self.witness_unknown(settings, i.into(), landed),
            Step::Land(k) => {
                let (expect, record) = self.late.remove(usize::from(k));
                self.put(expect, record);
            }
            Step::Persist(i) => self.event(settings, i.into(), Event::Persisted),
            Step::Advance => self.advance(),
            Step::Tick(i) => self.event(settings, i.into(), Event::Tick),
            Step::Write(i, object) => {
                self.left.writes -= 1;
                let body = self.next_body;
                self.next_body += 1;
                self.write(settings, i.into(), body, object);
            }
            Step::Kill(i, landed) => {
                self.left.kills -= 1;
                self.host(i.into()).kill(landed);
                self.dies(i.into());
            }
            Step::Crash(i, landed) => {
                self.left.crashes -= 1;
                self.host(i.into()).crash(landed);
                self.dies(i.into());
            }
            Step::Reimage(i) => {
                self.left.reimages -= 1;
                self.host(i.into()).reimage();
            }
            Step::Start(i) => {
                let outs = self.host(i.into()).start(settings, NOW);
                self.follow(settings, i.into(), outs);
            }
            Step::Switch(i) => {
                self.left.switches -= 1;
                self.event(settings, i.into(), Event::Order(Order::SwitchOver));
            }
            Step::Force(i) => {
                self.left.forces -= 1;
                self.forced = true;
                let operation = OperationId(100 + u128::from(self.left.forces));
                let order = Order::Force { operation, confirmed_off: true, peer_lease_fresh: false };
                self.event(settings, i.into(), Event::Order(order));
            }
            Step::DiskFails(i) => {
                self.left.disks -= 1;
                self.host(i.into()).failing = true;
                self.event(settings, i.into(), Event::DiskError);
            }
            Step::Flush(i) => {
                self.left.flushes -= 1;
                let host = self.host(i.into());
                host.disk = host.cache.clone();
            }
            Step::Rollback => {
                self.left.rollbacks -= 1;
                self.forced = true;
                let version = self.witness.version + 1;
                self.witness = Record { version, ..self.backup };
            }
        }
    }

    fn host(&mut self, i: usize) -> &mut Host {
        Rc::make_mut(&mut self.hosts[i])
    }

    fn event(&mut self, settings: &Settings, i: usize, event: Event) {
        let outs = self.host(i).handle(NOW, event);
        self.follow(settings, i, outs);
    }

    fn dies(&mut self, i: usize) {
        if let Asked::Put(expect, record) = self.asked[i]
            && expect == self.witness.version
            && !self.late.contains(&(expect, record))
        {
            self.late.push((expect, record));
        }
        self.asked[i] = Asked::Nothing;
        self.net[i] = Default::default();
        self.paused[i] = false;
        self.waiting[i].clear();
    }

    fn write(&mut self, settings: &Settings, i: usize, body: u8, object: u8) {
        let event =
            Event::Change { kind: Kind::Change, object: ObjectId(object.into()), also: None, body: Body(body.into()) };
        self.waiting[i].push((body, object));
        self.event(settings, i, event);
    }

    fn advance(&mut self) {
        if !self.ready().is_empty() {
            self.left.delays -= 1;
        }
        let up = |i: &usize| self.hosts[*i].node.is_some() && !self.paused[*i];
        let wakes = (0..2).filter(up).map(|i| self.wake[i]);
        let gates = self.hosts.iter().filter_map(|host| host.gate);
        let next = wakes.chain(gates).filter(|time| *time > NOW).min().unwrap_or(Time(1));
        let by = Span(next.0);
        self.shift(by);
    }

    fn shift(&mut self, by: Span) {
        let floor = Time(-13);
        for host in self.hosts.iter_mut().map(Rc::make_mut) {
            if let Some(node) = &mut host.node {
                node.shift(by, floor);
            }
            host.gate = host.gate.map(|until| until.shift(by, floor)).filter(|until| *until > NOW);
        }
        self.wake.iter_mut().for_each(|time| *time = time.shift(by, NOW));
        for parcel in self.net.iter_mut().flatten().flatten() {
            match &mut parcel.frame.message {
                Message::Beacon { sent, answered, .. } => {
                    *sent = sent.shift(by, floor);
                    *answered = answered.map(|time| time.shift(by, floor));
                }
                Message::Answer { to: time, .. }
                | Message::Prepare { sent: time, .. }
                | Message::Granted { to: time, .. } => *time = time.shift(by, floor),
                _ => {}
            }
        }
    }

    /// The API server: a replace with the expected version that the rules allow.
    fn put(&mut self, expect: u64, record: Record) -> Written {
        if self.witness.version != expect {
            return Written::Conflict;
        }
        if self.witness.step(&record).is_err() {
            return Written::Refused;
        }
        self.backup = self.witness;
        self.witness = Record { version: expect + 1, ..record };
        self.history.push((record.generation, record.primary.node));
        self.left.versions = self.left.versions.saturating_sub(1);
        // What expects an older version can never take effect any more.
        let version = self.witness.version;
        self.late.retain(|(expect, _)| *expect == version);
        let named = |host: &Host| record.holder(host.me).is_some_and(|holder| holder.inc == host.inc);
        if let Some(host) = self.hosts.iter_mut().find(|host| host.reimaged && named(host)) {
            Rc::make_mut(host).reimaged = false;
        }
        Written::Stored(self.witness)
    }

    fn witness_answers(&mut self, settings: &Settings, i: usize) {
        match std::mem::replace(&mut self.asked[i], Asked::Nothing) {
            Asked::Nothing => {}
            Asked::Get if self.away[i] => self.event(settings, i, Event::Read(Read::Unreachable)),
            Asked::Put(..) if self.away[i] => self.event(settings, i, Event::Written(Written::Unknown)),
            Asked::Get => self.event(settings, i, Event::Read(Read::Found(self.witness))),
            Asked::Put(expect, record) => {
                let written = self.put(expect, record);
                self.event(settings, i, Event::Written(written));
            }
        }
    }

    fn witness_unknown(&mut self, settings: &Settings, i: usize, landed: bool) {
        self.left.unknowns -= 1;
        if let Asked::Put(expect, record) = std::mem::replace(&mut self.asked[i], Asked::Nothing) {
            if landed {
                self.put(expect, record);
            } else if expect == self.witness.version && !self.late.contains(&(expect, record)) {
                self.late.push((expect, record));
            }
        }
        self.event(settings, i, Event::Written(Written::Unknown));
    }

    /// Carries out what a node asked for; local things at once.
    fn follow(&mut self, settings: &Settings, i: usize, outs: Vec<Out>) {
        let durable = settings.acknowledgement == Acknowledgement::Disk;
        for out in outs {
            match out {
                Out::Send(parcel) => self.send(i, parcel),
                Out::Read => self.asked[i] = Asked::Get,
                Out::Write { expect, record } => self.asked[i] = Asked::Put(expect, record),
                Out::Persist | Out::Later(_) => {}
                Out::Started => self.started(i),
                Out::Killed => self.waiting[i].clear(),
                Out::PersistLog => self.event(settings, i, Event::LogPersisted),
                Out::Apply(generation, op) => {
                    let outcome = self.host(i).apply(generation, op, durable);
                    self.event(settings, i, Event::Applied { generation, seq: op.seq, outcome });
                }
                Out::Flush(number) => {
                    self.host(i).flush(number);
                    self.event(settings, i, Event::Flushed { number });
                }
                Out::Compare => {
                    let equal = self.hosts[0].cache == self.hosts[1].cache;
                    self.event(settings, i, Event::Compared { equal });
                }
                Out::Walk(session) => {
                    for object in 0..self.hosts[i].cache.len() {
                        let object = Some(ObjectId(object as u128));
                        self.event(settings, i, Event::Walked { session, object });
                    }
                    self.event(settings, i, Event::Walked { session, object: None });
                }
                Out::Reply(body, done) => self.replied(i, body, done),
                Out::Room => {
                    let waiting = std::mem::take(&mut self.waiting[i]);
                    let fresh = |body: &u8| {
                        !self.hosts[i].node.as_ref().is_some_and(|n| {
                            n.window().entries.values().any(|entry| entry.op.body.0 == u64::from(*body))
                        })
                    };
                    let (again, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(body, _)| fresh(body));
                    self.waiting[i] = rest;
                    for (body, object) in again {
                        self.write(settings, i, body, object);
                    }
                }
                Out::StopApplication => self.event(settings, i, Event::ApplicationStopped),
                Out::Told(Notice::MayMiss) => self.may_miss(i),
                Out::Told(_) => {}
                Out::Broken(reason) => self.broken = Some(reason),
            }
        }
        if let Some(node) = &self.hosts[i].node {
            self.wake[i] = node.next_wake(NOW);
        }
    }

    fn send(&mut self, i: usize, parcel: Parcel) {
        let to = 1 - i;
        if self.cut[to] || self.hosts[to].node.is_none() {
            return;
        }
        let class = usize::from(!matches!(parcel.frame.message, Message::Beacon { .. } | Message::Answer { .. }));
        let queue = &mut self.net[to][class];
        // More than a few frames fill the connection; it breaks, and what follows is lost.
        if queue.len() < 4 && !queue.contains(&parcel) {
            queue.push(parcel);
        }
    }

    fn replied(&mut self, i: usize, body: Body, done: bool) {
        let Some(at) = self.waiting[i].iter().position(|(b, _)| u64::from(*b) == body.0) else { return };
        let (body, object) = self.waiting[i].remove(at);
        if done {
            self.acked[usize::from(object)] |= 1 << body;
        }
    }

    /// The application starts: whatever its former primary may still send must be fenced off, durably.
    fn started(&mut self, i: usize) {
        let fence = self.hosts[i].state.map_or(Generation(0), |state| state.fence);
        let former = self.history.iter().filter(|(_, node)| *node == self.hosts[i].peer).map(|(g, _)| *g).max();
        if former.is_some_and(|generation| generation >= fence) && !self.forced {
            self.broken = Some("I6: the application starts before the fence stands");
        }
    }

    /// A crashed machine takes over and says that the last moments may be missing: those promises are off.
    fn may_miss(&mut self, i: usize) {
        for (acked, content) in self.acked.iter_mut().zip(&self.hosts[i].cache) {
            *acked &= content.bits;
        }
    }

    /// The first invariant that does not hold here.
    pub fn violation(&self, settings: &Settings) -> Option<String> {
        if let Some(broken) = self.broken {
            return Some(broken.into());
        }
        let serving: Vec<usize> = (0..2).filter(|i| self.hosts[*i].gate_open(NOW)).collect();
        if serving.len() > 1 && !self.forced {
            return Some("I4: two nodes serve".into());
        }
        for i in serving {
            if let Some(broken) = self.serving_violation(i) {
                return Some(broken);
            }
        }
        (0..2).find_map(|i| self.data_violation(i, settings)).or_else(|| self.log_violation())
    }

    fn serving_violation(&self, i: usize) -> Option<String> {
        let host = &self.hosts[i];
        let node = host.node.as_ref()?;
        if !node.serves() {
            return None;
        }
        let joining = node.role() == RoleName::Join;
        let generation = if joining { node.generation() } else { node.epoch() };
        if !self.history.contains(&(generation, host.me)) {
            return Some(format!("I3: {:?} serves in generation {} which names another", host.me, generation.0));
        }
        if self.forced {
            return None;
        }
        if self.witness.generation > generation && !node.has_open_cas() && !joining {
            return Some(format!(
                "I3: serves in generation {} and knows nothing of {}",
                generation.0, self.witness.generation.0
            ));
        }
        let other = self.witness.holder(host.peer);
        if other.is_some() && node.requires_peer().is_none() {
            return Some("I2: acknowledges alone while both are in sync".into());
        }
        self.witness.holder(host.me).is_none().then(|| "I5: a node that is not in sync serves".into())
    }

    fn data_violation(&self, i: usize, settings: &Settings) -> Option<String> {
        let host = &self.hosts[i];
        if self.forced {
            return None;
        }
        let holder = self.witness.holder(host.me);
        let intact = holder.is_some_and(|holder| holder.inc.boot == host.inc.boot) && !host.reimaged;
        let on_disk = settings.acknowledgement == Acknowledgement::Disk && holder.is_some() && !host.reimaged;
        let has = |contents: &[Content]| self.acked.iter().zip(contents).all(|(acked, c)| acked & !c.bits == 0);
        if on_disk && !has(&host.disk) || intact && !has(&host.cache) {
            return Some(format!("I1: an acknowledged operation is not on {:?}, which is in sync", host.me));
        }
        let serves = host.serves(NOW) && !has(&host.cache);
        serves.then(|| format!("I1: {:?} serves without an acknowledged operation", host.me))
    }

    fn log_violation(&self) -> Option<String> {
        let logs = [self.hosts[0].logged()?, self.hosts[1].logged()?];
        for object in 0..self.acked.len() {
            let id = ObjectId(object as u128);
            let [a, b] = &self.hosts;
            let differs = a.cache[object] != b.cache[object] || a.disk[object] != b.disk[object];
            let volatile = self.hosts.iter().any(|host| host.cache[object] != host.disk[object]);
            if (differs || volatile) && !logs.iter().any(|log| log.contains(&id)) {
                return Some(format!("I7: object {object} may differ and no log says so"));
            }
        }
        None
    }

    /// Whether the world ends well by itself: no more faults, everything is up, what is cut one way stays cut.
    pub fn ends_well(&self, settings: &Settings) -> bool {
        let mut world = self.clone();
        world.left = Budget { versions: u8::MAX, ..Budget::default() };
        for i in 0..2u8 {
            if world.hosts[usize::from(i)].node.is_none() {
                world.take(settings, Step::Start(i));
            }
        }
        world.held = [false; 2];
        world.paused = [false; 2];
        if world.away == [true, true] || world.cut == [false, false] {
            world.away = [false; 2];
        }
        if world.cut == [true, true] {
            world.take(settings, Step::Heal(0));
            world.take(settings, Step::Heal(1));
        }
        while !world.late.is_empty() {
            world.take(settings, Step::Land(0));
        }
        let hopeless = world
            .hosts
            .iter()
            .any(|h| h.failing || h.reimaged || h.node.as_ref().is_some_and(|n| n.halted().is_some()));
        hopeless || world.forced || world.run_fairly(settings, 1500, |w| (0..2).any(|i| w.hosts[i].serves(NOW)))
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let w = &self.witness;
        let other = w.other.map_or("-".into(), |o| o.node.0.to_string());
        write!(f, "W(g{} primary {} other {other} v{})", w.generation.0, w.primary.node.0, w.version)?;
        for host in &self.hosts {
            let node = host.node.as_ref();
            let role = node
                .map_or("down".into(), |n| format!("{:?} g{} f{}", n.role(), n.generation().0, n.durable().fence.0));
            let gate = host.gate.map_or("closed".into(), |until| format!("open {}", until.0));
            write!(f, " | {}: {role} gate {gate}", host.me.0)?;
        }
        write!(
            f,
            " | net {} {}",
            self.net[0].iter().map(Vec::len).sum::<usize>(),
            self.net[1].iter().map(Vec::len).sum::<usize>()
        )
    }
}
