//! Two directories, a mount over one of them, and a small stand-in for the core between them.
//!
//! Operations of the application go to the other copy in each object's order, like the window's, but nobody waits for them: as
//! an ALONE node's during a resync. Needs root and /dev/fuse.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod driver;
pub mod mess;
#[path = "../../../fs/tests/support/random.rs"]
pub mod random;
#[path = "../../../fs/tests/support/snapshot.rs"]
pub mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mirrorfs_fs::apply::Applier;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::session::Served;
use mirrorfs_fs::tree::Tree;
use mirrorfs_sync::source::Source;
use mirrorfs_sync::target::Target;

use driver::{Driver, DriverReplicate, InProcess};

/// Both copies.
pub struct Pair {
    served: Option<Served>,
    pub mirror: Option<Arc<Mirror>>,
    pub applier: Arc<Applier>,
    pub target: Arc<Target>,
    pub driver: Arc<Driver>,
    base: tempfile::TempDir,
    exclude: Vec<&'static str>,
}

impl Pair {
    /// `prepare` is given both directories before anything looks at them.
    pub fn new(prepare: impl Fn(&Path, &Path), exclude: &[&'static str]) -> Pair {
        Pair::within(&std::env::temp_dir(), prepare, exclude)
    }

    pub fn within(folder: &Path, prepare: impl Fn(&Path, &Path), exclude: &[&'static str]) -> Pair {
        assert!(rustix::process::geteuid().is_root(), "these tests mount FUSE file systems: run them as root");
        let base = tempfile::Builder::new().prefix("mirrorfs-sync-").tempdir_in(folder).unwrap();
        for name in ["a", "b", "mnt"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        prepare(&base.path().join("a"), &base.path().join("b"));
        let applier = Arc::new(Applier::new(Tree::open(&base.path().join("b")).unwrap()));
        let excluded = || Exclude::new(exclude.iter().copied()).unwrap();
        let target = Arc::new(Target::new(vec![(applier.clone(), excluded())]).unwrap());
        let driver = Driver::new(target.clone());
        let mut pair = Pair { served: None, mirror: None, applier, target, driver, base, exclude: exclude.to_vec() };
        pair.mount();
        pair
    }

    fn mount(&mut self) {
        let exclude = Exclude::new(self.exclude.iter().copied()).unwrap();
        let mirror = Mirror::new(Tree::open(&self.a()).unwrap(), exclude);
        let served = Served::start(mirror, &self.mnt(), &DriverReplicate(self.driver.clone()), 4).unwrap();
        self.mirror = Some(served.mirror().clone());
        *self.driver.mirror.lock().unwrap() = self.mirror.clone();
        self.served = Some(served);
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

    /// A source over the mounted copy.
    pub fn source(&self, rate: u64) -> Arc<Source> {
        let peer = Arc::new(InProcess::new(self.target.clone()));
        Arc::new(Source::new(vec![self.mirror.clone().unwrap()], peer, rate))
    }

    /// Sets every time that waits.
    pub fn settle(&self) {
        self.mirror.as_ref().unwrap().tree().settle_all().unwrap();
        self.applier.tree().settle_all().unwrap();
    }

    /// Unmounts, and compares the two copies in every respect.
    pub fn assert_same(&mut self) {
        self.served.take().unwrap().stop(Duration::from_secs(30)).unwrap();
        self.mirror = None;
        *self.driver.mirror.lock().unwrap() = None;
        self.applier.tree().settle_all().unwrap();
        snapshot::assert_same("source", &self.a(), "target", &self.b(), snapshot::Times::Exact);
        self.mount();
    }
}
