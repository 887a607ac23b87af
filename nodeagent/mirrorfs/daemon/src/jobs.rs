//! What the core wants done outside, as it is handed to whoever does it. Data alone: `driver` hands out, each doer reads its own.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use mirror_core::difflog::Image;
use mirror_core::durable::Durable;
use mirror_core::ids::{Generation, Seq};
use mirror_core::message::{Frame, Op};
use mirror_core::{Record, Time};

/// An operation that the core wants at the peer.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    pub generation: Generation,
    pub low: Seq,
    /// What the peer must have applied before it; 0: the inodes' locks see to its order.
    pub after: Seq,
    pub op: Op,
}

/// A copy that the core wants at the peer, and the resync that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    pub sending: Sending,
    pub session: Option<u32>,
}

/// What the witness is asked.
pub enum Question {
    Read,
    Write { expect: u64, record: Box<Record> },
}

/// What is done to the mount and the application, in this order and one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Mount {
        mount: u64,
    },
    Unmount,
    Freeze,
    Thaw,
    Kill,
    DropCaches,
    PostStop,
    StartApplication,
    StopApplication,
    /// The process ends: mounts go in good order.
    Leave,
}

/// What is compared.
#[derive(Debug)]
pub enum Task {
    Walk { session: u32 },
    Compare,
}

/// The queues of the threads that have one job each.
pub struct Hands {
    pub state: Sender<Durable>,
    pub log: Sender<Arc<Image>>,
    pub flush: Sender<u64>,
    pub witness: Sender<Question>,
    pub control: Sender<Frame>,
    pub orders: Sender<Order>,
    pub gate: Sender<Option<Time>>,
    pub tasks: Sender<Task>,
    pub copies: Sender<Copying>,
}
