//! Lines to the peer for what is neither an operation nor a message: the questions of a resync or a verification.
//!
//! Whatever is connected for those is known here, so that it can be ended at once when what it is for has ended.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mirrorfs_net::client::{Call, Caller};
use mirrorfs_net::hello::Channel;
use mirrorfs_net::link::Broken;
use mirrorfs_sync::peer::{Line, Lost, Peer};
use mirrorfs_sync::source::Source;

use crate::driver::Driver;
use crate::metrics::Metrics;

/// What is at work for the resync, or the verification, that is under way.
#[derive(Default)]
pub struct Open(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    sockets: Vec<TcpStream>,
    source: Option<Arc<Source>>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each statement leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more connection.
    pub fn add(&self, socket: TcpStream) {
        let mut inner = self.lock();
        inner.sockets.retain(|other| other.peer_addr().is_ok());
        inner.sockets.push(socket);
    }

    /// The copy that is read; `None`: none is mounted.
    pub fn reads(&self, source: Option<Arc<Source>>) {
        self.lock().source = source;
    }

    /// Ends all of it: whoever waits for an answer, or for bandwidth, waits no longer.
    pub fn end(&self) {
        let mut inner = self.lock();
        for socket in inner.sockets.drain(..) {
            // Gone already: then nobody waits.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        if let Some(source) = &inner.source {
            source.stop();
        }
    }
}

/// The peer, for questions.
pub struct Lines {
    pub driver: Arc<Driver>,
    pub metrics: Arc<Metrics>,
    pub call: Call,
}

impl Peer for Lines {
    fn line(&self) -> Result<Box<dyn Line>, Lost> {
        let generation = self.driver.lock().node.epoch().0;
        let caller = Caller::connect(&self.call, Channel::Resync, |socket| self.driver.open.add(socket));
        Ok(Box::new(Questions { caller: caller.map_err(lost)?, generation, metrics: self.metrics.clone() }))
    }
}

struct Questions {
    caller: Caller,
    generation: u64,
    metrics: Arc<Metrics>,
}

impl Line for Questions {
    fn send(&mut self, question: &[u8]) -> Result<(), Lost> {
        self.metrics.resync_bytes.fetch_add(question.len() as u64, Ordering::Relaxed);
        self.caller.tell(self.generation, question).map_err(lost)
    }

    fn answer(&mut self) -> Result<Vec<u8>, Lost> {
        let answer = self.caller.told().map_err(lost)?;
        self.metrics.resync_received.fetch_add(answer.len() as u64, Ordering::Relaxed);
        Ok(answer.to_vec())
    }
}

fn lost(broken: Broken) -> Lost {
    Lost(broken.to_string())
}
