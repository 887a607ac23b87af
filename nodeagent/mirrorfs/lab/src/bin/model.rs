//! `make model`: searches every scene, or the one that is named, and tells a violation step by step.

use mirror_lab::scenes::{SCENES, settings};
use mirror_lab::search::explain;
use std::process::ExitCode;
use std::time::Instant;

/// What is larger than this is bounded, and said to be.
const LIMIT: usize = 3_000_000;

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let mut clean = true;
    println!(
        "| scene | states | steps | depth | exhausted | followed to the end | seconds |\n|---|---|---|---|---|---|---|"
    );
    for scene in SCENES.iter().filter(|scene| only.as_deref().is_none_or(|name| name == scene.name)) {
        let start = Instant::now();
        let found = scene.search(None, LIMIT, 16);
        let exhausted = if found.exhausted { "yes" } else { "no" };
        println!(
            "| {} | {} | {} | {} | {exhausted} | {} | {:.1} |",
            scene.name,
            found.states,
            found.steps,
            found.depth,
            found.followed,
            start.elapsed().as_secs_f64()
        );
        if let Some((reason, path)) = found.violation {
            clean = false;
            println!("VIOLATION: {reason}");
            println!("{}", explain(&settings(scene.class, None), &scene.start(), scene.budget, &path));
        }
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
