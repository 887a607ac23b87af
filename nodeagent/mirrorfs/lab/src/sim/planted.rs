//! Bugs planted in the simulated outside: what the judges must see when the world breaks a promise that the protocol builds on.
//!
//! Guards of the core are switched off by `Mutation`. What is here is no fault that the protocol must survive.

/// One broken promise of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// A disk says that it has flushed and has not.
    DiskLies,
    /// A change is reported as done, once in a hundred times, and was not.
    ChangeLost,
    /// State and log are reported as on disk while they are in the page cache.
    FilesUnsynced,
    /// The API server replaces the record whatever its version.
    NoCompareAndSwap,
    /// A GET is answered from a cache that is one change behind.
    StaleReads,
    /// Clocks differ by 3 %, three times what the timing rule allows.
    ClocksDrift,
    /// The kernel's gate does not close by itself.
    GateStaysOpen,
    /// Both copies are reported as equal without a look.
    NothingCompared,
}

impl Outside {
    /// All of them.
    pub const ALL: [Outside; 8] = [
        Outside::DiskLies,
        Outside::ChangeLost,
        Outside::FilesUnsynced,
        Outside::NoCompareAndSwap,
        Outside::StaleReads,
        Outside::ClocksDrift,
        Outside::GateStaysOpen,
        Outside::NothingCompared,
    ];
}
