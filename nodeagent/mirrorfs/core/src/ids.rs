//! The names of things. Small copyable newtypes, so that a generation is never compared with a sequence number.

/// One of the two members, by its node's UID (128 bits, as Kubernetes gives it). Names are labels for people only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u128);

/// One life of a member: which boot of the machine, which process. `boot` changes where memory was lost,
/// `process` changes where only the daemon restarted (the kernel kept every page).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation {
    /// The kernel's boot id.
    pub boot: u128,
    /// A UUID drawn by the daemon at its start.
    pub process: u128,
}

/// The number of a configuration in the witness. Grows by one at each change, is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation that the next change of the record will have.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A line of descent of the data. Changes only by a forced promotion, whose Operation's UID it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lineage(pub u128);

/// What makes one compare-and-swap recognisable afterwards. Unique without randomness: the process's own UUID and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nonce {
    /// The process that proposed first since the last record was adopted; later lives count on from it.
    pub process: u128,
    /// Its how many-th proposal this is.
    pub count: u32,
}

/// The number of an operation in a primary's window. Given under the object's lock, never reused by one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What the difference log counts by: a directory, a file, or one extent of a large file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectId(pub u128);

/// The driver's handle for the content of an operation. The core passes it on and never looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Body(pub u64);

/// The UID of an Operation that a person ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OperationId(pub u128);
