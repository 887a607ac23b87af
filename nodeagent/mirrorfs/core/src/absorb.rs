//! How an event becomes facts. No role changes here; a frame that may not speak is not heard.

use crate::checkpoint::Cut;
use crate::event::{Action, Event, Notice, Order};
use crate::guard::Mutation;
use crate::ids::{Generation, Incarnation, Seq};
use crate::intake::{Arrival, Guards, Intake};
use crate::message::{Frame, Message, Op, Purpose, View};
use crate::node::{Handing, Node, Trouble};
use crate::resync::Phase;
use crate::role::{Owed, Role};
use crate::time::Time;

impl Node {
    pub(crate) fn absorb(&mut self, now: Time, event: Event) {
        match event {
            Event::Tick => {}
            Event::Received(frame) => self.receive(now, frame),
            Event::Reconnected if self.on(Mutation::NoResend) => self.window.resend(),
            Event::Reconnected => {}
            Event::Persisted => self.disk = self.writing.take().unwrap_or(self.disk),
            Event::LogPersisted => self.log_written(),
            Event::Read(read) => self.read(now, read),
            Event::Written(written) => self.written(now, written),
            Event::Change { kind, object, also, body } => self.change(now, kind, (object, also), body),
            Event::Mend { kind, object, body } => self.mend(now, kind, object, body),
            Event::Expect { objects } => self.log.expect(objects),
            Event::Applied { seq, outcome, .. } => self.applied(now, seq, outcome),
            Event::Flushed { number } => self.flushed(number),
            Event::Compared { equal } => self.compared(equal),
            Event::Walked { session, object } => self.walked(session, object),
            Event::ApplicationStopped => self.application_stopped(),
            Event::Agent { alive } => self.agent = alive,
            Event::DiskError => self.disk_failed(),
            Event::DiskFull => self.trouble = self.trouble.or(Some(Trouble::Full)),
            Event::ClockJump => self.granted = None,
            Event::Order(order) => self.ordered(order),
        }
    }

    fn receive(&mut self, now: Time, frame: Frame) {
        if frame.node != self.peer.node {
            return;
        }
        let from = frame.from;
        match frame.message {
            Message::Beacon { sent, answered, renew, view } => {
                self.meet(now, from, view);
                self.answer(now, from, sent, answered, (renew, view));
            }
            Message::Answer { to, granted, view } => {
                self.meet(now, from, view);
                self.answered(now, from, to, granted, &view);
            }
            Message::Operation { generation, low, op } => self.operation(from, generation, low, op),
            Message::Acknowledgement { generation, seq, outcome } => {
                let target = self.resync.as_ref().map(|resync| resync.target);
                let counts = self.second == Some(from) || target == Some(from);
                if counts && generation == self.window.generation {
                    self.acknowledged(seq, outcome);
                }
            }
            Message::ResyncBegin { generation, session, first } => self.resync_begin(from, generation, session, first),
            Message::ResyncReady { session, touched } => self.resync_ready(from, session, touched),
            Message::Prepare { purpose, generation, session, first, sent } => {
                self.prepare(from, purpose, generation, session, (first, sent));
            }
            Message::Granted { purpose, generation, session, to } => {
                self.granted_by(now, from, purpose, generation, (session, to));
            }
            Message::Cut { generation, low, number } => self.cut_asked(from, generation, low, number),
            Message::CutReached { generation, number } => self.cut_reached(from, generation, number),
            Message::CutDone { generation, number } => self.cut_done(from, generation, number),
        }
    }

    fn log_written(&mut self) {
        self.log.written();
        self.window.logged();
        self.intake.iter_mut().for_each(Intake::logged);
    }

    fn meet(&mut self, now: Time, from: Incarnation, view: View) {
        self.peer.inc = Some(from);
        self.peer.view = Some(view);
        self.peer.heard = Some(now);
    }

    /// An operation is taken in only from the followed primary's life, in its generation. The intake is closed before the fence
    /// rises (`close_intake`), so nothing below it gets in.
    fn operation(&mut self, from: Incarnation, generation: Generation, low: Seq, op: Op) {
        let room = self.cfg.window;
        let guards = Guards { remembers: self.on(Mutation::ApplyTwice), in_order: self.on(Mutation::NoOrder) };
        let Some(intake) = self.intake.as_mut() else { return };
        if intake.from != from || intake.generation != generation {
            return;
        }
        intake.trim(low);
        if let Arrival::Known(outcome) = intake.arrive(op, room, guards) {
            self.send(Message::Acknowledgement { generation, seq: op.seq, outcome });
        }
    }

    /// The primary wants to make this copy equal: flag it first, forget any mark, finish what is under way.
    fn resync_begin(&mut self, from: Incarnation, generation: Generation, session: u32, first: Seq) {
        let flags = self.on(Mutation::ResyncUnflagged);
        let fenced = generation < self.goal.fence;
        // What a primary's former life asked for may arrive after its new life's word, which is of a newer generation.
        let former = self.intake.as_ref().is_some_and(|i| i.from != from && i.generation > generation);
        let former = former && self.on(Mutation::FormerLifeResyncs);
        let Role::Wait(wait) = &mut self.role else { return };
        let busy = self.intake.as_ref().is_some_and(|intake| !intake.applying.is_empty());
        let again = wait.session == Some(session) && self.follows == Some(from);
        let stale = self.follows == Some(from)
            && (wait.session > Some(session)
                || matches!(wait.owes, Some(Owed::Ready { session: owed }) if owed > session));
        if fenced || former || busy || stale || generation < self.disk.generation || self.halted.is_some() {
            return;
        }
        wait.owes = Some(Owed::Ready { session });
        if again {
            return;
        }
        self.distrust(|goal| goal.inconsistent |= flags);
        self.goal.joining = None;
        self.goal.mark = self.found;
        self.follows = Some(from);
        self.intake = Some(Intake::new(from, generation, first));
    }

    fn resync_ready(&mut self, from: Incarnation, session: u32, touched: Option<Vec<crate::ids::ObjectId>>) {
        let ours =
            |r: &&mut crate::resync::Resync| r.session == session && r.target == from && r.phase == Phase::Asking;
        let mine = self.log.touched();
        let union = self.cfg.on(Mutation::NoUnion);
        let Some(resync) = self.resync.as_mut().filter(ours) else { return };
        let both = mine.zip(touched).map(|(mut mine, theirs)| {
            mine.extend(theirs.into_iter().filter(|_| union));
            mine
        });
        resync.begin(both);
        if resync.walking {
            // What is under way may be done here only after the walk was there, and was never told to this target.
            resync.set.extend(self.window.iter().flat_map(|entry| entry.op.objects()));
            self.act(Action::Walk { session });
        }
    }

    fn walked(&mut self, session: u32, object: Option<crate::ids::ObjectId>) {
        let Some(resync) = self.resync.as_mut().filter(|resync| resync.session == session) else { return };
        match object {
            Some(object) => drop(resync.set.insert(object)),
            None => resync.walking = false,
        }
    }

    /// A primary asks for the mark 'joining': the answer waits until it is on disk.
    fn prepare(&mut self, from: Incarnation, purpose: Purpose, generation: Generation, session: u32, at: (Seq, Time)) {
        let (first, sent) = at;
        let owed = Some(Owed::Grant { purpose, session, sent });
        let follows = self.follows == Some(from);
        let resumable = self.may_be_resumed(generation);
        if generation < self.goal.fence || self.halted.is_some() || self.trouble.is_some() {
            return;
        }
        match (&mut self.role, purpose) {
            (Role::Wait(wait), Purpose::Join) if follows && wait.session == Some(session) => {
                let Some(intake) = self.intake.as_mut() else { return };
                if !intake.applying.is_empty() || !intake.waiting.is_empty() {
                    return;
                }
                wait.owes = owed;
                if intake.generation != generation {
                    *intake = Intake::new(from, generation, first);
                    // What an fsync promised on the source must be on this disk before the mark says that it is.
                    let number = self.found.checkpoint;
                    self.cut =
                        Some(Cut { number, low: first, here: !self.cfg.on(Mutation::JoinUnflushed), there: false });
                    self.act(Action::Flush { number });
                }
            }
            (Role::Second, Purpose::Switch) if follows && generation == self.goal.generation.next() => {
                self.goal.joining = Some(generation);
                if self.disk.joining == Some(generation) {
                    self.send(Message::Granted { purpose, generation, session, to: sent });
                }
            }
            (Role::Wait(wait), Purpose::Resume) if resumable => {
                wait.owes = owed;
                self.follows = Some(from);
                self.intake = Some(Intake::new(from, generation, first));
            }
            _ => {}
        }
    }

    /// The recorded primary may resume with this copy: it is whole, of that generation, and nothing of ours is in flight.
    fn may_be_resumed(&self, generation: Generation) -> bool {
        let whole = !self.goal.inconsistent && !self.goal.outdated && self.disk_is_ours();
        let peer = self.disk.primary == Some(self.peer.node) && self.disk.both;
        let closed = self.goal.cas.is_none() && self.disk.cas.is_none() && self.cas.is_none();
        whole && peer && closed && generation == self.disk.generation && self.disk.fence <= generation
    }

    fn granted_by(&mut self, now: Time, from: Incarnation, purpose: Purpose, generation: Generation, of: (u32, Time)) {
        let (session, to) = of;
        match purpose {
            Purpose::Join => {
                let next = self.window.generation.next();
                let ours = |r: &&mut crate::resync::Resync| {
                    r.session == session && r.target == from && r.phase == Phase::Preparing && generation == next
                };
                if let Some(resync) = self.resync.as_mut().filter(ours) {
                    resync.granted = resync.granted.max(Some(to));
                }
            }
            Purpose::Switch => {
                if self.handing == (Some(Handing::Asking { session })) && self.second == Some(from) {
                    self.handing = Some(Handing::Marked);
                }
            }
            Purpose::Resume => {
                let waits = matches!(&self.role, Role::Wait(wait) if wait.compared == Some(Some(true)));
                if waits && session == self.sessions && generation == self.disk.generation {
                    self.resume_recorded(now, from, to);
                }
            }
        }
    }

    fn compared(&mut self, equal: bool) {
        if let Role::Wait(wait) = &mut self.role
            && wait.compared == Some(None)
        {
            wait.compared = Some(Some(equal));
        }
    }

    fn application_stopped(&mut self) {
        if let Some(Handing::Stopping { stopped }) = &mut self.handing {
            *stopped = true;
        }
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Overwrite => self.overwrite = true,
            Order::RecreatedWitness { uid } => {
                self.goal.witness = Some(uid);
                self.halted = None;
                self.record = None;
            }
            _ if matches!(self.role, Role::Stop) => self.tell(Notice::Refused("the mirror is stopped on this machine")),
            // Kept, it would take effect at some later time, when this node has become primary for another reason.
            Order::SwitchOver if !self.role.is_primary() => self.tell(Notice::Refused("this machine is not primary")),
            order => self.order = Some(order),
        }
    }
}
