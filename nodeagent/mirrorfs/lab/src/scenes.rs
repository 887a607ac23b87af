//! What is searched: scenes (a start, a budget of faults), and for each guard the scene in which its absence is noticed.
//!
//! A scene is small enough to be exhausted; together they cover each fault with each other where it matters. What is bounded
//! is the number of faults and of record versions; time is not (see `World`), nor the number of beacons.

use crate::search::{Found, search};
use crate::world::{Asked, Budget, Step, World};
use mirror_core::{Acknowledgement, Config, Mutation, RoleName, Settings, Span};
use std::sync::Arc;

/// Where a scene begins: reached by the whole protocol, from both in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Both are in sync.
    InSync,
    /// The first is ALONE, the second has just started, in WAIT.
    Rejoin,
    /// The first is ALONE; the second waits for its place, and has heard nothing for as long as it promises anything at its start.
    Unheard,
    /// The first took over after a restart. The second, just started, holds a change that the first never had.
    Ahead,
    /// Both have restarted and the witness is away; the second holds a change that the first never had.
    Torn,
    /// The witness is away from the first, which is unheard by the second; that one is taking over and has its proposal out.
    Taking,
    /// The witness is away from the first, which is FROZEN; all it said lately is still on its way, with a change.
    Late,
    /// The witness is away from the first, which hears nothing; the second has just started.
    Stranger,
}

/// One scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// What it is called.
    pub name: &'static str,
    /// What may happen.
    pub budget: Budget,
    /// The acknowledgement class.
    pub class: Acknowledgement,
    /// Where it begins.
    pub begin: Begin,
    /// How many objects there are.
    pub objects: usize,
    /// Disks are prompt; `make model` searches it with writes that end at any time.
    pub prompt: bool,
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

const NONE: Budget = Budget::NONE;

const fn scene(name: &'static str, budget: Budget) -> Scene {
    Scene::of(name, budget)
}

const fn large(name: &'static str, budget: Budget) -> Scene {
    Scene { large: true, ..Scene::of(name, budget) }
}

const fn disk(name: &'static str, budget: Budget) -> Scene {
    Scene { class: Acknowledgement::Disk, ..Scene::of(name, budget) }
}

const fn joining(name: &'static str, budget: Budget) -> Scene {
    scene(name, budget).from(Begin::Rejoin)
}

/// All scenes, small ones first.
pub const SCENES: &[Scene] = &[
    scene("calm", Budget { writes: 2, ..NONE }),
    scene("switch", Budget { switches: 1, writes: 1, ..NONE }),
    scene("disk", Budget { disks: 1, writes: 1, ..NONE }),
    scene("rollback", Budget { kills: 1, rollbacks: 1, ..NONE }).prompt(),
    scene("switch, unknown", Budget { switches: 1, unknowns: 1, ..NONE }),
    joining("join, write", Budget { writes: 2, ..NONE }),
    joining("join, unknown", Budget { unknowns: 1, writes: 1, ..NONE }),
    joining("join, kill", Budget { kills: 1, ..NONE }).prompt(),
    joining("join, loss", Budget { losses: 1, writes: 1, ..NONE }).prompt(),
    joining("join, loss, writes", Budget { losses: 1, writes: 2, ..NONE }).prompt(),
    joining("join, cut", Budget { cuts: 1, ..NONE }).prompt(),
    large("kill, unknown, write", Budget { kills: 1, unknowns: 1, writes: 1, ..NONE }),
    scene("loss", Budget { losses: 1, writes: 2, ..NONE }).prompt(),
    scene("cut", Budget { cuts: 1, writes: 1, ..NONE }).prompt(),
    scene("hold", Budget { delays: 1, ..NONE }).prompt(),
    scene("pause", Budget { pauses: 1, ..NONE }).prompt(),
    scene("reimage", Budget { kills: 1, reimages: 1, ..NONE }).prompt(),
    scene("force", Budget { kills: 1, forces: 1, ..NONE }).prompt(),
    scene("cut, unknown", Budget { cuts: 1, unknowns: 1, ..NONE }).prompt(),
    scene("kill, unknown", Budget { kills: 1, unknowns: 1, ..NONE }).prompt(),
    scene("cut, away", Budget { cuts: 1, aways: 1, ..NONE }).prompt(),
    scene("kill, away", Budget { kills: 1, aways: 1, ..NONE }).prompt(),
    scene("switch, cut", Budget { switches: 1, cuts: 1, ..NONE }).prompt(),
    scene("kill", Budget { kills: 1, writes: 1, ..NONE }).prompt(),
    scene("crash", Budget { crashes: 1, writes: 1, ..NONE }).prompt(),
    disk("crash, Disk", Budget { crashes: 1, writes: 1, ..NONE }).prompt(),
    scene("sync", Budget { writes: 1, syncs: 1, ..NONE }),
    joining("join, sync", Budget { writes: 1, syncs: 1, ..NONE }),
    joining("join, not yet", Budget { writes: 2, notyets: 1, ..NONE }).prompt(),
    scene("ahead", NONE).from(Begin::Ahead),
    scene("torn", NONE).from(Begin::Torn),
    large("pause, switch", Budget { pauses: 1, switches: 1, ..NONE }),
    scene("late", NONE).from(Begin::Late),
    scene("stranger", NONE).from(Begin::Stranger),
    large("join, kill, force", Budget { kills: 1, forces: 1, ..NONE }).from(Begin::Rejoin),
    large("taking, unknown, away", Budget { unknowns: 1, aways: 1, ..NONE }).from(Begin::Taking),
    large("two kills, rollback", Budget { kills: 2, rollbacks: 1, ..NONE }),
    large("join, two kills, force", Budget { kills: 2, forces: 1, ..NONE }).from(Begin::Rejoin),
    scene("unheard", Budget { losses: 2, ..NONE }).from(Begin::Unheard),
    large("join, kill, rollback", Budget { kills: 1, rollbacks: 1, writes: 1, ..NONE }).from(Begin::Rejoin).prompt(),
    large("join, cut, away", Budget { cuts: 1, aways: 1, ..NONE }).from(Begin::Rejoin),
    large("two cuts, force", Budget { cuts: 2, forces: 1, ..NONE }),
    large("kill, pause, reimage", Budget { kills: 1, pauses: 1, reimages: 1, ..NONE }),
    large("crash, kill, away", Budget { crashes: 1, kills: 1, aways: 1, ..NONE }),
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
    /// A small scene of one object in class `Memory` that begins in sync.
    pub const fn of(name: &'static str, budget: Budget) -> Scene {
        Scene {
            name,
            budget,
            class: Acknowledgement::Memory,
            begin: Begin::InSync,
            objects: 1,
            prompt: false,
            large: false,
        }
    }

    const fn prompt(self) -> Scene {
        Scene { prompt: true, ..self }
    }

    const fn from(self, begin: Begin) -> Scene {
        Scene { begin, ..self }
    }

    /// Where it begins.
    pub fn start(&self) -> World {
        let whole = settings(self.class, None);
        let mut world = World::in_sync(&whole, self.objects);
        world.left = Budget::AMPLE;
        let mut go = |steps: &[Step]| steps.iter().for_each(|step| world.take(&whole, *step));
        // The second holds it, the first does not: peer first, then local.
        let half_written = [Step::Write(0, 0), Step::Deliver(1, 1), Step::Log(1)];
        let both_die = [Step::Kill(0, false), Step::Kill(1, false)];
        let (until, last): (fn(&World) -> bool, &[Step]) = match self.begin {
            Begin::InSync => (|_| true, &[]),
            Begin::Rejoin => {
                go(&[Step::Kill(1, false)]);
                (first_is_alone, &[Step::Start(1)])
            }
            Begin::Unheard => {
                go(&[Step::Kill(1, false), Step::Cut(1), Step::Start(1)]);
                for _ in 0..whole.promise().0 + whole.head_start.0 {
                    assert!(world.run_fairly(&whole, 100, World::is_quiet), "it never rests: {world}");
                    world.take(&whole, Step::Advance);
                }
                (first_is_alone, &[])
            }
            Begin::Ahead => {
                go(&half_written);
                go(&both_die);
                go(&[Step::Start(0)]);
                (first_is_alone, &[Step::Start(1)])
            }
            Begin::Torn => {
                go(&half_written);
                go(&[Step::Away(0), Step::Away(1)]);
                go(&both_die);
                (|_| true, &[Step::Start(0), Step::Start(1)])
            }
            Begin::Taking => {
                go(&[Step::Cut(1)]);
                assert!(world.run_fairly(&whole, 400, |w| matches!(w.asked[0], Asked::Put(..))));
                // It never left: the first has no proposal that could land.
                world.take(&whole, Step::Fail(0));
                world.take(&whole, Step::Away(0));
                (|w| matches!(w.asked[1], Asked::Put(..)), &[])
            }
            Begin::Late => {
                go(&[Step::Write(0, 0), Step::Hold(1), Step::Away(0)]);
                (|w| w.hosts[0].role() == Some(RoleName::Frozen) && w.is_quiet(), &[])
            }
            Begin::Stranger => {
                go(&[Step::Away(0), Step::Cut(0), Step::Kill(1, false)]);
                (|_| true, &[Step::Start(1)])
            }
        };
        assert!(world.run_fairly(&whole, 400, until), "{} does not come to its beginning: {world}", self.name);
        last.iter().for_each(|step| world.take(&whole, *step));
        world.left = Budget::NONE;
        world.prompt = self.prompt;
        world
    }

    /// Searches it, with a guard switched off or with all standing.
    pub fn search(&self, broken: Option<Mutation>, limit: usize, follow: u64) -> Found {
        let start = self.start();
        let broken = settings(self.class, broken);
        search(&broken, &start.with(&broken), self.budget, limit, follow)
    }
}

fn first_is_alone(world: &World) -> bool {
    world.hosts[0].role() == Some(RoleName::Alone) && world.is_quiet()
}

/// The scene in which the search notices that a guard is off; `None`: a story or a test does (`tests/mutations.rs`).
pub fn noticed_in(guard: Mutation) -> Option<&'static str> {
    use Mutation as M;
    Some(match guard {
        M::LocalForceUnrecorded | M::LostStateUntold | M::FormerLifeResyncs => return None,
        M::LogAfterChange | M::LocalFirst | M::NoPromise => "calm",
        M::SyncOneSide => "sync",
        M::SwitchWhileServing => "switch",
        M::AckBeforeWitness | M::DiskErrorIgnored | M::SwitchWithoutMark => "disk",
        M::NoInSyncCheck => "reimage",
        M::NoFence | M::RollbackBelieved => "rollback",
        M::ServeBeforePersist => "two kills, rollback",
        M::BootTrustsDisk => "join, kill",
        M::AddBeforeAcks | M::NoBumpAfterJoin | M::UnknownIsFailed | M::ResumeWithOpenCas => "join, unknown",
        M::JoinBeforeDrained | M::CheckpointForgetsCurrent | M::CheckpointAlone | M::JoinKeepsGate => "join, write",
        M::JoinUnflushed => "join, sync",
        M::NotYetIsDone => "join, not yet",
        M::JoinWithoutGrant => "unheard",
        M::OutdatedForgotten | M::ResyncUnflagged => "join, kill, rollback",
        M::ResyncOtherLineage => "join, kill, force",
        M::LogForgetsUnderWay => "join, loss, writes",
        M::NoUnion => "ahead",
        M::ResumeUncompared => "torn",
        M::IntakeStaysOpen => "late",
        M::ResumeOther => "stranger",
        M::UnfenceWithOpenCas | M::FrozenWaitsForSilent => "taking, unknown, away",
        M::LeaseFromAnswer | M::UngrantedRenews => "pause",
        M::NoWaitAfterStart | M::NonceNotPersisted => "cut, kill",
        M::NonceForgotten => "two kills",
        M::CutForgetsWindow => "crash",
        M::NoResend | M::NoOrder => "loss",
        M::ApplyTwice => "cut",
        M::FrozenRenews => "cut, away",
        M::ForceWhilePeerAnswers => "force",
        M::AloneNeverLooks => "two cuts, force",
        M::LostStateTrusted => "kill, pause, reimage",
        M::CrashedTakesOver => "crash, kill, away",
        M::NoticeForgotten => "two crashes",
    })
}
