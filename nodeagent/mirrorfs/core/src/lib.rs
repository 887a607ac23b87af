//! The mirror protocol's core: who may write, who may serve, what an acknowledgement means, what differs.
//!
//! A `Node` is one member. It takes an `Event` and the time, and returns `Action`s; it does no I/O, reads no clock, starts no
//! thread and draws no random number, so the same code runs under the daemon, the explicit-state search and the simulator.
//! The table of roles is `role`: one module a role, one function a row, the row quoted above it. `docs/design` has the
//! protocol's decisions. What is not here: FUSE, sockets, TLS, files, the witness client.

#![forbid(unsafe_code)]
// Events and actions are moved once and live briefly: a box a record would cost more than it saves.
#![allow(clippy::large_enum_variant)]

mod absorb;
mod cas;
pub mod checkpoint;
pub mod config;
pub mod difflog;
pub mod durable;
pub mod event;
pub mod guard;
pub mod ids;
pub mod intake;
pub mod message;
pub mod node;
mod pump;
pub mod record;
pub mod resync;
pub mod role;
pub mod slots;
pub mod time;
mod timing;
pub mod window;

pub use config::{Acknowledgement, Config, Settings};
pub use event::{Action, Event, Notice, Order, Read, Written};
pub use guard::Mutation;
pub use node::{Node, Start};
pub use record::{Holder, Record};
pub use role::RoleName;
pub use time::{Span, Time};
