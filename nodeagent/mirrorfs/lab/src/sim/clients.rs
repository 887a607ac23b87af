//! Clients that write, sync and read, and remember what they were answered.

use super::*;

pub(super) const CLIENTS: usize = 6;

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) body: u64,
    pub(super) client: usize,
    pub(super) kind: Kind,
    pub(super) object: usize,
    pub(super) call: usize,
    pub(super) put_off: bool,
}

impl Sim {
    pub(super) fn client(&mut self, client: usize) {
        let pause = self.rng.between(20, 120);
        self.after(pause, What::Client(client));
        if self.busy[client] {
            return;
        }
        let i = self.favourite[client];
        let reachable = self.open(i) && self.machines[i].still.is_none();
        if !reachable {
            self.favourite[client] = 1 - i;
            return;
        }
        let object = usize::try_from(self.rng.below(OBJECTS as u64)).unwrap_or(0);
        match self.rng.below(10) {
            0..=4 => self.write(client, i, object, Kind::Change),
            5 => self.write(client, i, object, Kind::Sync),
            _ => self.read(i, object),
        }
    }

    /// The page cache answers by itself, with or without the daemon, as long as the kernel lets the answer out.
    pub(super) fn read(&mut self, i: usize, object: usize) {
        if !self.machines[i].host.running || self.now <= self.excused {
            return;
        }
        let value = self.machines[i].host.cache[object].last;
        let call = Call { object, asked: Asked::Read(value), start: self.now, end: Some(self.now) };
        self.calls.push(call);
    }

    pub(super) fn write(&mut self, client: usize, i: usize, object: usize, kind: Kind) {
        if self.machines[i].host.node.is_none() || !self.machines[i].host.running {
            return;
        }
        let body = self.next_body;
        self.next_body += 1;
        let call = self.calls.len();
        if kind == Kind::Change {
            self.calls.push(Call { object, asked: Asked::Write(body), start: self.now, end: None });
        } else {
            // A barrier: what was acknowledged before it must outlive anything once it is acknowledged.
            let newest = self.newest_acknowledged(object);
            self.calls.push(Call { object: usize::MAX, asked: Asked::Write(newest), start: self.now, end: None });
        }
        self.busy[client] = true;
        self.machines[i].calls.push(Waiting { body, client, kind, object, call, put_off: false });
        self.event(i, Event::Change { kind, object: ObjectId(object as u128), also: None, body: Body(body) });
        // A client that hears nothing asks elsewhere; what became of its call stays unknown.
        self.after(1_000, What::GivesUp { client, call });
    }

    pub(super) fn newest_acknowledged(&self, object: usize) -> u64 {
        let writes = self.calls.iter().rev().filter(|call| call.object == object);
        let done = writes.filter_map(|call| match call.asked {
            Asked::Write(value) => call.end.map(|end| (end, value)),
            Asked::Read(_) => None,
        });
        done.max().map_or(self.initial[object], |(_, value)| value)
    }

    pub(super) fn reply(&mut self, i: usize, body: u64, done: bool) {
        let open = self.open(i);
        let Some(at) = self.machines[i].calls.iter().position(|call| call.body == body) else { return };
        let waiting = self.machines[i].calls.remove(at);
        self.busy[waiting.client] = false;
        let Some(call) = self.calls.get_mut(waiting.call).filter(|_| done && open) else { return };
        call.end = Some(self.now);
        match (waiting.kind, call.asked) {
            (Kind::Sync, Asked::Write(value)) => self.floor[waiting.object] = self.floor[waiting.object].max(value),
            _ => self.report.acknowledged += 1,
        }
    }

    pub(super) fn put_off(&mut self, i: usize, body: u64) {
        if let Some(call) = self.machines[i].calls.iter_mut().find(|call| call.body == body) {
            call.put_off = true;
        }
    }

    pub(super) fn try_again(&mut self, i: usize) {
        let again: Vec<Waiting> = self.machines[i].calls.iter().filter(|call| call.put_off).copied().collect();
        for call in again {
            if let Some(call) = self.machines[i].calls.iter_mut().find(|c| c.body == call.body) {
                call.put_off = false;
            }
            let object = ObjectId(call.object as u128);
            self.event(i, Event::Change { kind: call.kind, object, also: None, body: Body(call.body) });
        }
    }

    pub(super) fn gives_up(&mut self, client: usize, call: usize) {
        let mine = |w: &Waiting| w.client == client && w.call == call;
        for machine in &mut self.machines {
            if let Some(at) = machine.calls.iter().position(mine) {
                machine.calls.remove(at);
                self.busy[client] = false;
            }
        }
        let waits = self.machines.iter().any(|m| m.calls.iter().any(|w| w.client == client));
        if !waits {
            self.busy[client] = false;
        }
    }
}
