//! Descriptors are counted for a whole process: a test binary of its own.

mod support;

use std::fs::{self, File};

use support::Pair;

#[test]
fn many_open_files_cost_one_descriptor_each() {
    let pair = Pair::new();
    let at = pair.mnt();
    let count_fds = || fs::read_dir("/proc/self/fd").unwrap().count();
    for n in 0..500 {
        File::create(at.join(n.to_string())).unwrap();
    }
    let before = count_fds();
    let files: Vec<File> = (0..500).flat_map(|n| [n, n].map(|n| File::open(at.join(n.to_string())).unwrap())).collect();
    // Ours are the test's own 1,000 and one for each file.
    assert!(count_fds() - before <= 1000 + 500 + 10, "{} descriptors", count_fds() - before);
    drop(files);
    let (inodes, _bytes) = pair.mirror().usage();
    assert!(inodes >= 500);
}
