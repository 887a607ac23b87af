//! The difference log: which objects may differ, or may not be durable, on either node.
//!
//! Two epochs. An object is durably in the log before its first change of an epoch; a mutual checkpoint (both sides did
//! syncfs, cut at a number of the window) ends one: what was touched before the cut is forgotten once BOTH confirmed.
//! Each side keeps its own; after a double crash the union is compared. This module holds the sets and says when they must
//! reach the disk; the slots' layout is `slots`.

use crate::ids::ObjectId;
use crate::message::{Kind, Op};
use crate::slots::{Reader, Slotted, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The objects of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// Those that were touched.
    pub objects: BTreeSet<ObjectId>,
    /// Everything may differ (a replaced disk, an unreadable log, more objects than there is room for).
    pub full: bool,
}

impl Epoch {
    fn absorb(&mut self, other: Epoch) {
        self.objects.extend(other.objects);
        self.full |= other.full;
    }
}

/// The log as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Image {
    /// Since the last cut.
    pub current: Epoch,
    /// Before it, until both sides confirmed.
    pub previous: Epoch,
}

impl Image {
    /// The image to assume when neither slot can be read.
    pub fn unreadable() -> Self {
        Image { current: Epoch { full: true, ..Epoch::default() }, previous: Epoch::default() }
    }

    fn names(&self, object: ObjectId) -> bool {
        [&self.current, &self.previous].iter().any(|epoch| epoch.full || epoch.objects.contains(&object))
    }
}

impl Slotted for Image {
    const MAGIC: [u8; 4] = *b"FMdl";

    fn write(&self, to: &mut Writer) {
        for epoch in [&self.current, &self.previous] {
            to.bool(epoch.full);
            to.u64(epoch.objects.len() as u64);
            epoch.objects.iter().for_each(|object| to.u128(object.0));
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut epoch = || {
            let full = from.bool()?;
            let count = from.u64()?;
            let objects = (0..count).map(|_| from.u128().map(ObjectId)).collect::<Option<_>>()?;
            Some(Epoch { objects, full })
        };
        Some(Image { current: epoch()?, previous: epoch()? })
    }
}

/// The log at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DiffLog {
    now: Image,
    disk: Arc<Image>,
    writing: Option<Arc<Image>>,
    /// `now` is not what was last given out to be written.
    changed: bool,
    room: usize,
}

impl DiffLog {
    /// The log as it was found on disk.
    pub fn new(disk: Image, room: usize) -> Self {
        DiffLog { now: disk.clone(), disk: disk.into(), writing: None, changed: false, room }
    }

    /// Notes that `object` is about to change. True once that is on disk, and will stay there: only then may it change.
    ///
    /// A write that is under way may forget the object (a checkpoint ended): then the one after it has to land first
    /// (`looks_ahead`: the guard stands).
    pub fn touch(&mut self, object: ObjectId, looks_ahead: bool) -> bool {
        if !self.now.current.full && !self.now.current.objects.contains(&object) {
            self.changed = true;
            if self.now.current.objects.len() >= self.room {
                self.now.current = Epoch { full: true, ..Epoch::default() };
            } else {
                self.now.current.objects.insert(object);
            }
        }
        let stays = self.writing.as_ref().is_none_or(|image| image.names(object) || !looks_ahead);
        self.disk.names(object) && stays
    }

    /// Whether the disk's log covers what an operation changes; notes it if not. A barrier and a purge change nothing that counts.
    pub fn covers(&mut self, op: &Op, looks_ahead: bool) -> bool {
        if matches!(op.kind, Kind::Sync | Kind::Purge) {
            return true;
        }
        // Every object is noted, also after one that is not on disk yet: one write is to cover them all.
        op.objects().filter(|object| !self.touch(*object, looks_ahead)).count() == 0
    }

    /// Notes objects that will change before long, so that one write covers them all. In a crowded log they wait for their turn.
    pub fn expect(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        for object in objects {
            if self.is_crowded() {
                return;
            }
            self.changed |= self.now.current.objects.insert(object);
        }
    }

    /// Whether the log names `object` since the last cut, on disk or soon.
    pub fn names(&self, object: ObjectId) -> bool {
        self.now.current.full || self.now.current.objects.contains(&object)
    }

    /// Everything may differ from now on.
    pub fn lose(&mut self) {
        self.now = Image::unreadable();
        self.changed = true;
    }

    /// What to write now, if anything changed and no write is under way.
    pub fn to_write(&mut self) -> Option<Arc<Image>> {
        if self.writing.is_some() || !self.changed {
            return None;
        }
        self.changed = false;
        self.writing = Some(self.now.clone().into());
        self.writing.clone()
    }

    /// The write is on disk.
    pub fn written(&mut self) {
        if let Some(image) = self.writing.take() {
            self.disk = image;
        }
    }

    /// Begins a new epoch: `unfinished` objects stay in it, the rest waits for the confirmation.
    pub fn cut(&mut self, unfinished: impl IntoIterator<Item = ObjectId>) {
        let current = Epoch { objects: unfinished.into_iter().collect(), full: false };
        let before = std::mem::replace(&mut self.now.current, current);
        self.now.previous.absorb(before);
        self.changed = true;
    }

    /// Both sides confirmed the checkpoint.
    pub fn confirm(&mut self, keeps_current: bool) {
        self.now.previous = Epoch::default();
        self.changed = true;
        if !keeps_current {
            self.now.current = Epoch::default();
        }
    }

    /// Whether an early checkpoint would keep the log from overflowing.
    pub fn is_crowded(&self) -> bool {
        self.now.current.full || self.now.current.objects.len() * 4 > self.room * 3
    }

    /// All that may differ as far as this side knows; `None`: everything.
    pub fn touched(&self) -> Option<BTreeSet<ObjectId>> {
        let mut all = self.now.current.clone();
        all.absorb(self.now.previous.clone());
        (!all.full).then_some(all.objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::{decode, encode};

    fn log() -> DiffLog {
        DiffLog::new(Image::default(), 4)
    }

    fn write(log: &mut DiffLog) {
        assert!(log.to_write().is_some());
        log.written();
    }

    #[test]
    fn an_object_may_change_only_once_it_is_on_disk() {
        let mut log = log();
        assert!(!log.touch(ObjectId(1), true));
        let under_way = log.to_write();
        assert!(under_way.is_some());
        assert!(!log.touch(ObjectId(2), true), "touched while a write is under way");
        assert_eq!(log.to_write(), None, "one write at a time");
        log.written();
        assert!(log.touch(ObjectId(1), true) && !log.touch(ObjectId(2), true));
        write(&mut log);
        assert!(log.touch(ObjectId(2), true));
    }

    #[test]
    fn a_checkpoint_forgets_only_what_was_before_the_cut() {
        let mut log = log();
        log.touch(ObjectId(1), true);
        log.cut([ObjectId(2)]);
        log.touch(ObjectId(3), true);
        log.confirm(true);
        assert_eq!(log.touched(), Some([2, 3].map(ObjectId).into()));
    }

    #[test]
    fn a_cut_that_was_never_confirmed_loses_nothing() {
        let mut log = log();
        log.touch(ObjectId(1), true);
        log.cut([]);
        log.touch(ObjectId(2), true);
        log.cut([]);
        assert_eq!(log.touched(), Some([1, 2].map(ObjectId).into()));
    }

    #[test]
    fn too_many_objects_are_all_objects() {
        let mut log = log();
        (0..4).for_each(|n| assert!(!log.touch(ObjectId(n), true)));
        assert!(log.is_crowded() && log.touched().is_some());
        log.touch(ObjectId(9), true);
        assert_eq!(log.touched(), None);
        write(&mut log);
        assert!(log.touch(ObjectId(77), true), "all objects are on disk");
    }

    #[test]
    fn what_is_expected_is_written_at_once_and_never_crowds_the_log() {
        let mut log = log();
        log.expect((1..=9).map(ObjectId));
        assert!(log.names(ObjectId(4)) && !log.names(ObjectId(5)), "up to where an early checkpoint is due");
        assert!(!log.touch(ObjectId(2), true), "noted, and not on disk yet");
        write(&mut log);
        assert!(log.touch(ObjectId(2), true));
        log.expect([ObjectId(2)]);
        assert_eq!(log.to_write(), None, "nothing new");
    }

    #[test]
    fn an_image_comes_back_from_its_slot() {
        let mut log = log();
        log.touch(ObjectId(1), true);
        log.cut([ObjectId(5)]);
        let image = log.to_write().expect("changed");
        assert_eq!(decode(&encode(1, &*image)), Some((1, Arc::unwrap_or_clone(image))));
    }

    #[test]
    fn an_object_that_a_write_under_way_forgets_is_not_logged_yet() {
        let mut log = log();
        log.touch(ObjectId(1), true);
        write(&mut log);
        log.cut([]);
        log.confirm(true);
        assert!(log.to_write().is_some(), "the object is being forgotten");
        assert!(!log.touch(ObjectId(1), true));
        log.written();
        assert!(!log.touch(ObjectId(1), true));
        write(&mut log);
        assert!(log.touch(ObjectId(1), true));
    }
}
