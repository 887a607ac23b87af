//! The core at work: one `Node` behind one lock, its events from whoever meets them, its actions handed to whoever carries them out.
//!
//! It decides nothing. A thread that has an event steps the core with it (`step`); the actions that follow are put where their
//! doer looks: on the desk of the FUSE thread whose call it is, at the arrival of an operation of the peer, or in the queue of a
//! thread of its own (`Hands`). A thread that steps the core with its own operation finds its next task on its own desk when the
//! step is over: on the hot path nothing is handed to another thread.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use mirror_core::ids::{Body, Generation, NodeId, ObjectId, Seq};
use mirror_core::message::{Frame, Message, Outcome};
use mirror_core::resync::Phase;
use mirror_core::{Action, Event, Node, RoleName, Time};

use crate::clock;
use crate::desk::{Desk, on_desk};
use crate::jobs::{Copying, Hands, Order, Question, Sending, Task};
use crate::lines::Open;
use crate::log;
use crate::status::{Status, role_name};

/// An operation of the peer between its arrival and its answer.
pub struct Arrival {
    pub apply: bool,
    pub answer: Option<Outcome>,
    thread: Thread,
}

/// What lies behind the lock.
pub struct Inner {
    pub node: Node,
    pub desks: Vec<Desk>,
    pub arrivals: HashMap<(Generation, Seq), Arrival>,
    /// The number of the present mount; desks of another one are torn.
    pub mount: u64,
    pub status: Status,
    wake: Time,
    shown: Option<(RoleName, Generation, Option<u32>)>,
    /// The status that watchers were woken for.
    told: u64,
    /// Who waits for the last order's end.
    pub last: Option<Sender<()>>,
}

/// The core and its lock.
pub struct Driver {
    inner: Mutex<Inner>,
    /// Until when file operations may be answered, milliseconds of CLOCK_BOOTTIME.
    serves_until: AtomicI64,
    admission: Condvar,
    timer: Condvar,
    news: Condvar,
    mounted: AtomicBool,
    /// The copy that the next resync overwrites is to be kept.
    keep: AtomicBool,
    cgroups: Mutex<Vec<PathBuf>>,
    hands: Hands,
    /// What is at work for a resync or a verification.
    pub open: Open,
    pub peer: NodeId,
}

impl Driver {
    /// Around a node that was just made, and what it wants first.
    pub fn new(node: Node, peer: NodeId, hands: Hands) -> Driver {
        let inner = Inner {
            node,
            desks: Vec::new(),
            arrivals: HashMap::new(),
            mount: 0,
            status: Status::default(),
            wake: Time(i64::MAX),
            shown: None,
            told: 0,
            last: None,
        };
        Driver {
            inner: Mutex::new(inner),
            serves_until: AtomicI64::new(i64::MIN),
            admission: Condvar::new(),
            timer: Condvar::new(),
            news: Condvar::new(),
            mounted: AtomicBool::new(false),
            keep: AtomicBool::new(false),
            cgroups: Mutex::default(),
            hands,
            open: Open::default(),
            peer,
        }
    }

    /// Carries out what the node wanted when it was made.
    pub fn begin(&self, actions: Vec<Action>) {
        let mut inner = self.lock();
        for action in actions {
            self.hand_out(&mut inner, action);
        }
        self.look_around(&mut inner, clock::now(), false);
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // The core holds its invariants between any two calls; a panic in one of them ends the process (main).
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the core that something happened, from a thread that does not hold the lock.
    pub fn tell(&self, event: Event) {
        self.step(&mut self.lock(), event);
    }

    /// Tells the core that something happened, and hands out what follows.
    pub fn step(&self, inner: &mut Inner, event: Event) {
        let now = clock::now();
        let hot = match &event {
            Event::Change { .. } | Event::Applied { .. } => true,
            Event::Received(frame) => {
                matches!(frame.message, Message::Operation { .. } | Message::Acknowledgement { .. })
            }
            _ => false,
        };
        let actions = inner.node.handle(now, event);
        for action in actions {
            self.hand_out(inner, action);
        }
        self.look_around(inner, now, hot);
    }

    fn hand_out(&self, inner: &mut Inner, action: Action) {
        let hands = &self.hands;
        // A thread whose queue is closed has ended, and with it the process: nothing is left to be done.
        match action {
            Action::Persist(state) => drop(hands.state.send(state)),
            Action::PersistLog(image) => drop(hands.log.send(image)),
            Action::Send(frame) => self.send(inner, frame),
            Action::Apply { generation, op } if op.body == Body(0) => {
                if let Some(arrival) = inner.arrivals.get_mut(&(generation, op.seq)) {
                    arrival.apply = true;
                    arrival.thread.unpark();
                }
            }
            Action::Apply { generation, op } => {
                on_desk(inner, op.body, |desk| desk.apply = Some((generation, op.seq)));
            }
            Action::Reply { body, done } => on_desk(inner, body, |desk| desk.reply = Some(done)),
            Action::Later { body } => on_desk(inner, body, |desk| desk.later = true),
            Action::Room => {
                for desk in inner.desks.iter_mut().filter(|desk| desk.later) {
                    desk.room = true;
                    desk.nudge();
                }
            }
            Action::Gate(until) => drop(hands.gate.send(until)),
            Action::ReadWitness => drop(hands.witness.send(Question::Read)),
            Action::WriteWitness { expect, record } => {
                drop(hands.witness.send(Question::Write { expect, record: Box::new(record) }))
            }
            Action::Flush { number } => drop(hands.flush.send(number)),
            Action::Compare => drop(hands.tasks.send(Task::Compare)),
            Action::Walk { session } => drop(hands.tasks.send(Task::Walk { session })),
            Action::Tell(notice) => inner.status.note(&notice),
            Action::Mount => {
                inner.mount += 1;
                self.order(Order::Mount { mount: inner.mount });
            }
            Action::Unmount => {
                inner.mount += 1;
                inner.desks.iter_mut().for_each(Desk::nudge);
                self.admission.notify_all();
                self.order(Order::Unmount);
            }
            Action::Freeze => self.order(Order::Freeze),
            Action::Thaw => self.order(Order::Thaw),
            Action::Kill => self.order(Order::Kill),
            Action::DropCaches => self.order(Order::DropCaches),
            Action::PostStop => self.order(Order::PostStop),
            Action::StartApplication => self.order(Order::StartApplication),
            Action::StopApplication => self.order(Order::StopApplication),
        }
    }

    fn order(&self, order: Order) {
        let _ = self.hands.orders.send(order);
    }

    fn send(&self, inner: &mut Inner, frame: Frame) {
        match frame.message {
            Message::Operation { generation, low, op } => {
                let session = inner.node.resync().map(|resync| resync.session);
                let after = match (session, op.after) {
                    (_, Seq(0)) => Seq(0),
                    // Nobody waits for the target before an inode's lock is given back: all of an object's order is told.
                    (Some(_), after) => after,
                    (None, _) => inner.node.window().copy_before(op.seq),
                };
                let sending = Sending { generation, low, after, op };
                if op.body == Body(0) {
                    let _ = self.hands.copies.send(Copying { sending, session });
                } else {
                    on_desk(inner, op.body, |desk| desk.send = Some(sending));
                }
            }
            Message::Acknowledgement { generation, seq, outcome } => {
                if let Some(arrival) = inner.arrivals.get_mut(&(generation, seq)) {
                    arrival.answer = Some(outcome);
                    arrival.thread.unpark();
                }
            }
            _ => drop(self.hands.control.send(frame)),
        }
    }

    /// What follows from the node's new state for those who wait outside.
    fn look_around(&self, inner: &mut Inner, now: Time, hot: bool) {
        let until = inner.node.serves_until().map_or(i64::MIN, |time| time.0);
        let before = self.serves_until.swap(until, Ordering::Release);
        if before < until {
            self.admission.notify_all();
        }
        let session = inner.node.resync().map(|resync| resync.session);
        let shown = (inner.node.role(), inner.node.epoch(), session);
        let changed = inner.shown.replace(shown) != Some(shown);
        if changed {
            let (role, generation) = (format!("{:?}", shown.0), inner.node.generation().0);
            log::info("role", &[("role", &role), ("generation", &generation), ("resync", &session.is_some())]);
            // What was at work for the state before is over.
            self.open.end();
            inner.status.changed(now);
            // Whoever waits for an answer that will not come looks again.
            inner.arrivals.values().for_each(|arrival| arrival.thread.unpark());
            inner.desks.iter_mut().filter(|desk| desk.reply.is_some()).for_each(Desk::nudge);
        }
        if inner.node.resync().is_some_and(|resync| resync.phase != Phase::Asking) {
            // It was kept, and may be overwritten in part by now.
            self.set_keep(false);
        }
        if inner.status.version != inner.told {
            inner.told = inner.status.version;
            self.news.notify_all();
        }
        if changed || !hot {
            let wake = inner.node.next_wake(now);
            if wake < inner.wake {
                inner.wake = wake;
                self.timer.notify_all();
            }
        }
    }

    /// The timer thread's whole life: a `Tick` whenever the node wants one, and an eye on the disk. An operation that this disk
    /// has not done after `patience` tells of one that hangs.
    pub fn keep_time(&self, patience: Duration) {
        let mut jumps = clock::JumpWatch::new();
        let mut hangs = false;
        let mut inner = self.lock();
        loop {
            let now = clock::now();
            if inner.hangs(patience) != hangs {
                hangs = !hangs;
                if hangs {
                    log::error("the disk does not answer", &[("seconds", &patience.as_secs_f64())]);
                    self.step(&mut inner, Event::DiskError);
                }
            }
            if now >= inner.wake {
                inner.wake = Time(i64::MAX);
                if jumps.jumped() {
                    self.step(&mut inner, Event::ClockJump);
                }
                self.step(&mut inner, Event::Tick);
                continue;
            }
            let rest = u64::try_from((inner.wake - now).0).unwrap_or(0).min(1_000);
            let waited = self.timer.wait_timeout(inner, Duration::from_millis(rest));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether file operations may be answered at this moment.
    #[inline]
    pub fn serves(&self) -> bool {
        clock::now().0 < self.serves_until.load(Ordering::Acquire)
    }

    /// Waits until file operations may be answered; false once the desk's mount is torn.
    pub fn wait_to_serve(&self, desk: usize) -> bool {
        let mut inner = self.lock();
        loop {
            if inner.torn(desk) {
                return false;
            }
            if self.serves() {
                return true;
            }
            inner = self.admission.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Announces an operation of the peer and stays with it until it is answered: `apply` is called once the core wants it done.
    ///
    /// `None`: the core does not take it in now.
    pub fn receive(&self, frame: Frame, key: (Generation, Seq), apply: impl Fn() -> Outcome) -> Option<Outcome> {
        let mut inner = self.lock();
        if inner.arrivals.contains_key(&key) {
            // It came twice, and the first is still at work: whoever sent it tries again.
            return None;
        }
        inner.arrivals.insert(key, Arrival { apply: false, answer: None, thread: std::thread::current() });
        self.step(&mut inner, Event::Received(frame));
        loop {
            let arrival = inner.arrivals.get_mut(&key)?;
            if std::mem::take(&mut arrival.apply) {
                drop(inner);
                let outcome = apply();
                inner = self.lock();
                let (generation, seq) = key;
                self.step(&mut inner, Event::Applied { generation, seq, outcome });
                continue;
            }
            let answer = arrival.answer;
            if answer.is_some() || !inner.node.owes_answer(key.0, key.1) {
                inner.arrivals.remove(&key);
                return answer;
            }
            drop(inner);
            std::thread::park();
            inner = self.lock();
        }
    }

    /// Waits until the status is another than `seen`.
    pub fn news(&self, seen: Option<u64>) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        while seen == Some(inner.status.version) {
            inner = self.news.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner
    }

    /// As `news`, but not beyond `deadline`.
    pub fn news_before(&self, seen: Option<u64>, deadline: Instant) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        while seen == Some(inner.status.version) && Instant::now() < deadline {
            let rest = deadline.saturating_duration_since(Instant::now());
            inner = self.news.wait_timeout(inner, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner
    }

    /// The mounts go, behind all that was ordered before; says when.
    pub fn last_order(&self, done: Sender<()>) {
        self.lock().last = Some(done);
        self.order(Order::Leave);
    }

    /// Whether the directories are mounted for the application.
    pub fn mounted(&self) -> bool {
        self.mounted.load(Ordering::Relaxed)
    }

    /// Says whether they are.
    pub fn set_mounted(&self, mounted: bool) {
        self.mounted.store(mounted, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.status.version += 1;
        self.news.notify_all();
    }

    /// Why clients are not served here now; `None`: they are.
    pub fn unready(&self) -> Option<String> {
        let inner = self.lock();
        let role = role_name(inner.node.role());
        if !self.serves() {
            Some(format!("{role}: nothing is served on this machine"))
        } else if !self.mounted() {
            Some(format!("{role}: the directories are not mounted yet"))
        } else {
            inner.status.unready().map(|reason| format!("{role}: {reason}"))
        }
    }

    /// Changes what is told, from outside the core.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock().status);
        self.news.notify_all();
    }

    /// Whether the copy that the next resync overwrites is to be kept.
    pub fn keeps(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
    }

    /// Says whether it is.
    pub fn set_keep(&self, keep: bool) {
        self.keep.store(keep, Ordering::Relaxed);
    }

    /// The application's control groups.
    ///
    /// # Errors
    /// A sentence: one of them is none.
    pub fn set_cgroups(&self, paths: Vec<PathBuf>) -> Result<(), String> {
        paths.iter().try_for_each(|path| crate::cgroup::check(path))?;
        *self.cgroups.lock().unwrap_or_else(PoisonError::into_inner) = paths;
        Ok(())
    }

    /// The control groups that were registered.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        self.cgroups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names an object that a resync has to look at.
    pub fn walked(&self, session: u32, object: Option<ObjectId>) {
        self.tell(Event::Walked { session, object });
    }
}
