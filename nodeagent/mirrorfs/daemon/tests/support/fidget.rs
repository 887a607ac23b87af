//! A program at work on small files, for tests that want changes under way.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::random::Random;

/// Tells programs to stop when it goes, also where a test fails: nobody would wait for their end else.
pub struct Stop<'s>(pub &'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works in one folder until it is told to stop.
pub fn fidget(folder: &Path, stop: &AtomicBool, seed: u64) {
    let mut random = Random::new(seed);
    std::fs::create_dir_all(folder.join("deeper")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let name = |n: u64| if n.is_multiple_of(3) { format!("deeper/{n}") } else { format!("{n}") };
        let (one, other) = (folder.join(name(random.below(40))), folder.join(name(random.below(40))));
        let length = random.below(90_000) as usize;
        // What is not there any more, or there already, is an earlier round's.
        let _ = match random.below(6) {
            0..=2 => std::fs::write(&one, random.bytes(length)),
            3 => std::fs::rename(&one, &other),
            4 => std::fs::remove_file(&one),
            _ => std::fs::hard_link(&one, &other),
        };
    }
}
