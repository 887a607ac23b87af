//! The search's world: two machines, the witness, the network, one clock. Every step is one atomic thing that can happen.
//!
//! All times are kept relative to now, so that two states that differ only in when they happened are one state. Both clocks run
//! alike here (drift and jumps are the simulator's); what is bounded is in `Budget`.

mod choices;
mod invariants;
mod step;
mod take;
mod witness;

pub use step::{Budget, Step};

use crate::host::{Content, Host, Out, Parcel};
use crate::witness::{first_record, replace};
use mirror_core::ids::{Body, Generation, NodeId, ObjectId, OperationId};
use mirror_core::message::{Kind, Message, Op, Outcome};
use mirror_core::{Acknowledgement, Event, Notice, Order, Read, Record, RoleName, Settings, Span, Time, Written};
use std::rc::Rc;

/// What a node waits for from the witness.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// A GET.
    Get,
    /// A PUT.
    Put(u64, Record),
    /// The answer is there, and the node stands still.
    Answered(Event),
}

/// A call of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Its handle.
    pub body: u8,
    /// Its object.
    pub object: u8,
    /// A barrier: the acknowledged changes that it covers.
    pub covers: Option<u64>,
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
    /// Changes that were acknowledged, by object.
    pub acked: Vec<u64>,
    /// Of these, what an acknowledged barrier covers.
    pub synced: Vec<u64>,
    /// Who was recorded primary in which generation.
    pub history: Vec<(Generation, NodeId)>,
    /// The next change's handle.
    pub next_body: u8,
    /// A person forced something, or undid the witness: promises about one primary are theirs.
    pub forced: bool,
    /// A person said that a copy of another lineage may be overwritten.
    pub overwrites: bool,
    /// The witness was put back to an earlier time.
    pub undone: bool,
    /// The last generation in which each served alone.
    pub alone: [Generation; 2],
    /// This node read that it is not in sync any more.
    pub removed: [bool; 2],
    /// A resync changed this copy, and it was not recorded as in sync since.
    pub mixed: [bool; 2],
    /// This copy lacks the ground for the next change of a resync.
    pub lacks: [bool; 2],
    /// The syncfs that is under way, by its checkpoint's number.
    pub flushing: [Option<u64>; 2],
    /// Until when the kernel's gate stays open for a daemon that is gone.
    pub leftover: [Option<Time>; 2],
    /// Disks are prompt: a write ends before the other node or the witness is heard.
    pub prompt: bool,
    /// What may still happen.
    pub left: Budget,
    /// What is broken, if the machine saw it.
    pub broken: Option<&'static str>,
    /// Calls without an answer; what was put off is asked for again when there is room.
    pub waiting: [Vec<Call>; 2],
}

const NOW: Time = Time(0);

impl World {
    /// Two new machines and a record in generation 0 that names the first as the source.
    pub fn new(settings: &Settings, objects: usize) -> Self {
        let hosts = [Host::new(1, 2, objects), Host::new(2, 1, objects)].map(Rc::new);
        let witness = first_record();
        let mut world = World {
            hosts,
            witness,
            backup: witness,
            net: Default::default(),
            cut: [false; 2],
            away: [false; 2],
            held: [false; 2],
            paused: [false; 2],
            asked: [const { Asked::Nothing }; 2],
            late: Vec::new(),
            wake: [NOW; 2],
            acked: vec![0; objects],
            synced: vec![0; objects],
            history: Vec::new(),
            next_body: 0,
            forced: false,
            overwrites: false,
            undone: false,
            alone: [Generation(0); 2],
            removed: [false; 2],
            mixed: [false; 2],
            lacks: [false; 2],
            flushing: [None; 2],
            leftover: [None; 2],
            prompt: false,
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
