//! Making the peer's copy equal: the simplest way that is right, each touched object whole.
//!
//! `source` reads and sends, `target` takes in, `piece` is what travels. When an object is begun, and what is compared
//! again, the core says. An inode gets its id at the target, and so can be named by any operation, only once it is complete:
//! what has a name there is as the source's was, apart from the changes that follow it.

pub mod limbo;
pub mod piece;
pub mod source;
pub mod target;
