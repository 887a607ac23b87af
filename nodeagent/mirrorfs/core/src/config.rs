//! What a mirror is told once and for all: its lengths of time, its acknowledgement class, its bounds.
//!
//! The derived lengths (`serve`, `promise`) live here, next to `rho`, because they are the timing rule itself.

use crate::guard::Mutation;
use crate::time::Span;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What a returned operation promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acknowledgement {
    /// Held by both kernels: any one machine may be lost.
    Memory,
    /// On both disks.
    Disk,
}

/// Everything that is set from outside. Lengths in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a beacon is sent.
    pub beacon: Span,
    /// L, the nominal serving lease.
    pub lease: Span,
    /// The bound on the drift between the two clocks, in 1/1000.
    pub rho_permille: i64,
    /// What it takes to stop serving after the decision.
    pub stop_budget: Span,
    /// How much longer than its promise the secondary waits, so that the primary's own CAS comes first.
    pub head_start: Span,
    /// An operation unacknowledged for this long makes the peer lost. `None`: only silence does.
    pub stall: Option<Span>,
    /// How long a node whose memory was lost waits for a path to its peer before it takes over (`Memory`).
    pub crash_hold: Span,
    /// How often a node that needs nothing of the witness looks at it all the same.
    pub witness_poll: Span,
    /// How long FROZEN lasts before the application is killed and its calls get EIO.
    pub give_up: Span,
    /// How often both sides agree that their disks hold everything so far. `None`: only when the log is full.
    pub checkpoint: Option<Span>,
    /// The acknowledgement class.
    pub acknowledgement: Acknowledgement,
    /// How many operations may be unfinished.
    pub window: usize,
    /// How many objects one epoch of the difference log may hold.
    pub log_objects: usize,
    /// The guard that a test has switched off.
    pub broken: Option<Mutation>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            beacon: Span(500),
            lease: Span(3_000),
            rho_permille: 10,
            stop_budget: Span(100),
            head_start: Span(300),
            stall: Some(Span(10_000)),
            crash_hold: Span(120_000),
            witness_poll: Span(10_000),
            give_up: Span(300_000),
            checkpoint: Some(Span(30_000)),
            acknowledgement: Acknowledgement::Memory,
            window: 1_024,
            log_objects: 4_096,
            broken: None,
        }
    }
}

impl Config {
    /// How long after the send time of an answered beacon the primary serves: `L * (1 - rho) - stop_budget`, rounded down.
    pub fn serve(&self) -> Span {
        Span(self.lease.0 * (1_000 - self.rho_permille) / 1_000 - self.stop_budget.0)
    }

    /// How long after the receipt of a beacon the secondary stays away: `L * (1 + rho)`, rounded up.
    pub fn promise(&self) -> Span {
        Span((self.lease.0 * (1_000 + self.rho_permille) + 999) / 1_000)
    }

    /// L/2: how long the primary waits for an answer before it doubts.
    pub fn doubt(&self) -> Span {
        Span(self.lease.0 / 2)
    }
}

/// A shared, never changing `Config`. Two nodes of one search always have the same, so it is no part of a state's identity.
#[derive(Clone, Debug)]
pub struct Settings(pub Arc<Config>);

impl std::ops::Deref for Settings {
    type Target = Config;
    fn deref(&self) -> &Config {
        &self.0
    }
}

impl PartialEq for Settings {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Settings {}
impl Hash for Settings {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
