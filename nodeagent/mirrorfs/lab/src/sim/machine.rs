//! Machines in simulated time: their clocks, their files in torn slots, their deaths.

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) host: Host,
    /// Counts deaths of the process: what was under way then does not arrive.
    pub(super) life: u64,
    /// Local clock = (now - zero) * (1 + drift / 1e6).
    pub(super) zero: i64,
    pub(super) drift: i64,
    pub(super) paused: bool,
    /// The clock stands still since.
    pub(super) still: Option<i64>,
    pub(super) wake: i64,
    pub(super) slots: [Vec<u8>; 2],
    pub(super) log_slots: [Vec<u8>; 2],
    pub(super) numbers: (u64, u64),
    /// What both files held before their last writes.
    pub(super) before: ([Vec<u8>; 2], [Vec<u8>; 2]),
    pub(super) slow: i64,
    /// The last frame that it sent and that was neither an operation nor a beacon.
    pub(super) said: Option<Parcel>,
    /// It does not reach the witness.
    pub(super) far: bool,
    /// Frames to it are lost.
    pub(super) deaf: bool,
    pub(super) off_until: i64,
    /// Its disks are new: what they once held is nowhere on this machine until it has been made equal.
    pub(super) empty: bool,
    pub(super) calls: Vec<Waiting>,
}

impl Machine {
    pub(super) fn new(me: NodeId, peer: NodeId, rng: &mut Rng) -> Self {
        Machine {
            host: Host::new(me.0, peer.0, OBJECTS),
            life: 0,
            zero: -rng.between(0, 1_000_000),
            drift: rng.between(-4_900, 4_900),
            paused: false,
            still: None,
            wake: i64::MAX,
            slots: Default::default(),
            log_slots: [encode(0, &Image::default()), Vec::new()],
            numbers: (0, 0),
            before: Default::default(),
            slow: 1,
            said: None,
            far: false,
            deaf: false,
            off_until: 0,
            empty: false,
            calls: Vec::new(),
        }
    }

    /// Empty disks, on the same machine.
    pub(super) fn wipe(&mut self) {
        self.host.reimage();
        self.empty = true;
        (self.slots, self.log_slots, self.numbers) = (Default::default(), Default::default(), (0, 0));
    }

    /// Another machine, new, in the same place.
    pub(super) fn become_new(&mut self, me: NodeId, peer: NodeId) {
        self.host = Host::new(me.0, peer.0, OBJECTS);
        self.empty = true;
        (self.slots, self.numbers) = (Default::default(), (0, 0));
        self.log_slots = [encode(0, &Image::default()), Vec::new()];
    }
}

impl Sim {
    pub(super) fn start(&mut self, i: usize) {
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

    pub(super) fn event(&mut self, i: usize, event: Event) {
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
        self.machines[i].empty &= !matches!(after, Some(RoleName::Second | RoleName::Prim | RoleName::Alone));
        if before != after {
            self.tell(|_| format!("{} {before:?} -> {after:?}", letter(i)));
        }
    }

    pub(super) fn follow(&mut self, i: usize, outs: Vec<Out>) {
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

    pub(super) fn wake(&mut self, i: usize) {
        let now = self.clock(i);
        let Some(node) = &self.machines[i].host.node else { return };
        let ahead = (node.next_wake(now) - now).0.min(1_000_000);
        let at = self.now + ahead * 1_000 / 995 + 1;
        if self.machines[i].wake <= self.now || at < self.machines[i].wake {
            self.machines[i].wake = at;
            self.after(at - self.now, What::Wake(i));
        }
    }

    pub(super) fn walk(&mut self, i: usize, session: u32) {
        for object in 0..OBJECTS {
            let object = Some(ObjectId(object as u128));
            self.event(i, Event::Walked { session, object });
        }
        self.event(i, Event::Walked { session, object: None });
    }

    /// The process dies; a write that was under way is on disk, torn, or not there.
    pub(super) fn kill(&mut self, i: usize, machine_too: bool) {
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
        self.last_words(i);
        let unsynced = machine_too && self.planted(Outside::FilesUnsynced);
        let machine = &mut self.machines[i];
        if unsynced {
            (machine.slots, machine.log_slots) = machine.before.clone();
        }
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

    pub(super) fn tear(&mut self, i: usize, log: bool, slot: usize, bytes: &[u8]) {
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

    pub(super) fn landed(&mut self, i: usize, log: bool) {
        let unsynced = self.planted(Outside::FilesUnsynced);
        let machine = &mut self.machines[i];
        if unsynced {
            machine.before = (machine.slots.clone(), machine.log_slots.clone());
        }
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

    pub(super) fn told(&mut self, i: usize, notice: Notice) {
        self.tell(|_| format!("{} says {notice:?}", letter(i)));
        match notice {
            Notice::MayMiss => self.new_history(i, true),
            Notice::Halted(_) => {
                let pause = self.rng.between(300, 1_500);
                self.after(pause, What::AnswerHalted(i));
            }
            // A person looks at both copies and decides for the one that serves.
            Notice::OtherLineage => {
                let (life, event) = (self.machines[i].life, Box::new(Event::Order(Order::Overwrite)));
                self.after(500, What::Answered { i, life, event });
            }
            _ => {}
        }
    }

    pub(super) fn applied(&mut self, i: usize, generation: Generation, op: Op) {
        let durable = self.settings.acknowledgement == Acknowledgement::Disk;
        let lost = self.planted(Outside::ChangeLost) && op.kind == Kind::Change && self.rng.chance(10);
        let outcome = if lost { Outcome::Done } else { self.machines[i].host.apply(generation, op, durable) };
        self.event(i, Event::Applied { generation, seq: op.seq, outcome });
    }
}

fn slices(slots: &[Vec<u8>; 2]) -> [&[u8]; 2] {
    [&slots[0], &slots[1]]
}
