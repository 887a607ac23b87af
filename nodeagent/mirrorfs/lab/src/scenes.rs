//! What is searched: scenes (a start, a budget of faults), and for each guard the scene in which its absence is noticed.
//!
//! A scene is small enough to be exhausted; together they cover each fault with each other where it matters. What is bounded
//! is the number of faults and of record versions; time is not (see `World`), nor the number of beacons.

use crate::search::{Found, search};
use crate::world::{Budget, Step, World};
use mirror_core::{Acknowledgement, Config, Mutation, RoleName, Settings, Span};
use std::sync::Arc;

/// One scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// What it is called.
    pub name: &'static str,
    /// What may happen.
    pub budget: Budget,
    /// The acknowledgement class.
    pub class: Acknowledgement,
    /// Begins ALONE with the peer in WAIT, instead of in sync.
    pub joining: bool,
    /// Only for `make model`.
    pub large: bool,
}

/// Coarse lengths: L = 6, a beacon each 2, so that the lease is 5, the promise 7, the doubt 3.
pub fn settings(class: Acknowledgement, broken: Option<Mutation>) -> Settings {
    Settings(Arc::new(Config {
        beacon: Span(2),
        lease: Span(6),
        stop_budget: Span(0),
        head_start: Span(1),
        stall: None,
        crash_hold: Span(12),
        witness_poll: Span(2),
        give_up: Span(12),
        checkpoint: None,
        acknowledgement: class,
        broken,
        ..Config::default()
    }))
}

const NONE: Budget = Budget {
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
    versions: 4,
};

const fn scene(name: &'static str, budget: Budget) -> Scene {
    Scene { name, budget, class: Acknowledgement::Memory, joining: false, large: false }
}

const fn large(name: &'static str, budget: Budget) -> Scene {
    Scene { name, budget, class: Acknowledgement::Memory, joining: false, large: true }
}

const fn disk(name: &'static str, budget: Budget) -> Scene {
    Scene { name, budget, class: Acknowledgement::Disk, joining: false, large: false }
}

const fn joining(name: &'static str, budget: Budget) -> Scene {
    Scene { name, budget, class: Acknowledgement::Memory, joining: true, large: false }
}

/// All scenes, small ones first.
pub const SCENES: &[Scene] = &[
    scene("calm", Budget { writes: 2, ..NONE }),
    scene("switch", Budget { switches: 1, writes: 1, ..NONE }),
    scene("disk", Budget { disks: 1, writes: 1, ..NONE }),
    scene("rollback", Budget { kills: 1, rollbacks: 1, ..NONE }),
    scene("switch, unknown", Budget { switches: 1, unknowns: 1, ..NONE }),
    joining("join, write", Budget { writes: 2, ..NONE }),
    joining("join, unknown", Budget { unknowns: 1, writes: 1, ..NONE }),
    joining("join, kill", Budget { kills: 1, ..NONE }),
    joining("join, loss", Budget { losses: 1, writes: 1, ..NONE }),
    joining("join, loss, writes", Budget { losses: 1, writes: 2, ..NONE }),
    joining("join, cut", Budget { cuts: 1, ..NONE }),
    large("kill, unknown, write", Budget { kills: 1, unknowns: 1, writes: 1, ..NONE }),
    scene("loss", Budget { losses: 1, writes: 2, ..NONE }),
    scene("cut", Budget { cuts: 1, writes: 1, ..NONE }),
    scene("hold", Budget { delays: 1, ..NONE }),
    scene("pause", Budget { pauses: 1, ..NONE }),
    scene("reimage", Budget { kills: 1, reimages: 1, ..NONE }),
    scene("force", Budget { kills: 1, forces: 1, ..NONE }),
    scene("cut, unknown", Budget { cuts: 1, unknowns: 1, ..NONE }),
    scene("kill, unknown", Budget { kills: 1, unknowns: 1, ..NONE }),
    scene("cut, away", Budget { cuts: 1, aways: 1, ..NONE }),
    scene("kill, away", Budget { kills: 1, aways: 1, ..NONE }),
    scene("switch, cut", Budget { switches: 1, cuts: 1, ..NONE }),
    scene("kill", Budget { kills: 1, writes: 1, ..NONE }),
    scene("crash", Budget { crashes: 1, writes: 1, ..NONE }),
    disk("crash, Disk", Budget { crashes: 1, writes: 1, ..NONE }),
    large("pause, write", Budget { pauses: 1, writes: 1, ..NONE }),
    large("switch, kill", Budget { switches: 1, kills: 1, ..NONE }),
    large("crash, away", Budget { crashes: 1, aways: 1, writes: 1, ..NONE }),
    large("two kills, reimage", Budget { kills: 2, reimages: 1, writes: 1, ..NONE }),
    large("cut, kill", Budget { cuts: 1, kills: 1, ..NONE }),
    large("two cuts", Budget { cuts: 2, ..NONE }),
    large("two kills", Budget { kills: 2, ..NONE }),
    large("two kills, away", Budget { kills: 2, aways: 1, ..NONE }),
    large("two crashes", Budget { crashes: 2, writes: 1, ..NONE }),
    large("two crashes, away", Budget { crashes: 2, aways: 2, writes: 1, ..NONE }),
    large("cut, kill, write, unknown", Budget { cuts: 1, kills: 1, writes: 1, unknowns: 1, ..NONE }),
    large("pause, hold", Budget { pauses: 1, delays: 1, writes: 1, ..NONE }),
];

impl Scene {
    /// Where it begins, reached by nothing but the whole protocol.
    pub fn start(&self) -> World {
        let whole = settings(self.class, None);
        let mut world = World::in_sync(&whole, 1);
        if self.joining {
            world.left.kills = 1;
            world.take(&whole, Step::Kill(1, false));
            let alone = |w: &World| w.hosts[0].role() == Some(RoleName::Alone) && w.is_quiet();
            assert!(world.run_fairly(&whole, 200, alone), "it does not go on alone: {world}");
            world.take(&whole, Step::Start(1));
        }
        world
    }

    /// Searches it, with a guard switched off or with all standing.
    pub fn search(&self, broken: Option<Mutation>, limit: usize, follow: u64) -> Found {
        let start = self.start();
        let broken = settings(self.class, broken);
        search(&broken, &start.with(&broken), self.budget, limit, follow)
    }
}

/// The scene in which the search notices that a guard is off; `None`: clients of the simulator notice (or see `docs/design`).
pub fn noticed_in(guard: Mutation) -> Option<&'static str> {
    use Mutation as M;
    Some(match guard {
        M::AckBeforeWitness => "disk",
        M::NoInSyncCheck | M::BootTrustsDisk => "join, kill",
        M::AddBeforeAcks | M::NoBumpAfterJoin | M::UnknownIsFailed | M::ResumeWithOpenCas => "join, unknown",
        M::NoFence => "rollback",
        M::NoPromise => "calm",
        M::LeaseFromAnswer => "pause",
        M::UngrantedRenews => "pause",
        M::NoWaitAfterStart => "cut, kill",
        M::NonceNotPersisted => "cut, kill",
        M::NonceForgotten => "two kills",
        M::JoinBeforeDrained => "join, write",
        M::CheckpointForgetsCurrent => "join, write",
        M::CutForgetsWindow => "crash",
        M::LogForgetsUnderWay => "join, loss, writes",
        M::CheckpointAlone => "join, write",
        M::LogAfterChange | M::LocalFirst => "calm",
        M::NoResend => "loss",
        M::FrozenRenews => "cut, away",
        _ => return None,
    })
}
