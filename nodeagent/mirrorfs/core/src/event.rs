//! What the outside tells the core (`Event`) and what the core wants of the outside (`Action`).
//!
//! The driver carries out the actions in their order and reports what came of them. It decides nothing.

use crate::difflog::Image;
use crate::durable::Durable;
use crate::ids::{Body, Generation, NodeId, ObjectId, OperationId, Seq};
use crate::message::{Frame, Kind, Op, Outcome};
use crate::record::Record;
use crate::time::Time;
use std::sync::Arc;

/// What a GET of the witness gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// The record, by a quorum read.
    Found(Record),
    /// There is none.
    Absent,
    /// No answer, or none that can be trusted.
    Unreachable,
}

/// What a PUT of the witness gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// It took effect; this is the stored record.
    Stored(Record),
    /// 409: the version was not the expected one. Can follow one's own success.
    Conflict,
    /// A rule of the API server refused it.
    Refused,
    /// Timeout, reset, 5xx: it may have taken effect, or may yet.
    Unknown,
    /// No connection came about, so not one byte left: it has no effect and never will.
    NotSent,
}

/// What a person, the machine or the agent orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The peer shall be primary.
    SwitchOver,
    /// The machine, or the mirror on it, stops.
    Stop,
    /// Become primary without having been in sync, or without the witness saying so.
    Force {
        /// The Operation; names the new lineage.
        operation: OperationId,
        /// Its `otherMachine: ConfirmedOff`.
        confirmed_off: bool,
        /// The other machine's FarmNode Lease was renewed lately.
        peer_lease_fresh: bool,
    },
    /// The person who cut the peer's power says on this very machine: go on without witness (`force --peer-is-off`).
    ForceLocal {
        /// Names the new lineage.
        operation: OperationId,
    },
    /// The member that is neither primary nor in sync is replaced.
    ReplacePeer {
        /// The new member.
        new: NodeId,
    },
    /// The peer's copy of another lineage may be overwritten.
    Overwrite,
    /// A person had the record created again.
    RecreatedWitness {
        /// Its UID.
        uid: u128,
    },
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A frame arrived.
    Received(Frame),
    /// A data connection was made anew: frames may be missing.
    Reconnected,
    /// The last `Action::Persist` is on disk.
    Persisted,
    /// The last `Action::PersistLog` is on disk.
    LogPersisted,
    /// A GET ended.
    Read(Read),
    /// A PUT ended.
    Written(Written),
    /// The application wants to change an object; the object's lock is held.
    Change {
        /// `Change` or `Sync`.
        kind: Kind,
        /// The object.
        object: ObjectId,
        /// A second one, if it changes two.
        also: Option<ObjectId>,
        /// The driver's handle.
        body: Body,
    },
    /// An object of the secondary shall be made like ours, or what was set aside there be deleted; its lock is held. Where this is
    /// no primary with a secondary, a `Reply` says that nothing comes of it.
    Mend {
        /// `Copy` or `Purge`.
        kind: Kind,
        /// The object.
        object: ObjectId,
        /// The driver's handle.
        body: Body,
    },
    /// These objects will change before long. What the difference log names ahead need not wait for it later.
    Expect {
        /// As many as fit are noted, in this order.
        objects: Vec<ObjectId>,
    },
    /// An `Action::Apply` ended.
    Applied {
        /// The operation's generation.
        generation: Generation,
        /// Its number.
        seq: Seq,
        /// What became of it.
        outcome: Outcome,
    },
    /// An `Action::Flush` ended.
    Flushed {
        /// The checkpoint.
        number: u64,
    },
    /// An `Action::Compare` ended: whether both copies are equal.
    Compared {
        /// No object differed.
        equal: bool,
    },
    /// The walk for a full resync named one more object.
    Walked {
        /// The attempt.
        session: u32,
        /// The object, or `None` when the walk is over.
        object: Option<ObjectId>,
    },
    /// The application is stopped (after `Action::StopApplication`).
    ApplicationStopped,
    /// Whether the agent is there to start an application.
    Agent {
        /// It is.
        alive: bool,
    },
    /// The disk failed or hangs.
    DiskError,
    /// The disk is full.
    DiskFull,
    /// CLOCK_REALTIME and CLOCK_BOOTTIME drifted apart by more than 0.5 s at once.
    ClockJump,
    /// A person or the machine wants something.
    Order(Order),
}

/// What the agent and people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Roles are frozen; why.
    Halted(&'static str),
    /// Taken over after an operating system crash: `Memory` data of the last moments may be missing.
    MayMiss,
    /// An order can't be carried out; why.
    Refused(&'static str),
    /// The own disk failed.
    DiskFailed,
    /// The peer's copy is of another lineage: an Operation must say that it may be overwritten.
    OtherLineage,
}

/// What the outside shall do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write and fsync the state, then `Event::Persisted`.
    Persist(Durable),
    /// Write and fsync the difference log, then `Event::LogPersisted`.
    PersistLog(Arc<Image>),
    /// Send to the peer.
    Send(Frame),
    /// Change the own copy, then `Event::Applied`.
    Apply {
        /// The operation's generation.
        generation: Generation,
        /// The operation.
        op: Op,
    },
    /// Answer the application's call: done, or EIO.
    Reply {
        /// The call.
        body: Body,
        /// Done.
        done: bool,
    },
    /// Not now: keep the call and try again after `Action::Room`.
    Later {
        /// The call.
        body: Body,
    },
    /// Calls that were put off may be tried again.
    Room,
    /// The kernel shall let traffic through until then; `None`: no longer.
    Gate(Option<Time>),
    /// Freeze the application's cgroup.
    Freeze,
    /// Thaw it.
    Thaw,
    /// Kill the application's cgroup.
    Kill,
    /// Answer every held call with EIO, detach the mount.
    Unmount,
    /// Drop the page cache of the data.
    DropCaches,
    /// Run the `poststop` script.
    PostStop,
    /// Mount the data for the application.
    Mount,
    /// Start the application.
    StartApplication,
    /// Stop the application in good order, then `Event::ApplicationStopped`.
    StopApplication,
    /// Read the witness (quorum), then `Event::Read`.
    ReadWitness,
    /// Replace the witness if its version is `expect`, then `Event::Written`.
    WriteWitness {
        /// The version that must be there.
        expect: u64,
        /// What shall be there.
        record: Record,
    },
    /// Write the checkpoint's number into the data, syncfs, then `Event::Flushed`.
    Flush {
        /// The checkpoint.
        number: u64,
    },
    /// Compare what both logs name with the peer, then `Event::Compared`.
    Compare,
    /// Name every object there is, by `Event::Walked`.
    Walk {
        /// The attempt.
        session: u32,
    },
    /// Tell the agent.
    Tell(Notice),
}
