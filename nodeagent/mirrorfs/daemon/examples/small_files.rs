//! `small_files FOLDER COUNT`: creates, stats and removes files of 4 KiB, and prints operations a second as JSON.
//!
//! For `make bench-mirrorfs`: fio has no such work, and an interpreter would be what is measured.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let (folder, count) = (Path::new(&arguments[1]), arguments[2].parse::<usize>().expect("a number"));
    let paths: Vec<_> = (0..count).map(|n| folder.join(format!("file-{n}"))).collect();
    let data = [7; 4096];
    let create = rate(&paths, |path| std::fs::File::create_new(path)?.write_all(&data))?;
    let stat = rate(&paths, |path| path.metadata().map(drop))?;
    let unlink = rate(&paths, |path| std::fs::remove_file(path))?;
    println!("{{\"create\": {create:.0}, \"stat\": {stat:.0}, \"unlink\": {unlink:.0}}}");
    Ok(())
}

fn rate<P: AsRef<Path>>(paths: &[P], mut work: impl FnMut(&Path) -> std::io::Result<()>) -> std::io::Result<f64> {
    let start = Instant::now();
    paths.iter().try_for_each(|path| work(path.as_ref()))?;
    Ok(paths.len() as f64 / start.elapsed().as_secs_f64())
}
