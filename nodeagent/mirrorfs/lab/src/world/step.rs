//! What can happen at all, and how often in one run.

/// How often each thing may still happen in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Changes by the application.
    pub writes: u8,
    /// Barriers (fsync) by the application.
    pub syncs: u8,
    /// Deaths of a daemon.
    pub kills: u8,
    /// Deaths of a machine.
    pub crashes: u8,
    /// Machines that come back with empty disks.
    pub reimages: u8,
    /// Single frames lost. That the connection broke with one is noticed at the good end only.
    pub losses: u8,
    /// One direction of the network cut; healing is free.
    pub cuts: u8,
    /// Exchanges with the witness of unknown outcome.
    pub unknowns: u8,
    /// Exchanges with the witness that fail without effect.
    pub failures: u8,
    /// Frames to a node that are under way for long, or a witness that answers late.
    pub delays: u8,
    /// Nodes from which the witness is out of reach.
    pub aways: u8,
    /// Daemons that stand still while time goes on.
    pub pauses: u8,
    /// Planned switches.
    pub switches: u8,
    /// Forced promotions.
    pub forces: u8,
    /// Disks that begin to fail.
    pub disks: u8,
    /// Times that a disk's content is flushed by itself.
    pub flushes: u8,
    /// Record put back to the state before.
    pub rollbacks: u8,
    /// Changes that a copy which is being made equal lacks the ground for.
    pub notyets: u8,
    /// Record versions.
    pub versions: u8,
}

impl Budget {
    /// Nothing happens by itself.
    pub const NONE: Budget = Budget {
        writes: 0,
        syncs: 0,
        kills: 0,
        crashes: 0,
        reimages: 0,
        losses: 0,
        cuts: 0,
        unknowns: 0,
        failures: 0,
        delays: 0,
        aways: 0,
        pauses: 0,
        switches: 0,
        forces: 0,
        disks: 0,
        flushes: 0,
        rollbacks: 0,
        notyets: 0,
        versions: 4,
    };

    /// Each thing may happen several times: for a story, which says itself what happens.
    pub const AMPLE: Budget = Budget {
        writes: 9,
        syncs: 9,
        kills: 9,
        crashes: 9,
        reimages: 9,
        losses: 9,
        cuts: 9,
        unknowns: 9,
        failures: 9,
        delays: 9,
        aways: 9,
        pauses: 9,
        switches: 9,
        forces: 9,
        disks: 9,
        flushes: 9,
        rollbacks: 9,
        notyets: 9,
        versions: u8::MAX,
    };
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The next frame of a class (0: beacons, 1: data) arrives at a node.
    Deliver(u8, u8),
    /// ... or is lost.
    Lose(u8, u8),
    /// Frames to a node are lost from now on.
    Cut(u8),
    /// ... no longer.
    Heal(u8),
    /// Frames to a node are under way for long from now on.
    Hold(u8),
    /// ... no longer.
    Release(u8),
    /// The witness is out of reach from a node from now on.
    Away(u8),
    /// ... no longer.
    Near(u8),
    /// A daemon stands still from now on.
    Pause(u8),
    /// ... no longer.
    Resume(u8),
    /// The witness answers a node.
    Witness(u8),
    /// The witness can't be reached: no effect, a PUT has not left.
    Fail(u8),
    /// The answer is lost; the PUT took effect (true) or is still under way.
    Unknown(u8, bool),
    /// A PUT that was given up arrives after all.
    Land(u8),
    /// The state file's write ends.
    Persist(u8),
    /// Time goes on to whatever is due next.
    Advance,
    /// A node notices what is due.
    Tick(u8),
    /// The difference log's write ends.
    Log(u8),
    /// A checkpoint's syncfs ends.
    Synced(u8),
    /// The application of a node changes an object.
    Write(u8, u8),
    /// The application of a node asks for a barrier on an object.
    Sync(u8, u8),
    /// The daemon dies, its last write landed or not.
    Kill(u8, bool),
    /// The machine dies.
    Crash(u8, bool),
    /// The machine's disks are lost.
    Reimage(u8),
    /// The daemon starts.
    Start(u8),
    /// A planned switch is ordered.
    Switch(u8),
    /// A forced promotion is ordered: the other machine is off or out of reach; or a person is wrong, and it answers.
    Force(u8),
    /// A disk begins to fail.
    DiskFails(u8),
    /// Dirty pages reach the disk.
    Flush(u8),
    /// The witness is restored from a backup one version old.
    Rollback,
    /// A resync's target will not be able to apply the next change yet (its directory is still to come).
    NotYet(u8),
}
