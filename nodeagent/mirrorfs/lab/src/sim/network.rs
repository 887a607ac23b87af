//! The network between both: late, lost, torn, repeated, reordered, one-way.

use super::*;

fn name(message: &Message) -> &'static str {
    match message {
        Message::Beacon { .. } => "Beacon",
        Message::Answer { .. } => "Answer",
        Message::Operation { .. } => "Operation",
        Message::Acknowledgement { .. } => "Acknowledgement",
        Message::ResyncBegin { .. } => "ResyncBegin",
        Message::ResyncReady { .. } => "ResyncReady",
        Message::Prepare { .. } => "Prepare",
        Message::Granted { .. } => "Granted",
        Message::Cut { .. } => "Cut",
        Message::CutReached { .. } => "CutReached",
        Message::CutDone { .. } => "CutDone",
    }
}

fn is_frequent(message: &Message) -> bool {
    let beacon = matches!(message, Message::Beacon { .. } | Message::Answer { .. });
    beacon || matches!(message, Message::Operation { .. } | Message::Acknowledgement { .. })
}

/// All messages there are.
pub const MESSAGES: [&str; 11] = [
    "Beacon",
    "Answer",
    "Operation",
    "Acknowledgement",
    "ResyncBegin",
    "ResyncReady",
    "Prepare",
    "Granted",
    "Cut",
    "CutReached",
    "CutDone",
];

impl Sim {
    pub(super) fn send(&mut self, from: usize, parcel: Parcel) {
        let to = 1 - from;
        let process = self.machines[to].host.inc.process;
        let lost = self.machines[to].deaf || self.machines[to].host.node.is_none();
        let bad = !self.calm && (self.rng.chance(self.weather.lossy) || self.rng.chance(self.weather.torn));
        if bad {
            // A lost or torn frame is a lost connection: both sides connect anew.
            (0..2).for_each(|i| self.after(30, What::HealLink(i)));
        }
        if lost || bad {
            return;
        }
        let late = !self.calm && self.rng.chance(self.weather.late);
        let delay = if late { self.rng.between(50, self.weather.latest) } else { self.rng.between(1, 8) };
        if !self.calm && self.rng.chance(self.weather.repeat) {
            let again = self.rng.between(1, self.weather.latest);
            self.after(again, What::Arrive { to, process, parcel: parcel.clone() });
        }
        if !is_frequent(&parcel.frame.message) {
            self.machines[from].said = Some(parcel.clone());
            if !self.calm && self.rng.chance(self.weather.echo) {
                let again = self.rng.between(300, 8_000);
                self.after(again, What::Arrive { to, process, parcel: parcel.clone() });
            }
        }
        self.after(delay, What::Arrive { to, process, parcel });
    }

    /// What a process said last may reach the other side when its next life speaks already, and more than once.
    pub(super) fn last_words(&mut self, from: usize) {
        let to = 1 - from;
        let process = self.machines[to].host.inc.process;
        let Some(parcel) = self.machines[from].said.take().filter(|_| !self.calm && self.weather.echo > 0) else {
            return;
        };
        for _ in 0..12 {
            let again = self.rng.between(500, 4_000);
            self.after(again, What::Arrive { to, process, parcel: parcel.clone() });
        }
    }

    pub(super) fn arrive(&mut self, to: usize, process: u128, parcel: Parcel) {
        let machine = &self.machines[to];
        let Some(role) = machine.host.role().filter(|_| machine.host.inc.process == process) else { return };
        if machine.paused || machine.still.is_some() {
            return self.after(40, What::Arrive { to, process, parcel });
        }
        *self.report.coverage.entry((role, name(&parcel.frame.message))).or_default() += 1;
        let now = self.clock(to);
        let outs = self.machines[to].host.receive(now, parcel);
        self.follow(to, outs);
        let after = self.machines[to].host.role();
        self.machines[to].empty &= after != Some(RoleName::Second);
        if Some(role) != after {
            self.tell(|_| format!("{} {role:?} -> {after:?}", letter(to)));
        }
    }
}
