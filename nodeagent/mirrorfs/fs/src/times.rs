//! Modification times that were decided but not yet set on the file.
//!
//! Both copies show the same mtime for a write: the one that the operation carries. Setting it at each write would
//! cost a system call a write, so it is kept here and set at close, fsync and shutdown (the secondary: also when the
//! room is used up); whoever asks for attributes before that gets the kept time. Bounded.

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
    /// `id` was modified at `time`. Returns the times that have to be set now because there is no more room.
    #[must_use = "times that fell out must be set on their files"]
    pub fn keep(&self, id: FileId, time: Time) -> Vec<(FileId, Time)> {
        let mut shard = self.shard(id);
        let surplus =
            if shard.len() >= SHARD_ROOM && !shard.contains_key(&id) { shard.drain().collect() } else { Vec::new() };
        shard.insert(id, time);
        surplus
    }

    /// The kept time, if any.
    pub fn get(&self, id: FileId) -> Option<Time> {
        self.shard(id).get(&id).copied()
    }

    /// Takes the kept time out, to be set on the file or because it no longer counts.
    pub fn take(&self, id: FileId) -> Option<Time> {
        self.shard(id).remove(&id)
    }

    /// Takes out everything.
    pub fn drain(&self) -> Vec<(FileId, Time)> {
        self.shards.iter().flat_map(|shard| lock(shard).drain().collect::<Vec<_>>()).collect()
    }

    fn shard(&self, id: FileId) -> MutexGuard<'_, HashMap<FileId, Time>> {
        lock(&self.shards[id.0 as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<HashMap<FileId, Time>>) -> MutexGuard<'_, HashMap<FileId, Time>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
