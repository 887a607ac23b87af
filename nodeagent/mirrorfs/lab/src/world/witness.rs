//! The API server of the searched world: its answers, lost answers, and PUTs that land late.

use super::*;

impl World {
    /// The API server: a replace with the expected version that the rules allow.
    pub(super) fn put(&mut self, expect: u64, record: Record) -> Written {
        let written = replace(&self.witness, expect, record);
        let Written::Stored(stored) = written else { return written };
        self.backup = std::mem::replace(&mut self.witness, stored);
        self.history.push((record.generation, record.primary.node));
        self.left.versions = self.left.versions.saturating_sub(1);
        // What expects an older version can never take effect any more.
        let version = self.witness.version;
        self.late.retain(|(expect, _)| *expect == version);
        // Only the other side, which made it equal, or a person can say of a copy that was not that it is whole.
        let made_equal = record.other.filter(|other| self.hosts.iter().any(|host| host.inc == other.inc));
        let forced = record.forced.map(|_| record.primary);
        for i in 0..2 {
            let host = &self.hosts[i];
            let named = [made_equal, forced].into_iter().flatten().any(|holder| holder.inc == host.inc);
            // It was made equal before the daemon was restarted: its mark says so.
            let marked = record.holder(host.me).is_some()
                && host.state.is_some_and(|state| state.joining == Some(record.generation));
            if named || marked {
                (self.removed[i], self.mixed[i]) = (false, false);
            }
            // A person speaks of the member's copy, whichever life of it asked for the record.
            if forced.is_some_and(|primary| primary.node == host.me) && !host.reimaged {
                self.removed[i] = false;
            }
            if named && self.hosts[i].reimaged {
                self.host(i).reimaged = false;
            }
        }
        Written::Stored(self.witness)
    }

    pub(super) fn witness_answers(&mut self, settings: &Settings, i: usize) {
        let answer = match std::mem::replace(&mut self.asked[i], Asked::Nothing) {
            Asked::Nothing => return,
            Asked::Get if self.away[i] => Event::Read(Read::Unreachable),
            Asked::Put(..) if self.away[i] => Event::Written(Written::Unknown),
            Asked::Get => Event::Read(Read::Found(self.witness)),
            Asked::Put(expect, record) => Event::Written(self.put(expect, record)),
            Asked::Answered(answer) => answer,
        };
        if self.paused[i] {
            self.asked[i] = Asked::Answered(answer);
            return;
        }
        if let Event::Read(Read::Found(record)) = &answer
            && record.holder(self.hosts[i].me).is_none()
        {
            self.removed[i] = true;
        }
        self.event(settings, i, answer);
    }

    pub(super) fn witness_unknown(&mut self, settings: &Settings, i: usize, landed: bool) {
        self.left.unknowns -= 1;
        if let Asked::Put(expect, record) = std::mem::replace(&mut self.asked[i], Asked::Nothing) {
            if landed {
                self.put(expect, record);
            } else if expect == self.witness.version && !self.late.contains(&(expect, record)) {
                self.late.push((expect, record));
            }
        }
        self.event(settings, i, Event::Written(Written::Unknown));
    }
}
