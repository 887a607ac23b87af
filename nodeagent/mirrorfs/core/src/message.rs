//! What the two nodes say to each other. A frame also names the incarnation that sent it (`Frame`).
//!
//! The driver adds what the core does not look at: the content behind a `Body`, checksums, the connection.

use crate::ids::{Body, Generation, Incarnation, Lineage, NodeId, ObjectId, Seq};
use crate::role::RoleName;
use crate::time::Time;

/// A message and the life of the member that sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Which member sent it.
    pub node: NodeId,
    /// Which life of it.
    pub from: Incarnation,
    /// What it says.
    pub message: Message,
}

/// How a node describes itself, in every beacon and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Its role.
    pub role: RoleName,
    /// The generation it works in: for a primary that of its window, for a joiner the one it joins.
    pub generation: Generation,
    /// The generation on its disk.
    pub held: Generation,
    /// The lowest generation it accepts.
    pub fence: Generation,
    /// The line of descent of its copy.
    pub lineage: Lineage,
    /// Its copy can only be overwritten.
    pub target: bool,
    /// Its copy may lack `Memory` data of an earlier boot, and nobody was told yet.
    pub lost: bool,
    /// A compare-and-swap of its own, of this life or an earlier one, may still take effect.
    pub open: bool,
    /// It asks to be removed from `inSync` (graceful stop, disk full or failing).
    pub leaving: bool,
}

/// Why a primary asks its peer to fsync 'joining g'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A drained resync target joins.
    Join,
    /// The peer shall be primary next.
    Switch,
    /// Both came back, no witness in reach: the recorded primary resumes in its generation.
    Resume,
}

/// What an operation does, as far as the protocol cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It changes an object.
    Change,
    /// The object's whole state, sent by a resync or to mend a local failure.
    Copy,
    /// A barrier: when acknowledged, all before it is on both disks.
    Sync,
    /// Empties the limbo directory of a resync target.
    Purge,
}

/// One operation on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// Its number.
    pub seq: Seq,
    /// The last number before it that conflicts with it (0: none): must be applied first.
    pub after: Seq,
    /// What it does.
    pub kind: Kind,
    /// To what.
    pub object: ObjectId,
    /// A second object that it changes (a rename from one directory to another). Logged, compared and copied like the first;
    /// the order on it is the driver's: it holds both objects' locks.
    pub also: Option<ObjectId>,
    /// The driver's handle for the content.
    pub body: Body,
}

impl Op {
    /// Every object that it changes.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + use<> {
        [Some(self.object), self.also].into_iter().flatten()
    }
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is done (`Disk`, or a barrier: and on disk).
    Done,
    /// A resync target lacks what it builds on.
    NotYet,
    /// No room, or a like refusal; nothing was changed.
    Refused,
    /// The disk failed.
    DiskError,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// 'I am here.' Sent by every role but SECOND and TAKING, which only answer.
    Beacon {
        /// When it was sent, on the sender's clock.
        sent: Time,
        /// When the last beacon that was answered had been sent; `None`: none was.
        answered: Option<Time>,
        /// Whether the sender asks for its lease to be renewed.
        renew: bool,
        /// Who is speaking.
        view: View,
    },
    /// The answer to a beacon.
    Answer {
        /// The beacon's send time, on its sender's clock.
        to: Time,
        /// Whether the promise was renewed.
        granted: bool,
        /// Who is speaking.
        view: View,
    },
    /// An operation of the primary.
    Operation {
        /// The generation whose acknowledgement it asks for.
        generation: Generation,
        /// Everything below this number is finished on both sides.
        low: Seq,
        /// The operation.
        op: Op,
    },
    /// What became of it on the other side.
    Acknowledgement {
        /// The generation of the operation.
        generation: Generation,
        /// Its number.
        seq: Seq,
        /// What became of it.
        outcome: Outcome,
    },
    /// 'I shall make your copy equal to mine.'
    ResyncBegin {
        /// The primary's generation.
        generation: Generation,
        /// The attempt.
        session: u32,
        /// The number of the first operation of it.
        first: Seq,
    },
    /// 'Begun; this is what I touched.'
    ResyncReady {
        /// The attempt.
        session: u32,
        /// What may differ as far as the target knows; `None`: everything.
        touched: Option<Vec<ObjectId>>,
    },
    /// 'Fsync that you join generation g, and grant me a lease.'
    Prepare {
        /// Why.
        purpose: Purpose,
        /// g.
        generation: Generation,
        /// The attempt.
        session: u32,
        /// The number of the first operation in g.
        first: Seq,
        /// When this was sent, on the sender's clock.
        sent: Time,
    },
    /// 'It is on disk, and I promise.'
    Granted {
        /// Why.
        purpose: Purpose,
        /// g.
        generation: Generation,
        /// The attempt.
        session: u32,
        /// The request's send time, on its sender's clock.
        to: Time,
    },
    /// 'Begin a new epoch and flush what you applied so far.'
    Cut {
        /// The generation.
        generation: Generation,
        /// Everything below this number is finished on both sides; what is not stays in the new epoch.
        low: Seq,
        /// The number of the checkpoint.
        number: u64,
    },
    /// 'Flushed.'
    CutReached {
        /// The generation.
        generation: Generation,
        /// The number of the checkpoint.
        number: u64,
    },
    /// 'Both have it: forget the epoch before.'
    CutDone {
        /// The generation.
        generation: Generation,
        /// The number of the checkpoint.
        number: u64,
    },
}
