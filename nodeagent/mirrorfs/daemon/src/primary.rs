//! The primary: each replicated directory mounted, each change sent to the secondary first.

use std::time::Duration;

use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::session::Served;
use mirrorfs_net::client::Call;

use crate::config::Config;
use crate::log;
use crate::peer::{Peer, PeerTree};
use crate::under;

/// How long open files may keep a stopping daemon.
const STOP: Duration = Duration::from_secs(10);

/// Mounts, serves until `wait` returns, and unmounts.
///
/// # Errors
/// A sentence for people.
pub fn run(config: &Config, wait: impl FnOnce()) -> Result<(), String> {
    refuse_request_timeouts()?;
    let tls = config.identity()?.client().map_err(|error| format!("tls: {error}"))?;
    let peer = Peer::new(Call {
        address: config.address,
        tls,
        mirror: config.mirror_id()?,
        generation: config.generation,
        patience: Duration::from_secs(config.stall_seconds),
    });
    let mut served = Vec::new();
    for (number, directory) in config.directories.iter().enumerate() {
        let tree = under::open(&config.state, number, &directory.path)?;
        let exclude = Exclude::new(directory.exclude.iter().map(String::as_str))?;
        let replicator = PeerTree { peer: peer.clone(), tree: number as u16 };
        let mounted = Served::start(Mirror::new(tree, exclude), &directory.path, &replicator, config.threads)?;
        log::info("mounted", &[("directory", &directory.path.display())]);
        served.push(mounted);
    }
    wait();
    for (number, mounted) in served.into_iter().enumerate() {
        let ended = mounted.stop(STOP).map_err(|errno| format!("unmounting directory {number}: {errno}"))?;
        if !ended {
            log::info("still in use: it ends with this process", &[("directory", &number)]);
        }
        under::close(&config.state, number).map_err(|errno| format!("private mount {number}: {errno}"))?;
    }
    log::info("unmounted", &[]);
    Ok(())
}

/// With these set, the kernel would end the mount of a node that holds its answers while the protocol decides.
fn refuse_request_timeouts() -> Result<(), String> {
    for name in ["default_request_timeout", "max_request_timeout"] {
        let path = format!("/proc/sys/fs/fuse/{name}");
        // Older kernels have none.
        let value = std::fs::read_to_string(&path).unwrap_or_default();
        if value.trim().parse::<u64>().is_ok_and(|seconds| seconds > 0) {
            return Err(format!(
                "{path} is {}: set it to 0, or the kernel ends mounts that wait for a peer",
                value.trim()
            ));
        }
    }
    Ok(())
}
