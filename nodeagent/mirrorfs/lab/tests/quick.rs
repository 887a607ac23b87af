//! What `make mutants` runs for each mutant of the role machine, after the unit tests and the stories: the scenes that take
//! no time, and a handful of simulated runs. A mutant that gets past these is looked at by `search`, `mutations`, `simulation`.

use mirror_lab::scenes::SCENES;
use mirror_lab::sim::batch;
use mirror_lab::threads::on_two_threads;

const QUICK: [&str; 8] = ["calm", "switch", "disk", "switch, unknown", "sync", "ahead", "late", "unheard"];

#[test]
fn the_quickest_scenes_are_clean() {
    let quick: Vec<_> = SCENES.iter().filter(|scene| QUICK.contains(&scene.name)).collect();
    assert_eq!(quick.len(), QUICK.len());
    for (scene, found) in on_two_threads(&quick, |scene| scene.search(None, 100_000, 64)) {
        assert_eq!((found.violation, found.exhausted), (None, true), "{}", scene.name);
    }
}

#[test]
fn a_hundred_runs_are_clean_and_get_somewhere() {
    let total = batch(0..100, 1_200, None);
    assert_eq!(total.violations, Vec::new());
    assert!(total.acknowledged > 10_000, "clients did next to nothing: {}", total.acknowledged);
    assert!(total.generations > 200, "hardly anything changed hands: {}", total.generations);
}
