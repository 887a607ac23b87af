//! A FUSE thread's way through the core and to the peer: it sends its operation on a connection (`pool`), reads its own answer,
//! and does the local part in between, as the core says.
//!
//! While its call is under way the thread holds the inodes' locks, so operations that conflict reach the peer one after the other:
//! what the core says about their order (`after`) needs not to travel.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use mirror_core::Event;
use mirror_core::ids::{Generation, Incarnation, Seq};
use mirror_core::message::{Frame, Kind, Message, Outcome};
use mirrorfs_fs::codec;
use mirrorfs_fs::op::Op;
use mirrorfs_fs::replicate::{Replicate, Session};
use mirrorfs_fs::tree::Tree;
use mirrorfs_net::client::{Call, Caller, Outcome as Answer};
use mirrorfs_net::hello::Channel;
use mirrorfs_net::link::Broken;
use mirrorfs_sync::object::{Object, changed};
use rustix::io::Errno;

use crate::ahead::look_ahead;
use crate::desk::body;
use crate::driver::{Driver, Inner};
use crate::jobs::Sending;
use crate::log;
use crate::metrics::Metrics;
use crate::pool::{Line, Pool};
use crate::resync::Resync;
use crate::wire;

/// How long a thread waits before it calls the peer again.
const PAUSE: Duration = Duration::from_millis(10);

/// One replicated directory of one mount.
pub struct Replicator {
    pub driver: Arc<Driver>,
    pub metrics: Arc<Metrics>,
    pub resync: Arc<Resync>,
    pub call: Call,
    pub pool: Arc<Pool>,
    pub tree: u16,
    pub mount: u64,
    /// Where every operation has to be on disk before it is answered (`Disk`).
    pub durable: Option<Arc<Tree>>,
}

impl Replicate for Replicator {
    fn session(&self, _worker: usize) -> Result<Box<dyn Session>, String> {
        let desk = self.driver.take_desk(self.mount);
        Ok(Box::new(Worker {
            driver: self.driver.clone(),
            metrics: self.metrics.clone(),
            resync: self.resync.clone(),
            call: self.call.clone(),
            pool: self.pool.clone(),
            tree: self.tree,
            durable: self.durable.clone(),
            desk,
            line: None,
            alone: false,
            from: None,
            fields: Vec::new(),
            duty: None,
            in_flight: false,
            refused: None,
            started: Instant::now(),
            sent: Instant::now(),
        }))
    }
}

struct Worker {
    driver: Arc<Driver>,
    metrics: Arc<Metrics>,
    resync: Arc<Resync>,
    call: Call,
    pool: Arc<Pool>,
    tree: u16,
    durable: Option<Arc<Tree>>,
    desk: usize,
    /// The connection that the answer will come on.
    line: Option<Line>,
    /// Nothing else was under way when the operation was sent, and it waits for no disk: its answer comes soon.
    alone: bool,
    /// Who answered.
    from: Option<Incarnation>,
    /// Memory for an operation's fields, kept from one to the next.
    fields: Vec<u8>,
    /// What is to reach the peer, and whether it is on its way.
    duty: Option<Sending>,
    in_flight: bool,
    /// The peer's file system refused the operation and changed nothing.
    refused: Option<Errno>,
    /// When the present call began, and when it was sent.
    started: Instant,
    sent: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The operation is not done locally yet.
    Before,
    /// It is.
    After,
}

impl Session for Worker {
    #[inline]
    fn admit(&mut self) -> Result<(), Errno> {
        if self.driver.serves() || self.driver.wait_to_serve(self.desk) { Ok(()) } else { Err(Errno::IO) }
    }

    fn begin(&mut self, op: &Op<'_>) -> Result<(), Errno> {
        self.started = Instant::now();
        let (id, also) = changed(op);
        let tree = self.tree;
        let object = |id| Object { tree, id }.into();
        let kind = if matches!(op, Op::Sync { .. }) { Kind::Sync } else { Kind::Change };
        (self.duty, self.in_flight, self.refused) = (None, false, None);
        let driver = self.driver.clone();
        let mut inner = driver.lock();
        loop {
            if inner.torn(self.desk) {
                return Err(Errno::IO);
            }
            inner.fresh(self.desk);
            look_ahead(&driver, &mut inner, tree, op);
            let event = Event::Change { kind, object: object(id), also: also.map(object), body: body(self.desk) };
            driver.step(&mut inner, event);
            if !inner.desks[self.desk].later {
                break;
            }
            while !inner.desks[self.desk].room && !inner.torn(self.desk) {
                inner = driver.wait(inner, self.desk, None);
            }
        }
        let (mut inner, reply) = self.work(&driver, inner, op, Stage::Before);
        match reply {
            Some(_) => Err(self.refused.unwrap_or(Errno::IO)),
            None if inner.torn(self.desk) => Err(Errno::IO),
            None => {
                inner.desks[self.desk].local = Some((Instant::now(), matches!(op, Op::Sync { .. })));
                Ok(())
            }
        }
    }

    fn done(&mut self, op: &Op<'_>, result: Result<(), Errno>) -> Result<(), Errno> {
        let result = result.and_then(|()| self.durable.as_ref().map_or(Ok(()), |tree| tree.harden(op)));
        let driver = self.driver.clone();
        let mut inner = driver.lock();
        inner.desks[self.desk].local = None;
        let Some((generation, seq)) = inner.desks[self.desk].apply.take() else { return Err(Errno::IO) };
        driver.step(&mut inner, Event::Applied { generation, seq, outcome: outcome(op, result) });
        let (inner, reply) = self.work(&driver, inner, op, Stage::After);
        drop(inner);
        self.metrics.operation(op, self.started.elapsed());
        match (reply, result) {
            // What the file system itself said is the answer then.
            (Some(true), _) | (Some(false), Err(_)) => Ok(()),
            _ => {
                self.metrics.errors.fetch_add(1, Ordering::Relaxed);
                Err(Errno::IO)
            }
        }
    }
}

/// What a local result is to the core.
fn outcome(op: &Op<'_>, result: Result<(), Errno>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(errno) if disk_failed(op, errno) => Outcome::DiskError,
        Err(_) => Outcome::Refused,
    }
}

/// Whether an errno says that this disk has lost something, or will. A sync that found no room is as bad as an I/O error: the
/// kernel counts its pages as clean from then on, and the next sync would say that all is well.
pub fn disk_failed(op: &Op<'_>, errno: Errno) -> bool {
    errno == Errno::IO || matches!(op, Op::Sync { .. }) && is_full(errno)
}

/// Whether a refusal says that the disk is full, and not that the operation makes no sense.
pub fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::NOMEM)
}

type Guard<'d> = MutexGuard<'d, Inner>;

impl Worker {
    /// Carries the call on until it is to be done locally (`Before`) or is answered; returns the answer, if there is one.
    fn work<'d>(
        &mut self,
        driver: &'d Driver,
        mut inner: Guard<'d>,
        op: &Op<'_>,
        stage: Stage,
    ) -> (Guard<'d>, Option<bool>) {
        let mut tried = false;
        loop {
            if inner.torn(self.desk) {
                self.hang_up();
                return (inner, None);
            }
            let desk = &mut inner.desks[self.desk];
            if let Some(sending) = desk.send.take() {
                if self.in_flight {
                    self.hang_up();
                }
                self.duty = Some(sending);
            }
            let (reply, apply) = (desk.reply, desk.apply);
            let node = &inner.node;
            if reply.is_some() && node.requires_peer().is_none() && node.resync().is_none() && self.duty.is_some() {
                // Nobody waits for the peer's answer any more.
                self.hang_up();
                self.duty = None;
            }
            if self.duty.is_none() && reply.is_some() {
                return (inner, reply);
            }
            let begun = self.duty.is_none() || self.in_flight || tried;
            if stage == Stage::Before
                && begun
                && let Some((generation, seq)) = apply
            {
                if self.refused.is_none() {
                    return (inner, None);
                }
                // The peer's file system changed nothing, so nothing is changed here.
                inner.desks[self.desk].apply = None;
                driver.step(&mut inner, Event::Applied { generation, seq, outcome: Outcome::Done });
                continue;
            }
            inner = match self.duty {
                None => driver.wait(inner, self.desk, None),
                Some(sending) => {
                    if !self.in_flight {
                        self.line = self.pool.take((sending.generation.0, sending.op.seq.0));
                        self.alone = !matches!(op, Op::Sync { .. }) && inner.node.window().len() == 1;
                    }
                    let socket = self.line.as_ref().map(|line| line.socket.clone());
                    // Listens at once where nothing is to be done here before the answer, and where what came onto the desk
                    // meanwhile has ended the wait: a new connection is known to nobody at first.
                    let listens = self.in_flight || self.line.is_some() && apply.is_none();
                    let (back, answer) = driver.blocked(inner, self.desk, socket, || {
                        if !self.in_flight {
                            self.deliver(driver, op, &sending)?;
                        }
                        if listens { self.listen().map(Some) } else { Ok(None) }
                    });
                    inner = back;
                    tried = true;
                    match answer {
                        Ok(None) => inner,
                        Ok(Some(answer)) => self.feed(driver, inner, &sending, answer, stage),
                        // Sent again, under its number: nothing that was given up may arrive late.
                        Err(_) => driver.wait(inner, self.desk, Some(PAUSE)),
                    }
                }
            };
        }
    }

    /// Sends the operation. Its answer comes later.
    fn deliver(&mut self, driver: &Driver, op: &Op<'_>, sending: &Sending) -> Result<(), Broken> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.connect(driver)?,
        };
        self.fields.clear();
        self.fields.extend(wire::operation_head(sending.low, sending.after));
        let data = codec::encode(op, &mut self.fields);
        self.metrics.bytes_sent.fetch_add((self.fields.len() + data.len()) as u64, Ordering::Relaxed);
        self.sent = Instant::now();
        let sent = line.caller.send(self.tree, sending.generation.0, sending.op.seq.0, [&self.fields, data]);
        sent.inspect_err(|_| self.pool.clear())?;
        self.line = Some(line);
        self.in_flight = true;
        Ok(())
    }

    fn connect(&self, driver: &Driver) -> Result<Line, Broken> {
        let mut handle = None;
        let known = |socket: TcpStream| {
            let socket = Arc::new(socket);
            driver.lock().desks[self.desk].socket = Some(socket.clone());
            handle = Some(socket);
        };
        let caller = Caller::connect(&self.call, Channel::Data, known)?;
        self.metrics.reconnects.fetch_add(1, Ordering::Relaxed);
        Ok(Line { caller, socket: handle.ok_or(Broken::Closed)? })
    }

    /// Waits for the answer to what was sent.
    fn listen(&mut self) -> Result<Answer, Broken> {
        self.in_flight = false;
        let mut line = self.line.take().ok_or(Broken::Closed)?;
        let answer = line.caller.answer_to(self.alone).inspect_err(|_| self.pool.clear())?;
        self.metrics.round_trip.add(self.sent.elapsed());
        self.from = Some(Incarnation { boot: line.caller.peer().boot, process: line.caller.peer().process });
        self.pool.give_back(line);
        Ok(answer)
    }

    /// Ends a connection on which an answer may still come: it would be taken for another's.
    fn hang_up(&mut self) {
        self.line = None;
        self.in_flight = false;
    }

    /// Tells the core what the peer said.
    fn feed<'d>(
        &mut self,
        driver: &'d Driver,
        mut inner: Guard<'d>,
        sending: &Sending,
        answer: Answer,
        stage: Stage,
    ) -> Guard<'d> {
        self.duty = None;
        let undone = stage == Stage::Before && inner.desks[self.desk].apply.is_none();
        let full = |code| is_full(Errno::from_raw_os_error(code));
        if matches!(answer, Answer::Failed) || matches!(answer, Answer::Refused(code) if full(code)) {
            log::error("the peer's disk failed, or is full", &[("operation", &sending.op.seq.0)]);
        }
        let outcome = match answer {
            Answer::Done => Outcome::Done,
            Answer::NotYet => Outcome::NotYet,
            Answer::Failed => Outcome::DiskError,
            Answer::Refused(code) if full(code) => Outcome::Refused,
            Answer::Refused(code) if undone => {
                self.refused = Some(Errno::from_raw_os_error(code));
                Outcome::Done
            }
            // Done here at the same time: the copies differ.
            Answer::Refused(_) => Outcome::NotYet,
        };
        if outcome == Outcome::NotYet {
            self.resync.refused(sending.op.objects());
        }
        let target = || inner.node.resync().map(|resync| resync.target).unwrap_or_default();
        let from = self.from.take().unwrap_or_else(target);
        let (generation, seq): (Generation, Seq) = (sending.generation, sending.op.seq);
        let message = Message::Acknowledgement { generation, seq, outcome };
        driver.step(&mut inner, Event::Received(Frame { node: driver.peer, from, message }));
        inner
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.driver.leave_desk(self.desk);
    }
}
