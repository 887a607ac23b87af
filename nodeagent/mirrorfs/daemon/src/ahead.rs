//! What the difference log is told before it is due: what an operation is about to change, and the files that are likely to be
//! made and written next.
//!
//! An object's first change waits until the log names it on the disk. Told before the operation is sent, this side's log is
//! written while the peer is at work. New files come with ids in blocks (`FileId::to_come`), so that the first one of a block
//! can name them all, on both sides, in one write. Told in vain, the log names what never changed.

use mirror_core::Event;
use mirror_core::ids::ObjectId;
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::op::Op;
use mirrorfs_sync::object::{Object, changed};

use crate::driver::{Driver, Inner};

/// Tells the core what `op` says about changes to come.
pub fn look_ahead(driver: &Driver, inner: &mut Inner, tree: u16, op: &Op<'_>) {
    if matches!(op, Op::Sync { .. }) {
        return;
    }
    let object = |id| ObjectId::from(Object { tree, id });
    let born = match op {
        Op::Create { birth, .. } | Op::Tmpfile { birth, .. } => Some(birth.id),
        _ => None,
    };
    let (first, second) = changed(op);
    let now = [Some(first), second, born].into_iter().flatten();
    if now.clone().all(|id| inner.node.logs(object(id))) {
        return;
    }
    // All in one write: what is changed now must not wait for a second one.
    let objects = now.chain(born.into_iter().flat_map(FileId::to_come)).map(object).collect();
    driver.step(inner, Event::Expect { objects });
}
