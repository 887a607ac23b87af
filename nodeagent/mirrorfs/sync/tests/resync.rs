//! Two real directories that are made equal: from nothing, from an old copy, from what a log names; while a writer goes on.

mod support;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use mirror_core::ids::ObjectId;
use mirrorfs_fs::id::FileId;
use mirrorfs_fs::tree::HIDDEN;
use mirrorfs_sync::object::Object;
use support::mess::mess;
use support::random::Random;
use support::{Pair, snapshot};

fn copy_plainly(a: &Path, b: &Path) {
    let copied = std::process::Command::new("cp").args(["-a", "--sparse=always"]).arg(a.join(".")).arg(b).status();
    assert!(copied.unwrap().success());
}

/// Seeds of a test: `MIRRORFS_SEEDS=200` tries that many, from the first on.
fn seeds(first: u64, usual: u64) -> std::ops::Range<u64> {
    let count = std::env::var("MIRRORFS_SEEDS").ok().and_then(|count| count.parse().ok());
    first..first + count.unwrap_or(usual)
}

#[test]
fn an_empty_target_becomes_the_same() {
    for seed in seeds(1, 6) {
        let mut pair = Pair::new(|a, _| mess(a, &mut Random::new(seed), 400), &[]);
        let source = pair.source(0);
        assert!(pair.driver.resync(&source, 1, true, || {}), "seed {seed}");
        pair.driver.purge();
        pair.assert_same();
    }
}

#[test]
fn a_plain_copy_is_taken_over_without_sending_its_data() {
    let mut pair = Pair::new(
        |a, b| {
            mess(a, &mut Random::new(11), 400);
            std::fs::write(a.join("large"), Random::new(1).bytes(20 << 20)).unwrap();
            copy_plainly(a, b);
        },
        &[],
    );
    let source = pair.source(0);
    assert!(pair.driver.resync(&source, 1, true, || {}));
    pair.driver.purge();
    let progress = source.progress();
    assert!(progress.sent < 1 << 20, "{progress:?}");
    assert!(progress.read > 20 << 20, "{progress:?}");
    pair.assert_same();
    // And once more: nothing at all differs.
    let source = pair.source(0);
    assert!(pair.driver.resync(&source, 2, true, || {}));
    assert_eq!((source.progress().named, source.progress().sent), (0, 0));
}

#[test]
fn what_the_target_changed_on_its_own_is_undone() {
    for seed in seeds(21, 6) {
        let mut pair = Pair::new(
            |a, b| {
                mess(a, &mut Random::new(seed), 300);
                copy_plainly(a, b);
                mess(b, &mut Random::new(seed + 100), 300);
            },
            &[],
        );
        let source = pair.source(0);
        assert!(pair.driver.resync(&source, 1, true, || {}), "seed {seed}");
        pair.driver.purge();
        pair.assert_same();
    }
}

#[test]
fn a_walk_while_a_writer_goes_on() {
    for seed in seeds(31, 4) {
        let mut pair = Pair::new(|a, _| mess(a, &mut Random::new(seed), 400), &[]);
        let source = pair.source(0);
        let mnt = pair.mnt();
        let equal = pair.driver.resync(&source, 1, true, || mess(&mnt, &mut Random::new(seed + 100), 600));
        assert!(equal, "seed {seed}: {:?}", pair.driver.trouble.lock().unwrap());
        pair.driver.purge();
        pair.assert_same();
    }
}

#[test]
fn what_the_log_names_is_enough_while_a_writer_goes_on() {
    for seed in seeds(41, 6) {
        let mut pair = Pair::new(|a, _| mess(a, &mut Random::new(seed), 300), &[]);
        let mnt = pair.mnt();
        assert!(pair.driver.resync(&pair.source(0), 1, true, || {}));
        // ALONE: the target hears nothing.
        mess(&mnt, &mut Random::new(seed + 100), 200);
        assert!(!pair.driver.touched().is_empty());
        let source = pair.source(0);
        assert!(pair.driver.resync(&source, 2, false, || mess(&mnt, &mut Random::new(seed + 200), 300)), "seed {seed}");
        pair.driver.purge();
        pair.assert_same();
    }
}

#[test]
fn only_the_blocks_that_differ_are_sent() {
    let mut pair = Pair::new(|a, _| std::fs::write(a.join("large"), Random::new(5).bytes(40 << 20)).unwrap(), &[]);
    let mnt = pair.mnt();
    assert!(pair.driver.resync(&pair.source(0), 1, true, || {}));
    let mut random = Random::new(6);
    let file = std::fs::OpenOptions::new().write(true).open(mnt.join("large")).unwrap();
    for _ in 0..20 {
        let at = random.below(40 << 20) / 4096 * 4096;
        std::os::unix::fs::FileExt::write_all_at(&file, &random.bytes(4096), at).unwrap();
    }
    drop(file);
    let source = pair.source(0);
    assert!(pair.driver.resync(&source, 2, false, || {}));
    let progress = source.progress();
    assert!(progress.sent < 20 * (4 << 10) + 4096, "{progress:?}");
    assert!(progress.asked < 20 << 10, "{progress:?}");
    pair.assert_same();
}

#[test]
fn what_was_done_before_an_interruption_is_not_sent_again() {
    let mut pair = Pair::new(
        |a, _| {
            for n in 0..200 {
                std::fs::write(a.join(format!("f{n}")), Random::new(n + 1).bytes(100_000)).unwrap();
            }
        },
        &[],
    );
    let target = pair.target.clone();
    let peer = support::driver::InProcess::new(target);
    let patience = peer.patience.clone();
    let source = std::sync::Arc::new(mirrorfs_sync::source::Source::new(
        vec![pair.mirror.clone().unwrap()],
        std::sync::Arc::new(peer),
        0,
    ));
    patience.store(120, Ordering::SeqCst);
    assert!(!pair.driver.resync(&source, 1, true, || {}), "the target was lost on the way");
    let first = source.progress().sent;
    assert!(first > 1 << 20 && first < 19 << 20, "{first}");
    let source = pair.source(0);
    assert!(pair.driver.resync(&source, 2, true, || {}));
    let all = first + source.progress().sent;
    assert!(all < 200 * 100_000 + (9 << 20), "sent in all: {all}");
    pair.assert_same();
}

#[test]
fn excluded_paths_stay_each_sides_own() {
    let pair = Pair::new(
        |a, b| {
            for (root, text) in [(a, "here"), (b, "there")] {
                std::fs::create_dir_all(root.join("cache/tmp")).unwrap();
                std::fs::write(root.join("cache/tmp/own"), text).unwrap();
                std::fs::write(root.join("own.pid"), text).unwrap();
            }
            std::fs::write(b.join("cache/surplus"), "x").unwrap();
            std::fs::write(a.join("cache/wanted"), "x").unwrap();
        },
        &["own.pid", "cache/tmp"],
    );
    assert!(pair.driver.resync(&pair.source(0), 1, true, || {}));
    pair.driver.purge();
    let read = |path: &str| std::fs::read_to_string(pair.b().join(path));
    assert_eq!(read("own.pid").unwrap(), "there");
    assert_eq!(read("cache/tmp/own").unwrap(), "there");
    assert_eq!(read("cache/wanted").unwrap(), "x");
    assert!(read("cache/surplus").is_err());
}

#[test]
fn the_bandwidth_limit_holds() {
    let pair = Pair::new(|a, _| std::fs::write(a.join("large"), Random::new(5).bytes(3 << 20)).unwrap(), &[]);
    let source = pair.source(4 << 20);
    let begun = std::time::Instant::now();
    assert!(pair.driver.resync(&source, 1, true, || {}));
    // The last body is paid for by whoever comes next.
    assert!(begun.elapsed().as_millis() > 400, "{:?}", begun.elapsed());
}

#[test]
fn a_deep_surplus_tree_is_deleted_without_a_deep_stack() {
    let mut pair = Pair::new(
        |_, b| {
            let mut path = b.to_path_buf();
            for _ in 0..120 {
                path = path.join("deeper");
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join("file"), "x").unwrap();
            }
        },
        &[],
    );
    assert!(pair.driver.resync(&pair.source(0), 1, true, || {}));
    pair.driver.purge();
    pair.assert_same();
    let left = std::fs::read_dir(pair.b().join(".farmstead-mirror/aside")).unwrap().count();
    assert_eq!(left, 0);
    let _ = snapshot::Times::Exact;
}

fn id_of(pair: &Pair, path: &str) -> FileId {
    let file = std::fs::File::open(pair.a().join(path)).unwrap();
    pair.applier.tree().id_of(file.as_fd()).unwrap().unwrap()
}

fn objects(ids: &[FileId]) -> impl Iterator<Item = ObjectId> {
    ids.iter().map(|id| Object { tree: 0, id: *id }.into())
}

/// As after a power cut of both machines: files that were just made and being written, there on both, with ids, but of different
/// length; what the indexes said of them never reached the disk.
#[test]
fn what_a_crash_took_out_of_the_index_is_compared() {
    let mut pair = Pair::new(|_, _| {}, &[]);
    let mnt = pair.mnt();
    let names: Vec<_> = (0..24).map(|n| format!("f{n}")).collect();
    for (n, name) in (1..).zip(&names) {
        let length = if n % 5 == 0 { 300_000 } else { 4160 };
        std::fs::write(mnt.join(name), Random::new(n).bytes(length)).unwrap();
    }
    // The directory is made last, so its id follows theirs, and they come up before it.
    std::fs::create_dir(mnt.join("d")).unwrap();
    for name in &names {
        std::fs::rename(mnt.join(name), mnt.join("d").join(name)).unwrap();
    }
    assert!(pair.driver.resync(&pair.source(0), 1, true, || {}));
    for looks in [false, true] {
        pair.driver.purge();
        // Mounts anew: nothing is remembered.
        pair.assert_same();
        let mut lost = vec![id_of(&pair, "d")];
        for (n, name) in (100..).zip(&names) {
            let path = format!("d/{name}");
            lost.push(id_of(&pair, &path));
            std::fs::write(pair.a().join(&path), if looks { "x" } else { "" }).unwrap();
            std::fs::write(pair.b().join(&path), Random::new(n).bytes(4160)).unwrap();
        }
        for id in &lost {
            pair.mirror.as_ref().unwrap().tree().index.remove(*id).unwrap();
            pair.applier.tree().index.remove(*id).unwrap();
        }
        pair.driver.log(objects(&[FileId::ROOT]).chain(objects(&lost)));
        let meanwhile = || {
            if looks {
                // The application finds some of them first.
                assert!(names.iter().all(|name| mnt.join("d").join(name).is_file()));
            }
        };
        assert!(pair.driver.resync(&pair.source(0), 2 + u32::from(looks), false, meanwhile));
    }
    pair.driver.purge();
    pair.assert_same();
}

/// A page of the index never reached the disk, with old ids on it: no log names their directory.
#[test]
fn what_a_lost_page_of_the_index_named_is_compared() {
    let names: Vec<_> = (0..300).map(|n| format!("d/f{n}")).collect();
    let mut pair = Pair::new(
        |a, _| {
            std::fs::create_dir(a.join("d")).unwrap();
            names.iter().for_each(|name| std::fs::write(a.join(name), "as it was").unwrap());
        },
        &[],
    );
    assert!(pair.driver.resync(&pair.source(0), 1, true, || {}));
    pair.driver.purge();
    let index = std::fs::OpenOptions::new().write(true).open(pair.a().join(HIDDEN).join("index")).unwrap();
    assert!(index.metadata().unwrap().len() > 4096);
    index.set_len(4096).unwrap();
    // Mounts anew, with what the index still says.
    pair.assert_same();
    names.iter().for_each(|name| std::fs::write(pair.a().join(name), "written at the end").unwrap());
    let ids: Vec<_> = names.iter().map(|name| id_of(&pair, name)).collect();
    pair.driver.log(objects(&ids));
    assert!(pair.driver.resync(&pair.source(0), 2, false, || {}));
    pair.driver.purge();
    pair.assert_same();
}
