//! The laboratory of the mirror core: an explicit-state search, a seeded simulator, stories. All of them drive the real core.

#![forbid(unsafe_code)]
#![allow(clippy::large_enum_variant)]

pub mod history;
pub mod host;
pub mod rng;
pub mod scenes;
pub mod search;
pub mod sim;
pub mod story;
pub mod threads;
pub mod witness;
pub mod world;
