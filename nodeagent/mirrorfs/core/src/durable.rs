//! What a node keeps on its own disk, fsynced before it is used: the memory that outlives a crash.
//!
//! Two preallocated slots with checksums hold it (`slots`), so that a torn write leaves the state before. It is not the
//! difference log, which changes far more often and lies beside it.

use crate::ids::{Generation, Lineage, NodeId, Nonce};
use crate::slots::{Reader, Slotted, Writer};

/// Ties the state file to the data file system: a cloned, restored or swapped disk does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DataMark {
    /// The UUID of the data file system.
    pub filesystem: u128,
    /// The number of the last mutual checkpoint. Written into the data file system first, then here.
    pub checkpoint: u64,
}

/// The durable state of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Durable {
    /// The generation in which this copy was last known to be in sync.
    pub generation: Generation,
    /// The lowest generation whose operations are accepted.
    pub fence: Generation,
    /// The line of descent of this copy.
    pub lineage: Lineage,
    /// 'Joining g': this copy will be complete if the record ever reaches g with this node in sync.
    pub joining: Option<Generation>,
    /// The newest proposal of our own that may be open; it and those of the same process before it are ours.
    pub cas: Option<Nonce>,
    /// The UID of the witness object.
    pub witness: Option<u128>,
    /// The primary of `generation`, as recorded.
    pub primary: Option<NodeId>,
    /// Whether `generation` had both members in sync.
    pub both: bool,
    /// The copy is half overwritten, or its disk reported an error: only ever a resync target.
    pub inconsistent: bool,
    /// The other side went on without this copy: only ever a resync target.
    pub outdated: bool,
    /// The boot id of the machine since which this copy lacks nothing, or what it may lack was told (`Notice::MayMiss`).
    pub boot: u128,
    /// What the data file system must say.
    pub mark: DataMark,
}

impl Durable {
    /// Nothing was ever stored here.
    pub fn is_initial(&self) -> bool {
        self.generation == Generation(0) && self.joining.is_none() && self.cas.is_none()
    }
}

impl Slotted for Durable {
    const MAGIC: [u8; 4] = *b"FMs2";

    fn write(&self, to: &mut Writer) {
        to.u64(self.generation.0);
        to.u64(self.fence.0);
        to.u128(self.lineage.0);
        to.option(self.joining.map(|g| g.0), Writer::u64);
        to.option(self.cas, |to, nonce| {
            to.u128(nonce.process);
            to.u64(nonce.count.into());
        });
        to.option(self.witness, Writer::u128);
        to.option(self.primary.map(|n| n.0), Writer::u128);
        to.bool(self.both);
        to.bool(self.inconsistent);
        to.bool(self.outdated);
        to.u128(self.boot);
        to.u128(self.mark.filesystem);
        to.u64(self.mark.checkpoint);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Durable {
            generation: Generation(from.u64()?),
            fence: Generation(from.u64()?),
            lineage: Lineage(from.u128()?),
            joining: from.option(Reader::u64)?.map(Generation),
            cas: from.option(|from| Some(Nonce { process: from.u128()?, count: u32::try_from(from.u64()?).ok()? }))?,
            witness: from.option(Reader::u128)?,
            primary: from.option(Reader::u128)?.map(NodeId),
            both: from.bool()?,
            inconsistent: from.bool()?,
            outdated: from.bool()?,
            boot: from.u128()?,
            mark: DataMark { filesystem: from.u128()?, checkpoint: from.u64()? },
        })
    }
}
