//! The core's part in a resync, and no more: sets, order, acknowledgements.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mirror_core::ids::ObjectId;
use mirror_core::message::Outcome;
use mirrorfs_fs::codec;
use mirrorfs_fs::locks::Span;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::op::Op;
use mirrorfs_fs::replicate::{Replicate, Session};
use mirrorfs_sync::object::{Object, changed};
use mirrorfs_sync::peer::{Line, Lost, MESSAGE_MAX, Peer};
use mirrorfs_sync::source::{Failure, Source};
use mirrorfs_sync::target::Target;
use rustix::io::Errno;

/// Asks the target in the same process, and counts.
pub struct InProcess {
    target: Arc<Target>,
    pub bytes: Arc<AtomicU64>,
    /// So many questions may still be asked; then the target is gone.
    pub patience: Arc<AtomicU64>,
}

impl InProcess {
    pub fn new(target: Arc<Target>) -> InProcess {
        let patience = Arc::new(AtomicU64::new(u64::MAX));
        InProcess { target, bytes: Arc::default(), patience }
    }
}

struct InProcessLine {
    target: Arc<Target>,
    bytes: Arc<AtomicU64>,
    patience: Arc<AtomicU64>,
    answers: VecDeque<Vec<u8>>,
}

impl Peer for InProcess {
    fn line(&self) -> Result<Box<dyn Line>, Lost> {
        Ok(Box::new(InProcessLine {
            target: self.target.clone(),
            bytes: self.bytes.clone(),
            patience: self.patience.clone(),
            answers: VecDeque::new(),
        }))
    }
}

impl Line for InProcessLine {
    fn send(&mut self, question: &[u8]) -> Result<(), Lost> {
        assert!(question.len() <= MESSAGE_MAX);
        if self.patience.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.patience.store(0, Ordering::SeqCst);
            return Err(Lost("the test says so".into()));
        }
        let answer = self.target.answer(question);
        assert!(answer.len() <= MESSAGE_MAX);
        self.bytes.fetch_add((question.len() + answer.len()) as u64, Ordering::Relaxed);
        self.answers.push_back(answer);
        Ok(())
    }

    fn answer(&mut self) -> Result<Vec<u8>, Lost> {
        self.answers.pop_front().ok_or_else(|| Lost("nothing was asked".into()))
    }
}

enum Task {
    Change {
        wire: Vec<u8>,
        objects: Vec<ObjectId>,
    },
    /// Has its place in the order before it is read, as in the window.
    Copy {
        body: Receiver<Vec<u8>>,
        reply: Sender<Outcome>,
    },
}

#[derive(Default)]
struct State {
    /// What waits on the target, by object: the next of each may be done.
    chains: BTreeMap<ObjectId, VecDeque<Task>>,
    running: BTreeSet<ObjectId>,
    /// Objects that may differ.
    set: BTreeSet<ObjectId>,
    /// The object that was begun last: the next one in turn follows it.
    last: ObjectId,
    copying: usize,
    walking: bool,
    source: Option<Arc<Source>>,
}

impl State {
    fn next(&mut self) -> Option<ObjectId> {
        let after = (Bound::Excluded(self.last), Bound::Unbounded);
        let next = self.set.range(after).next().or(self.set.first()).copied()?;
        self.set.remove(&next);
        self.last = next;
        Some(next)
    }
}

/// What stands between the two copies.
pub struct Driver {
    target: Arc<Target>,
    state: Mutex<State>,
    news: Condvar,
    /// Changes go to the target (a resync is under way); else only the log knows of them.
    sends: AtomicBool,
    over: AtomicBool,
    pub mirror: Mutex<Option<Arc<Mirror>>>,
    pub bodies: AtomicU64,
    pub not_yet: AtomicU64,
    /// Everything that the target would not do, for the test to look at.
    pub trouble: Mutex<Vec<String>>,
}

impl Driver {
    pub fn new(target: Arc<Target>) -> Arc<Driver> {
        let driver = Arc::new(Driver {
            target,
            state: Mutex::default(),
            news: Condvar::new(),
            sends: AtomicBool::new(false),
            over: AtomicBool::new(false),
            mirror: Mutex::default(),
            bodies: AtomicU64::new(0),
            not_yet: AtomicU64::new(0),
            trouble: Mutex::default(),
        });
        for worker in 0..4 {
            let driver = driver.clone();
            std::thread::spawn(move || driver.carry_out(worker));
        }
        driver
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One of the target's threads: any object's next task, so that only an object's own order is kept.
    fn carry_out(&self, worker: usize) {
        let mut turn = worker;
        loop {
            let mut state = self.lock();
            let (object, task) = loop {
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                let free: Vec<ObjectId> =
                    state.chains.keys().filter(|object| !state.running.contains(object)).copied().collect();
                if !free.is_empty() {
                    turn = turn.wrapping_add(7);
                    let object = free[turn % free.len()];
                    let task = state.chains.get_mut(&object).unwrap().pop_front().unwrap();
                    state.running.insert(object);
                    break (object, task);
                }
                state = self.news.wait(state).unwrap();
            };
            drop(state);
            match task {
                Task::Change { wire, objects } => self.change(&wire, &objects),
                Task::Copy { body, reply } => {
                    let verdict = self.target.copy(&body.recv().expect("every copy is carried"));
                    if !matches!(verdict.outcome, Outcome::Done | Outcome::NotYet) {
                        self.trouble.lock().unwrap().push(format!("{verdict:?}"));
                    }
                    let _ = reply.send(verdict.outcome);
                }
            }
            let mut state = self.lock();
            state.running.remove(&object);
            if state.chains.get(&object).is_some_and(VecDeque::is_empty) {
                state.chains.remove(&object);
            }
            self.news.notify_all();
        }
    }

    fn change(&self, wire: &[u8], objects: &[ObjectId]) {
        let op = codec::decode(wire).expect("our own operation");
        let verdict = self.target.change(0, &op);
        match verdict.outcome {
            Outcome::Done => {}
            Outcome::NotYet => {
                self.not_yet.fetch_add(1, Ordering::Relaxed);
                self.rejoin(objects);
            }
            _ => self.trouble.lock().unwrap().push(format!("{op:?}: {verdict:?}")),
        }
    }

    fn rejoin(&self, objects: &[ObjectId]) {
        let mut state = self.lock();
        let source = state.source.clone();
        for object in objects {
            if let Some(source) = &source {
                source.refused(*object);
            }
            state.set.insert(*object);
        }
        self.news.notify_all();
    }

    fn submit(&self, object: ObjectId, task: Task) {
        self.lock().chains.entry(object).or_default().push_back(task);
        self.news.notify_all();
    }

    /// What may differ as far as the log knows.
    pub fn touched(&self) -> BTreeSet<ObjectId> {
        self.lock().set.clone()
    }

    /// These may differ, too.
    pub fn log(&self, objects: impl IntoIterator<Item = ObjectId>) {
        self.lock().set.extend(objects);
    }

    /// One attempt: `walks`, or takes what the log names. Ends when everything is equal (`true`) or something failed.
    /// `meanwhile` runs beside it; only when it has ended may the resync.
    pub fn resync(&self, source: &Arc<Source>, session: u32, walks: bool, meanwhile: impl FnOnce() + Send) -> bool {
        source.begin(session);
        let failed = AtomicBool::new(false);
        {
            let mut state = self.lock();
            state.source = Some(source.clone());
            state.walking = walks;
            self.sends.store(true, Ordering::SeqCst);
        }
        let busy = AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                meanwhile();
                busy.store(false, Ordering::SeqCst);
                drop(self.lock());
                self.news.notify_all();
            });
            scope.spawn(|| {
                if walks {
                    let result = source.walk(session, &|object| {
                        self.lock().set.insert(object);
                        self.news.notify_all();
                    });
                    self.fail(&failed, result.err());
                }
                self.lock().walking = false;
                self.news.notify_all();
            });
            for _ in 0..8 {
                scope.spawn(|| self.copy_all(source, self.mirror.lock().unwrap().clone(), &busy, &failed));
            }
        });
        self.sends.store(false, Ordering::SeqCst);
        !failed.load(Ordering::SeqCst)
    }

    fn fail(&self, failed: &AtomicBool, failure: Option<Failure>) {
        if let Some(failure) = failure {
            if !matches!(failure, Failure::Lost(_) | Failure::Ended) {
                self.trouble.lock().unwrap().push(failure.to_string());
            }
            failed.store(true, Ordering::SeqCst);
            drop(self.lock());
            self.news.notify_all();
        }
    }

    fn copy_all(&self, source: &Source, locks: Option<Arc<Mirror>>, busy: &AtomicBool, failed: &AtomicBool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let object = {
                let mut state = self.lock();
                loop {
                    let quiet = state.chains.is_empty() && state.running.is_empty() && state.copying == 0;
                    let done = state.set.is_empty() && quiet && !state.walking && !busy.load(Ordering::SeqCst);
                    if done || failed.load(Ordering::SeqCst) && state.copying == 0 && !busy.load(Ordering::SeqCst) {
                        self.news.notify_all();
                        return;
                    }
                    assert!(Instant::now() < deadline, "no end: {:?} {}", state.set, state.chains.len());
                    if !failed.load(Ordering::SeqCst)
                        && let Some(object) = state.next()
                    {
                        state.copying += 1;
                        break object;
                    }
                    state = self.news.wait_timeout(state, Duration::from_secs(1)).unwrap().0;
                }
            };
            let name = |further: ObjectId| {
                self.lock().set.insert(further);
                self.news.notify_all();
            };
            let ((send, receive), (reply, outcome)) = (channel(), channel());
            self.submit(object, Task::Copy { body: receive, reply });
            // What came before it in the object's order is done on the source first, as the window sees to.
            if let Some(locks) = &locks {
                drop(locks.locks().hold([Span::whole(Object::from_core(object).unwrap().id)]));
            }
            let result = source.copy(object, &name, &mut |body| {
                assert!(body.len() <= MESSAGE_MAX);
                self.bodies.fetch_add(body.len() as u64, Ordering::Relaxed);
                send.send(body.to_vec()).unwrap();
                Ok(outcome.recv().unwrap())
            });
            let mut state = self.lock();
            state.copying -= 1;
            match result {
                Ok(Outcome::Done) => {}
                Ok(_) => drop(state.set.insert(object)),
                Err(failure) => {
                    state.set.insert(object);
                    drop(state);
                    self.fail(failed, Some(failure));
                }
            }
            self.news.notify_all();
        }
    }

    /// Deletes what was set aside, and says that nothing went wrong.
    pub fn purge(&self) {
        assert_eq!(self.target.purge().outcome, Outcome::Done);
        let trouble = self.trouble.lock().unwrap();
        assert!(trouble.is_empty(), "{trouble:#?}");
    }
}

/// The seam of the mount.
pub struct DriverReplicate(pub Arc<Driver>);

impl Replicate for DriverReplicate {
    fn session(&self, _worker: usize) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(DriverSession(self.0.clone())))
    }
}

struct DriverSession(Arc<Driver>);

fn objects(op: &Op<'_>) -> Vec<ObjectId> {
    let (first, second) = changed(op);
    [Some(first), second].into_iter().flatten().map(|id| Object { tree: 0, id }.into()).collect()
}

impl Session for DriverSession {
    fn admit(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn begin(&mut self, op: &Op<'_>) -> Result<(), Errno> {
        if matches!(op, Op::Sync { .. }) {
            return Ok(());
        }
        let objects = objects(op);
        if !self.0.sends.load(Ordering::SeqCst) {
            self.0.lock().set.extend(objects);
            return Ok(());
        }
        let mut wire = Vec::new();
        let data = codec::encode(op, &mut wire);
        wire.extend_from_slice(data);
        self.0.submit(objects[0], Task::Change { wire, objects });
        Ok(())
    }

    fn done(&mut self, op: &Op<'_>, result: Result<(), Errno>) -> Result<(), Errno> {
        if result.is_err() {
            self.0.rejoin(&objects(op));
        }
        Ok(())
    }
}
