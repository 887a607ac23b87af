//! Plays every story of `tests/scenarios/mirror`; its README leads from each row of the role table to its stories.

use mirror_core::Mutation;
use mirror_lab::story::play;
use std::path::{Path, PathBuf};

/// Every story's name and text.
fn stories() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap_or_else(|error| panic!("{}: {error}", folder().display()))
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().display().to_string();
    let text = |path: &PathBuf| std::fs::read_to_string(path).expect("a readable story");
    files.iter().map(|path| (name(path), text(path))).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/scenarios/mirror")
}

#[test]
fn every_story_comes_true() {
    let wrong: Vec<String> = stories()
        .iter()
        .filter_map(|(name, text)| play(text, None).err().map(|reason| format!("{name}: {reason}")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn the_index_has_every_story() {
    let index = std::fs::read_to_string(folder().join("README.md")).expect("an index of the stories");
    let missing: Vec<_> = stories().into_iter().filter(|(name, _)| !index.contains(&format!("({name})"))).collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");
}

/// Which story does not come true without a guard.
const SPOILED: [(Mutation, &str); 11] = [
    (Mutation::FrozenWaitsForSilent, "19-"),
    (Mutation::LocalForceUnrecorded, "21-"),
    (Mutation::ForceWhilePeerAnswers, "32-"),
    (Mutation::ResyncOtherLineage, "33-"),
    (Mutation::RollbackBelieved, "36-"),
    (Mutation::CrashedTakesOver, "25-"),
    (Mutation::LostStateUntold, "47-"),
    (Mutation::SyncOneSide, "46-"),
    (Mutation::AckBeforeWitness, "06-"),
    (Mutation::SwitchWithoutMark, "05-"),
    (Mutation::SwitchWhileServing, "30-"),
];

#[test]
fn a_guard_switched_off_spoils_its_story() {
    let stories = stories();
    let spared: Vec<_> = SPOILED
        .into_iter()
        .filter(|(guard, start)| {
            let (_, text) = stories.iter().find(|(name, _)| name.starts_with(start)).expect("a story of that number");
            play(text, Some(*guard)).is_ok()
        })
        .collect();
    assert!(spared.is_empty(), "these come true without their guard: {spared:?}");
}
