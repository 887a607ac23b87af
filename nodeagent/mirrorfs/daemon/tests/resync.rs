//! Resyncs between real daemons: what moves, what goes on when one of them is killed, and that both copies are equal afterwards.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use support::Machines;
use support::fidget::{Stop, fidget};
use support::random::Random;

fn sent(machines: &Machines, side: &str) -> u64 {
    machines.metric(side, "farmstead_mirrorfs_resync_sent_bytes_total") as u64
}

fn kill(child: &mut Option<std::process::Child>) {
    let mut child = child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Overwrites `count` blocks of 4 KiB of a file, at random places.
fn scribble(path: &Path, count: u64, random: &mut Random) {
    let file = File::options().write(true).open(path).unwrap();
    let blocks = file.metadata().unwrap().len() / 4096;
    for _ in 0..count {
        file.write_all_at(&random.bytes(4096), random.below(blocks) * 4096).unwrap();
    }
}

#[test]
fn after_a_kill_only_what_can_differ_moves() {
    let mut machines = Machines::new(1);
    machines.start();
    let at = machines.mount();
    let mut random = Random::new(1);
    for number in 0..8 {
        fs::write(at.join(format!("f{number}")), random.bytes(4 << 20)).unwrap();
    }
    kill(&mut machines.secondary);
    scribble(&at.join("f3"), 20, &mut random);
    fs::create_dir(at.join("new")).unwrap();
    fs::write(at.join("new/file"), random.bytes(100_000)).unwrap();
    fs::remove_file(at.join("f5")).unwrap();
    machines.wait_for_role("a", "ALONE");
    let before = sent(&machines, "a");
    machines.start_secondary();
    machines.wait_for_role("b", "SECOND");
    machines.wait_for_role("a", "PRIM");
    let moved = sent(&machines, "a") - before;
    // 80 KiB of blocks, the new file, digests of all that the log names.
    assert!(moved > 180_000 && moved < 400_000, "{moved}");
    machines.assert_equal();
}

#[test]
fn a_large_file_with_one_percent_changed_moves_about_one_percent() {
    let mut machines = Machines::new(1);
    machines.start_primary();
    machines.wait_for("a", |status| status["role"] == "ALONE" && status["mounted"] == true);
    // One half is a hole.
    let (path, size) = (machines.mount().join("large"), 128u64 << 20);
    let mut random = Random::new(2);
    let file = File::create(&path).unwrap();
    for at in (0..size / 2).step_by(1 << 20) {
        file.write_all_at(&random.bytes(1 << 20), at).unwrap();
    }
    file.set_len(size).unwrap();
    file.sync_all().unwrap();
    machines.start_secondary();
    machines.wait_for_role("b", "SECOND");
    machines.wait_for_role("a", "PRIM");
    let first = sent(&machines, "a");
    assert!(first < size / 2 + (2 << 20), "the hole did not travel: {first}");
    kill(&mut machines.secondary);
    machines.wait_for_role("a", "ALONE");
    let changed = size / 2 / 100 / 4096;
    scribble(&path, changed, &mut random);
    machines.start_secondary();
    machines.wait_for_role("b", "SECOND");
    machines.wait_for_role("a", "PRIM");
    let moved = sent(&machines, "a") - first;
    // Each block, a digest of each extent, and those of the blocks of each extent that differs.
    assert!(moved < changed * (4096 + 320) + size / 65536 * 17 + 65536, "{moved} for {changed} blocks");
    assert!(moved > changed * 4096 / 2, "{moved}");
    machines.assert_equal();
}

#[test]
fn writes_go_on_under_a_whole_resync() {
    let mut machines = Machines::new(1);
    machines.start_primary();
    machines.wait_for("a", |status| status["role"] == "ALONE" && status["mounted"] == true);
    let at = machines.mount();
    let mut random = Random::new(3);
    for folder in 0..20 {
        fs::create_dir(at.join(format!("d{folder}"))).unwrap();
        for number in 0..30 {
            fs::write(at.join(format!("d{folder}/{number}")), random.bytes(1 + number * 3_000)).unwrap();
        }
    }
    fs::write(at.join("large"), random.bytes(24 << 20)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        // What is read for a copy must not be written over what was changed since.
        let (large, stopped) = (at.join("large"), &stop);
        scope.spawn(move || {
            let mut random = Random::new(30);
            while !stopped.load(Ordering::Relaxed) {
                scribble(&large, 16, &mut random);
            }
        });
        for writer in 0..3 {
            let (folder, stop) = (at.join(format!("d{writer}")), &stop);
            scope.spawn(move || fidget(&folder, stop, writer + 10));
        }
        machines.start_secondary();
        machines.wait_for_role("b", "SECOND");
        machines.wait_for_role("a", "PRIM");
    });
    machines.assert_equal();
}

/// `MIRRORFS_KILLS=20` interrupts a resync that often, each time at another moment.
fn moments() -> impl Iterator<Item = u64> {
    let count = std::env::var("MIRRORFS_KILLS").ok().map_or(1, |text| text.parse().unwrap());
    let mut random = Random::new(40);
    std::iter::once(8 << 20).chain(std::iter::repeat_with(move || random.below(20 << 20))).take(count)
}

/// A slow resync of 24 MiB during which `fault` happens, once so many bytes were sent: it goes on, and does not begin anew.
fn interrupted(after: u64, fault: impl Fn(&mut Machines)) {
    let mut machines = Machines::with(1, serde_json::json!({"resyncBytesPerSecond": 12 << 20}));
    machines.start_primary();
    machines.wait_for("a", |status| status["role"] == "ALONE" && status["mounted"] == true);
    let at = machines.mount();
    let mut random = Random::new(4);
    for number in 0..240 {
        fs::write(at.join(format!("f{number}")), random.bytes(100_000)).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let (folder, stop) = (at.join("busy"), &stop);
        scope.spawn(move || fidget(&folder, stop, 20));
        machines.start_secondary();
        machines.until("a", |status| status["resync"]["bytesSent"].as_u64().is_some_and(|bytes| bytes > after));
        let told = machines.status("a");
        assert!(told["resync"]["remainingSeconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{told}");
        assert!(told["outOfSyncBytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{told}");
    });
    let before = sent(&machines, "a");
    fault(&mut machines);
    machines.wait_for_role("b", "SECOND");
    machines.wait_for_role("a", "PRIM");
    let all = sent(&machines, "a");
    // A new process counts from nothing.
    let all = if all < before { before + all } else { all };
    assert!(all < 24_000_000 + (12 << 20), "{all} in all, {before} before the fault");
    machines.assert_equal();
}

#[test]
fn a_target_that_is_killed_goes_on_where_it_was() {
    moments().for_each(|after| {
        interrupted(after, |machines| {
            kill(&mut machines.secondary);
            machines.start_secondary();
        });
    });
}

#[test]
fn a_source_that_is_killed_goes_on_where_it_was() {
    moments().for_each(|after| {
        interrupted(after, |machines| {
            kill(&mut machines.primary);
            machines.start_primary();
        });
    });
}
