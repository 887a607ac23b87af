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
        if self.witness_away || self.machines[i].far {
            if answered {
                self.after(150, What::Answered { i, life, event: Box::new(Event::Written(Written::Unknown)) });
            }
            return;
        }
        let blind = self.planted(Outside::NoCompareAndSwap);
        let expected = |old: &Record| if blind { old.version } else { expect };
        let written = self.witness.map_or(Written::Conflict, |old| replace(&old, expected(&old), record));
        if let (Written::Stored(new), Some(old)) = (&written, self.witness) {
            self.stored(old, *new);
        }
        if answered {
            let delay = self.rng.between(1, 10);
            self.after(delay, What::Answered { i, life, event: Box::new(Event::Written(written)) });
        }
    }

    pub(super) fn get_arrives(&mut self, i: usize, life: u64) {
        let slow = self.weather.sluggish && !self.calm;
        let delay = if slow { self.rng.between(5, 149) } else { 5 };
        let (read, delay) = match self.witness {
            _ if self.witness_away || self.machines[i].far => (Read::Unreachable, 150),
            Some(record) if self.planted(Outside::StaleReads) => {
                (Read::Found(Record { uid: record.uid, ..self.backup }), 5)
            }
            Some(record) => (Read::Found(record), delay),
            None => (Read::Absent, delay),
        };
        self.after(delay, What::Answered { i, life, event: Box::new(Event::Read(read)) });
    }

    fn stored(&mut self, old: Record, new: Record) {
        self.backup = old;
        self.truth = new;
        self.witness = Some(new);
        let primary = index(new.primary.node);
        let forced = new.forced.is_some() && new.forced != old.forced;
        match self.fork {
            // What a person forced on the machine itself is recorded: its history is the one that goes on.
            Some((i, lineage)) if primary == i && lineage == new.lineage => self.fork = None,
            // The other machine went on as the record allowed: what the forced one served is the person's loss.
            Some((i, _)) if primary != i => {
                self.fork = None;
                self.new_history(primary, false);
            }
            _ if forced => self.new_history(primary, false),
            _ => {}
        }
        if new.members != old.members {
            self.members_changed(new.members);
        }
        self.report.generations = self.report.generations.max(new.generation.0);
        let other = new.other.map_or("-", |o| letter(index(o.node)));
        self.tell(|_| format!("W g{} primary {} other {other}", new.generation.0, letter(index(new.primary.node))));
    }
}
