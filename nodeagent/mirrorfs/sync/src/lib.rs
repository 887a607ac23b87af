//! Making two copies equal, and the core's state files.
//!
//! The core (`mirror_core`) decides what is compared and when, and what an acknowledgement needs; this crate carries that out
//! on directories. What is not here: roles, the window, the network, FUSE.
//!
//! # How a driver uses it
//! Both sides: `store::Store::state` and `store::Store::log` carry out `Action::Persist` and `Action::PersistLog`.
//!
//! On the **source** (ALONE) there is one `Source`; it asks the other side through a `Peer`, whose lines
//! are connections of their own, next to those of operations:
//!
//! | the core says | the driver |
//! |---|---|
//! | a new `Resync` | `Source::stop()`, and once all that was going on has ended `Source::begin(session)` |
//! | `Walk { session }` | `Source::walk(session, name)` on a thread of its own: each name is an `Event::Walked { Some }`, its end `{ None }` |
//! | `Send(Operation)` of kind `Copy` | `Source::copy(object, name, carry)` on one of 8 threads. `name` is `Event::Walked { Some }` at once; `carry` sends the operation with the body it is given, waits for the acknowledgement, and returns its outcome |
//! | an acknowledgement `NotYet` of a `Change` | `Source::refused` for each object of it |
//!
//! `Source::copy` never leaves an operation unsent, whatever happens on the source: what comes after it on the same object waits
//! for it on the other side. It holds a directory's lock while `carry` runs, and no lock otherwise.
//!
//! On the **target** (WAIT) there is one `Target`:
//!
//! | it gets | it is handed to |
//! |---|---|
//! | a question on a line | `Target::answer` |
//! | `Apply` of kind `Copy` | `Target::copy`, with the body that travelled |
//! | `Apply` of kind `Change`, during a resync | `Target::change` |
//! | `Apply` of kind `Purge` | `Target::purge` |
//!
//! A verification in sync uses the same lines: `Source::verify` tells of suspects, `Source::mend` looks again at each with its lock
//! held, and has carried what makes it equal (`verify`). `Target::keep` keeps a copy before any of it is overwritten (`keep`).
//!
//! Two things are the driver's to see to. A copy has its place in the object's order, on the target too, and everything before it is done on
//! the source, before `Source::copy` is called (the window does that). And objects take turns: one that is answered `NotYet` comes up
//! again after the others, or eight that wait for their directories would keep those from ever being copied.
//!
//! # Why a comparison without locks is right
//! Every change of the source since the comparison reaches the target too, in the object's order, or is answered `NotYet`, which
//! brings its objects back. Changes overwrite (bytes, attributes, what a name leads to) and never build on what was there before;
//! the one that does, a copy from file to file, is always answered `NotYet`. So whatever was equal once stays equal, a copy that
//! was read while its file changed is put right by the changes that follow it, and what a stale comparison calls different is
//! only sent for nothing.

#![forbid(unsafe_code)]

mod body;
mod cursors;
mod directory;
mod extents;
pub mod keep;
mod meta;
mod names;
pub mod object;
pub mod pace;
pub mod peer;
mod place;
mod question;
mod sight;
pub mod source;
pub mod store;
pub mod target;
mod unfound;
pub mod verify;
mod walk;
mod wire;

pub use body::{nothing, object_of};
