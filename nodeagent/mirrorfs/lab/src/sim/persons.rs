//! What people do: orders that change who is primary, a witness that is deleted or put back, a machine that is replaced.

use super::*;

impl Sim {
    /// An Operation forces this node. The person means it: the other machine is off, and stays so for a while.
    pub(super) fn force(&mut self, i: usize) {
        if self.machines[1 - i].host.node.is_some() || self.open(1 - i) {
            return;
        }
        self.tell(|_| format!("{} is forced", letter(i)));
        self.machines[1 - i].off_until = self.now + 3_000;
        let order = Order::Force { operation: self.operation(), confirmed_off: true, peer_lease_fresh: false };
        self.event(i, Event::Order(order));
    }

    fn operation(&mut self) -> OperationId {
        OperationId(1_000 + u128::from(self.rng.below(1 << 40)))
    }

    /// Half of the site is without power and the witness without a network; a person comes to the machine that is left.
    pub(super) fn cut_power_and_witness(&mut self, i: usize) {
        if self.machines[i].host.role() != Some(RoleName::Prim) {
            return;
        }
        self.tell(|_| format!("{} is left alone, without a witness", letter(i)));
        self.witness_away = true;
        self.kill(1 - i, true);
        self.machines[1 - i].off_until = self.now + 7_000;
        self.after(10, What::Start(1 - i));
        self.after(1_500, What::ForceLocal(i));
        self.after(4_000, What::HealWitness);
    }

    pub(super) fn force_local(&mut self, i: usize) {
        let off = self.machines[1 - i].host.node.is_none() && !self.open(1 - i);
        if !off || self.machines[i].host.role() != Some(RoleName::Frozen) {
            return;
        }
        self.tell(|_| format!("a person at {} says that its peer is off", letter(i)));
        let operation = self.operation();
        // They can't see that the record has long named the other machine: what that one acknowledged is not here.
        if self.machines[i].host.node.as_ref().is_some_and(|node| node.generation() < self.truth.generation) {
            self.new_history(i, false);
        }
        self.fork = Some((i, mirror_core::ids::Lineage(operation.0)));
        self.event(i, Event::Order(Order::ForceLocal { operation }));
    }

    /// The other machine is dead for good: the one that is left is told who takes its place.
    pub(super) fn replace(&mut self, i: usize, back: i64) {
        let alone = self.machines[i].host.role() == Some(RoleName::Alone);
        if !alone || self.machines[1 - i].host.node.is_some() {
            return;
        }
        self.tell(|_| format!("{} is to be replaced", letter(1 - i)));
        let old = self.machines[1 - i].host.me;
        self.machines[1 - i].off_until = self.now + back;
        self.event(i, Event::Order(Order::ReplacePeer { new: NodeId(old.0 + 2) }));
    }

    /// The record has a new member: its machine comes; sometimes the old one wakes up before.
    pub(super) fn members_changed(&mut self, members: [NodeId; 2]) {
        for i in 0..2 {
            if !members.contains(&self.machines[i].host.me) {
                let pause = self.rng.between(100, 3_000);
                self.after(pause, What::Newcomer(i));
            }
        }
    }

    pub(super) fn newcomer(&mut self, i: usize) {
        let Some(new) = self.named(i).filter(|new| *new != self.machines[i].host.me) else { return };
        self.tell(|_| format!("a new machine takes the place of {}", letter(i)));
        self.kill(i, true);
        self.machines[i].become_new(new, self.machines[1 - i].host.me);
        // Who reads its own configuration anew knows it; who does not learns it from the record.
        if self.rng.chance(500) {
            self.machines[1 - i].host.peer = new;
        }
        self.after(10, What::Start(i));
    }

    /// Which member the record names in this place.
    fn named(&self, i: usize) -> Option<NodeId> {
        self.truth.members.into_iter().find(|member| index(*member) == i)
    }

    pub(super) fn delete_witness(&mut self, back: i64) {
        self.tell(|_| "the witness is deleted for a while".into());
        self.witness = None;
        self.after(back, What::HealWitness);
    }

    /// etcd is put back to the state before the last change. Where a node was behind that state nobody could notice, so
    /// only where both have the newest generation on disk.
    pub(super) fn restore_witness(&mut self, back: i64) {
        let newest = |machine: &Machine| {
            let node = machine.host.node.as_ref();
            node.is_some_and(|node| node.generation() == self.truth.generation && !node.has_open_cas())
        };
        let Some(record) = self.witness.filter(|_| self.machines.iter().all(newest)) else { return };
        self.tell(|sim| format!("etcd is put back to g{}", sim.backup.generation.0));
        self.witness = Some(Record { version: record.version + 1, uid: record.uid, ..self.backup });
        self.after(back, What::Recreate);
    }

    /// A person sees that the record is gone or old, and has it created as it was last.
    pub(super) fn recreate_witness(&mut self) {
        if self.witness.is_some_and(|record| record.generation == self.truth.generation) {
            return;
        }
        self.uids += 1;
        let version = self.witness.unwrap_or(self.truth).version.max(self.truth.version) + 1;
        self.truth = Record { uid: self.uids, version, ..self.truth };
        self.witness = Some(self.truth);
        self.tell(|_| "the witness is created again".into());
    }

    /// A halted node says so; the person knows which record is the right one, and orders until it is heard.
    pub(super) fn answer_halted(&mut self, i: usize) {
        if self.machines[i].host.node.as_ref().is_none_or(|node| node.halted().is_none()) {
            return;
        }
        if self.witness == Some(self.truth) {
            self.event(i, Event::Order(Order::RecreatedWitness { uid: self.truth.uid }));
        }
        self.after(500, What::AnswerHalted(i));
    }

    pub(super) fn heal_witness(&mut self) {
        self.witness_away = false;
        if self.witness.is_some() {
            return;
        }
        if self.rng.chance(500) {
            return self.recreate_witness();
        }
        self.witness = Some(self.truth);
    }
}
