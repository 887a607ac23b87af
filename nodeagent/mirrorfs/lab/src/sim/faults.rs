//! What goes wrong, when, and how it is mended. What people do about it, and do wrong, is in `persons`.

use super::*;

/// One thing that may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Killed,
    PowerLost,
    Reimaged,
    Deaf,
    BothDeaf,
    WitnessAway,
    WitnessFar,
    WitnessDeleted,
    WitnessRestored,
    Paused,
    ClockJumps,
    DiskSlow,
    DiskFull,
    DiskFails,
    Flushed,
    AgentLost,
    Switched,
    StoppedInOrder,
    ShutDown,
    Forced,
    ForcedLocally,
    Replaced,
}

const FAULTS: [Fault; 22] = [
    Fault::Killed,
    Fault::PowerLost,
    Fault::Reimaged,
    Fault::Deaf,
    Fault::BothDeaf,
    Fault::WitnessAway,
    Fault::WitnessFar,
    Fault::WitnessDeleted,
    Fault::WitnessRestored,
    Fault::Paused,
    Fault::ClockJumps,
    Fault::DiskSlow,
    Fault::DiskFull,
    Fault::DiskFails,
    Fault::Flushed,
    Fault::AgentLost,
    Fault::Switched,
    Fault::StoppedInOrder,
    Fault::ShutDown,
    Fault::Forced,
    Fault::ForcedLocally,
    Fault::Replaced,
];

/// What one run has to endure. Each run draws its own few kinds of faults: all at once would hide what two of them do.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) lossy: u64,
    pub(super) torn: u64,
    pub(super) repeat: u64,
    pub(super) late: u64,
    /// Frames that are neither operations nor beacons come again, much later, when much has changed.
    pub(super) echo: u64,
    /// How late a late or repeated frame may be, beyond any lease.
    pub(super) latest: i64,
    /// The witness's answers take long: by the time they arrive the record may have changed.
    pub(super) sluggish: bool,
    faults: Vec<Fault>,
    pace: i64,
}

impl Weather {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let faults = FAULTS.into_iter().filter(|_| rng.chance(300)).collect();
        Weather {
            lossy: rng.pick(&[0, 0, 5, 30]),
            torn: rng.pick(&[0, 5]),
            repeat: rng.pick(&[0, 20, 200]),
            late: rng.pick(&[0, 10, 40, 150]),
            echo: rng.pick(&[0, 0, 500]),
            latest: rng.pick(&[300, 900, 6_000]),
            sluggish: rng.chance(300),
            faults,
            pace: rng.pick(&[400, 1_100, 2_500]),
        }
    }
}

impl Sim {
    pub(super) fn fault(&mut self) {
        if self.report.events >= self.run.events || self.weather.faults.is_empty() {
            return;
        }
        self.calm = false;
        let pause = self.rng.between(self.weather.pace / 2, self.weather.pace * 2);
        self.after(pause, What::Fault);
        let kind = usize::try_from(self.rng.below(self.weather.faults.len() as u64)).unwrap_or(0);
        let i = usize::try_from(self.rng.below(2)).unwrap_or(0);
        self.suffer(self.weather.faults[kind], i);
    }

    fn suffer(&mut self, fault: Fault, i: usize) {
        let back = self.rng.between(50, 2_500);
        match fault {
            Fault::Killed => {
                self.tell(|_| format!("{} is killed", letter(i)));
                self.kill(i, false);
                self.after(back, What::Start(i));
            }
            Fault::PowerLost => {
                self.tell(|_| format!("{} loses power", letter(i)));
                self.kill(i, true);
                self.after(back, What::Start(i));
            }
            Fault::Reimaged => self.reimage(i, back),
            Fault::Deaf => {
                self.tell(|_| format!("nothing reaches {} any more", letter(i)));
                self.machines[i].deaf = true;
                self.after(back, What::HealNet(i));
            }
            Fault::BothDeaf => {
                self.tell(|_| "both are cut from each other".into());
                for i in 0..2 {
                    self.machines[i].deaf = true;
                    self.after(back, What::HealNet(i));
                }
            }
            Fault::WitnessAway => {
                self.tell(|_| "the witness is away".into());
                self.witness_away = true;
                self.after(back, What::HealWitness);
            }
            Fault::WitnessFar => {
                self.tell(|_| format!("{} does not reach the witness", letter(i)));
                self.machines[i].far = true;
                self.after(back, What::HealWay(i));
            }
            Fault::WitnessDeleted => self.delete_witness(back),
            Fault::WitnessRestored => self.restore_witness(back),
            Fault::Paused => self.pause(i, back),
            Fault::ClockJumps => self.event(i, Event::ClockJump),
            Fault::DiskSlow => {
                self.machines[i].slow = 60;
                self.after(back, What::HealDisk(i));
            }
            Fault::DiskFull => {
                self.tell(|_| format!("the disk of {} is full", letter(i)));
                self.event(i, Event::DiskFull);
                self.after(back + 3_000, What::HealDisk(i));
            }
            Fault::DiskFails => self.break_disk(i, back),
            Fault::Flushed => self.machines[i].host.sync(),
            Fault::AgentLost => {
                self.event(i, Event::Agent { alive: false });
                self.after(back, What::AgentBack(i));
            }
            Fault::Switched => {
                self.tell(|_| format!("a switch is ordered on {}", letter(i)));
                self.event(i, Event::Order(Order::SwitchOver));
            }
            Fault::StoppedInOrder => {
                self.tell(|_| format!("{} is stopped in order", letter(i)));
                self.event(i, Event::Order(Order::Stop));
                self.after(back + 1_500, What::HealDisk(i));
            }
            Fault::ShutDown => {
                self.tell(|_| format!("the machine of {} shuts down", letter(i)));
                self.event(i, Event::Order(Order::Stop));
                self.after(2_000, What::PowerOff { i, back });
            }
            Fault::Forced => self.force(i),
            Fault::ForcedLocally => self.cut_power_and_witness(i),
            Fault::Replaced => self.replace(i, back),
        }
    }

    fn pause(&mut self, i: usize, back: i64) {
        if self.machines[i].host.node.is_none() {
            return;
        }
        let still = self.rng.chance(300);
        self.tell(|_| format!("{} is paused{}", letter(i), if still { ", its clock too" } else { "" }));
        if still {
            self.machines[i].still = Some(self.now);
            self.excused = self.excused.max(self.now + back + 700);
        } else {
            self.machines[i].paused = true;
        }
        self.after(back, What::Resume(i));
    }

    pub(super) fn resume(&mut self, i: usize) {
        self.machines[i].paused = false;
        if let Some(since) = self.machines[i].still.take() {
            self.machines[i].zero += self.now - since;
        }
        self.event(i, Event::Tick);
    }

    fn break_disk(&mut self, i: usize, back: i64) {
        if self.machines[i].host.node.is_none() {
            return;
        }
        self.tell(|_| format!("the disk of {} fails", letter(i)));
        self.machines[i].host.failing = true;
        self.event(i, Event::DiskError);
        // Somebody mends it, and restarts the machine; what it held may be incomplete, and it says so itself.
        self.after(back + 3_000, What::HealDisk(i));
    }

    /// The machine comes back with empty disks. Only where another copy is: nobody promises what no disk holds.
    fn reimage(&mut self, i: usize, back: i64) {
        let other = &self.machines[1 - i];
        let held = self.witness.is_some_and(|record| record.holder(other.host.me).is_some());
        let whole = other.host.state.is_some_and(|state| !state.inconsistent && !state.outdated);
        if !held || !whole || other.empty || other.host.failing {
            return;
        }
        self.tell(|_| format!("{} is imaged anew", letter(i)));
        self.kill(i, true);
        self.machines[i].wipe();
        self.after(back, What::Start(i));
    }

    /// A machine that was told to shut down is off now, whether or not its mirror had time to leave.
    pub(super) fn power_off(&mut self, i: usize, back: i64) {
        if self.machines[i].host.role() == Some(RoleName::Stop) {
            self.machines[i].host.sync();
        }
        self.kill(i, true);
        self.after(back, What::Start(i));
    }

    pub(super) fn heal_disk(&mut self, i: usize) {
        self.machines[i].slow = 1;
        let stopped = self.machines[i].host.role() == Some(RoleName::Stop);
        let stopped = stopped || self.machines[i].host.node.as_ref().is_some_and(mirror_core::Node::in_trouble);
        if self.machines[i].host.failing || stopped || self.machines[i].host.node.is_none() {
            self.machines[i].host.failing = false;
            self.kill(i, false);
            self.start(i);
        }
    }

    pub(super) fn heal(&mut self) {
        self.tell(|_| "everything is healed".into());
        self.calm = true;
        self.heal_witness();
        for i in 0..2 {
            self.machines[i].deaf = false;
            self.machines[i].far = false;
            if self.machines[i].paused || self.machines[i].still.is_some() {
                self.resume(i);
            }
            let trouble = self.machines[i].host.node.as_ref().is_some_and(mirror_core::Node::in_trouble);
            let stopped = self.machines[i].host.role() == Some(RoleName::Stop);
            if self.machines[i].host.failing || trouble || stopped {
                self.kill(i, false);
            }
            self.machines[i].host.failing = false;
            self.machines[i].slow = 1;
            self.start(i);
            self.event(i, Event::Agent { alive: true });
            self.event(i, Event::Reconnected);
            // What a paused machine still had to hear (a full disk, an order to stop) it has heard by then.
            [400, 1_500, 4_000, 8_000, 12_000].into_iter().for_each(|delay| self.after(delay, What::HealDisk(i)));
        }
    }
}
