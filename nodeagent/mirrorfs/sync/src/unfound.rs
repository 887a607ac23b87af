//! Objects whose ids led nowhere on the source. As a rule they are gone; but the index of ids is a hint, and a crash may have kept
//! an entry from the disk. Such an inode turns up under its name, and then it has to be compared after all.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::object::Object;

/// All of one resync.
#[derive(Default)]
pub struct Unfound(Mutex<HashSet<Object>>);

impl Unfound {
    fn lock(&self) -> MutexGuard<'_, HashSet<Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one. Look for it again after that: who found it by its name a moment before saw no note.
    pub fn note(&self, object: Object) {
        self.lock().insert(object);
    }

    /// It was found by its name, and is in the index now. Returns whether it was looked for in vain before.
    pub fn turned_up(&self, object: Object) -> bool {
        self.lock().remove(&object)
    }

    /// Another resync begins.
    pub fn clear(&self) {
        self.lock().clear();
    }
}
