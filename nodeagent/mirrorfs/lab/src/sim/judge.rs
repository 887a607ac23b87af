//! The judgement: what clients saw, what outlived, and whether all is well once everything is healed.

use super::*;

impl Sim {
    /// What clients were promised is void, as documented (memory of both lost, a person's force): judge what was, begin anew.
    pub(super) fn new_history(&mut self, i: usize, keeps_synced: bool) {
        self.judge_calls();
        let contents: Vec<u64> = self.machines[i].host.cache.iter().map(|content| content.last).collect();
        if keeps_synced {
            self.judge_synced(&contents);
        }
        // A call without an answer may yet take effect.
        self.calls.retain(|call| call.end.is_none() && call.object < OBJECTS);
        self.busy = [false; CLIENTS];
        self.machines.iter_mut().for_each(|machine| machine.calls.clear());
        // Only what is on this disk was ever promised to outlive a crash.
        self.floor = self.machines[i].host.disk.iter().map(|content| content.last).collect();
        self.initial = contents;
    }

    /// An acknowledged fsync outlives anything: nothing older than what it covered may come back.
    pub(super) fn judge_synced(&mut self, contents: &[u64]) {
        for (object, value) in contents.iter().enumerate() {
            let floor = self.floor[object];
            let start = |value: u64| self.calls.iter().find(|c| c.object == object && c.asked == Asked::Write(value));
            let older = match (start(*value), start(floor)) {
                (Some(found), Some(synced)) => found.end.is_some_and(|end| end < synced.start),
                (None, Some(_)) => true,
                _ => false,
            };
            if older {
                self.fail(format!("object {object}: {floor} was synced and {value} came back"));
            }
        }
    }

    pub(super) fn judge_calls(&mut self) {
        self.calls.iter_mut().filter(|call| call.object == usize::MAX).for_each(|call| call.end = None);
        if let Some(reason) = inexplicable(&self.calls, &self.initial) {
            self.fail(reason);
        }
    }

    pub(super) fn settled(&self) -> bool {
        let role = |i: usize| self.machines[i].host.role();
        let pair = [role(0), role(1)];
        let both = pair.contains(&Some(RoleName::Prim)) && pair.contains(&Some(RoleName::Second));
        let idle = self.machines.iter().all(|m| m.host.node.as_ref().is_some_and(|n| n.window().is_empty()));
        let equal = self.machines[0].host.cache == self.machines[1].host.cache;
        both && idle && equal
    }

    /// No copy in sync is left: its disk failed while its peer was out, or is empty. A person decides.
    pub(super) fn needs_a_person(&self) -> bool {
        let Some(record) = self.witness else { return false };
        self.machines.iter().all(|machine| {
            let node = machine.host.node.as_ref();
            let whole = node.is_some_and(|n| !n.durable().inconsistent);
            record.holder(machine.host.me).is_none() || !whole || machine.empty
        })
    }

    pub(super) fn judge(&mut self) {
        if self.report.violation.is_some() || self.needs_a_person() {
            return;
        }
        if !self.settled() {
            let roles: Vec<_> = self.machines.iter().map(|m| m.host.role()).collect();
            return self.fail(format!("it does not settle after everything is healed: {roles:?}"));
        }
        let primary = usize::from(self.machines[1].host.role() == Some(RoleName::Prim));
        for i in [primary, 1 - primary] {
            for object in 0..OBJECTS {
                let value = self.machines[i].host.cache[object].last;
                let (start, end) = (self.now + 1, Some(self.now + 2));
                self.calls.push(Call { object, asked: Asked::Read(value), start, end });
            }
        }
        self.judge_calls();
    }
}
