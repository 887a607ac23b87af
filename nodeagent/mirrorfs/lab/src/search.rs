//! Breadth-first search of everything that can happen within a budget. The real core, hashed states, shortest counterexamples.

use crate::world::{Budget, Step, World};
use mirror_core::Settings;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Different states seen.
    pub states: usize,
    /// Steps taken.
    pub steps: usize,
    /// The longest shortest path.
    pub depth: usize,
    /// Everything within the budget was seen.
    pub exhausted: bool,
    /// The first violation and how to get there.
    pub violation: Option<(String, Vec<Step>)>,
    /// How many states were followed to their good end.
    pub followed: usize,
}

/// A fast 64-bit hash (FxHash's multiply and rotate, finished well); two with different seeds make 128 bits.
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 32
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Mix(0x243f_6a88_85a3_08d3);
    world.hash(&mut hasher);
    hasher.finish()
}

/// Keys are fingerprints already.
#[derive(Default, Clone, Copy)]
struct Ready(u64);
impl Hasher for Ready {
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
type Seen = HashSet<u64, std::hash::BuildHasherDefault<Ready>>;

/// Searches from `start` within `budget`, at most `limit` states; every `follow`-th state is followed to its end (0: none).
pub fn search(settings: &Settings, start: &World, budget: Budget, limit: usize, follow: u64) -> Found {
    let mut first = start.clone();
    first.left = budget;
    let mut seen = Seen::default();
    seen.insert(fingerprint(&first));
    let mut trail: Vec<(u32, Step)> = vec![(0, Step::Advance)];
    let mut level = vec![(0u32, first)];
    let mut found = Found { states: 1, ..Found::default() };
    while !level.is_empty() {
        let mut next = Vec::new();
        for (at, world) in level {
            for step in world.steps() {
                let mut after = world.clone();
                after.take(settings, step);
                found.steps += 1;
                let print = fingerprint(&after);
                if after.left.versions == 0 || !seen.insert(print) {
                    continue;
                }
                trail.push((at, step));
                let index = u32::try_from(trail.len() - 1).unwrap_or(u32::MAX);
                found.states += 1;
                let followed = follow > 0 && print.is_multiple_of(follow);
                found.followed += usize::from(followed);
                let broken = after.violation(settings);
                let stuck =
                    || (followed && !after.ends_well(settings)).then(|| "A1: nobody serves in the end".to_string());
                if let Some(reason) = broken.or_else(stuck) {
                    found.violation = Some((reason, path(&trail, index)));
                    found.depth += 1;
                    return found;
                }
                if found.states >= limit {
                    return found;
                }
                next.push((index, after));
            }
        }
        found.depth += usize::from(!next.is_empty());
        level = next;
    }
    found.exhausted = true;
    found
}

fn path(trail: &[(u32, Step)], mut at: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    while at != 0 {
        let (parent, step) = trail[at as usize];
        steps.push(step);
        at = parent;
    }
    steps.reverse();
    steps
}

/// The path as a person reads it.
pub fn explain(settings: &Settings, start: &World, budget: Budget, steps: &[Step]) -> String {
    let mut world = start.clone();
    world.left = budget;
    let mut text = format!("{:24} {world}\n", "start");
    for step in steps {
        world.take(settings, *step);
        text += &format!("{:24} {world}\n", format!("{step:?}"));
    }
    text
}
