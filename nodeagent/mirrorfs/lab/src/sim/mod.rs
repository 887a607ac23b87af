//! A seeded, deterministic simulation in discrete time: one run is one seed.
//!
//! Clients that write, sync and read; frames lost, late, repeated, reordered, torn, one-way; crashes of either node at any step;
//! disks that lose what was not flushed or tear it, slow and failing ones; drifting and jumping clocks; pauses with and
//! without a moving clock; a witness that is away, slow, answers late, is deleted or restored. What clients saw is judged by
//! `history`, who served by the kernel's gates alone.

mod batch;
mod clients;
mod faults;
mod judge;
mod machine;
mod network;
mod persons;
mod planted;
mod witness;

pub use batch::{ARGUED, ROLES, Total, batch, coverage_of, missing_from, seeds_until_noticed, seeds_until_seen};
pub use network::MESSAGES;
pub use planted::Outside;

use self::clients::{CLIENTS, Waiting};
use self::faults::Weather;
use self::machine::Machine;
use crate::history::{Asked, Call, inexplicable};
use crate::host::{Host, Out, Parcel};
use crate::rng::Rng;
use crate::witness::{first_record, replace};
use mirror_core::difflog::Image;
use mirror_core::durable::Durable;
use mirror_core::ids::{Body, Generation, NodeId, ObjectId, OperationId};
use mirror_core::message::{Kind, Message, Op, Outcome};
use mirror_core::slots::{encode, newest};
use mirror_core::{
    Acknowledgement, Config, Event, Mutation, Notice, Order, Read, Record, RoleName, Settings, Span, Time, Written,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

const OBJECTS: usize = 5;

/// What one run is like.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// How many events before everything is healed.
    pub events: usize,
    /// The guard that is switched off.
    pub broken: Option<Mutation>,
    /// The promise of the outside that is broken.
    pub outside: Option<Outside>,
    /// Whether to tell the story.
    pub explain: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Events handled.
    pub events: usize,
    /// What was wrong.
    pub violation: Option<String>,
    /// The story.
    pub story: Vec<String>,
    /// How often each message reached each role.
    pub coverage: BTreeMap<(RoleName, &'static str), usize>,
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Takeovers and other changes of the record.
    pub generations: u64,
}

#[derive(Clone, Debug)]
enum What {
    Arrive { to: usize, process: u128, parcel: Parcel },
    Wake(usize),
    Persisted { i: usize, life: u64 },
    Logged { i: usize, life: u64 },
    Applied { i: usize, life: u64, generation: Generation, op: Op },
    Flushed { i: usize, life: u64, number: u64 },
    Get { i: usize, life: u64 },
    Put { i: usize, life: u64, expect: u64, record: Record, answered: bool },
    Answered { i: usize, life: u64, event: Box<Event> },
    Stopped { i: usize, life: u64 },
    Compared { i: usize, life: u64 },
    Client(usize),
    GivesUp { client: usize, call: usize },
    Fault,
    Start(usize),
    Resume(usize),
    HealNet(usize),
    HealLink(usize),
    HealWitness,
    HealWay(usize),
    HealDisk(usize),
    AgentBack(usize),
    PowerOff { i: usize, back: i64 },
    ForceLocal(usize),
    Newcomer(usize),
    Recreate,
    AnswerHalted(usize),
}

/// One simulated world.
pub struct Sim {
    run: Run,
    settings: Settings,
    rng: Rng,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    payload: BTreeMap<u64, What>,
    order: u64,
    machines: [Machine; 2],
    witness: Option<Record>,
    /// The record before the last change, and as it was changed last by a node or a person who knew better.
    backup: Record,
    truth: Record,
    /// How often the record was created.
    uids: u128,
    /// A person forced this machine without a witness, and no record says so yet.
    fork: Option<(usize, mirror_core::ids::Lineage)>,
    witness_away: bool,
    weather: Weather,
    calm: bool,
    busy: [bool; CLIENTS],
    favourite: [usize; CLIENTS],
    next_body: u64,
    calls: Vec<Call>,
    initial: Vec<u64>,
    floor: Vec<u64>,
    /// Whether two may serve, reads may be stale, until then (a machine whose clock stood still).
    excused: i64,
    report: Report,
}

impl Sim {
    /// A new world for a run.
    pub fn new(run: Run) -> Self {
        let mut rng = Rng::new(run.seed);
        let class = if rng.chance(500) { Acknowledgement::Memory } else { Acknowledgement::Disk };
        let config = Config {
            beacon: Span(100),
            lease: Span(600),
            stop_budget: Span(10),
            head_start: Span(60),
            stall: Some(Span(1_500)),
            crash_hold: Span(3_000),
            witness_poll: Span(1_000),
            give_up: Span(6_000),
            checkpoint: Some(Span(700)),
            window: 16,
            log_objects: OBJECTS,
            acknowledgement: class,
            broken: run.broken,
            ..Config::default()
        };
        let witness = first_record();
        let mut machines = [Machine::new(NodeId(1), NodeId(2), &mut rng), Machine::new(NodeId(2), NodeId(1), &mut rng)];
        if run.outside == Some(Outside::ClocksDrift) {
            (machines[0].drift, machines[1].drift) = (-15_000, 15_000);
        }
        let weather = Weather::draw(&mut rng);
        // Some runs are stormy from the first moment, before there is anything to lose.
        let begins = if rng.chance(200) { rng.between(0, 400) } else { 1_200 };
        let mut sim = Sim {
            run,
            settings: Settings(Arc::new(config)),
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            payload: BTreeMap::new(),
            order: 0,
            machines,
            witness: Some(witness),
            backup: witness,
            truth: witness,
            uids: witness.uid,
            fork: None,
            witness_away: false,
            weather,
            calm: true,
            busy: [false; CLIENTS],
            favourite: [0; CLIENTS],
            next_body: 1,
            calls: Vec::new(),
            initial: vec![0; OBJECTS],
            floor: vec![0; OBJECTS],
            excused: 0,
            report: Report::default(),
        };
        sim.start(0);
        sim.start(1);
        (0..CLIENTS).for_each(|client| sim.after(50, What::Client(client)));
        sim.after(begins, What::Fault);
        sim
    }

    /// Runs to the end: bad weather, then healing, then the judgement.
    pub fn run(mut self) -> Report {
        self.until(|sim| sim.report.events >= sim.run.events);
        self.heal();
        let limit = self.report.events + 6_000;
        let settled_at = self.report.events + 600;
        self.until(|sim| sim.report.events >= limit || sim.report.events >= settled_at && sim.settled());
        self.judge();
        self.report
    }

    fn until(&mut self, done: impl Fn(&Sim) -> bool) {
        while self.report.violation.is_none() && !done(self) {
            let Some(Reverse((at, order))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.report.events += 1;
            if let Some(what) = self.payload.remove(&order) {
                self.happen(what);
                self.watch();
            }
        }
    }

    fn after(&mut self, delay: i64, what: What) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay.max(0), self.order)));
        self.payload.insert(self.order, what);
    }

    fn tell(&mut self, line: impl FnOnce(&Sim) -> String) {
        if self.run.explain {
            let text = line(self);
            let roles = self.machines.iter().map(|m| {
                let role = m.host.role().map_or("down".into(), |role| format!("{role:?}"));
                let gate = if m.host.gate_open(self.local(m)) { "*" } else { " " };
                format!("{role:>7}{gate}")
            });
            let roles: Vec<String> = roles.collect();
            self.report.story.push(format!("{:8.3} {} |{}  {text}", self.now as f64 / 1000.0, roles[0], roles[1]));
        }
    }

    fn local(&self, machine: &Machine) -> Time {
        let real = machine.still.unwrap_or(self.now) - machine.zero;
        Time(real + real * machine.drift / 1_000_000)
    }

    fn planted(&self, outside: Outside) -> bool {
        self.run.outside == Some(outside)
    }

    /// The kernel of this machine lets traffic pass.
    fn open(&self, i: usize) -> bool {
        let host = &self.machines[i].host;
        host.gate_open(self.clock(i)) || host.gate.is_some() && self.planted(Outside::GateStaysOpen)
    }

    fn clock(&self, i: usize) -> Time {
        self.local(&self.machines[i])
    }

    /// Never two serving, as the kernels' gates say.
    fn watch(&mut self) {
        let open = (0..2).filter(|i| self.open(*i)).count();
        if open > 1 && self.now > self.excused {
            self.fail("two nodes serve".into());
        }
    }

    fn fail(&mut self, reason: String) {
        self.tell(|_| format!("VIOLATION {reason}"));
        self.report.violation.get_or_insert(reason);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive { to, process, parcel } => self.arrive(to, process, parcel),
            What::Wake(i) => {
                if self.machines[i].wake <= self.now {
                    self.machines[i].wake = i64::MAX;
                    if !self.machines[i].paused && self.machines[i].still.is_none() {
                        self.event(i, Event::Tick);
                    }
                }
            }
            What::Client(client) => self.client(client),
            What::Fault => self.fault(),
            What::Start(i) => self.start(i),
            What::Resume(i) => self.resume(i),
            What::HealNet(i) => {
                self.machines[i].deaf = false;
                (0..2).for_each(|i| self.event(i, Event::Reconnected));
            }
            What::HealLink(i) => self.event(i, Event::Reconnected),
            What::HealWitness => self.heal_witness(),
            What::HealWay(i) => self.machines[i].far = false,
            What::AgentBack(i) => self.event(i, Event::Agent { alive: true }),
            What::PowerOff { i, back } => self.power_off(i, back),
            What::ForceLocal(i) => self.force_local(i),
            What::Newcomer(i) => self.newcomer(i),
            What::Recreate => self.recreate_witness(),
            What::AnswerHalted(i) => self.answer_halted(i),
            What::HealDisk(i) => self.heal_disk(i),
            What::GivesUp { client, call } => self.gives_up(client, call),
            What::Persisted { i, life }
            | What::Logged { i, life }
            | What::Applied { i, life, .. }
            | What::Flushed { i, life, .. }
            | What::Get { i, life }
            | What::Stopped { i, life }
            | What::Compared { i, life }
            | What::Answered { i, life, .. }
                if life != self.machines[i].life => {}
            What::Persisted { i, .. } => self.landed(i, false),
            What::Logged { i, .. } => self.landed(i, true),
            What::Applied { i, generation, op, .. } => self.applied(i, generation, op),
            What::Flushed { i, number, .. } => {
                let host = &mut self.machines[i].host;
                if self.run.outside == Some(Outside::DiskLies) {
                    host.mark.checkpoint = host.mark.checkpoint.max(number);
                } else {
                    host.flush(number);
                }
                self.event(i, Event::Flushed { number });
            }
            What::Get { i, life } => self.get_arrives(i, life),
            What::Put { i, life, expect, record, answered } => self.put_arrives(i, life, expect, record, answered),
            What::Answered { i, event, .. } => self.event(i, *event),
            What::Stopped { i, .. } => self.event(i, Event::ApplicationStopped),
            What::Compared { i, .. } => {
                let equal = self.machines[0].host.cache == self.machines[1].host.cache;
                let equal = equal || self.planted(Outside::NothingCompared);
                self.event(i, Event::Compared { equal });
            }
        }
    }
}

fn letter(i: usize) -> &'static str {
    ["A", "B"][i]
}

/// In whose place this member stands: a machine that replaces another has a UID of the same parity.
fn index(node: NodeId) -> usize {
    usize::from(node.0.is_multiple_of(2))
}
