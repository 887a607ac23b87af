//! Primary and secondary as processes: every acknowledged operation is on both, whoever is killed, and when.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::Machines;

/// Names and contents of one folder.
type Contents = BTreeMap<String, Vec<u8>>;

fn contents(folder: &Path) -> Contents {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn changes_in_several_directories_are_on_both_machines() {
    let mut machines = Machines::new(2);
    machines.start();
    for number in 0..2 {
        let at = machines.directory("a", number);
        fs::create_dir(at.join("folder")).unwrap();
        fs::write(at.join("folder/file"), vec![number as u8; 3_000_000]).unwrap();
        fs::write(at.join("excluded"), b"local").unwrap();
        File::open(at.join("folder/file")).unwrap().sync_all().unwrap();
        fs::rename(at.join("folder/file"), at.join("moved")).unwrap();
    }
    machines.stop();
    for number in 0..2 {
        let (a, b) = (machines.directory("a", number), machines.directory("b", number));
        assert_eq!(fs::read(b.join("moved")).unwrap(), vec![number as u8; 3_000_000]);
        let (a, b) = (a.join("moved").metadata().unwrap(), b.join("moved").metadata().unwrap());
        assert_eq!((a.mtime(), a.mtime_nsec(), a.mode()), (b.mtime(), b.mtime_nsec(), b.mode()));
        assert!(!machines.directory("b", number).join("excluded").exists());
    }
}

#[test]
fn a_primary_that_was_alone_starts_again_under_its_own_dead_mount() {
    let mut machines = Machines::new(1);
    machines.start_primary();
    machines.wait_for("a", |status| status["role"] == "ALONE" && status["mounted"] == true);
    fs::write(machines.mount().join("before"), b"1").unwrap();
    let mut killed = machines.primary.take().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    // Dead, and in the way: nobody reaches what lies below.
    assert!(fs::read(machines.mount().join("before")).is_err());
    assert!(fs::write(machines.mount().join("past the mirror"), b"x").is_err());
    machines.start_primary();
    machines.wait_for("a", |status| status["role"] == "ALONE" && status["mounted"] == true);
    assert_eq!(fs::read(machines.mount().join("before")).unwrap(), b"1");
    fs::write(machines.mount().join("after"), b"2").unwrap();
    machines.stop();
    assert_eq!(fs::read(machines.directory("a", 0).join("after")).unwrap(), b"2");
}

#[test]
fn without_its_peer_a_primary_goes_on_alone_once_the_witness_says_so() {
    let mut machines = Machines::new(1);
    machines.start();
    let at = machines.mount();
    fs::write(at.join("file"), b"both have it").unwrap();
    machines.secondary.as_mut().unwrap().kill().unwrap();
    machines.secondary.take().unwrap().wait().unwrap();
    let before = std::time::Instant::now();
    fs::write(at.join("new"), b"x").unwrap();
    // Half the lease, the compare-and-swap, and what a busy machine takes.
    assert!(before.elapsed() < Duration::from_millis(750 + 800), "{:?}", before.elapsed());
    machines.wait_for_role("a", "ALONE");
    assert_eq!(fs::read(at.join("new")).unwrap(), b"x");
    assert!(!machines.under("b", 0).join("new").exists());
}

/// One writer's folder: what it was before and after the operation under way, which alone may be either.
struct Writer {
    folder: String,
    before: Contents,
    after: Contents,
}

impl Writer {
    /// Works until an operation fails (the daemon is gone), or it is told to stop.
    fn work(&mut self, root: &Path, done: &AtomicUsize, stop: &AtomicBool) {
        let at = root.join(&self.folder);
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (name, next) = (format!("f{}", round % 7), format!("f{}", (round + 3) % 7));
            let data = vec![(round % 251) as u8; 1 + round * 37 % 9000];
            let result = match round % 5 {
                0 | 1 => self
                    .attempt(
                        |c| {
                            c.insert(name.clone(), vec![]);
                        },
                        || File::create(at.join(&name)).map(drop),
                    )
                    .and_then(|()| {
                        self.attempt(
                            |c| {
                                c.insert(name.clone(), data.clone());
                            },
                            || File::options().write(true).open(at.join(&name))?.write_all_at(&data, 0),
                        )
                    }),
                2 => self.attempt(
                    |c| c.entry("log".into()).or_default().extend_from_slice(&data),
                    || File::options().append(true).open(at.join("log"))?.write_all(&data),
                ),
                3 if self.before.contains_key(&name) => self.attempt(
                    |c| {
                        let moved = c.remove(&name).unwrap_or_default();
                        c.insert(next.clone(), moved);
                    },
                    || fs::rename(at.join(&name), at.join(&next)),
                ),
                4 if self.before.contains_key(&next) => self.attempt(
                    |c| {
                        c.remove(&next);
                    },
                    || fs::remove_file(at.join(&next)),
                ),
                _ => Ok(()),
            };
            if result.is_err() {
                return;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn attempt(
        &mut self,
        model: impl FnOnce(&mut Contents),
        real: impl FnOnce() -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        model(&mut self.after);
        real()?;
        self.before.clone_from(&self.after);
        Ok(())
    }

    fn check(&self, copy: &str, root: &Path) {
        let mut seen = contents(&root.join(&self.folder));
        // A write(2) may reach us in several requests, cut at pages: of the append under way a part may be there.
        if let (Some(log), Some(before), Some(after)) =
            (seen.get_mut("log"), self.before.get("log"), self.after.get("log"))
            && log.starts_with(before)
            && after.starts_with(log)
        {
            log.clone_from(before);
        }
        let after_but_log = Contents::from_iter(self.after.iter().map(|(name, data)| match name.as_str() {
            "log" => (name.clone(), self.before["log"].clone()),
            _ => (name.clone(), data.clone()),
        }));
        if seen == self.before || seen == after_but_log {
            return;
        }
        let sizes = |c: &Contents| c.iter().map(|(name, data)| (name.clone(), data.len())).collect::<Vec<_>>();
        panic!(
            "{copy}, {}: {:?}\nacknowledged: {:?}\nunder way: {:?}",
            self.folder,
            sizes(&seen),
            sizes(&self.before),
            sizes(&self.after)
        );
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillPrimary,
    KillSecondary,
}

/// One run: three writers at work, a daemon killed in the middle, and started again: whatever was acknowledged is on both.
fn fault_round(round: usize, fault: Fault) {
    let mut machines = Machines::new(1);
    machines.start();
    let mut mount = machines.mount();
    let mut writers: Vec<Writer> = (0..3)
        .map(|n| {
            let folder = format!("writer-{n}");
            fs::create_dir(mount.join(&folder)).unwrap();
            fs::write(mount.join(&folder).join("log"), b"").unwrap();
            let start = Contents::from([("log".to_string(), vec![])]);
            Writer { folder, before: start.clone(), after: start }
        })
        .collect();
    let (done, enough) = (AtomicUsize::new(0), 40 + round * 23);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in &mut writers {
            let (mount, done, stop) = (&mount, &done, &stop);
            scope.spawn(move || writer.work(mount, done, stop));
        }
        let reach = |count: usize| {
            while done.load(Ordering::Relaxed) < count {
                std::thread::sleep(Duration::from_micros(200));
            }
        };
        reach(enough);
        let victim = if fault == Fault::KillPrimary { &mut machines.primary } else { &mut machines.secondary };
        let mut victim = victim.take().unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        if fault == Fault::KillSecondary {
            // The primary goes on by itself, and so do the writers.
            reach(done.load(Ordering::Relaxed) + 30);
            machines.start_secondary();
            reach(done.load(Ordering::Relaxed) + 30);
            machines.wait_for_role("b", "SECOND");
            reach(done.load(Ordering::Relaxed) + 30);
            stop.store(true, Ordering::Relaxed);
        }
    });
    if fault == Fault::KillPrimary {
        machines.wait_for("b", |status| status["role"] == "ALONE" && status["mounted"] == true);
        mount = machines.directory("b", 0);
        writers.iter().for_each(|writer| writer.check("the one that took over", &mount));
        machines.start_primary();
        machines.wait_for_role("a", "SECOND");
        machines.wait_for_role("b", "PRIM");
    }
    let copies: [(&str, PathBuf); 3] = [("mount", mount), ("a", machines.under("a", 0)), ("b", machines.under("b", 0))];
    for (copy, root) in &copies {
        writers.iter().for_each(|writer| writer.check(copy, root));
    }
}

fn rounds() -> usize {
    std::env::var("MIRRORFS_KILLS").ok().map_or(2, |text| text.parse().unwrap())
}

#[test]
fn whatever_was_acknowledged_is_on_both_when_the_primary_is_killed() {
    (0..rounds()).for_each(|round| fault_round(round, Fault::KillPrimary));
}

#[test]
fn whatever_was_acknowledged_is_on_both_when_the_secondary_is_killed() {
    (0..rounds()).for_each(|round| fault_round(round, Fault::KillSecondary));
}
