//! Making two copies equal, and keeping book of what may differ.
//!
//! The core (`mirror_core`) decides what is compared and when, and what an acknowledgement needs; this crate carries that out
//! on directories. What is not here: roles, the window, the network.

#![forbid(unsafe_code)]

pub mod store;
