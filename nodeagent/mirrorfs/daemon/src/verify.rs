//! Verification on demand: both copies are compared while the application works, and mended from the primary's where asked.
//!
//! One thread looks again at what four others suspect. What mends an object is an operation like any other: the core gives it
//! its number, so no change overtakes it, and none of it comes after a takeover.

use std::collections::VecDeque;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mirror_core::ids::{Incarnation, ObjectId};
use mirror_core::message::{Frame, Kind, Message, Outcome};
use mirror_core::{Event, RoleName};
use mirrorfs_net::client::{Call, Caller};
use mirrorfs_sync::object::Object;
use mirrorfs_sync::peer::Lost;
use mirrorfs_sync::source::Source;
use mirrorfs_sync::verify::{Differs, Look, Suspect};
use serde_json::{Value, json};

use crate::desk::body;
use crate::driver::Driver;
use crate::log;
use crate::resync::{Resync, deliver};

/// How many paths are reported.
const PATHS: usize = 20;
/// How many suspects wait at most; then the comparison waits for them.
const SUSPECTS: usize = 1_000;
/// How long the thread waits before it calls the peer again, or looks again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a verification has found so far.
#[derive(Default)]
struct Report {
    running: bool,
    repair: bool,
    begun: Option<Instant>,
    took: Duration,
    names: u64,
    attributes: u64,
    data: u64,
    bytes: u64,
    mended: u64,
    paths: Vec<String>,
    error: Option<String>,
}

impl Report {
    fn note(&mut self, look: &Look) {
        self.bytes += look.bytes;
        if let Some((differs, path)) = &look.differs {
            let (counter, what) = match differs {
                Differs::Names => (&mut self.names, "names"),
                Differs::Attributes => (&mut self.attributes, "attributes"),
                Differs::Data => (&mut self.data, "data"),
            };
            *counter += 1;
            self.mended += u64::from(look.outcome == Some(Outcome::Done));
            log::info("a difference", &[("path", path), ("what", &what)]);
            if self.paths.len() < PATHS {
                self.paths.push(format!("{path} ({what})"));
            }
        }
    }

    fn show(&self, compared: u64) -> Value {
        json!({
            "running": self.running, "repair": self.repair, "seconds": self.took().as_secs_f64(),
            "inodesCompared": compared, "different": self.different(),
            "differentNames": self.names, "differentAttributes": self.attributes, "differentData": self.data,
            "differentBytes": self.bytes, "mended": self.mended, "paths": self.paths, "error": self.error,
        })
    }

    fn different(&self) -> u64 {
        self.names + self.attributes + self.data
    }

    fn took(&self) -> Duration {
        self.begun.filter(|_| self.running).map_or(self.took, |begun| begun.elapsed())
    }
}

/// The one verification that may run, and the last one's report.
pub struct Verify {
    pub resync: Arc<Resync>,
    call: Call,
    report: Mutex<Report>,
}

impl Verify {
    pub fn new(resync: Arc<Resync>, call: Call) -> Verify {
        Verify { resync, call, report: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the present one stands, or how the last one ended; `None`: there was none.
    pub fn show(&self) -> Option<Value> {
        let compared = self.resync.progress().map_or(0, |(progress, _)| progress.compared);
        let report = self.lock();
        report.begun.map(|_| report.show(compared))
    }

    /// How many objects the last one found to differ.
    pub fn different(&self) -> u64 {
        self.lock().different()
    }

    /// Compares everything, and mends what differs where `repair` says so; takes as long as that takes.
    ///
    /// # Errors
    /// A sentence: this is no primary with a secondary, another one runs, or something came in between.
    pub fn run(&self, repair: bool) -> Result<Value, String> {
        if self.resync.driver.lock().node.role() != RoleName::Prim {
            return Err("only a primary with a secondary in sync can compare the copies".into());
        }
        {
            let mut report = self.lock();
            if report.running {
                return Err("a verification is under way: status shows how far it is".into());
            }
            *report = Report { running: true, repair, begun: Some(Instant::now()), ..Report::default() };
        }
        let result = self.resync.with_copy(|source| self.compare(source, repair));
        let compared = self.resync.progress().map_or(0, |(progress, _)| progress.compared);
        let mut report = self.lock();
        report.took = report.took();
        report.running = false;
        report.error = result.err();
        match &report.error {
            Some(reason) => Err(format!("{reason}; so far: {}", report.show(compared))),
            None => Ok(report.show(compared)),
        }
    }

    fn compare(&self, source: &Source, repair: bool) -> Result<(), String> {
        let mut mender = Mender::new(&self.resync.driver, &self.call);
        let mut dropped = false;
        std::thread::scope(|scope| {
            let (suspects, suspected) = sync_channel(SUSPECTS);
            let walk = scope.spawn(move || {
                // Nobody looks again any more: something failed, and that is what is told.
                source.verify(0, &|suspect| drop(suspects.send(suspect))).map_err(|failure| failure.to_string())
            });
            let looked = suspected.iter().try_for_each(|suspect| {
                let mut all = VecDeque::from([suspect]);
                while let Some(suspect) = all.pop_front() {
                    let look = self.look(source, &mut mender, suspect, repair, &mut all)?;
                    dropped |= matches!(look.differs, Some((Differs::Names, _)));
                    self.lock().note(&look);
                    all.extend(look.more);
                }
                Ok(())
            });
            drop(suspected);
            let walked = walk.join().unwrap_or_else(|_| Err("a thread ended".into()));
            looked.and(walked)
        })?;
        if repair && dropped {
            mender.carry(Kind::Purge, ObjectId(0), &[]).map_err(|lost| lost.to_string())?;
        }
        Ok(())
    }

    fn look(
        &self,
        source: &Source,
        mender: &mut Mender<'_>,
        suspect: Suspect,
        repair: bool,
        all: &mut VecDeque<Suspect>,
    ) -> Result<Look, String> {
        let object = suspect.object.into();
        let further = Mutex::new(Vec::new());
        let name = |object| further.lock().unwrap_or_else(PoisonError::into_inner).push(object);
        let mut carry = |body: &[u8]| mender.carry(Kind::Copy, object, body);
        let look = source.mend(suspect, &name, repair.then_some(&mut carry)).map_err(|failure| failure.to_string())?;
        let further = further.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Without the repair they are not there to be looked at.
        all.extend(further.into_iter().filter(|_| repair).filter_map(Object::from_core).map(Suspect::whole));
        Ok(look)
    }
}

/// Carries what mends: stands in the core's queue like a thread of the mount.
struct Mender<'v> {
    driver: &'v Driver,
    call: &'v Call,
    desk: usize,
    caller: Option<Caller>,
}

impl<'v> Mender<'v> {
    fn new(driver: &'v Driver, call: &'v Call) -> Mender<'v> {
        let mount = driver.lock().mount;
        Mender { driver, call, desk: driver.take_desk(mount), caller: None }
    }

    /// Whether an operation may still be answered, or has to be.
    fn goes_on(&self) -> bool {
        let inner = self.driver.lock();
        matches!(inner.node.role(), RoleName::Prim | RoleName::Frozen) && !inner.torn(self.desk)
    }

    fn carry(&mut self, kind: Kind, object: ObjectId, content: &[u8]) -> Result<Outcome, Lost> {
        let lost = || Lost("this is no primary with a secondary any more".into());
        let mut inner = self.driver.lock();
        inner.fresh(self.desk);
        self.driver.step(&mut inner, Event::Mend { kind, object, body: body(self.desk) });
        let sending = loop {
            if let Some(sending) = inner.desks[self.desk].send.take() {
                break sending;
            }
            let role = inner.node.role();
            if inner.torn(self.desk)
                || inner.desks[self.desk].reply.is_some()
                || !matches!(role, RoleName::Prim | RoleName::Frozen)
            {
                return Err(lost());
            }
            inner = self.driver.wait(inner, self.desk, Some(PAUSE));
        };
        drop(inner);
        // Until it is answered: an operation of the window that nobody sends would hold all others up.
        while self.goes_on() {
            let Ok(outcome) = deliver(self.driver, self.call, &mut self.caller, &sending, content) else {
                self.caller = None;
                std::thread::sleep(PAUSE);
                continue;
            };
            let Some(caller) = &self.caller else { continue };
            let from = Incarnation { boot: caller.peer().boot, process: caller.peer().process };
            let (generation, seq) = (sending.generation, sending.op.seq);
            let message = Message::Acknowledgement { generation, seq, outcome };
            self.driver.tell(Event::Received(Frame { node: self.driver.peer, from, message }));
            return Ok(outcome);
        }
        Err(lost())
    }
}

impl Drop for Mender<'_> {
    fn drop(&mut self) {
        self.driver.leave_desk(self.desk);
    }
}
