//! What travels between the two machines of a mirror: frames over TCP and TLS 1.3, keys pinned both ways.
//!
//! `frame` is the form of the bytes, `tls` who may speak, `link` one connection used by one thread, `client` the primary's
//! side and `server` the secondary's. What a frame's payload means is not known here, nor who is primary.

pub mod client;
pub mod frame;
pub mod hello;
pub mod link;
pub mod server;
pub mod tls;
