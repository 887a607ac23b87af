//! Mutual checkpoints: both sides flush what they applied, then both forget that it was touched.
//!
//! The primary begins one while both are in sync: it cuts its epoch, asks the secondary to do the same, flushes, and when
//! both are flushed says so. Until a side knows that, it keeps the epoch before the cut.

use crate::event::Action;
use crate::guard::Mutation;
use crate::ids::{Generation, Incarnation, Seq};
use crate::message::Message;
use crate::node::Node;
use crate::role::Role;
use crate::time::Time;

/// A checkpoint under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Its number.
    pub number: u64,
    /// Everything below was finished on both sides when it began.
    pub low: Seq,
    /// Flushed here.
    pub here: bool,
    /// Flushed there.
    pub there: bool,
}

impl Node {
    /// Begins a checkpoint when one is due, on the primary: after a join, then at intervals, or when the log is crowded.
    pub(crate) fn begin_checkpoint(&mut self, now: Time) -> bool {
        let due = self.next_cut.is_some_and(|at| now >= at) || self.log.is_crowded();
        // A disk that failed (and a halted node serves on) has left the window with operations that it does not hold.
        if !matches!(self.role, Role::Prim) || !due || self.cut.is_some() || self.trouble.is_some() {
            return false;
        }
        self.next_cut = self.cfg.checkpoint.map(|every| now + every);
        let number = self.goal.mark.checkpoint + 1;
        self.log.cut(self.window.iter().flat_map(|entry| entry.op.objects()));
        let low = self.window.low();
        self.cut = Some(Cut { number, low, here: false, there: !self.on(Mutation::CheckpointAlone) });
        self.act(Action::Flush { number });
        self.send(Message::Cut { generation: self.window.generation, low, number });
        true
    }

    /// Asks again, with each beacon: the secondary may not have been one yet, or the frame was lost.
    pub(crate) fn ask_cut_again(&mut self) {
        if let Some(cut) = self.cut.filter(|cut| !cut.there && matches!(self.role, Role::Prim)) {
            self.send(Message::Cut { generation: self.window.generation, low: cut.low, number: cut.number });
        }
    }

    /// The secondary is asked to cut and flush.
    pub(crate) fn cut_asked(&mut self, from: Incarnation, generation: Generation, low: Seq, number: u64) {
        let keeps = self.on(Mutation::CutForgetsWindow);
        let intake = self.intake.as_mut().filter(|i| i.from == from && i.generation == generation);
        let (Role::Second, Some(intake)) = (&self.role, intake) else { return };
        if let Some(cut) = self.cut.filter(|cut| cut.number == number) {
            if cut.here {
                self.send(Message::CutReached { generation, number });
            }
            return;
        }
        intake.trim(low);
        self.log.cut(intake.unfinished().filter(|_| keeps).collect::<Vec<_>>());
        self.cut = Some(Cut { number, low, here: false, there: false });
        self.act(Action::Flush { number });
    }

    /// This side's flush ended.
    pub(crate) fn flushed(&mut self, number: u64) {
        let Some(cut) = self.cut.as_mut().filter(|cut| cut.number == number) else { return };
        cut.here = true;
        if let (Role::Second, Some(intake)) = (&self.role, &self.intake) {
            let generation = intake.generation;
            self.send(Message::CutReached { generation, number });
        }
        self.confirm_checkpoint();
    }

    /// The secondary's flush ended.
    pub(crate) fn cut_reached(&mut self, from: Incarnation, generation: Generation, number: u64) {
        let ours = self.second == Some(from) && generation == self.window.generation;
        let Some(cut) = self.cut.as_mut().filter(|cut| ours && cut.number == number) else { return };
        cut.there = true;
        self.confirm_checkpoint();
    }

    fn confirm_checkpoint(&mut self) {
        let Some(cut) = self.cut.filter(|cut| cut.here && cut.there && self.role.is_primary()) else { return };
        self.cut = None;
        self.log.confirm(self.on(Mutation::CheckpointForgetsCurrent));
        self.goal.mark.checkpoint = cut.number;
        self.found.checkpoint = cut.number;
        self.send(Message::CutDone { generation: self.window.generation, number: cut.number });
    }

    /// Both sides have it.
    pub(crate) fn cut_done(&mut self, from: Incarnation, generation: Generation, number: u64) {
        let ours = self.intake.as_ref().is_some_and(|i| i.from == from && i.generation == generation);
        if !ours || self.cut.is_none_or(|cut| cut.number != number || !cut.here) {
            return;
        }
        self.cut = None;
        self.log.confirm(self.on(Mutation::CheckpointForgetsCurrent));
        self.goal.mark.checkpoint = number;
        self.found.checkpoint = number;
    }
}
