//! The witness record: one configuration of the mirror, and which steps from one to the next are lawful.
//!
//! `step` says in Rust what the CEL rules of `crds/mirrorwitness.yaml` say to the API server; the search uses it as its API
//! server, and an integration test holds both against the same table. It is not the place where a node decides anything.

use crate::ids::{Generation, Incarnation, Lineage, NodeId, Nonce, OperationId};

/// A member as the record names it in `inSync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// Which member.
    pub node: NodeId,
    /// Which life of it.
    pub inc: Incarnation,
}

/// One state of the `MirrorWitness` object. `primary` is in `inSync` by construction: `inSync = {primary} + other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The object's UID: another one means that somebody deleted and created it.
    pub uid: u128,
    /// `metadata.resourceVersion`, which the API server compares at a replace.
    pub version: u64,
    /// Both members, primary or not, in sync or not.
    pub members: [NodeId; 2],
    /// The number of this configuration.
    pub generation: Generation,
    /// Who may write.
    pub primary: Holder,
    /// Who else is in sync.
    pub other: Option<Holder>,
    /// The line of descent of the data.
    pub lineage: Lineage,
    /// Whose write this was.
    pub nonce: Nonce,
    /// The Operation that forced this step, if one did.
    pub forced: Option<OperationId>,
}

impl Record {
    /// This member's entry in `inSync`.
    pub fn holder(&self, node: NodeId) -> Option<Holder> {
        [Some(self.primary), self.other].into_iter().flatten().find(|holder| holder.node == node)
    }

    /// The same record, one generation on; the caller changes what shall differ.
    pub fn successor(&self, nonce: Nonce) -> Record {
        Record { generation: self.generation.next(), nonce, forced: None, ..*self }
    }

    /// Whether the API server would accept `next` in place of `self`. The reason is for people.
    pub fn step(&self, next: &Record) -> Result<(), &'static str> {
        if next.generation != self.generation.next() {
            return Err("generation grows by exactly one");
        }
        if !next.members.contains(&next.primary.node) || next.members[0] == next.members[1] {
            return Err("the primary is one of two different members");
        }
        if next.other.is_some_and(|o| o.node == next.primary.node || !next.members.contains(&o.node)) {
            return Err("inSync names each member once");
        }
        let forced = next.forced.is_some() && next.forced != self.forced;
        if self.holder(next.primary.node).is_none() && !forced {
            return Err("a new primary was in sync before, unless an Operation forces it");
        }
        if self.lineage != next.lineage && !forced {
            return Err("lineage changes only when an Operation forces it");
        }
        let gone = self.members.iter().find(|member| !next.members.contains(member));
        if gone.is_some_and(|member| self.holder(*member).is_some()) {
            return Err("only a member that is not in sync can be replaced");
        }
        Ok(())
    }
}
