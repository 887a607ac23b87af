//! Every guard that is switched off is noticed: by the search, with the shortest way to it, or by the simulator's clients.

use mirror_core::Mutation;
use mirror_lab::scenes::{SCENES, noticed_in};
use mirror_lab::sim::seeds_until_noticed;

#[test]
fn the_search_notices() {
    println!("| guard switched off | invariant | scene | depth | states |\n|---|---|---|---|---|");
    for mutation in Mutation::ALL {
        let Some(name) = noticed_in(*mutation) else { continue };
        let scene = SCENES.iter().find(|scene| scene.name == name).expect("a scene of that name");
        let found = scene.search(Some(*mutation), 400_000, 8);
        let Some((reason, path)) = found.violation else { panic!("{mutation:?} is not noticed in {name}") };
        println!("| {mutation:?} | {reason} | {name} | {} | {} |", path.len(), found.states);
    }
}

#[test]
fn the_simulator_notices() {
    for mutation in [Mutation::NoResend, Mutation::NoOrder] {
        let noticed = seeds_until_noticed(mutation, 1_000, 1_200);
        let (seeds, reason) = noticed.unwrap_or_else(|| panic!("{mutation:?} is not noticed"));
        println!("| {mutation:?} | {seeds} | {reason} |");
    }
}
