//! The threads that have one job each: state and log to the disk, checkpoints, the witness.
//!
//! Each takes its jobs from a queue in the order in which the core gave them, and reports each one's end. They live as long as
//! the process.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use mirror_core::difflog::Image;
use mirror_core::durable::Durable;
use mirror_core::{Event, Read, Written};
use mirror_witness::Client;
use mirrorfs_sync::store::Store;

use crate::config::Config;
use crate::copies::Copies;
use crate::driver::Driver;
use crate::jobs::{Hands, Question};
use crate::log;
use crate::metrics::Metrics;

/// The receiving ends of `Hands`.
pub struct Queues {
    pub state: Receiver<Durable>,
    pub log: Receiver<Arc<Image>>,
    pub flush: Receiver<u64>,
    pub witness: Receiver<Question>,
    pub control: Receiver<mirror_core::message::Frame>,
    pub orders: Receiver<crate::jobs::Order>,
    pub gate: Receiver<Option<mirror_core::Time>>,
    pub tasks: Receiver<crate::jobs::Task>,
    pub copies: Receiver<crate::jobs::Copying>,
}

/// Queues, before anybody works on them.
pub fn queues() -> (Hands, Queues) {
    fn pair<T>() -> (Sender<T>, Receiver<T>) {
        channel()
    }
    let (state, states) = pair();
    let (log, logs) = pair();
    let (flush, flushes) = pair();
    let (witness, questions) = pair();
    let (control, frames) = pair();
    let (orders, ordered) = pair();
    let (gate, gates) = pair();
    let (tasks, tasked) = pair();
    let (copies, copied) = pair();
    (
        Hands { state, log, flush, witness, control, orders, gate, tasks, copies },
        Queues {
            state: states,
            log: logs,
            flush: flushes,
            witness: questions,
            control: frames,
            orders: ordered,
            gate: gates,
            tasks: tasked,
            copies: copied,
        },
    )
}

/// Starts a thread that lives as long as the process.
///
/// # Errors
/// A sentence: no thread could be made.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|error| format!("thread {name}: {error}"))
}

/// Writes the durable state.
pub fn keep_state(driver: &Driver, mut store: Store<Durable>, jobs: &Receiver<Durable>) {
    let mut told = None;
    while let Ok(state) = jobs.recv() {
        let started = Instant::now();
        match store.write(&state) {
            Ok(()) => {
                // Not each checkpoint's number: what decides who may serve.
                let decides = (state.generation, state.fence);
                if told.replace(decides) != Some(decides) {
                    let milliseconds = started.elapsed().as_millis();
                    let (generation, fence) = (state.generation.0, state.fence.0);
                    let fields: [(&str, &dyn Display); 3] =
                        [("generation", &generation), ("fence", &fence), ("milliseconds", &milliseconds)];
                    log::info("state on disk", &fields);
                }
                driver.tell(Event::Persisted);
            }
            // Never taken for written: the core waits, and this node leaves.
            Err(errno) => failed(driver, "the state can't be written", errno),
        }
    }
}

/// Writes the difference log.
pub fn keep_log(driver: &Driver, metrics: &Metrics, mut store: Store<Image>, jobs: &Receiver<Arc<Image>>) {
    while let Ok(image) = jobs.recv() {
        match store.write(&image) {
            Ok(()) => {
                metrics.log_writes.fetch_add(1, Ordering::Relaxed);
                driver.tell(Event::LogPersisted);
            }
            Err(errno) => failed(driver, "the difference log can't be written", errno),
        }
    }
}

/// Brings checkpoints to the disk.
pub fn flush(driver: &Driver, metrics: &Metrics, copies: &Copies, jobs: &Receiver<u64>) {
    while let Ok(number) = jobs.recv() {
        match copies.flush(number) {
            Ok(()) => {
                metrics.checkpoints.fetch_add(1, Ordering::Relaxed);
                driver.tell(Event::Flushed { number });
            }
            Err(errno) => failed(driver, "a checkpoint can't be written", errno),
        }
    }
}

fn failed(driver: &Driver, message: &str, errno: rustix::io::Errno) {
    log::error(message, &[("reason", &errno)]);
    driver.tell(Event::DiskError);
}

/// Talks with the witness. The client is made when it is first needed: a name may not be resolved while a site comes up.
pub fn ask_witness(driver: &Driver, config: &Arc<Config>, jobs: &Receiver<Question>) {
    let mut client: Option<Client> = None;
    let mut read_before = None;
    while let Ok(question) = jobs.recv() {
        if client.is_none() {
            client = match config.witness_client() {
                Ok(made) => Some(made),
                Err(reason) => {
                    log::error("the witness can't be asked", &[("reason", &reason)]);
                    None
                }
            };
        }
        let started = Instant::now();
        let (event, told, write) = match (&client, question) {
            (Some(client), Question::Read) => {
                let read = client.get();
                let told = format!("{read:?}");
                (Event::Read(read), told, None)
            }
            (None, Question::Read) => (Event::Read(Read::Unreachable), "Unreachable".into(), None),
            (Some(client), Question::Write { expect, record }) => {
                let written = client.put(expect, &record);
                let told = format!("{written:?}");
                (Event::Written(written), told, Some(record.generation.0))
            }
            // Nothing was sent; the core finds that out by reading.
            (None, Question::Write { record, .. }) => {
                (Event::Written(Written::Unknown), "Unknown".into(), Some(record.generation.0))
            }
        };
        let milliseconds = started.elapsed().as_millis();
        let told: String = told.chars().take_while(|c| c.is_alphabetic()).collect();
        let mut inner = driver.lock();
        if let Some(generation) = write {
            let fields: [(&str, &dyn Display); 3] =
                [("generation", &generation), ("result", &told), ("milliseconds", &milliseconds)];
            log::info("witness written", &fields);
        } else {
            // Not each look at it: the first of a role, and what is new.
            let this = (inner.node.role(), told.clone());
            if read_before.as_ref() != Some(&this) {
                log::info("witness read", &[("result", &told), ("milliseconds", &milliseconds)]);
                read_before = Some(this);
            }
        }
        inner.status.witness(&told);
        driver.step(&mut inner, event);
    }
}
