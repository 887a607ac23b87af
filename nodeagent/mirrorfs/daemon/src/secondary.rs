//! The secondary: listens, and carries out what the primary sends.

use std::sync::Arc;

use mirrorfs_fs::apply::Applier;
use mirrorfs_net::server::{Listen, Server};

use crate::config::Config;
use crate::copies::Copies;
use crate::log;
use crate::under;

/// Listens until `wait` returns.
///
/// # Errors
/// A sentence for people.
pub fn run(config: &Config, wait: impl FnOnce()) -> Result<(), String> {
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut appliers = Vec::new();
    for (number, directory) in config.directories.iter().enumerate() {
        appliers.push(Applier::new(under::open(&config.state, number, &directory.path)?));
    }
    let copies = Arc::new(Copies(appliers));
    let listen = Listen {
        tls: config.identity()?.server().map_err(|error| format!("tls: {error}"))?,
        mirror: config.mirror_id()?,
        generation: config.generation,
        connections: config.threads * config.directories.len(),
        report: Box::new(|from, broken| {
            log::error("connection refused or lost", &[("peer", from), ("reason", broken)])
        }),
    };
    let mut server = Server::start(config.address, listen, copies.clone())
        .map_err(|error| format!("{}: {error}", config.address))?;
    log::info("listening", &[("address", &server.address())]);
    wait();
    server.stop();
    copies.settle().map_err(|errno| format!("setting times: {errno}"))?;
    for number in 0..config.directories.len() {
        under::close(&config.state, number).map_err(|errno| format!("private mount {number}: {errno}"))?;
    }
    log::info("stopped listening", &[]);
    Ok(())
}
