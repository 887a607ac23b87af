//! Modification times that were decided but not yet set on the file.
//!
//! Both copies show the same mtime for a write: the one that the operation carries. Setting it at each write would
//! cost a system call a write, so it is kept here and set at close, fsync and shutdown (the secondary: also when the
//! room is used up); whoever asks for attributes before that gets the kept time. Bounded. A time is set under its lock:
//! a close comes when it likes, also beside the next write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::FileId;
use crate::op::Time;

const SHARDS: usize = 16;
const SHARD_ROOM: usize = 256;

/// The times that wait.
pub struct LateTimes {
    shards: Vec<Mutex<HashMap<FileId, Time>>>,
}

impl Default for LateTimes {
    fn default() -> Self {
        LateTimes { shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect() }
    }
}

impl LateTimes {
    /// `id` was modified at `time`. Where there is no more room, `set` puts the times that waited on their files.
    pub fn keep(&self, id: FileId, time: Time, mut set: impl FnMut(FileId, Time)) {
        let mut shard = self.shard(id);
        if shard.len() >= SHARD_ROOM && !shard.contains_key(&id) {
            shard.drain().for_each(|(id, time)| set(id, time));
        }
        shard.insert(id, time);
    }

    /// What `look` sees of the file, and the kept time, if any: as of one moment.
    pub fn beside<T>(&self, id: FileId, look: impl FnOnce() -> T) -> (T, Option<Time>) {
        let shard = self.shard(id);
        (look(), shard.get(&id).copied())
    }

    /// Has `set` put the kept time, if any, on the file. Nobody sees the file without either, or sets an older one after it.
    ///
    /// # Errors
    /// What `set` says; the time is kept then.
    pub fn settle<E>(&self, id: FileId, set: impl FnOnce(Time) -> Result<(), E>) -> Result<(), E> {
        let mut shard = self.shard(id);
        shard.get(&id).map_or(Ok(()), |time| set(*time))?;
        shard.remove(&id);
        Ok(())
    }

    /// As `settle`, for everything.
    ///
    /// # Errors
    /// What `set` says first; that time and those after it are kept.
    pub fn settle_all<E>(&self, mut set: impl FnMut(FileId, Time) -> Result<(), E>) -> Result<(), E> {
        for shard in &self.shards {
            let mut shard = lock(shard);
            while let Some((id, time)) = shard.iter().next().map(|(id, time)| (*id, *time)) {
                set(id, time)?;
                shard.remove(&id);
            }
        }
        Ok(())
    }

    /// Forgets the kept time: it no longer counts.
    pub fn forget(&self, id: FileId) {
        self.shard(id).remove(&id);
    }

    fn shard(&self, id: FileId) -> MutexGuard<'_, HashMap<FileId, Time>> {
        lock(&self.shards[id.0 as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<HashMap<FileId, Time>>) -> MutexGuard<'_, HashMap<FileId, Time>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Time = Time { sec: 1, nsec: 0 };
    const LATE: Time = Time { sec: 2, nsec: 0 };

    fn kept(times: &LateTimes, id: FileId) -> Option<Time> {
        times.beside(id, || ()).1
    }

    #[test]
    fn what_could_not_be_set_still_waits() {
        let (times, id) = (LateTimes::default(), FileId(7));
        times.keep(id, EARLY, |_, _| panic!("there is room"));
        times.keep(id, LATE, |_, _| panic!("it takes the room of the one before"));
        assert_eq!(times.settle(id, |_| Err("no")), Err("no"));
        assert_eq!(times.settle_all(|_, _| Err("no")), Err("no"));
        assert_eq!(kept(&times, id), Some(LATE));
        assert_eq!(times.settle(id, |time| if time == LATE { Ok(()) } else { Err("another time") }), Ok(()));
        assert_eq!(kept(&times, id), None);
    }

    #[test]
    fn without_room_what_waited_is_set() {
        let times = LateTimes::default();
        let ids = (0..=SHARD_ROOM).map(|number| FileId((number * SHARDS) as u128));
        let mut set = Vec::new();
        for id in ids {
            times.keep(id, EARLY, |id, _| set.push(id));
        }
        assert_eq!(set.len(), SHARD_ROOM);
        assert_eq!(kept(&times, FileId((SHARD_ROOM * SHARDS) as u128)), Some(EARLY));
    }
}
