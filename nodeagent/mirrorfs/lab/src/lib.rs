//! The laboratory of the mirror core: an explicit-state search, a seeded simulator, stories. All of them drive the real core.

#![forbid(unsafe_code)]

pub mod host;
pub mod search;
pub mod world;
