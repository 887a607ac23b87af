//! The replicated directory as a file system.
//!
//! From the application down: `device`, `ring` and `abi` speak the kernel's FUSE protocol; `dispatch` and the handlers turn
//! requests into resolved operations (`op`); `replicate` is where those go to the peer; `perform` carries them out on one copy
//! (`tree`), on the primary from the handlers, on the secondary from `apply`. What it is not: roles, leases, takeover and the
//! difference log are decided elsewhere.
#![deny(unsafe_code)]

pub mod abi;
pub mod acl;
pub mod apply;
mod attributes;
pub mod codec;
mod data;
pub mod device;
pub mod dispatch;
pub mod exclude;
pub mod id;
pub mod index;
mod listing;
pub mod locks;
pub mod mirror;
mod names;
pub mod op;
mod opens;
pub mod perform;
pub mod replicate;
pub mod ring;
pub mod session;
pub mod sys;
pub mod table;
pub mod times;
pub mod tree;
mod xattrs;
