//! One machine around one core: disks that forget, a page cache, the kernel's gate, an application. It decides nothing.
//!
//! Shared by the search and the simulator: both drive the same core through the same hands. What the world outside does
//! (network, witness, time) comes back to the caller as `Out`.

use mirror_core::difflog::Image;
use mirror_core::durable::{DataMark, Durable};
use mirror_core::ids::{Body, Generation, Incarnation, NodeId, ObjectId, Seq};
use mirror_core::message::{Frame, Kind, Op, Outcome};
use mirror_core::{Action, Event, Node, Notice, Record, RoleName, Settings, Start, Time};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The content of one object. `bits` remembers which of the first 64 operations ever reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Content {
    /// The operations that reached it, by `body % 64` (the search has fewer than 64).
    pub bits: u64,
    /// The last of them.
    pub last: u64,
}

/// What the machine asks of the world, or tells the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// A frame for the peer, with the content that goes with it.
    Send(Parcel),
    /// GET.
    Read,
    /// PUT.
    Write {
        /// The expected version.
        expect: u64,
        /// The new record.
        record: Record,
    },
    /// The state file's write has begun.
    Persist,
    /// The log's write has begun.
    PersistLog,
    /// An operation is to be applied.
    Apply(Generation, Op),
    /// A flush has begun.
    Flush(u64),
    /// Both copies are to be compared.
    Compare,
    /// The application's call is answered.
    Reply(Body, bool),
    /// The application's call waits.
    Later(Body),
    /// Calls that waited may come again.
    Room,
    /// The application is asked to stop.
    StopApplication,
    /// The application runs.
    Started,
    /// The application was killed, its calls failed.
    Killed,
    /// Every object is to be named.
    Walk(u32),
    /// The agent is told.
    Told(Notice),
    /// A rule that only the machine can see was broken.
    Broken(&'static str),
}

/// A frame and the content behind it, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parcel {
    /// The core's part.
    pub frame: Frame,
    /// The driver's part.
    pub content: Content,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// The member.
    pub me: NodeId,
    /// Its peer.
    pub peer: NodeId,
    /// The core; none while the process is down.
    pub node: Option<Node>,
    /// This boot and process.
    pub inc: Incarnation,
    /// The state file, and what is being written to it.
    pub state: Option<Durable>,
    /// On its way to the state file.
    pub state_next: Option<Durable>,
    /// The log file.
    pub log: Option<Image>,
    /// On its way to the log file.
    pub log_next: Option<Image>,
    /// What the kernel holds.
    pub cache: Vec<Content>,
    /// What the disk holds.
    pub disk: Vec<Content>,
    /// The data file system's own mark.
    pub mark: DataMark,
    /// Until when the kernel lets traffic pass.
    pub gate: Option<Time>,
    /// The application runs.
    pub running: bool,
    /// Operations known by number, for content.
    pub parcels: Vec<(Generation, Seq, Content)>,
    /// It was re-imaged since the record last named it.
    pub reimaged: bool,
    /// The disk answers with EIO.
    pub failing: bool,
}

impl Host {
    /// A machine that was never used, with `objects` empty objects.
    pub fn new(me: u128, peer: u128, objects: usize) -> Self {
        Host {
            me: NodeId(me),
            peer: NodeId(peer),
            node: None,
            inc: Incarnation { boot: me * 1000, process: me * 1000 },
            state: None,
            state_next: None,
            log: Some(Image::default()),
            log_next: None,
            cache: vec![Content::default(); objects],
            disk: vec![Content::default(); objects],
            mark: DataMark { filesystem: me, checkpoint: 0 },
            gate: None,
            running: false,
            parcels: Vec::new(),
            reimaged: false,
            failing: false,
        }
    }

    /// Starts the daemon.
    pub fn start(&mut self, settings: &Settings, now: Time) -> Vec<Out> {
        self.inc.process += 1;
        let (node, actions) = Node::new(
            settings.clone(),
            Start {
                me: self.me,
                peer: self.peer,
                incarnation: self.inc,
                disk: self.state,
                log: self.log.clone(),
                found: self.mark,
                agent: true,
                now,
            },
        );
        self.node = Some(node);
        self.carry_out(actions, now)
    }

    /// The daemon dies. Writes under way may or may not have reached the disk; the kernel keeps every page, and the gate.
    pub fn kill(&mut self, landed: bool) {
        if landed {
            self.persisted_file();
            self.logged_file();
        }
        (self.state_next, self.log_next) = (None, None);
        self.node = None;
        self.parcels.clear();
    }

    /// The machine dies: what was not flushed is gone, and the gate with the kernel.
    pub fn crash(&mut self, landed: bool) {
        self.kill(landed);
        self.cache = self.disk.clone();
        self.gate = None;
        self.running = false;
        self.inc.boot += 1;
    }

    /// The machine comes back with empty disks.
    pub fn reimage(&mut self) {
        self.crash(false);
        let objects = self.cache.len();
        let fresh = Host::new(self.me.0, self.peer.0, objects);
        (self.state, self.log, self.cache, self.disk) = (None, Some(Image::unreadable()), fresh.cache, fresh.disk);
        self.mark = DataMark { filesystem: self.mark.filesystem + 100, checkpoint: 0 };
        self.reimaged = true;
    }

    fn persisted_file(&mut self) {
        if let Some(state) = self.state_next.take() {
            self.state = Some(state);
        }
    }

    fn logged_file(&mut self) {
        if let Some(log) = self.log_next.take() {
            self.log = Some(log);
        }
    }

    /// An event for the core, if it runs.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Out> {
        match &event {
            Event::Persisted => self.persisted_file(),
            Event::LogPersisted => self.logged_file(),
            _ => {}
        }
        let Some(node) = &mut self.node else { return Vec::new() };
        let actions = node.handle(now, event);
        self.carry_out(actions, now)
    }

    /// A frame arrives.
    pub fn receive(&mut self, now: Time, parcel: Parcel) -> Vec<Out> {
        if let mirror_core::message::Message::Operation { generation, op, .. } = &parcel.frame.message {
            self.parcels.retain(|(g, s, _)| (*g, *s) != (*generation, op.seq));
            self.parcels.push((*generation, op.seq, parcel.content));
            if self.parcels.len() > 64 {
                self.parcels.remove(0);
            }
        }
        self.handle(now, Event::Received(parcel.frame))
    }

    /// Changes the own copy.
    pub fn apply(&mut self, generation: Generation, op: Op, durable: bool) -> Outcome {
        if self.failing {
            return Outcome::DiskError;
        }
        let primary = self.is_primary();
        let index = usize::try_from(op.object.0).unwrap_or(0);
        let Some(slot) = self.cache.get_mut(index) else { return Outcome::NotYet };
        match op.kind {
            Kind::Change => {
                slot.bits |= 1 << (op.body.0 % 64);
                slot.last = op.body.0;
            }
            Kind::Copy if !primary => {
                let parcel = self.parcels.iter().find(|(g, s, _)| (*g, *s) == (generation, op.seq));
                let Some((_, _, content)) = parcel else { return Outcome::NotYet };
                *slot = *content;
            }
            Kind::Copy | Kind::Purge => {}
            Kind::Sync => self.disk[index] = *slot,
        }
        if durable {
            self.disk[index] = self.cache[index];
        }
        Outcome::Done
    }

    /// syncfs, with the checkpoint's number inside.
    pub fn flush(&mut self, number: u64) {
        self.mark.checkpoint = self.mark.checkpoint.max(number);
        self.sync();
    }

    /// The kernel has written back everything.
    pub fn sync(&mut self) {
        self.disk = self.cache.clone();
    }

    fn carry_out(&mut self, actions: Vec<Action>, now: Time) -> Vec<Out> {
        actions.into_iter().filter_map(|action| self.carry_out_one(action, now)).collect()
    }

    fn carry_out_one(&mut self, action: Action, _now: Time) -> Option<Out> {
        Some(match action {
            Action::Persist(state) => {
                self.state_next = Some(state);
                Out::Persist
            }
            Action::PersistLog(image) => {
                self.log_next = Some(Arc::unwrap_or_clone(image));
                Out::PersistLog
            }
            Action::Send(frame) => {
                let content = self.content_of(&frame);
                Out::Send(Parcel { frame, content })
            }
            Action::Apply { generation, op } => {
                let fence = self.state.map_or(Generation(0), |state| state.fence);
                if generation < fence && !self.is_primary() {
                    return Some(Out::Broken("I6: an operation below the fence is applied"));
                }
                Out::Apply(generation, op)
            }
            Action::Reply { body, done } => Out::Reply(body, done),
            Action::Later { body } => Out::Later(body),
            Action::Room => Out::Room,
            Action::Gate(gate) => {
                self.gate = gate;
                return None;
            }
            Action::Kill => {
                self.running = false;
                Out::Killed
            }
            Action::StartApplication => {
                self.running = true;
                Out::Started
            }
            Action::StopApplication => Out::StopApplication,
            Action::ReadWitness => Out::Read,
            Action::WriteWitness { expect, record } => Out::Write { expect, record },
            Action::Flush { number } => Out::Flush(number),
            Action::Compare => Out::Compare,
            Action::Walk { session } => Out::Walk(session),
            Action::Tell(notice) => Out::Told(notice),
            Action::Freeze | Action::Thaw | Action::Unmount | Action::DropCaches | Action::PostStop | Action::Mount => {
                return None;
            }
        })
    }

    fn content_of(&self, frame: &Frame) -> Content {
        match &frame.message {
            mirror_core::message::Message::Operation { op, .. } if op.kind == Kind::Copy => {
                self.cache.get(usize::try_from(op.object.0).unwrap_or(0)).copied().unwrap_or_default()
            }
            _ => Content::default(),
        }
    }

    /// The role, while the process runs.
    pub fn role(&self) -> Option<RoleName> {
        self.node.as_ref().map(Node::role)
    }

    /// Operations are this node's to number.
    fn is_primary(&self) -> bool {
        let primary = |role| matches!(role, RoleName::Prim | RoleName::Frozen | RoleName::Alone | RoleName::Join);
        self.role().is_some_and(primary)
    }

    /// The kernel lets traffic pass at `now`.
    pub fn gate_open(&self, now: Time) -> bool {
        self.gate.is_some_and(|until| now < until)
    }

    /// Answers the application at `now`: open gate, running daemon, a role that serves.
    pub fn serves(&self, now: Time) -> bool {
        self.gate_open(now) && self.node.as_ref().is_some_and(Node::serves)
    }

    /// What the log file covers; `None`: everything.
    pub fn logged(&self) -> Option<BTreeSet<ObjectId>> {
        let image = self.log.as_ref()?;
        let full = image.current.full || image.previous.full;
        (!full).then(|| image.current.objects.union(&image.previous.objects).copied().collect())
    }
}
