//! What may happen next.

use super::*;

impl World {
    pub(super) fn fair_step(&self) -> Step {
        let ready = self.ready();
        ready.into_iter().next().unwrap_or(Step::Advance)
    }

    fn acts(&self, i: u8) -> bool {
        self.hosts[usize::from(i)].node.is_some() && !self.paused[usize::from(i)]
    }

    /// What a node has to notice: the time, and what arrived.
    fn quick(&self, i: u8) -> Vec<Step> {
        let at = usize::from(i);
        let tick = (self.wake[at] <= NOW).then_some(Step::Tick(i));
        let arrived = |class: &u8| !self.held[at] && !self.net[at][usize::from(*class)].is_empty();
        let frames = (0..2u8).filter(arrived).map(|class| Step::Deliver(i, class));
        tick.into_iter().chain(frames).filter(|_| self.acts(i)).collect()
    }

    /// A node's writes to its disk that are under way.
    fn writes(&self, i: u8) -> impl Iterator<Item = Step> + '_ {
        let host = &self.hosts[usize::from(i)];
        let state = host.state_next.is_some().then_some(Step::Persist(i));
        let log = host.log_next.is_some().then_some(Step::Log(i));
        let flush = self.flushing[usize::from(i)].map(|_| Step::Synced(i));
        state.into_iter().chain(log).chain(flush).filter(move |_| self.acts(i))
    }

    /// Answers of the witness. A node that stands still gets none; what it had sent takes effect all the same.
    fn answers(&self) -> impl Iterator<Item = Step> + '_ {
        let due = |i: &u8| match &self.asked[usize::from(*i)] {
            Asked::Nothing => false,
            Asked::Answered(_) => self.acts(*i),
            Asked::Get | Asked::Put(..) => true,
        };
        (0..2u8).filter(due).map(Step::Witness)
    }

    /// What may happen next without a fault: every order that matters.
    ///
    /// What one node notices commutes with what the other notices and with the end of the other's writes: neither sees the
    /// other but through frames, and a frame that is sent before a cut or a death is lost like one sent after it. So node 0
    /// notices first, then node 1. A write to disk ends whenever it likes: between any two things that its node notices, also
    /// after what its peer or the witness answered meanwhile, and before or after the peer's writes. Then the witness answers,
    /// then time goes on. Where disks are `prompt` only the first of these orders is tried. A node or a connection that is slower than the other is a fault of its own (`Pause`, `Hold`).
    pub(super) fn ready(&self) -> Vec<Step> {
        for i in 0..2 {
            let steps: Vec<Step> = self.quick(i).into_iter().chain(self.writes(i)).collect();
            if steps.iter().any(|step| self.prompt || matches!(step, Step::Tick(_) | Step::Deliver(..))) {
                return steps;
            }
        }
        self.writes(0).chain(self.writes(1)).chain(self.answers()).collect()
    }

    /// Nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.ready().is_empty()
    }

    /// Everything that may happen now in any order, also what the search need not try in every order.
    pub fn possible(&self) -> Vec<Step> {
        let own = (0..2).flat_map(|i| self.quick(i).into_iter().chain(self.writes(i)));
        own.chain(self.answers()).chain(self.steps()).collect()
    }

    /// Everything that may happen now.
    pub fn steps(&self) -> Vec<Step> {
        let left = &self.left;
        let mut steps = self.ready();
        let slow = |step: &Step| matches!(step, Step::Witness(_) | Step::Persist(_) | Step::Log(_) | Step::Synced(_));
        if steps.is_empty() || left.delays > 0 && steps.iter().all(slow) {
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
            Asked::Put(..) if left.unknowns > 0 => {
                steps.extend([Step::Unknown(i, true), Step::Unknown(i, false)]);
            }
            _ => {}
        }
        if left.failures > 0 && matches!(self.asked[at], Asked::Get | Asked::Put(..)) {
            steps.push(Step::Fail(i));
        }
        if host.node.is_none() {
            steps.push(Step::Start(i));
            if left.reimages > 0 {
                steps.push(Step::Reimage(i));
            }
            return;
        }
        let serves = host.serves(NOW);
        for object in (0..host.cache.len()).filter(|_| serves && !self.paused[at]) {
            let object = u8::try_from(object).unwrap_or(0);
            steps.extend((left.writes > 0).then_some(Step::Write(i, object)));
            steps.extend((left.syncs > 0).then_some(Step::Sync(i, object)));
        }
        let torn: &[bool] =
            if host.state_next.is_some() || host.log_next.is_some() { &[false, true] } else { &[false] };
        for landed in torn {
            if left.kills > 0 {
                steps.push(Step::Kill(i, *landed));
            }
            if left.crashes > 0 {
                steps.push(Step::Crash(i, *landed));
            }
        }
        if left.switches > 0 && host.role() == Some(RoleName::Prim) && !self.paused[at] {
            steps.push(Step::Switch(i));
        }
        if left.forces > 0
            && !serves
            && !self.paused[at]
            && (self.is_off(1 - at) || self.cut == [true, true] || self.is_heard(at))
        {
            steps.push(Step::Force(i));
        }
        if left.notyets > 0 && self.is_target(at) && !self.lacks[at] {
            steps.push(Step::NotYet(i));
        }
        if left.disks > 0 && !host.failing && !self.paused[at] {
            steps.push(Step::DiskFails(i));
        }
        if left.flushes > 0 && host.cache != host.disk {
            steps.push(Step::Flush(i));
        }
    }

    /// This machine does nothing to anybody.
    fn is_off(&self, i: usize) -> bool {
        self.hosts[i].node.is_none() && !self.hosts[i].gate_open(NOW)
    }

    /// Both are in sync and hear each other: whoever says that the other machine is off is wrong.
    pub(super) fn is_heard(&self, i: usize) -> bool {
        let calm = !self.cut[0] && !self.cut[1] && self.held == [false; 2] && self.paused == [false; 2];
        let roles = [self.hosts[i].role(), self.hosts[1 - i].role()];
        calm && roles == [Some(RoleName::Second), Some(RoleName::Prim)]
    }

    /// Its copy is being made equal.
    pub(super) fn is_target(&self, i: usize) -> bool {
        let host = &self.hosts[i];
        host.role() == Some(RoleName::Wait) && host.state.is_some_and(|state| state.inconsistent)
    }
}
