//! One thing happens: to machines, network and time; what a core asked for is carried out.

use super::*;

impl World {
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

    pub(super) fn host(&mut self, i: usize) -> &mut Host {
        Rc::make_mut(&mut self.hosts[i])
    }

    pub(super) fn event(&mut self, settings: &Settings, i: usize, event: Event) {
        let outs = self.host(i).handle(NOW, event);
        self.follow(settings, i, outs);
    }

    pub(super) fn dies(&mut self, i: usize) {
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

    pub(super) fn write(&mut self, settings: &Settings, i: usize, body: u8, object: u8) {
        let event =
            Event::Change { kind: Kind::Change, object: ObjectId(object.into()), also: None, body: Body(body.into()) };
        self.waiting[i].push((body, object));
        self.event(settings, i, event);
    }

    pub(super) fn advance(&mut self) {
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

    pub(super) fn shift(&mut self, by: Span) {
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

    /// Carries out what a node asked for; local things at once.
    pub(super) fn follow(&mut self, settings: &Settings, i: usize, outs: Vec<Out>) {
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
                        !self.hosts[i]
                            .node
                            .as_ref()
                            .is_some_and(|n| n.window().iter().any(|entry| entry.op.body.0 == u64::from(*body)))
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

    pub(super) fn send(&mut self, i: usize, parcel: Parcel) {
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

    pub(super) fn replied(&mut self, i: usize, body: Body, done: bool) {
        let Some(at) = self.waiting[i].iter().position(|(b, _)| u64::from(*b) == body.0) else { return };
        let (body, object) = self.waiting[i].remove(at);
        if done {
            self.acked[usize::from(object)] |= 1 << body;
        }
    }

    /// The application starts: whatever its former primary may still send must be fenced off, durably.
    pub(super) fn started(&mut self, i: usize) {
        let fence = self.hosts[i].state.map_or(Generation(0), |state| state.fence);
        let former = self.history.iter().filter(|(_, node)| *node == self.hosts[i].peer).map(|(g, _)| *g).max();
        if former.is_some_and(|generation| generation >= fence) && !self.forced {
            self.broken = Some("I6: the application starts before the fence stands");
        }
    }

    /// A crashed machine takes over and says that the last moments may be missing: those promises are off.
    pub(super) fn may_miss(&mut self, i: usize) {
        for (acked, content) in self.acked.iter_mut().zip(&self.hosts[i].cache) {
            *acked &= content.bits;
        }
    }
}
