//! Two directories and a mount: the primary's copy below it, the secondary's copy fed by its operations.
//!
//! Needs root and /dev/fuse, as mirrorfs itself does. Everything lies in a temporary directory and is unmounted and
//! removed at the end, also when a test fails.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod random;
pub mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::codec;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::op::Op;
use mirrorfs_fs::replicate::{Replicate, Session};
use mirrorfs_fs::session::{Served, Way};
use mirrorfs_fs::tree::Tree;
use rustix::io::Errno;

/// How long a file may stay open after a test's end.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The peer without a network: operations go through their wire form straight to the other directory.
pub struct Direct {
    pub applier: Applier,
    pub count: AtomicU64,
    /// This node may not serve.
    pub closed: AtomicBool,
    /// What went wrong between the copies, for the test to look at.
    pub diverged: Mutex<Vec<String>>,
}

struct DirectSession {
    direct: Arc<Direct>,
    wire: Vec<u8>,
}

pub struct DirectReplicate(pub Arc<Direct>);

impl Replicate for DirectReplicate {
    fn session(&self, _worker: usize) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(DirectSession { direct: self.0.clone(), wire: Vec::new() }))
    }
}

impl Session for DirectSession {
    fn admit(&mut self) -> Result<(), Errno> {
        if self.direct.closed.load(Ordering::SeqCst) { Err(Errno::IO) } else { Ok(()) }
    }

    fn begin(&mut self, op: &Op<'_>) -> Result<(), Errno> {
        self.wire.clear();
        let data = codec::encode(op, &mut self.wire);
        self.wire.extend_from_slice(data);
        let op = codec::decode(&self.wire).expect("our own operation");
        self.direct.count.fetch_add(1, Ordering::Relaxed);
        let result = self.direct.applier.apply(&op);
        result.inspect_err(|errno| {
            if *errno == Errno::STALE {
                self.direct.diverged.lock().unwrap().push(format!("peer: {op:?}"));
            }
        })
    }

    fn done(&mut self, op: &Op<'_>, result: Result<(), Errno>) -> Result<(), Errno> {
        if let Err(errno) = result {
            self.direct.diverged.lock().unwrap().push(format!("local: {errno}: {op:?}"));
        }
        Ok(())
    }
}

/// A mirror with both copies on this machine.
pub struct Pair {
    served: Option<Served>,
    pub direct: Arc<Direct>,
    base: tempfile::TempDir,
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(|_| {}, &[])
    }

    /// With requests that come this way.
    pub fn by(way: Way) -> Pair {
        Pair::of(way, |_| {}, &[])
    }

    /// `prepare` fills each copy before the mirror starts.
    pub fn with(prepare: impl Fn(&Path), exclude: &[&str]) -> Pair {
        Pair::of(Way::Ring, prepare, exclude)
    }

    fn of(way: Way, prepare: impl Fn(&Path), exclude: &[&str]) -> Pair {
        assert!(rustix::process::geteuid().is_root(), "these tests mount FUSE file systems: run them as root");
        let base = tempfile::Builder::new().prefix("mirrorfs-test-").tempdir().unwrap();
        for name in ["a", "b", "mnt", "reference"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
            // As wide as /tmp is not: unprivileged users of the tests must get through.
            set_mode(&base.path().join(name), 0o755);
        }
        set_mode(base.path(), 0o755);
        for name in ["a", "b", "reference"] {
            prepare(&base.path().join(name));
        }
        let applier = Applier::new(Tree::open(&base.path().join("b")).unwrap());
        let direct = Arc::new(Direct {
            applier,
            count: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            diverged: Mutex::default(),
        });
        let mut pair = Pair { served: None, direct, base };
        pair.mount(way, exclude);
        pair
    }

    fn mount(&mut self, way: Way, exclude: &[&str]) {
        let exclude = Exclude::new(exclude.iter().copied()).unwrap();
        let mirror = Mirror::new(Tree::open(&self.a()).unwrap(), exclude);
        let replicator = DirectReplicate(self.direct.clone());
        self.served = Some(Served::start_by(way, mirror, &self.mnt(), &replicator, 4).unwrap());
    }

    pub fn a(&self) -> PathBuf {
        self.base.path().join("a")
    }

    pub fn b(&self) -> PathBuf {
        self.base.path().join("b")
    }

    pub fn mnt(&self) -> PathBuf {
        self.base.path().join("mnt")
    }

    /// A plain directory next to them.
    pub fn reference(&self) -> PathBuf {
        self.base.path().join("reference")
    }

    pub fn mirror(&self) -> &Arc<Mirror> {
        self.served.as_ref().unwrap().mirror()
    }

    /// Unmounts, and compares the two copies in every respect.
    pub fn settle(&mut self) {
        self.served.take().unwrap().stop(PATIENCE).unwrap();
        self.direct.applier.tree().settle_all().unwrap();
        let diverged = self.direct.diverged.lock().unwrap();
        assert!(diverged.is_empty(), "the copies went apart: {diverged:#?}");
        snapshot::assert_same("primary", &self.a(), "secondary", &self.b(), snapshot::Times::Exact);
    }

    /// As `settle`, and compares with the reference directory, where times are only close.
    pub fn settle_with_reference(&mut self) {
        self.settle();
        snapshot::assert_same("reference", &self.reference(), "primary", &self.a(), snapshot::Times::Ignored);
    }

    /// The way that requests do come.
    pub fn way(&self) -> Way {
        self.served.as_ref().unwrap().way()
    }

    pub fn remount(&mut self, exclude: &[&str]) {
        self.remount_by(Way::Ring, exclude);
    }

    pub fn remount_by(&mut self, way: Way, exclude: &[&str]) {
        self.served.take().unwrap().stop(PATIENCE).unwrap();
        self.mount(way, exclude);
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
