//! What the core counts by, in the file system's terms: a replicated directory's number and a file id in it.

use mirror_core::ids::ObjectId;
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::op::Op;

/// Above these bits of an object's name stands the number of the replicated directory.
const ID_BITS: u32 = FileId::BITS;

/// A file or directory of a mirror.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Object {
    /// Which replicated directory, in the configuration's order.
    pub tree: u16,
    /// Which inode in it.
    pub id: FileId,
}

impl From<Object> for ObjectId {
    fn from(object: Object) -> ObjectId {
        ObjectId(u128::from(object.tree) << ID_BITS | object.id.0)
    }
}

impl Object {
    /// `None` for a name that no file can have.
    pub fn from_core(object: ObjectId) -> Option<Object> {
        let tree = u16::try_from(object.0 >> ID_BITS).ok()?;
        let id = object.0 & ((1 << ID_BITS) - 1);
        (id != 0).then_some(Object { tree, id: FileId(id) })
    }
}

/// What an operation changes: one object, and a second one for a rename between directories.
pub fn changed(op: &Op<'_>) -> (FileId, Option<FileId>) {
    match *op {
        Op::Create { entry, .. } | Op::Link { entry, .. } | Op::Unlink { entry, .. } | Op::Adopt { entry, .. } => {
            (entry.parent, None)
        }
        Op::Rename { from, to, .. } => (from.parent, (from.parent != to.parent).then_some(to.parent)),
        // A nameless file is its own: no directory shows it.
        Op::Tmpfile { birth, .. } => (birth.id, None),
        Op::Copy { to, .. } => (to, None),
        Op::Discard { id }
        | Op::Write { id, .. }
        | Op::SetAttr { id, .. }
        | Op::Allocate { id, .. }
        | Op::SetXattr { id, .. }
        | Op::RemoveXattr { id, .. }
        | Op::Sync { id, .. } => (id, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_directory_and_its_file() {
        for object in [Object { tree: 0, id: FileId::ROOT }, Object { tree: u16::MAX, id: FileId((1 << 112) - 1) }] {
            assert_eq!(Object::from_core(object.into()), Some(object));
        }
        assert_eq!(Object::from_core(ObjectId(5 << ID_BITS)), None);
    }
}
