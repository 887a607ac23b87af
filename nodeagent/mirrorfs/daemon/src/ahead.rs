//! What the difference log is told before it is due: the files that are likely to be made and written next.
//!
//! A file's first change waits until the log names it on the disk. New files come with ids in blocks (`FileId::to_come`), so
//! that the first one of a block can name them all, on both sides, in one write. Told in vain, the log names what never was.

use mirror_core::Event;
use mirror_core::ids::ObjectId;
use mirrorfs_fs::op::Op;
use mirrorfs_sync::object::{Object, changed};

use crate::driver::{Driver, Inner};

/// Tells the core what `op` says about changes to come.
pub fn look_ahead(driver: &Driver, inner: &mut Inner, tree: u16, op: &Op<'_>) {
    let (Op::Create { birth, .. } | Op::Tmpfile { birth, .. }) = op else { return };
    let object = |id| ObjectId::from(Object { tree, id });
    if inner.node.logs(object(birth.id)) {
        return;
    }
    // The directory with them, so that it does not wait for a second write.
    let objects = std::iter::once(changed(op).0).chain(birth.id.to_come()).map(object).collect();
    driver.step(inner, Event::Expect { objects });
}
