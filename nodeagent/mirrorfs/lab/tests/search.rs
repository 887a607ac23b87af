//! The search, bounded: every small scene is exhausted without a violation.

use mirror_lab::scenes::SCENES;
use mirror_lab::threads::on_two_threads;

/// The largest small scene has about 592,000 states.
const LIMIT: usize = 600_000;

#[test]
fn every_small_scene_is_exhausted_and_clean() {
    let small: Vec<_> = SCENES.iter().filter(|scene| !scene.large).collect();
    for (scene, found) in on_two_threads(&small, |scene| scene.search(None, LIMIT, 64)) {
        println!("| {} | {} | {} |", scene.name, found.states, found.depth);
        assert_eq!(found.violation, None, "{}", scene.name);
        assert!(found.exhausted, "{}: {} states are not all", scene.name, found.states);
    }
}
