//! The way of messages to the peer: one connection and one thread of its own, so that no beacon waits behind data.
//!
//! What can't be sent is dropped: whatever matters is said again with a later beacon.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mirror_core::message::{Frame, Message};
use mirrorfs_net::client::{Call, connect};
use mirrorfs_net::frame::Kind;
use mirrorfs_net::hello::Channel;
use mirrorfs_net::link::{Broken, Link};

use crate::driver::Driver;
use crate::log;
use crate::wire;

/// Sends messages for as long as there is somebody who has some. `lease` is how old one may get.
pub fn send(driver: &Driver, call: &Call, lease: Duration, frames: &Receiver<Frame>) {
    let mut link: Option<Link> = None;
    let mut told = None;
    loop {
        let frame = match frames.recv_timeout(lease) {
            Ok(frame) => frame,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(mut bytes) = wire::encode(&frame.message) else { continue };
        if matches!(frame.message, Message::ResyncBegin { .. }) && driver.keeps() {
            wire::keep(&mut bytes);
        }
        let started = Instant::now();
        let result = deliver(call, lease, &mut link, &bytes);
        let now = result.as_ref().err().map(ToString::to_string);
        if now != told {
            match &now {
                Some(reason) => log::error("the peer is not reached", &[("reason", reason)]),
                None => log::info("the peer is reached", &[("address", &call.address)]),
            }
            told = now;
        }
        if started.elapsed() > lease / 4 {
            // What waited meanwhile is old news.
            while frames.try_recv().is_ok() {}
        }
    }
}

fn deliver(call: &Call, lease: Duration, link: &mut Option<Link>, bytes: &[u8]) -> Result<(), Broken> {
    if let Some(open) = link {
        if open.send(Kind::Message, 0, 0, 0, [bytes, &[]]).is_ok() {
            return Ok(());
        }
        *link = None;
    }
    let (mut fresh, _) = connect(call, Channel::Control, drop)?;
    // A path that swallows what is sent must not keep the beacons that follow.
    let silent = u32::try_from(lease.as_millis() / 2).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(fresh.handle()?, silent).map_err(std::io::Error::from)?;
    fresh.send(Kind::Message, 0, 0, 0, [bytes, &[]])?;
    *link = Some(fresh);
    Ok(())
}
