//! The way to the witness and back: away, slow, answers lost after they took effect.

use super::*;

impl Sim {
    pub(super) fn put_leaves(&mut self, i: usize, life: u64, expect: u64, record: Record) {
        let answered = self.calm || !self.rng.chance(80);
        let late = !self.calm && self.rng.chance(80);
        let delay = if late { self.rng.between(100, 3_000) } else { self.rng.between(2, 20) };
        if late || !answered {
            self.after(200, What::Answered { i, life, event: Box::new(Event::Written(Written::Unknown)) });
        }
        let answered = answered && !late;
        self.after(delay, What::Put { i, life, expect, record, answered });
    }

    pub(super) fn put_arrives(&mut self, i: usize, life: u64, expect: u64, record: Record, answered: bool) {
        if self.witness_away {
            if answered {
                self.after(150, What::Answered { i, life, event: Box::new(Event::Written(Written::Unknown)) });
            }
            return;
        }
        let written = self.witness.map_or(Written::Conflict, |old| replace(&old, expect, record));
        if let (Written::Stored(new), Some(old)) = (&written, self.witness) {
            self.stored(old, *new);
        }
        if answered {
            let delay = self.rng.between(1, 10);
            self.after(delay, What::Answered { i, life, event: Box::new(Event::Written(written)) });
        }
    }

    pub(super) fn get_arrives(&mut self, i: usize, life: u64) {
        let (read, delay) = match self.witness {
            _ if self.witness_away => (Read::Unreachable, 150),
            Some(record) => (Read::Found(record), 5),
            None => (Read::Absent, 5),
        };
        self.after(delay, What::Answered { i, life, event: Box::new(Event::Read(read)) });
    }

    fn stored(&mut self, old: Record, new: Record) {
        self.backup = old;
        self.witness = Some(new);
        if new.forced.is_some() && new.forced != old.forced {
            self.new_history(usize::from(new.primary.node == NodeId(2)), false);
        }
        self.report.generations = self.report.generations.max(new.generation.0);
        let other = new.other.map_or("-", |o| letter_of(o.node));
        self.tell(|_| format!("W g{} primary {} other {other}", new.generation.0, letter_of(new.primary.node)));
    }
}
