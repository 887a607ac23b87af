//! The guards that hold the protocol together, each with a name and a switch.
//!
//! In a product build `Config::on` is constantly true and the compiler drops it. With the feature `mutations` a test
//! switches one guard off and shows that the search (or the simulator) notices: a guard whose absence nobody notices
//! is either superfluous or untested.

use crate::config::Config;

macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One guard switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mutation { $($(#[doc = $doc])+ $name,)+ }

        impl Mutation {
            /// Every guard there is, in the protocol's order.
            pub const ALL: &[Mutation] = &[$(Mutation::$name,)+];

            /// What goes wrong, in words.
            pub fn story(self) -> &'static str {
                match self { $(Mutation::$name => concat!($($doc,)+).trim_ascii_start(),)+ }
            }
        }
    };
}

mutations! {
    /// Writes are acknowledged alone before the witness knows.
    AckBeforeWitness,
    /// A takeover does not look whether the record has this node in sync.
    NoInSyncCheck,
    /// The joiner is added to the record before acknowledgements require it.
    AddBeforeAcks,
    /// After a failed join the primary goes back to ALONE without bumping the record.
    NoBumpAfterJoin,
    /// An unknown outcome of a compare-and-swap is taken for a failure.
    UnknownIsFailed,
    /// A booting node trusts its own disk and does not ask the witness.
    BootTrustsDisk,
    /// A takeover raises no fence.
    NoFence,
    /// The joiner is in the record before it granted a serving lease.
    JoinWithoutGrant,
    /// A node whose local state is lost is taken for in sync because the record names it.
    LostStateTrusted,
    /// The frozen primary resumes with another incarnation of its peer.
    ResumeOther,
    /// The frozen primary resumes while a compare-and-swap of its own is open.
    ResumeWithOpenCas,
    /// A frozen primary waits for a peer that looked fit when it was last heard, although it is silent.
    FrozenWaitsForSilent,
    /// Beacons of a frozen primary renew the promise.
    FrozenRenews,
    /// The secondary takes over before its promise is over.
    NoPromise,
    /// The lease counts from the arrival of the answer, not from the sending of the beacon.
    LeaseFromAnswer,
    /// An answer that renewed no promise renews the lease all the same.
    UngrantedRenews,
    /// After a restart no promise is waited for.
    NoWaitAfterStart,
    /// The nonce is not on disk before the PUT.
    NonceNotPersisted,
    /// A new life's proposal makes it forget that one of an earlier life may still land.
    NonceForgotten,
    /// The generation of a won compare-and-swap is served before it, or the proof of it, is on disk.
    ServeBeforePersist,
    /// A planned switch does not wait until the other side has fsynced its mark.
    SwitchWithoutMark,
    /// A planned switch leaves the old primary serving until the record is read.
    SwitchWhileServing,
    /// A member that was removed forgets it and takes part again when an old record comes back.
    OutdatedForgotten,
    /// A resync begins without flagging the target inconsistent.
    ResyncUnflagged,
    /// The joiner marks its copy complete before it is flushed.
    JoinUnflushed,
    /// The join happens although objects are still to be compared.
    JoinBeforeDrained,
    /// The difference log is written after the change it covers.
    LogAfterChange,
    /// An object counts as logged although the log's write under way is about to forget it.
    LogForgetsUnderWay,
    /// A checkpoint forgets the current epoch too.
    CheckpointForgetsCurrent,
    /// A checkpoint ends before the peer has confirmed it.
    CheckpointAlone,
    /// A checkpoint forgets what the secondary has applied and the primary perhaps not.
    CutForgetsWindow,
    /// The resync compares only what this side touched, not the union.
    NoUnion,
    /// An operation that the target could not apply yet is taken for done.
    NotYetIsDone,
    /// Operations in the window are not resent.
    NoResend,
    /// A resent operation is applied again.
    ApplyTwice,
    /// An operation is applied before those it depends on.
    NoOrder,
    /// The intake is not closed before the fence rises: operations of an older generation are applied.
    IntakeStaysOpen,
    /// The primary changes its own copy before its peer's.
    LocalFirst,
    /// A copy of another lineage is overwritten by itself.
    ResyncOtherLineage,
    /// A forced promotion happens while the other side still answers.
    ForceWhilePeerAnswers,
    /// A node whose disk failed goes on as if nothing were lost.
    DiskErrorIgnored,
    /// A witness that went back in time is believed.
    RollbackBelieved,
    /// After an operating system crash a node takes over although its peer is there.
    CrashedTakesOver,
    /// A record that names this life is taken for proof that its copy lacks nothing.
    NoticeForgotten,
    /// The alone primary does not look at the witness.
    AloneNeverLooks,
    /// Un-fences although an own proposal may still land.
    UnfenceWithOpenCas,
    /// Two nodes that came back without a witness resume without comparing.
    ResumeUncompared,
    /// An answered fsync is on one disk only.
    SyncOneSide,
    /// A target follows a former life of its source back, whose request arrives late.
    FormerLifeResyncs,
    /// A member whose disk proves nothing does not say so, and its peer waits for it.
    LostStateUntold,
    /// What a person forced without the witness is never recorded, nor remembered by a later life.
    LocalForceUnrecorded,
    /// The gate of an ALONE primary stays open when it joins a peer.
    JoinKeepsGate,
}

impl Config {
    /// Whether this guard stands.
    #[inline]
    pub(crate) fn on(&self, guard: Mutation) -> bool {
        if cfg!(feature = "mutations") { self.broken != Some(guard) } else { true }
    }
}
