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
        let named = |host: &Host| record.holder(host.me).is_some_and(|holder| holder.inc == host.inc);
        if let Some(host) = self.hosts.iter_mut().find(|host| host.reimaged && named(host)) {
            Rc::make_mut(host).reimaged = false;
        }
        Written::Stored(self.witness)
    }

    pub(super) fn witness_answers(&mut self, settings: &Settings, i: usize) {
        match std::mem::replace(&mut self.asked[i], Asked::Nothing) {
            Asked::Nothing => {}
            Asked::Get if self.away[i] => self.event(settings, i, Event::Read(Read::Unreachable)),
            Asked::Put(..) if self.away[i] => self.event(settings, i, Event::Written(Written::Unknown)),
            Asked::Get => self.event(settings, i, Event::Read(Read::Found(self.witness))),
            Asked::Put(expect, record) => {
                let written = self.put(expect, record);
                self.event(settings, i, Event::Written(written));
            }
        }
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
