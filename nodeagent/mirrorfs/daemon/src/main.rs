//! `farmstead-mirrorfs CONFIG`: one mirror on one machine, until SIGTERM. `farmstead-mirrorfs CONFIG VERB` speaks to it.
//!
//! Here everything is put together: the protocol core and its lock (`driver`), FUSE threads that step it (`session`), what
//! comes from the peer (`intake`), threads with one job each (`hands`, `control`, `machine`, `resync`), the control socket.

mod ahead;
mod cgroup;
mod clock;
mod config;
mod control;
mod copies;
mod desk;
mod driver;
mod gate;
mod hands;
mod http;
mod intake;
mod jobs;
mod keeper;
mod lines;
mod log;
mod machine;
mod metrics;
mod pool;
mod probe;
mod resync;
mod session;
mod socket;
mod start;
mod status;
mod under;
mod verify;
mod wire;

use std::process::ExitCode;

use config::Config;
use serde_json::json;

const USAGE: &str = "usage: farmstead-mirrorfs CONFIG.json [VERB]
  without a verb: the daemon
  status | switchover | stop: speaks to the daemon of this configuration
  overwrite [keep]: the other machine's copy of another lineage may be overwritten, or is kept first
  verify [repair]: compares both copies, and mends the other one's from this primary's
  force OPERATION | force-local OPERATION: become primary (the other machine is off for certain)
  recreated-witness UID | replace-peer UID";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [config] if !config.starts_with('-') => Config::read(config.as_ref()).and_then(start::run),
        [config, ref order @ ..] if !order.is_empty() => match client(config, order) {
            Some(result) => {
                return match result {
                    Ok(answer) => {
                        println!("{answer:#}");
                        ExitCode::SUCCESS
                    }
                    Err(reason) => {
                        eprintln!("{reason}");
                        ExitCode::FAILURE
                    }
                };
            }
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        },
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            log::error("stopped", &[("reason", &reason)]);
            ExitCode::FAILURE
        }
    }
}

/// `None` where the words are no order.
fn client(config: &str, order: &[&str]) -> Option<Result<serde_json::Value, String>> {
    let (verb, fields) = match order {
        [verb @ ("status" | "switchover" | "stop" | "overwrite")] => (*verb, json!({})),
        ["overwrite", "keep"] => ("overwrite", json!({"keep": true})),
        ["verify"] => ("verify", json!({"repair": false})),
        ["verify", "repair"] => ("verify", json!({"repair": true})),
        // Whoever types this on the machine itself says that the other one is off.
        ["force", operation] => {
            ("force", json!({"operation": operation, "confirmedOff": true, "peerLeaseFresh": false}))
        }
        ["force-local", operation] => ("forceLocal", json!({"operation": operation})),
        ["recreated-witness", uid] => ("recreatedWitness", json!({"uid": uid})),
        ["replace-peer", uid] => ("replacePeer", json!({"uid": uid})),
        _ => return None,
    };
    Some(Config::read(config.as_ref()).and_then(|config| socket::ask(&config.control(), verb, fields)))
}
