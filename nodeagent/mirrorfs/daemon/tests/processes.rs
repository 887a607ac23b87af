//! Primary and secondary as processes: every acknowledged operation is on both, whoever is killed, and when.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
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
fn a_primary_starts_again_under_its_own_dead_mount() {
    let mut machines = Machines::new(1);
    machines.start();
    fs::write(machines.mount().join("before"), b"1").unwrap();
    let mut killed = machines.primary.take().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    // Dead, and in the way: nobody reaches what lies below.
    assert!(fs::read(machines.mount().join("before")).is_err());
    assert!(fs::write(machines.mount().join("past the mirror"), b"x").is_err());
    machines.start_primary();
    assert_eq!(fs::read(machines.mount().join("before")).unwrap(), b"1");
    fs::write(machines.mount().join("after"), b"2").unwrap();
    machines.stop();
    assert_eq!(fs::read(machines.directory("b", 0).join("after")).unwrap(), b"2");
}

#[test]
fn without_its_peer_a_primary_acknowledges_nothing_and_still_reads() {
    let mut machines = Machines::new(1);
    machines.start();
    let at = machines.mount();
    fs::write(at.join("file"), b"both have it").unwrap();
    machines.secondary.as_mut().unwrap().kill().unwrap();
    machines.secondary.take().unwrap().wait().unwrap();
    for _ in 0..3 {
        assert_eq!(fs::write(at.join("new"), b"x").unwrap_err().raw_os_error(), Some(5));
    }
    assert_eq!(fs::remove_file(at.join("file")).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(fs::read(at.join("file")).unwrap(), b"both have it");
    assert!(!machines.under("a", 0).join("new").exists());
}

/// One writer's folder: what it was before and after the operation under way, which alone may be either.
struct Writer {
    folder: String,
    before: Contents,
    after: Contents,
}

impl Writer {
    /// Works until an operation fails: the daemon is gone.
    fn work(&mut self, root: &Path, done: &AtomicUsize) {
        let at = root.join(&self.folder);
        for round in 0.. {
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
    /// The cable between two network namespaces.
    Cut,
}

/// One run: three writers at work, a daemon killed in the middle, both copies compared with what was acknowledged.
fn fault_round(round: usize, fault: Fault) {
    let mut machines = if fault == Fault::Cut { Machines::apart() } else { Machines::new(1) };
    machines.start();
    let mount = machines.mount();
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
    std::thread::scope(|scope| {
        for writer in &mut writers {
            let (mount, done) = (&mount, &done);
            scope.spawn(move || writer.work(mount, done));
        }
        while done.load(Ordering::Relaxed) < enough {
            std::thread::sleep(Duration::from_micros(200));
        }
        let victim = match fault {
            Fault::KillPrimary => machines.primary.take(),
            Fault::KillSecondary => machines.secondary.take(),
            Fault::Cut => {
                machines.network.as_ref().unwrap().cut();
                None
            }
        };
        if let Some(mut victim) = victim {
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
    });
    let copies: [(&str, PathBuf); 2] = [("primary", machines.under("a", 0)), ("secondary", machines.directory("b", 0))];
    for (copy, root) in &copies {
        writers.iter().for_each(|writer| writer.check(copy, root));
    }
}

fn rounds() -> usize {
    std::env::var("MIRRORFS_KILLS").ok().map_or(6, |text| text.parse().unwrap())
}

#[test]
fn whatever_was_acknowledged_is_on_both_when_the_primary_is_killed() {
    (0..rounds()).for_each(|round| fault_round(round, Fault::KillPrimary));
}

#[test]
fn whatever_was_acknowledged_is_on_both_when_the_secondary_is_killed() {
    (0..rounds()).for_each(|round| fault_round(round, Fault::KillSecondary));
}

#[test]
fn whatever_was_acknowledged_is_on_both_when_the_network_is_cut() {
    fault_round(0, Fault::Cut);
}
