//! The target's part in keeping the copy that a resync overwrites: done before the core hears that the resync begins.
//!
//! The order comes with the message that begins it (`wire::keeps`), which is repeated until it is answered: it is passed on once
//! the copy has been kept, and not at all where that can't be done. So nothing of the copy is changed before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mirror_core::RoleName;
use mirror_core::ids::Incarnation;
use serde_json::{Value, json};

use crate::copies::Copies;
use crate::driver::Driver;
use crate::hands::spawn;
use crate::log;

/// When what failed is tried again: somebody may have made room.
const AGAIN: Duration = Duration::from_secs(10);

enum State {
    Running,
    Kept { folder: String },
    Failed { reason: String, at: Instant },
}

/// A resync of this life of the peer.
type Session = (Incarnation, u32);

/// Keeps copies, and knows for which resync it has.
pub struct Keeper {
    driver: Arc<Driver>,
    copies: Arc<Copies>,
    state: Mutex<Option<(Session, State)>>,
}

impl Keeper {
    pub fn new(driver: Arc<Driver>, copies: Arc<Copies>) -> Keeper {
        Keeper { driver, copies, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Session, State)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the copy has been kept for this resync; begins with it where it has not.
    pub fn has_kept(self: &Arc<Keeper>, from: Incarnation, session: u32) -> bool {
        let waits = self.driver.lock().node.role() == RoleName::Wait;
        let mut state = self.lock();
        match &*state {
            Some((of, State::Kept { .. })) if *of == (from, session) => return true,
            Some((_, State::Running)) => return false,
            Some((of, State::Failed { at, .. })) if *of == (from, session) && at.elapsed() < AGAIN => return false,
            // No target of anything: the core will not listen either.
            _ if !waits => return false,
            _ => *state = Some(((from, session), State::Running)),
        }
        drop(state);
        let own = self.clone();
        if let Err(reason) = spawn("keep", move || own.keep((from, session))) {
            *self.lock() = Some(((from, session), State::Failed { reason, at: Instant::now() }));
        }
        false
    }

    fn keep(&self, session: Session) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let folder = format!("{}.{:03}", now.as_secs(), now.subsec_millis());
        let state = match self.copies.target.keep(&folder) {
            Ok(how) => {
                log::info("the replaced copy is kept", &[("folder", &folder), ("how", &format!("{how:?}"))]);
                State::Kept { folder }
            }
            Err(unkept) => {
                log::error("the replaced copy can't be kept, and is not overwritten", &[("reason", &unkept)]);
                State::Failed { reason: unkept.to_string(), at: Instant::now() }
            }
        };
        *self.lock() = Some((session, state));
    }

    /// How the last one ended, for the status.
    pub fn show(&self) -> Value {
        match &*self.lock() {
            None => Value::Null,
            Some((_, State::Running)) => json!({"state": "running"}),
            Some((_, State::Kept { folder })) => json!({"state": "kept", "folder": folder}),
            Some((_, State::Failed { reason, .. })) => json!({"state": "failed", "error": reason}),
        }
    }
}
