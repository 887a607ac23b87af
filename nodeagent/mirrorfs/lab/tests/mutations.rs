//! Every guard that is switched off is noticed by the search, with the shortest way to it; some also by the simulator's clients.

use mirror_core::Mutation;
use mirror_lab::scenes::{SCENES, noticed_in};
use mirror_lab::sim::seeds_until_noticed;
use mirror_lab::threads::on_two_threads;

#[test]
fn the_search_notices_every_guard() {
    println!("| guard switched off | invariant | scene | depth | states |\n|---|---|---|---|---|");
    let found = on_two_threads(Mutation::ALL, |mutation| {
        let name = noticed_in(*mutation);
        let scene = SCENES.iter().find(|scene| scene.name == name).expect("a scene of that name");
        scene.search(Some(*mutation), 500_000, 8)
    });
    let mut unnoticed = Vec::new();
    for (mutation, found) in found {
        match found.violation {
            Some((reason, path)) => {
                let name = noticed_in(*mutation);
                println!("| {mutation:?} | {reason} | {name} | {} | {} |", path.len(), found.states);
            }
            None => unnoticed.push(mutation),
        }
    }
    assert!(unnoticed.is_empty(), "nobody notices that these are off: {unnoticed:?}");
}

#[test]
fn the_simulator_notices() {
    for mutation in [Mutation::NoResend, Mutation::NoOrder] {
        let noticed = seeds_until_noticed(mutation, 1_000, 1_200);
        let (seeds, reason) = noticed.unwrap_or_else(|| panic!("{mutation:?} is not noticed"));
        println!("| {mutation:?} | {seeds} | {reason} |");
    }
}
