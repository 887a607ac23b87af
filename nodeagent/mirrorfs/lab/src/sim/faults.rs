//! What goes wrong, and how it is mended.

use super::*;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) lossy: u64,
    pub(super) torn: u64,
    pub(super) repeat: u64,
    pub(super) late: u64,
    pub(super) faults: [bool; 14],
    pub(super) pace: i64,
}

impl Sim {
    pub(super) fn fault(&mut self) {
        if self.calm && self.report.events < self.run.events {
            self.calm = false;
        }
        let pause = self.rng.between(self.weather.pace / 2, self.weather.pace * 2);
        if self.report.events < self.run.events {
            self.after(pause, What::Fault);
        } else {
            return;
        }
        let kind = usize::try_from(self.rng.below(14)).unwrap_or(0);
        let i = usize::try_from(self.rng.below(2)).unwrap_or(0);
        if !self.weather.faults[kind] {
            return;
        }
        let back = self.rng.between(50, 2_500);
        match kind {
            0 | 1 => {
                self.tell(|_| format!("{} is killed", letter(i)));
                self.kill(i, false);
                self.after(back, What::Start(i));
            }
            2 => {
                self.tell(|_| format!("{} loses power", letter(i)));
                self.kill(i, true);
                self.after(back, What::Start(i));
            }
            3 | 4 => {
                self.tell(|_| format!("nothing reaches {} any more", letter(i)));
                self.machines[i].deaf = true;
                self.after(back, What::HealNet(i));
            }
            5 => {
                self.tell(|_| "both are cut from each other".into());
                for i in 0..2 {
                    self.machines[i].deaf = true;
                    self.after(back, What::HealNet(i));
                }
            }
            6 => {
                self.tell(|_| "the witness is away".into());
                self.witness_away = true;
                self.after(back, What::HealWitness);
            }
            7 => self.pause(i, back),
            8 => {
                self.machines[i].slow = 60;
                self.after(back, What::HealDisk(i));
            }
            9 => self.event(i, Event::ClockJump),
            10 => {
                self.tell(|_| format!("a switch is ordered on {}", letter(i)));
                self.event(i, Event::Order(Order::SwitchOver));
            }
            11 => self.disk_trouble(i, back),
            12 => self.restart_in_order(i, back),
            _ => self.rare(i, back),
        }
    }

    pub(super) fn pause(&mut self, i: usize, back: i64) {
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

    pub(super) fn disk_trouble(&mut self, i: usize, back: i64) {
        if self.machines[i].host.node.is_none() {
            return;
        }
        if self.rng.chance(500) {
            self.tell(|_| format!("the disk of {} is full", letter(i)));
            return self.event(i, Event::DiskFull);
        }
        self.tell(|_| format!("the disk of {} fails", letter(i)));
        self.machines[i].host.failing = true;
        self.event(i, Event::DiskError);
        // Somebody mends it, and restarts the machine; what it held may be incomplete, and it says so itself.
        self.after(back + 3_000, What::HealDisk(i));
    }

    pub(super) fn restart_in_order(&mut self, i: usize, back: i64) {
        self.tell(|_| format!("{} is stopped in order", letter(i)));
        self.event(i, Event::Order(Order::Stop));
        self.after(back + 1_500, What::HealDisk(i));
    }

    pub(super) fn rare(&mut self, i: usize, back: i64) {
        match self.rng.below(4) {
            0 if self.machines[1 - i].host.node.is_none()
                && !self.machines[1 - i].host.gate_open(self.clock(1 - i)) =>
            {
                self.tell(|_| format!("{} is forced", letter(i)));
                let operation = OperationId(1_000 + u128::from(self.rng.below(1 << 40)));
                let order = Order::Force { operation, confirmed_off: true, peer_lease_fresh: false };
                // The person means it: the other machine stays off for a while.
                self.machines[1 - i].off_until = self.now + 3_000;
                self.event(i, Event::Order(order));
            }
            1 => {
                let agent = self.rng.chance(500);
                self.event(i, Event::Agent { alive: agent });
            }
            2 => {
                self.tell(|_| "the witness is deleted for a while".into());
                if let Some(record) = self.witness.take() {
                    self.backup = record;
                }
                self.after(back, What::HealWitness);
            }
            _ => {
                for object in 0..OBJECTS {
                    self.machines[i].host.disk[object] = self.machines[i].host.cache[object];
                }
            }
        }
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

    pub(super) fn heal_witness(&mut self) {
        self.witness_away = false;
        self.witness.get_or_insert(self.backup);
    }

    pub(super) fn heal(&mut self) {
        self.tell(|_| "everything is healed".into());
        self.calm = true;
        self.heal_witness();
        for i in 0..2 {
            self.machines[i].deaf = false;
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
            self.event(i, Event::Order(Order::Overwrite));
            // What a paused machine still had to hear (a full disk, an order to stop) it has heard by then.
            [400, 1_500, 4_000, 8_000, 12_000].into_iter().for_each(|delay| self.after(delay, What::HealDisk(i)));
        }
    }
}
