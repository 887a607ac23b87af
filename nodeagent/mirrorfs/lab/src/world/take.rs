//! One thing happens: to machines, network and time; what a core asked for is carried out.

use super::*;

impl World {
    /// One thing happens.
    pub fn take(&mut self, settings: &Settings, step: Step) {
        match step {
            Step::Deliver(i, class) => {
                let parcel = self.net[usize::from(i)][usize::from(class)].remove(0);
                self.handle(settings, i.into(), |host| host.receive(NOW, parcel));
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
                self.reconnected(settings);
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
                let event = match std::mem::replace(&mut self.asked[usize::from(i)], Asked::Nothing) {
                    Asked::Put(..) => Event::Written(Written::NotSent),
                    _ => Event::Read(Read::Unreachable),
                };
                self.event(settings, i.into(), event);
            }
            Step::Unknown(i, landed) => self.witness_unknown(settings, i.into(), landed),
            Step::Land(k) => {
                let (expect, record) = self.late.remove(usize::from(k));
                self.put(expect, record);
            }
            Step::Log(i) => self.event(settings, i.into(), Event::LogPersisted),
            Step::Synced(i) => {
                if let Some(number) = self.flushing[usize::from(i)].take() {
                    self.host(i.into()).flush(number);
                    self.event(settings, i.into(), Event::Flushed { number });
                }
            }
            Step::Persist(i) => self.event(settings, i.into(), Event::Persisted),
            Step::Advance => self.advance(),
            Step::Tick(i) => self.event(settings, i.into(), Event::Tick),
            Step::Write(i, object) => {
                self.left.writes -= 1;
                let body = self.next_body;
                self.next_body += 1;
                self.call(settings, i.into(), Call { body, object, covers: None });
            }
            Step::Sync(i, object) => {
                self.left.syncs -= 1;
                let body = self.next_body;
                self.next_body += 1;
                let covers = Some(self.acked[usize::from(object)]);
                self.call(settings, i.into(), Call { body, object, covers });
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
                self.leftover[usize::from(i)] = self.hosts[usize::from(i)].gate;
                self.handle(settings, i.into(), |host| host.start(settings, NOW));
            }
            Step::Switch(i) => {
                self.left.switches -= 1;
                self.event(settings, i.into(), Event::Order(Order::SwitchOver));
            }
            Step::Force(i) => {
                self.left.forces -= 1;
                let wrong = self.is_heard(i.into());
                self.forced |= !wrong;
                let operation = OperationId(100 + u128::from(self.left.forces));
                let order = Order::Force { operation, confirmed_off: true, peer_lease_fresh: false };
                self.event(settings, i.into(), Event::Order(order));
                if wrong && self.hosts[usize::from(i)].role() != Some(RoleName::Second) {
                    self.broken = Some("A2: a promotion is forced although the other side answers");
                }
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
                (self.forced, self.undone) = (true, true);
                let version = self.witness.version + 1;
                self.witness = Record { version, ..self.backup };
            }
            Step::NotYet(i) => {
                self.left.notyets -= 1;
                self.lacks[usize::from(i)] = true;
            }
        }
    }

    pub(super) fn host(&mut self, i: usize) -> &mut Host {
        Rc::make_mut(&mut self.hosts[i])
    }

    pub(super) fn event(&mut self, settings: &Settings, i: usize, event: Event) {
        self.overwrites |= event == Event::Order(Order::Overwrite);
        self.handle(settings, i, |host| host.handle(NOW, event));
    }

    /// A core does something, and what it asks for is carried out.
    fn handle(&mut self, settings: &Settings, i: usize, act: impl FnOnce(&mut Host) -> Vec<Out>) {
        let waited = self.hosts[i].role() == Some(RoleName::Wait);
        let outs = act(self.host(i));
        if waited && self.hosts[i].role() == Some(RoleName::Taking) && self.waits_in_vain(settings, i) {
            self.broken = Some("A2: takes over after a crash although its peer is there with all it held");
        }
        self.follow(settings, i, outs);
    }

    /// It lost memory, and heard lately of another copy in sync that did not.
    fn waits_in_vain(&self, settings: &Settings, i: usize) -> bool {
        let host = &self.hosts[i];
        let memory = settings.acknowledgement == Acknowledgement::Memory && !self.forced;
        let lost = host.state.is_some_and(|state| state.boot != host.inc.boot);
        let heard = host.node.as_ref().and_then(mirror_core::Node::peer_view);
        let there = heard.is_some_and(|(view, at)| NOW < at + settings.lease && !view.lost && !view.target);
        memory && lost && there && self.witness.holder(host.peer).is_some()
    }

    pub(super) fn dies(&mut self, i: usize) {
        if let Asked::Put(expect, record) = std::mem::replace(&mut self.asked[i], Asked::Nothing)
            && expect == self.witness.version
            && !self.late.contains(&(expect, record))
        {
            self.late.push((expect, record));
        }
        self.net[i] = Default::default();
        self.paused[i] = false;
        self.lacks[i] = false;
        self.flushing[i] = None;
        self.waiting[i].clear();
    }

    pub(super) fn call(&mut self, settings: &Settings, i: usize, call: Call) {
        let kind = if call.covers.is_some() { Kind::Sync } else { Kind::Change };
        let object = ObjectId(call.object.into());
        let event = Event::Change { kind, object, also: None, body: Body(call.body.into()) };
        self.waiting[i].push(call);
        self.event(settings, i, event);
    }

    pub(super) fn reconnected(&mut self, settings: &Settings) {
        (0..2).for_each(|at| self.event(settings, at, Event::Reconnected));
    }

    /// A person, the machine or the agent says something.
    pub fn say(&mut self, settings: &Settings, i: u8, event: Event) {
        self.event(settings, i.into(), event);
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
        let past =
            |gate: &mut Option<Time>| *gate = gate.map(|until| until.shift(by, floor)).filter(|until| *until > NOW);
        self.leftover.iter_mut().for_each(past);
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
                Out::Write { expect, record } => {
                    let known = self.hosts[i].state.is_some_and(|state| state.generation >= record.generation);
                    if known || self.alone[i] >= record.generation {
                        self.broken = Some("I3: proposes a generation that was used, as it knows");
                    }
                    self.asked[i] = Asked::Put(expect, record);
                }
                Out::Persist | Out::PersistLog | Out::Later(_) => {}
                Out::Started => self.started(i),
                Out::Killed => self.waiting[i].clear(),
                Out::Apply(generation, op) => {
                    self.applied_before(i, &op);
                    let named = self.witness.holder(self.hosts[i].me).is_some_and(|h| h.inc == self.hosts[i].inc);
                    let target = self.hosts[i].role() == Some(RoleName::Wait);
                    self.mixed[i] |= target && !named;
                    if target && !self.overwrites && self.is_other_lineage(i) {
                        self.broken = Some("a copy of another lineage is overwritten, and nobody said that it may be");
                    }
                    let ground = !(op.kind == Kind::Change && std::mem::take(&mut self.lacks[i]));
                    let outcome = if ground { self.host(i).apply(generation, op, durable) } else { Outcome::NotYet };
                    self.event(settings, i, Event::Applied { generation, seq: op.seq, outcome });
                }
                Out::Flush(number) => {
                    self.flushing[i] = Some(number);
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
                    let fresh = |call: &Call| {
                        let node = self.hosts[i].node.as_ref();
                        !node.is_some_and(|n| n.window().iter().any(|entry| entry.op.body.0 == u64::from(call.body)))
                    };
                    let (again, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(fresh);
                    self.waiting[i] = rest;
                    again.into_iter().for_each(|call| self.call(settings, i, call));
                }
                Out::StopApplication => self.event(settings, i, Event::ApplicationStopped),
                Out::Told(Notice::MayMiss) => self.may_miss(i),
                Out::Told(_) => {}
                Out::Broken(reason) => self.broken = Some(reason),
            }
        }
        if let Some(node) = &self.hosts[i].node {
            if self.hosts[i].serves(NOW) && node.role() == RoleName::Alone {
                self.alone[i] = node.epoch();
            }
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
        let Some(at) = self.waiting[i].iter().position(|call| u64::from(call.body) == body.0) else { return };
        let call = self.waiting[i].remove(at);
        let object = usize::from(call.object);
        match call.covers {
            _ if !done => {}
            Some(bits) => self.synced[object] |= bits,
            None => self.acked[object] |= 1 << call.body,
        }
    }

    fn is_other_lineage(&self, target: usize) -> bool {
        let [here, there] = [target, 1 - target].map(|i| self.hosts[i].state.unwrap_or_default());
        here.generation > Generation(0) && here.lineage != there.lineage
    }

    /// rename, create and link are not idempotent: outside a resync nothing is ever applied to one copy twice.
    fn applied_before(&mut self, i: usize, op: &Op) {
        let host = &self.hosts[i];
        let target = host.state.is_some_and(|state| state.inconsistent);
        let known = host.cache.get(usize::try_from(op.object.0).unwrap_or(usize::MAX));
        if op.kind == Kind::Change && !target && known.is_some_and(|content| content.bits & 1 << (op.body.0 % 64) != 0)
        {
            self.broken = Some("an operation is applied twice");
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
