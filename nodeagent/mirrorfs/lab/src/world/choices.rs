//! What may happen next.

use super::*;

impl World {
    pub(super) fn fair_step(&self) -> Step {
        let ready = self.ready();
        ready.into_iter().next().unwrap_or(Step::Advance)
    }

    /// What is ready to happen to one node by itself, without any fault or any time.
    pub(super) fn ready_at(&self, i: u8) -> Vec<Step> {
        let (mut steps, at) = (Vec::new(), usize::from(i));
        let host = &self.hosts[at];
        if host.node.is_none() || self.paused[at] {
            return steps;
        }
        if self.wake[at] <= NOW {
            steps.push(Step::Tick(i));
        }
        if host.state_next.is_some() {
            steps.push(Step::Persist(i));
        }
        for class in 0..2u8 {
            if !self.held[at] && !self.net[at][usize::from(class)].is_empty() {
                steps.push(Step::Deliver(i, class));
            }
        }
        steps
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = Step> + '_ {
        (0..2u8).filter(|i| self.asked[usize::from(*i)] != Asked::Nothing).map(Step::Witness)
    }

    /// What may happen next without a fault.
    ///
    /// Two nodes' own steps commute: neither sees the other but through frames, and a frame that is sent before a cut or a
    /// death is lost like one sent after it. So one order of them stands for all: first all of node 0, then of node 1, then
    /// the witness's answers (these do not commute: both orders), then time. What is slow is a fault of its own (`Pause`, `Hold`).
    pub(super) fn ready(&self) -> Vec<Step> {
        for i in 0..2 {
            let steps = self.ready_at(i);
            if !steps.is_empty() {
                return steps;
            }
        }
        self.answers().collect()
    }

    /// Nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.ready().is_empty()
    }

    /// Everything that may happen now.
    pub fn steps(&self) -> Vec<Step> {
        let left = &self.left;
        let mut steps = self.ready();
        let only_answers = steps.iter().all(|step| matches!(step, Step::Witness(_)));
        if steps.is_empty() || left.delays > 0 && only_answers {
            steps.push(Step::Advance);
        }
        for i in 0..2u8 {
            self.faults_of(i, &mut steps);
        }
        for (k, _) in self.late.iter().enumerate() {
            steps.push(Step::Land(u8::try_from(k).unwrap_or(0)));
        }
        if left.rollbacks > 0 && self.backup != self.witness {
            steps.push(Step::Rollback);
        }
        steps
    }

    pub(super) fn faults_of(&self, i: u8, steps: &mut Vec<Step>) {
        let (left, at) = (&self.left, usize::from(i));
        let host = &self.hosts[at];
        for class in 0..2u8 {
            if left.losses > 0 && !self.net[at][usize::from(class)].is_empty() {
                steps.push(Step::Lose(i, class));
            }
        }
        if left.cuts > 0 && !self.cut[at] {
            steps.push(Step::Cut(i));
        }
        if self.cut[at] {
            steps.push(Step::Heal(i));
        }
        if self.away[at] {
            steps.push(Step::Near(i));
        } else if left.aways > 0 {
            steps.push(Step::Away(i));
        }
        if self.held[at] {
            steps.push(Step::Release(i));
        } else if left.delays > 0 && !self.net[at].iter().all(Vec::is_empty) {
            steps.push(Step::Hold(i));
        }
        if self.paused[at] {
            steps.push(Step::Resume(i));
        } else if left.pauses > 0 {
            steps.push(Step::Pause(i));
        }
        match self.asked[at] {
            Asked::Get if left.failures > 0 => steps.push(Step::Fail(i)),
            Asked::Put(..) if left.unknowns > 0 => {
                steps.extend([Step::Unknown(i, true), Step::Unknown(i, false)]);
            }
            _ => {}
        }
        if host.node.is_none() {
            steps.push(Step::Start(i));
            if left.reimages > 0 {
                steps.push(Step::Reimage(i));
            }
            return;
        }
        let serves = host.serves(NOW);
        if left.writes > 0 && serves && !self.paused[at] {
            for object in 0..host.cache.len() {
                steps.push(Step::Write(i, u8::try_from(object).unwrap_or(0)));
            }
        }
        let torn: &[bool] = if host.state_next.is_some() { &[false, true] } else { &[false] };
        for landed in torn {
            if left.kills > 0 {
                steps.push(Step::Kill(i, *landed));
            }
            if left.crashes > 0 {
                steps.push(Step::Crash(i, *landed));
            }
        }
        if left.switches > 0 && host.role() == Some(RoleName::Prim) {
            steps.push(Step::Switch(i));
        }
        if left.forces > 0 && !serves && self.hosts[1 - at].node.is_none() && !self.hosts[1 - at].gate_open(NOW) {
            steps.push(Step::Force(i));
        }
        if left.disks > 0 && !host.failing {
            steps.push(Step::DiskFails(i));
        }
        if left.flushes > 0 && host.cache != host.disk {
            steps.push(Step::Flush(i));
        }
    }
}
