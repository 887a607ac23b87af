//! The API server as both worlds know it: the first record, and a replace that its rules allow. No network, no delay.

use mirror_core::ids::{Generation, Lineage, NodeId, Nonce};
use mirror_core::{Holder, Record, Written};

/// The record as the operator makes it: generation 0, the first member is the source.
pub fn first_record() -> Record {
    Record {
        uid: 1,
        version: 1,
        members: [NodeId(1), NodeId(2)],
        generation: Generation(0),
        primary: Holder { node: NodeId(1), inc: Default::default() },
        other: None,
        lineage: Lineage(1),
        nonce: Nonce::default(),
        forced: None,
    }
}

/// What a PUT gives where `stored` lies, if the version that it expects is there and the rules allow the step.
pub fn replace(stored: &Record, expect: u64, record: Record) -> Written {
    if stored.version != expect {
        return Written::Conflict;
    }
    match stored.step(&record) {
        Err(_) => Written::Refused,
        Ok(()) => Written::Stored(Record { version: expect + 1, ..record }),
    }
}
