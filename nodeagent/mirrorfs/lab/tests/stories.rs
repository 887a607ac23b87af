//! Plays every story of `tests/scenarios/mirror`; its README leads from each row of the role table to its stories.

use mirror_lab::story::play;
use std::path::Path;

#[test]
fn every_story_comes_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/scenarios/mirror");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let index = std::fs::read_to_string(folder.join("README.md")).expect("an index of the stories");
    for file in &files {
        let name = file.file_name().unwrap_or_default().display().to_string();
        assert!(index.contains(&format!("({name})")), "{name} is not in README.md");
    }
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let text = std::fs::read_to_string(file).expect("a readable story");
            play(&text).err().map(|reason| format!("{}: {reason}", file.file_name().unwrap_or_default().display()))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}
