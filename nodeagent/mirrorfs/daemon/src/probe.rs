//! What a load balancer's probe is answered: 200 while clients are served here, from memory and at once.
//!
//! Not here: the listeners of farms, which the agent answers for. This one must go on answering when the agent is away.

use std::sync::Arc;

use crate::config::Probe;
use crate::driver::Driver;
use crate::http::{self, Answer};

/// Answers the probe until the process ends.
///
/// # Errors
/// A sentence: the address can't be listened on.
pub fn serve(probe: &Probe, driver: Arc<Driver>) -> Result<(), String> {
    let path = probe.path.clone();
    http::serve(
        "probe",
        probe.address,
        move |asked| {
            if asked == path { answer(driver.unready()) } else { Answer::nothing() }
        },
    )
}

fn answer(unready: Option<String>) -> Answer {
    let (status, body) = match unready {
        None => ("200 OK", "served here\n".into()),
        Some(reason) => ("503 Service Unavailable", format!("{reason}\n")),
    };
    Answer { status, kind: "text/plain", body }
}
