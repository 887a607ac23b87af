//! The source's side of a resync: threads that carry out what the core wants copied, and one that walks.
//!
//! What is compared and what is sent is `mirrorfs_sync`'s; this sees to connections, sessions and acknowledgements. A copy is
//! sent again, under its number, until it is answered or its resync has ended: so nothing of it can arrive late.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mirror_core::ids::{Incarnation, ObjectId};
use mirror_core::message::{Frame, Kind, Message, Outcome};
use mirror_core::resync::Phase;
use mirror_core::{Event, RoleName};
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_net::client::{Call, Caller, Outcome as Answer};
use mirrorfs_net::hello::Channel;
use mirrorfs_net::link::Broken;
use mirrorfs_sync::object::Object;
use mirrorfs_sync::pace::Progress;
use mirrorfs_sync::peer::Lost;
use mirrorfs_sync::source::{Failure, Source};
use rustix::io::Errno;

use crate::copies::Copies;
use crate::driver::Driver;
use crate::jobs::{Copying, Sending, Task};
use crate::lines::Lines;
use crate::log;
use crate::metrics::Metrics;
use crate::wire;

/// How many copies are made at once: as many as the core lets travel.
pub const THREADS: usize = 8;
/// How long a thread waits before it calls again, or looks again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it waits after an object that could not be read: a person has to mend that.
const UNREADABLE: Duration = Duration::from_secs(1);

/// The number of a resync; `None`: a copy that mends what went wrong between two that are in sync.
type Session = Option<u32>;

#[derive(Default)]
struct State {
    /// Over the mounted copy; `None`: none is mounted.
    source: Option<Arc<Source>>,
    /// What the source has begun.
    begun: Option<Session>,
    /// Who is at work with it.
    busy: usize,
    /// What went wrong since the last copy that was made.
    trouble: Option<String>,
}

/// How far a resync is, and what went wrong last.
pub type Told = (Progress, Option<String>);

/// What makes the peer's copy equal.
pub struct Resync {
    pub driver: Arc<Driver>,
    metrics: Arc<Metrics>,
    own: Arc<Copies>,
    call: Call,
    lines: Arc<Lines>,
    /// Bytes a second; 0: as fast as it goes.
    rate: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Resync {
    pub fn new(driver: Arc<Driver>, metrics: Arc<Metrics>, copies: Arc<Copies>, (call, rate): (Call, u64)) -> Resync {
        let lines = Arc::new(Lines { driver: driver.clone(), metrics: metrics.clone(), call: call.clone() });
        Resync { driver, metrics, own: copies, call, lines, rate, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are mounted from now on; none: nothing is.
    pub fn mounted(&self, mirrors: Vec<Arc<Mirror>>) {
        let source = (!mirrors.is_empty()).then(|| Arc::new(Source::new(mirrors, self.lines.clone(), self.rate)));
        self.driver.open.reads(source.clone());
        let mut state = self.lock();
        (state.source, state.begun) = (source, None);
        self.changed.notify_all();
    }

    /// The target answered `NotYet` to a change: what was compared of these counts no more.
    pub fn refused(&self, objects: impl IntoIterator<Item = ObjectId>) {
        if let Some(source) = &self.lock().source {
            objects.into_iter().for_each(|object| source.refused(object));
        }
    }

    /// How far the resync is that was begun last, and what went wrong last.
    pub fn progress(&self) -> Option<Told> {
        let state = self.lock();
        state.source.as_ref().filter(|_| state.begun.is_some()).map(|source| (source.progress(), state.trouble.clone()))
    }

    /// How many bytes of data may differ: what is known to, of files that were compared; all of those that are not yet.
    pub fn out_of_sync(&self) -> u64 {
        let objects = {
            let inner = self.driver.lock();
            match inner.node.resync() {
                // What a walk has not reached yet may differ, too.
                Some(resync) if resync.walking || resync.phase == Phase::Asking => inner.node.touched(),
                Some(resync) => {
                    let flying = resync.flying.values().flat_map(|(one, other)| [Some(*one), *other]);
                    Some(resync.set.iter().chain(&resync.again).copied().chain(flying.flatten()).collect())
                }
                None => inner.node.touched(),
            }
        };
        let source = self.lock().source.clone();
        let Some(objects) = objects else { return self.own.bytes_in_use() };
        let known = |object: &ObjectId| source.as_ref().and_then(|source| source.differing(*object));
        objects.iter().map(|object| known(object).unwrap_or_else(|| self.own.bytes_of(*object))).sum()
    }

    /// Walks, and answers the core's other questions, until the process ends.
    pub fn walks(&self, tasks: &Receiver<Task>) {
        while let Ok(task) = tasks.recv() {
            match task {
                Task::Walk { session } => self.walk(session),
                // What both logs name is not compared: the copies are taken for different, and a witness decides.
                Task::Compare => self.driver.tell(Event::Compared { equal: false }),
            }
        }
    }

    /// Makes copies, until the process ends.
    pub fn copies(&self, copies: &Mutex<Receiver<Copying>>) {
        let mut caller = None;
        loop {
            let next = copies.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Copying { sending, session }) = next else { return };
            self.copy(&mut caller, &sending, session);
        }
    }

    /// Whether the core still wants what belongs to this.
    fn goes_on(&self, session: Session) -> bool {
        let inner = self.driver.lock();
        match (session, inner.node.resync()) {
            (Some(session), Some(resync)) => resync.session == session,
            (None, None) => inner.node.role() == RoleName::Prim,
            _ => false,
        }
    }

    /// The mounted copy, for work of this session: what belongs to another one has ended by then. Every `enter` needs a `leave`.
    fn enter(&self, session: Session) -> Option<Arc<Source>> {
        let mut state = self.lock();
        while state.begun != Some(session) && state.busy > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.begun != Some(session) {
            // A number that no resync has.
            state.source.iter().for_each(|source| source.begin(session.unwrap_or(0)));
            (state.begun, state.trouble) = (Some(session), None);
        }
        state.busy += 1;
        state.source.clone()
    }

    fn leave(&self) {
        self.lock().busy -= 1;
        self.changed.notify_all();
    }

    /// Has the mounted copy at hand for a verification.
    ///
    /// # Errors
    /// What `work` says, or that nothing is mounted.
    pub fn with_copy(&self, work: impl FnOnce(&Source) -> Result<(), String>) -> Result<(), String> {
        {
            // Its counters begin anew.
            let mut state = self.lock();
            while state.busy > 0 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.begun = None;
        }
        let source = self.enter(None);
        let result = source.ok_or_else(|| "nothing is mounted".to_string()).and_then(|source| work(&source));
        self.leave();
        result
    }

    /// Names what differs, from a comparison of everything.
    fn walk(&self, session: u32) {
        while self.goes_on(Some(session)) {
            let source = self.enter(Some(session));
            let result = source.map(|source| source.walk(session, &|object| self.driver.walked(session, Some(object))));
            self.leave();
            match result {
                Some(Ok(())) => return self.driver.walked(session, None),
                Some(Err(failure)) => self.failed(Some(session), &failure),
                // The mount is still being made.
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// One object, or the end of them all; whatever comes of it, the core hears of it.
    fn copy(&self, caller: &mut Option<Caller>, sending: &Sending, session: Session) {
        let op = sending.op;
        let source = self.enter(session);
        let mut carry = |body: &[u8]| self.carry(caller, sending, session, body);
        let name = |object| {
            if let Some(session) = session {
                self.driver.walked(session, Some(object));
            }
        };
        let result = match (op.kind, source) {
            (Kind::Purge, _) => carry(&[]).map_err(Failure::Lost),
            (_, Some(source)) => source.copy(op.object, &name, &mut carry),
            (_, None) => {
                std::thread::sleep(PAUSE);
                let nothing = Object::from_core(op.object).map(mirrorfs_sync::nothing).unwrap_or_default();
                carry(&nothing).map_err(Failure::Lost)
            }
        };
        self.leave();
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => {
                self.failed(session, &failure);
                Outcome::NotYet
            }
        };
        if outcome == Outcome::Done {
            self.lock().trouble = None;
            self.metrics.resync_objects.fetch_add(1, Ordering::Relaxed);
        }
        let target = {
            let inner = self.driver.lock();
            inner.node.resync().filter(|resync| Some(resync.session) == session).map(|resync| resync.target)
        };
        let peer = caller.as_ref().map(|c| Incarnation { boot: c.peer().boot, process: c.peer().process });
        // A copy of a resync that has ended is of no account any more.
        let from = if session.is_some() { target } else { peer };
        let Some(from) = from else { return };
        let message = Message::Acknowledgement { generation: sending.generation, seq: op.seq, outcome };
        self.driver.tell(Event::Received(Frame { node: self.driver.peer, from, message }));
    }

    /// Sends a body as the operation that it is, until it is answered.
    fn carry(
        &self,
        caller: &mut Option<Caller>,
        sending: &Sending,
        session: Session,
        body: &[u8],
    ) -> Result<Outcome, Lost> {
        loop {
            if !self.goes_on(session) {
                return Err(Lost("the resync has ended".into()));
            }
            match deliver(&self.driver, &self.call, caller, sending, body) {
                Ok(outcome) => {
                    self.metrics.resync_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                    return Ok(outcome);
                }
                Err(_) => {
                    *caller = None;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Keeps what went wrong for the status; logs it where it is another thing than the last time.
    fn note(&self, failure: &Failure) {
        let text = failure.to_string();
        let before = self.lock().trouble.replace(text.clone());
        if before.as_ref() != Some(&text) {
            log::error("the resync does not go on", &[("reason", &text)]);
        }
    }

    fn failed(&self, session: Session, failure: &Failure) {
        match failure {
            Failure::Lost(_) | Failure::Ended if !self.goes_on(session) => {}
            Failure::Lost(_) | Failure::Ended => {
                self.note(failure);
                std::thread::sleep(PAUSE);
            }
            Failure::Io(_, errno) => {
                self.note(failure);
                if *errno == Errno::IO {
                    self.driver.tell(Event::DiskError);
                }
                std::thread::sleep(UNREADABLE);
            }
        }
    }
}

/// Sends a copy once, and waits for its answer.
///
/// # Errors
/// `Broken`: nobody knows what became of it.
pub fn deliver(
    driver: &Driver,
    call: &Call,
    caller: &mut Option<Caller>,
    sending: &Sending,
    body: &[u8],
) -> Result<Outcome, Broken> {
    if caller.is_none() {
        *caller = Some(Caller::connect(call, Channel::Data, |socket| driver.open.add(socket))?);
    }
    let caller = caller.as_mut().ok_or(Broken::Closed)?;
    let place = if sending.op.kind == Kind::Purge { wire::PURGE } else { wire::COPY };
    let head = wire::operation_head(sending.low, sending.after);
    caller.send(place, sending.generation.0, sending.op.seq.0, [&head, body])?;
    Ok(match caller.answer()? {
        Answer::Done => Outcome::Done,
        Answer::NotYet => Outcome::NotYet,
        Answer::Failed => Outcome::DiskError,
        Answer::Refused(_) => Outcome::Refused,
    })
}
