//! A seeded, deterministic simulation in discrete time: one run is one seed.
//!
//! Clients that write, sync and read; frames lost, late, repeated, reordered, torn, one-way; crashes of either node at any step;
//! disks that lose what was not flushed or tear it, slow and failing ones; drifting and jumping clocks; pauses with and
//! without a moving clock; a witness that is away, slow, answers late, is deleted or restored. What clients saw is judged by
//! `history`, who served by the kernel's gates alone.

use crate::history::{Asked, Call, inexplicable};
use crate::host::{Host, Out, Parcel};
use crate::rng::Rng;
use mirror_core::difflog::Image;
use mirror_core::durable::Durable;
use mirror_core::ids::{Body, Generation, NodeId, Nonce, ObjectId, OperationId};
use mirror_core::message::{Kind, Message, Op};
use mirror_core::slots::{encode, newest};
use mirror_core::{
    Acknowledgement, Config, Event, Holder, Mutation, Notice, Order, Read, Record, RoleName, Settings, Span, Time,
    Written,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

const OBJECTS: usize = 5;
const CLIENTS: usize = 6;

/// What one run is like.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// How many events before everything is healed.
    pub events: usize,
    /// The guard that is switched off.
    pub broken: Option<Mutation>,
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
    HealDisk(usize),
}

#[derive(Clone, Debug)]
struct Machine {
    host: Host,
    /// Counts deaths of the process: what was under way then does not arrive.
    life: u64,
    /// Local clock = (now - zero) * (1 + drift / 1e6).
    zero: i64,
    drift: i64,
    paused: bool,
    /// The clock stands still since.
    still: Option<i64>,
    wake: i64,
    slots: [Vec<u8>; 2],
    log_slots: [Vec<u8>; 2],
    numbers: (u64, u64),
    slow: i64,
    /// Frames to it are lost.
    deaf: bool,
    off_until: i64,
    calls: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    body: u64,
    client: usize,
    kind: Kind,
    object: usize,
    call: usize,
    put_off: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    lossy: u64,
    torn: u64,
    repeat: u64,
    late: u64,
    faults: [bool; 14],
    pace: i64,
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
    backup: Record,
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

fn name(message: &Message) -> &'static str {
    match message {
        Message::Beacon { .. } => "Beacon",
        Message::Answer { .. } => "Answer",
        Message::Operation { .. } => "Operation",
        Message::Acknowledgement { .. } => "Acknowledgement",
        Message::ResyncBegin { .. } => "ResyncBegin",
        Message::ResyncReady { .. } => "ResyncReady",
        Message::Prepare { .. } => "Prepare",
        Message::Granted { .. } => "Granted",
        Message::Cut { .. } => "Cut",
        Message::CutReached { .. } => "CutReached",
        Message::CutDone { .. } => "CutDone",
    }
}

/// All messages there are.
pub const MESSAGES: [&str; 11] = [
    "Beacon",
    "Answer",
    "Operation",
    "Acknowledgement",
    "ResyncBegin",
    "ResyncReady",
    "Prepare",
    "Granted",
    "Cut",
    "CutReached",
    "CutDone",
];

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
        let machine = |me: u128, rng: &mut Rng| Machine {
            host: Host::new(me, 3 - me, OBJECTS),
            life: 0,
            zero: -rng.between(0, 1_000_000),
            drift: rng.between(-4_900, 4_900),
            paused: false,
            still: None,
            wake: i64::MAX,
            slots: Default::default(),
            log_slots: [encode(0, &Image::default()), Vec::new()],
            numbers: (0, 0),
            slow: 1,
            deaf: false,
            off_until: 0,
            calls: Vec::new(),
        };
        let machines = [machine(1, &mut rng), machine(2, &mut rng)];
        let mut faults = [false; 14];
        faults.iter_mut().for_each(|fault| *fault = rng.chance(350));
        let weather = Weather {
            lossy: rng.pick(&[0, 0, 5, 30]),
            torn: rng.pick(&[0, 5]),
            repeat: rng.pick(&[0, 20]),
            late: rng.pick(&[0, 10, 40]),
            faults,
            pace: rng.pick(&[150, 400, 900]),
        };
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
        sim.after(1_200, What::Fault);
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

    fn clock(&self, i: usize) -> Time {
        self.local(&self.machines[i])
    }

    /// Never two serving, as the kernels' gates say.
    fn watch(&mut self) {
        let open = (0..2).filter(|i| self.machines[*i].host.gate_open(self.clock(*i))).count();
        if open > 1 && self.now > self.excused {
            self.fail("two nodes serve".into());
        }
    }

    fn fail(&mut self, reason: String) {
        self.tell(|_| format!("VIOLATION {reason}"));
        self.report.violation.get_or_insert(reason);
    }

    // ---- machines ----

    fn start(&mut self, i: usize) {
        if self.machines[i].host.node.is_some() {
            return;
        }
        if self.now < self.machines[i].off_until {
            let back = self.machines[i].off_until - self.now;
            return self.after(back, What::Start(i));
        }
        let machine = &mut self.machines[i];
        let (state, log) = (newest::<Durable>(slices(&machine.slots)), newest::<Image>(slices(&machine.log_slots)));
        machine.host.state = state.map(|(_, state)| state);
        machine.host.log = log.as_ref().map(|(_, image)| image.clone());
        machine.numbers = (state.map_or(0, |(n, _)| n), log.map_or(0, |(n, _)| n));
        machine.life += 1;
        let now = self.clock(i);
        let settings = self.settings.clone();
        let outs = self.machines[i].host.start(&settings, now);
        self.tell(|_| format!("{} starts", letter(i)));
        self.follow(i, outs);
    }

    fn event(&mut self, i: usize, event: Event) {
        if self.machines[i].paused || self.machines[i].still.is_some() {
            // It will see it when it goes on: what arrives waits in its sockets.
            let life = self.machines[i].life;
            return self.after(40, What::Answered { i, life, event: Box::new(event) });
        }
        let now = self.clock(i);
        let before = self.machines[i].host.role();
        let outs = self.machines[i].host.handle(now, event);
        self.follow(i, outs);
        let after = self.machines[i].host.role();
        if before != after {
            self.tell(|_| format!("{} {before:?} -> {after:?}", letter(i)));
        }
    }

    fn follow(&mut self, i: usize, outs: Vec<Out>) {
        let life = self.machines[i].life;
        for out in outs {
            let slow = self.machines[i].slow;
            match out {
                Out::Send(parcel) => self.send(i, parcel),
                Out::Persist => {
                    let delay = self.rng.between(1, 6) * slow;
                    self.after(delay, What::Persisted { i, life });
                }
                Out::PersistLog => {
                    let delay = self.rng.between(1, 6) * slow;
                    self.after(delay, What::Logged { i, life });
                }
                Out::Apply(generation, op) => {
                    let delay = self.rng.between(0, 3) * slow;
                    self.after(delay, What::Applied { i, life, generation, op });
                }
                Out::Flush(number) => {
                    let delay = self.rng.between(5, 40) * slow;
                    self.after(delay, What::Flushed { i, life, number });
                }
                Out::Compare => self.after(20, What::Compared { i, life }),
                Out::Read => {
                    let delay = self.rng.between(2, 20);
                    self.after(delay, What::Get { i, life });
                }
                Out::Write { expect, record } => self.put_leaves(i, life, expect, record),
                Out::Walk(session) => self.walk(i, session),
                Out::Reply(body, done) => self.reply(i, body.0, done),
                Out::Later(body) => self.put_off(i, body.0),
                Out::Room => self.try_again(i),
                Out::StopApplication => self.after(30, What::Stopped { i, life }),
                Out::Started => {}
                Out::Killed => self.machines[i].calls.clear(),
                Out::Told(notice) => self.told(i, notice),
                Out::Broken(reason) => self.fail(reason.into()),
            }
        }
        self.wake(i);
    }

    fn wake(&mut self, i: usize) {
        let now = self.clock(i);
        let Some(node) = &self.machines[i].host.node else { return };
        let ahead = (node.next_wake(now) - now).0.min(1_000_000);
        let at = self.now + ahead * 1_000 / 995 + 1;
        if self.machines[i].wake <= self.now || at < self.machines[i].wake {
            self.machines[i].wake = at;
            self.after(at - self.now, What::Wake(i));
        }
    }

    fn walk(&mut self, i: usize, session: u32) {
        for object in 0..OBJECTS {
            let object = Some(ObjectId(object as u128));
            self.event(i, Event::Walked { session, object });
        }
        self.event(i, Event::Walked { session, object: None });
    }

    /// The process dies; a write that was under way is on disk, torn, or not there.
    fn kill(&mut self, i: usize, machine_too: bool) {
        let state = self.machines[i].host.state_next;
        let log = self.machines[i].host.log_next.clone();
        if let Some(state) = state {
            let bytes = encode(self.machines[i].numbers.0 + 1, &state);
            let slot = usize::from(self.machines[i].numbers.0.is_multiple_of(2));
            self.tear(i, false, slot, &bytes);
        }
        if let Some(log) = log {
            let bytes = encode(self.machines[i].numbers.1 + 1, &log);
            let slot = usize::from(self.machines[i].numbers.1.is_multiple_of(2));
            self.tear(i, true, slot, &bytes);
        }
        let machine = &mut self.machines[i];
        if machine_too {
            machine.host.crash(false)
        } else {
            machine.host.kill(false)
        }
        if machine_too {
            machine.zero = self.now;
        }
        machine.life += 1;
        machine.paused = false;
        machine.still = None;
        machine.calls.clear();
        machine.wake = i64::MAX;
    }

    fn tear(&mut self, i: usize, log: bool, slot: usize, bytes: &[u8]) {
        let cut = match self.rng.below(3) {
            0 => 0,
            1 => bytes.len(),
            _ => usize::try_from(self.rng.below(bytes.len() as u64)).unwrap_or(0),
        };
        let machine = &mut self.machines[i];
        let file = if log { &mut machine.log_slots[slot] } else { &mut machine.slots[slot] };
        file.resize(file.len().max(cut), 0);
        file[..cut].copy_from_slice(&bytes[..cut]);
    }

    fn landed(&mut self, i: usize, log: bool) {
        let machine = &mut self.machines[i];
        if log {
            let Some(image) = &machine.host.log_next else { return };
            machine.numbers.1 += 1;
            machine.log_slots[usize::from(!machine.numbers.1.is_multiple_of(2))] = encode(machine.numbers.1, image);
            self.event(i, Event::LogPersisted);
        } else {
            let Some(state) = &machine.host.state_next else { return };
            machine.numbers.0 += 1;
            machine.slots[usize::from(!machine.numbers.0.is_multiple_of(2))] = encode(machine.numbers.0, state);
            self.event(i, Event::Persisted);
        }
    }

    fn told(&mut self, i: usize, notice: Notice) {
        self.tell(|_| format!("{} says {notice:?}", letter(i)));
        if notice == Notice::MayMiss {
            self.new_history(i, true);
        }
    }

    // ---- network ----

    fn send(&mut self, from: usize, parcel: Parcel) {
        let to = 1 - from;
        let process = self.machines[to].host.inc.process;
        let lost = self.machines[to].deaf || self.machines[to].host.node.is_none();
        let bad = !self.calm && (self.rng.chance(self.weather.lossy) || self.rng.chance(self.weather.torn));
        if bad {
            // A lost or torn frame is a lost connection: both sides connect anew.
            (0..2).for_each(|i| self.after(30, What::HealLink(i)));
        }
        if lost || bad {
            return;
        }
        let late = !self.calm && self.rng.chance(self.weather.late);
        let delay = if late { self.rng.between(50, 900) } else { self.rng.between(1, 8) };
        if !self.calm && self.rng.chance(self.weather.repeat) {
            let again = self.rng.between(1, 300);
            self.after(again, What::Arrive { to, process, parcel: parcel.clone() });
        }
        self.after(delay, What::Arrive { to, process, parcel });
    }

    fn arrive(&mut self, to: usize, process: u128, parcel: Parcel) {
        let machine = &self.machines[to];
        let Some(role) = machine.host.role().filter(|_| machine.host.inc.process == process) else { return };
        if machine.paused || machine.still.is_some() {
            return self.after(40, What::Arrive { to, process, parcel });
        }
        *self.report.coverage.entry((role, name(&parcel.frame.message))).or_default() += 1;
        let now = self.clock(to);
        let outs = self.machines[to].host.receive(now, parcel);
        self.follow(to, outs);
        let after = self.machines[to].host.role();
        if Some(role) != after {
            self.tell(|_| format!("{} {role:?} -> {after:?}", letter(to)));
        }
    }

    // ---- witness ----

    fn put_leaves(&mut self, i: usize, life: u64, expect: u64, record: Record) {
        let answered = self.calm || !self.rng.chance(80);
        let late = !self.calm && self.rng.chance(80);
        let delay = if late { self.rng.between(100, 3_000) } else { self.rng.between(2, 20) };
        if late || !answered {
            self.after(200, What::Answered { i, life, event: Box::new(Event::Written(Written::Unknown)) });
        }
        let answered = answered && !late;
        self.after(delay, What::Put { i, life, expect, record, answered });
    }

    fn put_arrives(&mut self, i: usize, life: u64, expect: u64, record: Record, answered: bool) {
        if self.witness_away {
            if answered {
                self.after(150, What::Answered { i, life, event: Box::new(Event::Written(Written::Unknown)) });
            }
            return;
        }
        let written = match self.witness {
            None => Written::Conflict,
            Some(old) if old.version != expect => Written::Conflict,
            Some(old) => match old.step(&record) {
                Err(_) => Written::Refused,
                Ok(()) => {
                    let new = Record { version: expect + 1, ..record };
                    self.backup = old;
                    self.witness = Some(new);
                    if new.forced.is_some() && new.forced != old.forced {
                        self.new_history(usize::from(new.primary.node == NodeId(2)), false);
                    }
                    self.report.generations = self.report.generations.max(new.generation.0);
                    let other = new.other.map_or("-", |o| letter_of(o.node));
                    self.tell(|_| {
                        format!("W g{} primary {} other {other}", new.generation.0, letter_of(new.primary.node))
                    });
                    Written::Stored(new)
                }
            },
        };
        if answered {
            let delay = self.rng.between(1, 10);
            self.after(delay, What::Answered { i, life, event: Box::new(Event::Written(written)) });
        }
    }

    fn get_arrives(&mut self, i: usize, life: u64) {
        let (read, delay) = match self.witness {
            _ if self.witness_away => (Read::Unreachable, 150),
            Some(record) => (Read::Found(record), 5),
            None => (Read::Absent, 5),
        };
        self.after(delay, What::Answered { i, life, event: Box::new(Event::Read(read)) });
    }

    // ---- clients ----

    fn client(&mut self, client: usize) {
        let pause = self.rng.between(20, 120);
        self.after(pause, What::Client(client));
        if self.busy[client] {
            return;
        }
        let i = self.favourite[client];
        let reachable = self.machines[i].host.gate_open(self.clock(i)) && self.machines[i].still.is_none();
        if !reachable {
            self.favourite[client] = 1 - i;
            return;
        }
        let object = usize::try_from(self.rng.below(OBJECTS as u64)).unwrap_or(0);
        match self.rng.below(10) {
            0..=4 => self.write(client, i, object, Kind::Change),
            5 => self.write(client, i, object, Kind::Sync),
            _ => self.read(i, object),
        }
    }

    /// The page cache answers by itself, with or without the daemon, as long as the kernel lets the answer out.
    fn read(&mut self, i: usize, object: usize) {
        if !self.machines[i].host.running || self.now <= self.excused {
            return;
        }
        let value = self.machines[i].host.cache[object].last;
        let call = Call { object, asked: Asked::Read(value), start: self.now, end: Some(self.now) };
        self.calls.push(call);
    }

    fn write(&mut self, client: usize, i: usize, object: usize, kind: Kind) {
        if self.machines[i].host.node.is_none() || !self.machines[i].host.running {
            return;
        }
        let body = self.next_body;
        self.next_body += 1;
        let call = self.calls.len();
        if kind == Kind::Change {
            self.calls.push(Call { object, asked: Asked::Write(body), start: self.now, end: None });
        } else {
            // A barrier: what was acknowledged before it must outlive anything once it is acknowledged.
            let newest = self.newest_acknowledged(object);
            self.calls.push(Call { object: usize::MAX, asked: Asked::Write(newest), start: self.now, end: None });
        }
        self.busy[client] = true;
        self.machines[i].calls.push(Waiting { body, client, kind, object, call, put_off: false });
        self.event(i, Event::Change { kind, object: ObjectId(object as u128), also: None, body: Body(body) });
        // A client that hears nothing asks elsewhere; what became of its call stays unknown.
        self.after(1_000, What::GivesUp { client, call });
    }

    fn newest_acknowledged(&self, object: usize) -> u64 {
        let writes = self.calls.iter().rev().filter(|call| call.object == object);
        let done = writes.filter_map(|call| match call.asked {
            Asked::Write(value) => call.end.map(|end| (end, value)),
            Asked::Read(_) => None,
        });
        done.max().map_or(self.initial[object], |(_, value)| value)
    }

    fn reply(&mut self, i: usize, body: u64, done: bool) {
        let open = self.machines[i].host.gate_open(self.clock(i));
        let Some(at) = self.machines[i].calls.iter().position(|call| call.body == body) else { return };
        let waiting = self.machines[i].calls.remove(at);
        self.busy[waiting.client] = false;
        let Some(call) = self.calls.get_mut(waiting.call).filter(|_| done && open) else { return };
        call.end = Some(self.now);
        match (waiting.kind, call.asked) {
            (Kind::Sync, Asked::Write(value)) => self.floor[waiting.object] = self.floor[waiting.object].max(value),
            _ => self.report.acknowledged += 1,
        }
    }

    fn put_off(&mut self, i: usize, body: u64) {
        if let Some(call) = self.machines[i].calls.iter_mut().find(|call| call.body == body) {
            call.put_off = true;
        }
    }

    fn try_again(&mut self, i: usize) {
        let again: Vec<Waiting> = self.machines[i].calls.iter().filter(|call| call.put_off).copied().collect();
        for call in again {
            if let Some(call) = self.machines[i].calls.iter_mut().find(|c| c.body == call.body) {
                call.put_off = false;
            }
            let object = ObjectId(call.object as u128);
            self.event(i, Event::Change { kind: call.kind, object, also: None, body: Body(call.body) });
        }
    }

    /// What clients were promised is void, as documented (memory of both lost, a person's force): judge what was, begin anew.
    fn new_history(&mut self, i: usize, keeps_synced: bool) {
        self.judge_calls();
        let contents: Vec<u64> = self.machines[i].host.cache.iter().map(|content| content.last).collect();
        if keeps_synced {
            self.judge_synced(&contents);
        }
        // A call without an answer may yet take effect.
        self.calls.retain(|call| call.end.is_none() && call.object < OBJECTS);
        self.busy = [false; CLIENTS];
        self.machines.iter_mut().for_each(|machine| machine.calls.clear());
        // Only what is on this disk was ever promised to outlive a crash.
        self.floor = self.machines[i].host.disk.iter().map(|content| content.last).collect();
        self.initial = contents;
    }

    /// An acknowledged fsync outlives anything: nothing older than what it covered may come back.
    fn judge_synced(&mut self, contents: &[u64]) {
        for (object, value) in contents.iter().enumerate() {
            let floor = self.floor[object];
            let start = |value: u64| self.calls.iter().find(|c| c.object == object && c.asked == Asked::Write(value));
            let older = match (start(*value), start(floor)) {
                (Some(found), Some(synced)) => found.end.is_some_and(|end| end < synced.start),
                (None, Some(_)) => true,
                _ => false,
            };
            if older {
                self.fail(format!("object {object}: {floor} was synced and {value} came back"));
            }
        }
    }

    fn judge_calls(&mut self) {
        self.calls.iter_mut().filter(|call| call.object == usize::MAX).for_each(|call| call.end = None);
        if let Some(reason) = inexplicable(&self.calls, &self.initial) {
            self.fail(reason);
        }
    }

    // ---- faults ----

    fn fault(&mut self) {
        if self.calm && self.report.events < self.run.events {
            self.calm = false;
        }
        let pause = self.rng.between(self.weather.pace / 2, self.weather.pace * 2);
        if self.report.events < self.run.events {
            self.after(pause, What::Fault);
        } else {
            return;
        }
        let kind = usize::try_from(self.rng.below(14)).unwrap_or(0);
        let i = usize::try_from(self.rng.below(2)).unwrap_or(0);
        if !self.weather.faults[kind] {
            return;
        }
        let back = self.rng.between(50, 2_500);
        match kind {
            0 | 1 => {
                self.tell(|_| format!("{} is killed", letter(i)));
                self.kill(i, false);
                self.after(back, What::Start(i));
            }
            2 => {
                self.tell(|_| format!("{} loses power", letter(i)));
                self.kill(i, true);
                self.after(back, What::Start(i));
            }
            3 | 4 => {
                self.tell(|_| format!("nothing reaches {} any more", letter(i)));
                self.machines[i].deaf = true;
                self.after(back, What::HealNet(i));
            }
            5 => {
                self.tell(|_| "both are cut from each other".into());
                for i in 0..2 {
                    self.machines[i].deaf = true;
                    self.after(back, What::HealNet(i));
                }
            }
            6 => {
                self.tell(|_| "the witness is away".into());
                self.witness_away = true;
                self.after(back, What::HealWitness);
            }
            7 => self.pause(i, back),
            8 => {
                self.machines[i].slow = 60;
                self.after(back, What::HealDisk(i));
            }
            9 => self.event(i, Event::ClockJump),
            10 => {
                self.tell(|_| format!("a switch is ordered on {}", letter(i)));
                self.event(i, Event::Order(Order::SwitchOver));
            }
            11 => self.disk_trouble(i, back),
            12 => self.restart_in_order(i, back),
            _ => self.rare(i, back),
        }
    }

    fn pause(&mut self, i: usize, back: i64) {
        if self.machines[i].host.node.is_none() {
            return;
        }
        let still = self.rng.chance(300);
        self.tell(|_| format!("{} is paused{}", letter(i), if still { ", its clock too" } else { "" }));
        if still {
            self.machines[i].still = Some(self.now);
            self.excused = self.excused.max(self.now + back + 700);
        } else {
            self.machines[i].paused = true;
        }
        self.after(back, What::Resume(i));
    }

    fn resume(&mut self, i: usize) {
        self.machines[i].paused = false;
        if let Some(since) = self.machines[i].still.take() {
            self.machines[i].zero += self.now - since;
        }
        self.event(i, Event::Tick);
    }

    fn disk_trouble(&mut self, i: usize, back: i64) {
        if self.machines[i].host.node.is_none() {
            return;
        }
        if self.rng.chance(500) {
            self.tell(|_| format!("the disk of {} is full", letter(i)));
            return self.event(i, Event::DiskFull);
        }
        self.tell(|_| format!("the disk of {} fails", letter(i)));
        self.machines[i].host.failing = true;
        self.event(i, Event::DiskError);
        // Somebody mends it, and restarts the machine; what it held may be incomplete, and it says so itself.
        self.after(back + 3_000, What::HealDisk(i));
    }

    fn restart_in_order(&mut self, i: usize, back: i64) {
        self.tell(|_| format!("{} is stopped in order", letter(i)));
        self.event(i, Event::Order(Order::Stop));
        self.after(back + 1_500, What::HealDisk(i));
    }

    fn rare(&mut self, i: usize, back: i64) {
        match self.rng.below(4) {
            0 if self.machines[1 - i].host.node.is_none()
                && !self.machines[1 - i].host.gate_open(self.clock(1 - i)) =>
            {
                self.tell(|_| format!("{} is forced", letter(i)));
                let operation = OperationId(1_000 + u128::from(self.rng.below(1 << 40)));
                let order = Order::Force { operation, confirmed_off: true, peer_lease_fresh: false };
                // The person means it: the other machine stays off for a while.
                self.machines[1 - i].off_until = self.now + 3_000;
                self.event(i, Event::Order(order));
            }
            1 => {
                let agent = self.rng.chance(500);
                self.event(i, Event::Agent { alive: agent });
            }
            2 => {
                self.tell(|_| "the witness is deleted for a while".into());
                if let Some(record) = self.witness.take() {
                    self.backup = record;
                }
                self.after(back, What::HealWitness);
            }
            _ => {
                for object in 0..OBJECTS {
                    self.machines[i].host.disk[object] = self.machines[i].host.cache[object];
                }
            }
        }
    }

    fn heal_disk(&mut self, i: usize) {
        self.machines[i].slow = 1;
        let stopped = self.machines[i].host.role() == Some(RoleName::Stop);
        let stopped = stopped || self.machines[i].host.node.as_ref().is_some_and(mirror_core::Node::in_trouble);
        if self.machines[i].host.failing || stopped || self.machines[i].host.node.is_none() {
            self.machines[i].host.failing = false;
            self.kill(i, false);
            self.start(i);
        }
    }

    fn heal_witness(&mut self) {
        self.witness_away = false;
        self.witness.get_or_insert(self.backup);
    }

    fn heal(&mut self) {
        self.tell(|_| "everything is healed".into());
        self.calm = true;
        self.heal_witness();
        for i in 0..2 {
            self.machines[i].deaf = false;
            if self.machines[i].paused || self.machines[i].still.is_some() {
                self.resume(i);
            }
            let trouble = self.machines[i].host.node.as_ref().is_some_and(mirror_core::Node::in_trouble);
            let stopped = self.machines[i].host.role() == Some(RoleName::Stop);
            if self.machines[i].host.failing || trouble || stopped {
                self.kill(i, false);
            }
            self.machines[i].host.failing = false;
            self.machines[i].slow = 1;
            self.start(i);
            self.event(i, Event::Agent { alive: true });
            self.event(i, Event::Reconnected);
            self.event(i, Event::Order(Order::Overwrite));
            // What a paused machine still had to hear (a full disk, an order to stop) it has heard by then.
            [400, 1_500, 4_000, 8_000, 12_000].into_iter().for_each(|delay| self.after(delay, What::HealDisk(i)));
        }
    }

    fn settled(&self) -> bool {
        let role = |i: usize| self.machines[i].host.role();
        let pair = [role(0), role(1)];
        let both = pair.contains(&Some(RoleName::Prim)) && pair.contains(&Some(RoleName::Second));
        let idle = self.machines.iter().all(|m| m.host.node.as_ref().is_some_and(|n| n.window().is_drained()));
        let equal = self.machines[0].host.cache == self.machines[1].host.cache;
        both && idle && equal
    }

    /// The only copy in sync declared itself inconsistent: its disk failed while its peer was out. A person decides.
    fn needs_a_person(&self) -> bool {
        let Some(record) = self.witness else { return false };
        self.machines.iter().all(|machine| {
            let node = machine.host.node.as_ref();
            let whole = node.is_some_and(|n| !n.durable().inconsistent);
            record.holder(machine.host.me).is_none() || !whole
        })
    }

    fn judge(&mut self) {
        if self.report.violation.is_some() || self.needs_a_person() {
            return;
        }
        if !self.settled() {
            let roles: Vec<_> = self.machines.iter().map(|m| m.host.role()).collect();
            return self.fail(format!("it does not settle after everything is healed: {roles:?}"));
        }
        let primary = usize::from(self.machines[1].host.role() == Some(RoleName::Prim));
        for i in [primary, 1 - primary] {
            for object in 0..OBJECTS {
                let value = self.machines[i].host.cache[object].last;
                let (start, end) = (self.now + 1, Some(self.now + 2));
                self.calls.push(Call { object, asked: Asked::Read(value), start, end });
            }
        }
        self.judge_calls();
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
                self.machines[i].host.flush(number);
                self.event(i, Event::Flushed { number });
            }
            What::Get { i, life } => self.get_arrives(i, life),
            What::Put { i, life, expect, record, answered } => self.put_arrives(i, life, expect, record, answered),
            What::Answered { i, event, .. } => self.event(i, *event),
            What::Stopped { i, .. } => self.event(i, Event::ApplicationStopped),
            What::Compared { i, .. } => {
                let equal = self.machines[0].host.cache == self.machines[1].host.cache;
                self.event(i, Event::Compared { equal });
            }
        }
    }

    fn gives_up(&mut self, client: usize, call: usize) {
        let mine = |w: &Waiting| w.client == client && w.call == call;
        for machine in &mut self.machines {
            if let Some(at) = machine.calls.iter().position(mine) {
                machine.calls.remove(at);
                self.busy[client] = false;
            }
        }
        let waits = self.machines.iter().any(|m| m.calls.iter().any(|w| w.client == client));
        if !waits {
            self.busy[client] = false;
        }
    }

    fn applied(&mut self, i: usize, generation: Generation, op: Op) {
        let durable = self.settings.acknowledgement == Acknowledgement::Disk;
        let outcome = self.machines[i].host.apply(generation, op, durable);
        self.event(i, Event::Applied { generation, seq: op.seq, outcome });
    }
}

fn slices(slots: &[Vec<u8>; 2]) -> [&[u8]; 2] {
    [&slots[0], &slots[1]]
}

fn letter(i: usize) -> &'static str {
    ["A", "B"][i]
}

fn letter_of(node: NodeId) -> &'static str {
    if node == NodeId(1) { "A" } else { "B" }
}

/// The roles that can hear anything; a stopped node has no process.
pub const ROLES: [RoleName; 7] = [
    RoleName::Wait,
    RoleName::Second,
    RoleName::Taking,
    RoleName::Prim,
    RoleName::Frozen,
    RoleName::Alone,
    RoleName::Join,
];

/// Many runs together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// Events of all runs.
    pub events: usize,
    /// Acknowledged writes of all runs.
    pub acknowledged: usize,
    /// Changes of the record in all runs.
    pub generations: u64,
    /// Fewest events of a run.
    pub shortest: usize,
    /// How often each message reached each role.
    pub coverage: BTreeMap<(RoleName, &'static str), usize>,
    /// Seeds that went wrong.
    pub violations: Vec<(u64, String)>,
}

/// Runs all seeds of a range, on two threads.
pub fn batch(seeds: std::ops::Range<u64>, events: usize, broken: Option<Mutation>) -> Total {
    let half = |odd: u64| {
        let seeds = seeds.clone().filter(move |seed| seed % 2 == odd);
        move || {
            let mut total = Total { shortest: usize::MAX, ..Total::default() };
            seeds.for_each(|seed| total.add(seed, Sim::new(Run { seed, events, broken, explain: false }).run()));
            total
        }
    };
    std::thread::scope(|scope| {
        let halves = [scope.spawn(half(0)), scope.spawn(half(1))];
        let mut both = halves.map(|thread| thread.join().expect("a simulation thread ends"));
        let second = std::mem::take(&mut both[1]);
        let mut total = std::mem::take(&mut both[0]);
        total.merge(second);
        total
    })
}

impl Total {
    fn add(&mut self, seed: u64, report: Report) {
        self.events += report.events;
        self.acknowledged += report.acknowledged;
        self.generations += report.generations;
        self.shortest = self.shortest.min(report.events);
        report.coverage.into_iter().for_each(|(pair, count)| *self.coverage.entry(pair).or_default() += count);
        self.violations.extend(report.violation.map(|reason| (seed, reason)));
    }

    fn merge(&mut self, other: Total) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.generations += other.generations;
        self.shortest = self.shortest.min(other.shortest);
        other.coverage.into_iter().for_each(|(pair, count)| *self.coverage.entry(pair).or_default() += count);
        self.violations.extend(other.violations);
    }
}

/// The share of role x message pairs that occurred.
pub fn coverage_of(total: &Total) -> f64 {
    let pairs = ROLES.len() * MESSAGES.len();
    let seen = total.coverage.keys().filter(|(role, _)| ROLES.contains(role)).count();
    #[expect(clippy::cast_precision_loss, reason = "fewer than a hundred pairs")]
    let share = seen as f64 / pairs as f64;
    share
}

/// How many seeds it takes until the absence of a guard is noticed, and by what.
pub fn seeds_until_noticed(mutation: Mutation, limit: u64, events: usize) -> Option<(u64, String)> {
    (0..limit).find_map(|seed| {
        let report = Sim::new(Run { seed, events, broken: Some(mutation), explain: false }).run();
        report.violation.map(|reason| (seed + 1, reason))
    })
}
