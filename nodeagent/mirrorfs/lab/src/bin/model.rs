//! `make model`: searches every scene, or the one that is named (with one guard off, if that is named too), and tells a violation
//! step by step.

use mirror_core::Mutation;
use mirror_lab::scenes::{SCENES, Scene, settings};
use mirror_lab::search::explain;
use std::process::ExitCode;
use std::time::Instant;

/// What is larger than this is bounded, and said to be.
const LIMIT: usize = 3_000_000;

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let broken = std::env::args().nth(2).map(|name| guard_of(&name));
    let mut clean = true;
    println!(
        "| scene | states | steps | depth | exhausted | followed to the end | seconds |\n|---|---|---|---|---|---|---|"
    );
    for scene in SCENES.iter().filter(|scene| only.as_deref().is_none_or(|name| name == scene.name)) {
        let start = Instant::now();
        let scene = Scene { prompt: scene.prompt && broken.is_some(), ..*scene };
        let found = scene.search(broken, LIMIT, 16);
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
            println!("{}", explain(&settings(scene.class, broken), &scene.start(), scene.budget, &path));
        }
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn guard_of(name: &str) -> Mutation {
    let found = Mutation::ALL.iter().find(|guard| format!("{guard:?}") == name);
    *found.unwrap_or_else(|| panic!("no guard is called {name}; see core/src/guard.rs"))
}
