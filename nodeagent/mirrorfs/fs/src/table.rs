//! The inodes that the kernel knows: node id to file id and handle, in as few bytes as will do.
//!
//! No descriptor is kept for a looked-up inode (a machine may allow 20,000, a tree has millions): its handle opens
//! it when needed. 64 bytes an inode and about 9 for finding it by handle. Node ids carry the slot's generation, so a
//! late request for a forgotten inode can't reach the slot's next tenant.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::id::FileId;
use crate::sys::Handle;

const SHARD_BITS: u32 = 4;
const INDEX_BITS: u32 = 32;
const CHUNK: usize = 1024;

/// Bits of `Node::flags`.
pub mod flag {
    /// No name leads here any more: the peer has dropped it, changes stay local.
    pub const ORPHAN: u8 = 1;
    /// A nameless file (O_TMPFILE) that may still get a name.
    pub const NAMELESS: u8 = 2;
}

/// What is known of an inode, copied out.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub nodeid: u64,
    pub id: FileId,
    pub handle: Handle,
    /// The inode's place among the excluded paths (`exclude`).
    pub place: u16,
    pub flags: u8,
}

struct Slot {
    id: FileId,
    /// How many lookups the kernel has not forgotten; 0: the slot is free.
    lookups: u64,
    handle: Handle,
    generation: u32,
    place: u16,
    flags: u8,
}

#[derive(Default)]
struct Shard {
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    by_handle: HashTable<u32>,
}

/// All looked-up inodes.
pub struct Table {
    shards: Vec<Mutex<Shard>>,
    hasher: DefaultHashBuilder,
}

impl Default for Table {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(1 << SHARD_BITS).collect();
        Table { shards, hasher: DefaultHashBuilder::default() }
    }
}

impl Table {
    /// The inode with this handle, if the kernel knows it. Counts no lookup.
    pub fn find(&self, handle: &Handle) -> Option<Node> {
        let (hash, shard) = self.shard_of(handle);
        let inner = self.lock(shard);
        let index = *inner.by_handle.find(hash, |index| inner.slot(*index).handle == *handle)?;
        Some(inner.node(shard, index))
    }

    /// Counts one lookup of the inode with this handle, which becomes known if it was not.
    pub fn enter(&self, handle: Handle, id: FileId, place: u16) -> Node {
        let (hash, shard) = self.shard_of(&handle);
        let mut inner = self.lock(shard);
        let known = inner.by_handle.find(hash, |index| inner.slot(*index).handle == handle).copied();
        let index = known.unwrap_or_else(|| {
            let index = inner.allocate();
            let slot = inner.slot_mut(index);
            (slot.id, slot.handle, slot.place, slot.flags) = (id, handle, place, 0);
            let Shard { chunks, by_handle, .. } = &mut *inner;
            by_handle.insert_unique(hash, index, |other| {
                self.hasher.hash_one(chunks[*other as usize / CHUNK][*other as usize % CHUNK].handle)
            });
            index
        });
        inner.slot_mut(index).lookups += 1;
        inner.node(shard, index)
    }

    /// The inode behind a node id.
    pub fn get(&self, nodeid: u64) -> Option<Node> {
        let (shard, index, generation) = split(nodeid);
        let inner = self.lock(shard);
        let slot = inner.live(index, generation)?;
        Some(Node { nodeid, id: slot.id, handle: slot.handle, place: slot.place, flags: slot.flags })
    }

    /// The kernel drops `count` lookups.
    pub fn forget(&self, nodeid: u64, count: u64) {
        let (shard, index, generation) = split(nodeid);
        let mut inner = self.lock(shard);
        let Some(slot) = inner.live(index, generation) else { return };
        let (left, handle) = (slot.lookups.saturating_sub(count), slot.handle);
        let slot = inner.slot_mut(index);
        slot.lookups = left;
        if left == 0 {
            slot.generation = slot.generation.wrapping_add(1).max(1) & GENERATION_MASK;
            if let Ok(entry) = inner.by_handle.find_entry(self.hasher.hash_one(handle), |other| *other == index) {
                entry.remove();
            }
            inner.free.push(index);
        }
    }

    /// Sets and clears flags of an inode, if the kernel knows it.
    pub fn mark(&self, handle: &Handle, set: u8, clear: u8) {
        let (hash, shard) = self.shard_of(handle);
        let mut inner = self.lock(shard);
        if let Some(index) = inner.by_handle.find(hash, |index| inner.slot(*index).handle == *handle).copied() {
            let slot = inner.slot_mut(index);
            slot.flags = slot.flags & !clear | set;
        }
    }

    /// How many inodes the kernel knows, and how many bytes they take here.
    pub fn usage(&self) -> (usize, usize) {
        self.shards.iter().enumerate().fold((0, 0), |(count, bytes), (shard, _)| {
            let inner = self.lock(shard);
            let slots = inner.chunks.len() * CHUNK * size_of::<Slot>() + inner.free.capacity() * 4;
            (count + inner.by_handle.len(), bytes + slots + inner.by_handle.allocation_size())
        })
    }

    fn shard_of(&self, handle: &Handle) -> (u64, usize) {
        let hash = self.hasher.hash_one(handle);
        (hash, (hash >> 32) as usize & ((1 << SHARD_BITS) - 1))
    }

    /// Nothing under the lock can panic half-way, so a poisoned lock holds a whole shard.
    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const GENERATION_MASK: u32 = (1 << (64 - INDEX_BITS - SHARD_BITS)) - 1;

fn split(nodeid: u64) -> (usize, u32, u32) {
    let shard = (nodeid & ((1 << SHARD_BITS) - 1)) as usize;
    let index = (nodeid >> SHARD_BITS) as u32;
    (shard, index, (nodeid >> (INDEX_BITS + SHARD_BITS)) as u32)
}

impl Shard {
    fn slot(&self, index: u32) -> &Slot {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn live(&self, index: u32, generation: u32) -> Option<&Slot> {
        let slot = self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)?;
        (slot.lookups > 0 && slot.generation == generation).then_some(slot)
    }

    fn node(&self, shard: usize, index: u32) -> Node {
        let slot = self.slot(index);
        let nodeid =
            u64::from(slot.generation) << (INDEX_BITS + SHARD_BITS) | u64::from(index) << SHARD_BITS | shard as u64;
        Node { nodeid, id: slot.id, handle: slot.handle, place: slot.place, flags: slot.flags }
    }

    fn allocate(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        let handle = Handle { kind: 0, len: 0, bytes: [0; crate::sys::HANDLE_MAX] };
        // Generation 0 is left out: slot 0 of shard 1 would be the root's node id.
        chunk.push(Slot { id: FileId::ROOT, lookups: 0, handle, generation: 1, place: 0, flags: 0 });
        (at * CHUNK + chunk.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(n: u32) -> Handle {
        let mut bytes = [0; crate::sys::HANDLE_MAX];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Handle { kind: 1, len: 8, bytes }
    }

    #[test]
    fn an_inode_is_known_until_every_lookup_is_forgotten() {
        let table = Table::default();
        let first = table.enter(handle(1), FileId(7), 3);
        assert_eq!(table.enter(handle(1), FileId(7), 3).nodeid, first.nodeid);
        table.forget(first.nodeid, 1);
        assert_eq!(table.get(first.nodeid).map(|n| (n.id, n.place)), Some((FileId(7), 3)));
        table.forget(first.nodeid, 1);
        assert!(table.get(first.nodeid).is_none());
        assert!(table.find(&handle(1)).is_none());
    }

    #[test]
    fn a_slots_next_tenant_has_another_node_id() {
        let table = Table::default();
        let old = table.enter(handle(1), FileId(7), 0);
        table.forget(old.nodeid, 1);
        let new = table.enter(handle(1), FileId(8), 0);
        assert_ne!(old.nodeid, new.nodeid);
        table.forget(old.nodeid, 1);
        assert_eq!(table.get(new.nodeid).map(|n| n.id), Some(FileId(8)));
    }

    /// The goal is 150 bytes for each looked-up inode.
    #[test]
    fn a_million_inodes_take_less_than_a_hundred_bytes_each() {
        let table = Table::default();
        for n in 0..1_000_000 {
            table.enter(handle(n), FileId(u128::from(n)), 0);
        }
        let (count, bytes) = table.usage();
        println!("{count} inodes, {} bytes each", bytes / count);
        assert_eq!(count, 1_000_000);
        assert!(bytes / count < 100, "{}", bytes / count);
    }
}
