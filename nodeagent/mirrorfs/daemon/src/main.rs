//! `farmstead-mirrorfs CONFIG`: one mirror on one machine, until SIGTERM.
//!
//! The role is told, not decided: leases, witness, takeover and resync come from the protocol core and are not here yet.
//! So a primary that loses its peer acknowledges nothing more and says so; it never goes on alone.

mod config;
mod copies;
mod log;
mod peer;
mod primary;
mod secondary;
mod under;

use std::process::ExitCode;

use config::{Config, Role};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: farmstead-mirrorfs CONFIG.json");
        return ExitCode::from(2);
    };
    match run(path.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            log::error("stopped", &[("reason", &reason)]);
            ExitCode::FAILURE
        }
    }
}

fn run(path: &std::path::Path) -> Result<(), String> {
    let config = Config::read(path)?;
    // Taken before any thread starts, so that no signal is missed.
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
        .map_err(|error| format!("signals: {error}"))?;
    let wait = move || {
        signals.forever().next();
    };
    match config.role {
        Role::Primary => primary::run(&config, wait),
        Role::Secondary => secondary::run(&config, wait),
    }
}
