//! What is done to this machine, one after the other and in the core's order: the mount, the application.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mirror_core::Event;
use mirror_core::config::Acknowledgement;
use mirrorfs_fs::exclude::Exclude;
use mirrorfs_fs::mirror::Mirror;
use mirrorfs_fs::session::Served;
use mirrorfs_net::client::Call;

use crate::cgroup;
use crate::config::Config;
use crate::copies::Copies;
use crate::driver::Driver;
use crate::jobs::Order;
use crate::log;
use crate::metrics::Metrics;
use crate::resync::Resync;
use crate::session::Replicator;
use crate::status::Wish;

/// How long threads of a mount may take to notice its end.
const END: Duration = Duration::from_secs(5);

/// Carries out orders about mount and application.
pub struct Machine {
    pub config: Arc<Config>,
    pub driver: Arc<Driver>,
    pub copies: Arc<Copies>,
    pub metrics: Arc<Metrics>,
    pub call: Call,
    pub resync: Arc<Resync>,
    pub served: Vec<Served>,
}

impl Machine {
    /// Carries out what is ordered, until the process ends.
    pub fn work(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            let started = std::time::Instant::now();
            self.carry_out(order);
            log::info("done", &[("order", &format!("{order:?}")), ("milliseconds", &started.elapsed().as_millis())]);
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Mount { mount } => self.mount(mount),
            Order::Unmount => self.unmount(),
            Order::StartApplication => self.driver.update(|status| status.wish(Wish::Run)),
            Order::StopApplication => {
                self.driver.update(|status| status.wish(Wish::Stop));
                let mut inner = self.driver.lock();
                // With no agent there is no application that would have to be stopped in order.
                if !inner.status.agent() {
                    self.driver.step(&mut inner, Event::ApplicationStopped);
                }
            }
            Order::Kill => {
                self.cgroups(cgroup::kill);
                self.driver.update(|status| status.wish(Wish::Killed));
            }
            Order::PostStop => self.driver.update(|status| status.wish(Wish::PostStop)),
            Order::Freeze => self.cgroups(|group| cgroup::freeze(group, true)),
            Order::Thaw => self.cgroups(|group| cgroup::freeze(group, false)),
            Order::DropCaches => self.drop_caches(),
            Order::Leave => {
                self.leave();
                if let Some(done) = self.driver.lock().last.take() {
                    let _ = done.send(());
                }
            }
        }
    }

    fn cgroups(&self, act: impl Fn(&Path) -> std::io::Result<()>) {
        for group in self.driver.cgroups() {
            if let Err(error) = act(&group) {
                log::error("a control group did not obey", &[("group", &group.display()), ("reason", &error)]);
            }
        }
    }

    /// Nobody may read old pages: the copies' own are dropped file by file when they are opened anew, the mount's are gone with it.
    fn drop_caches(&self) {
        for tree in &self.copies.trees {
            if let Err(errno) = rustix::fs::syncfs(&**tree.root()) {
                log::error("syncing", &[("reason", &errno)]);
            }
        }
    }

    /// Tries until it works, or the core no longer wants it.
    fn mount(&mut self, mount: u64) {
        while self.driver.lock().mount == mount {
            match self.try_to_mount(mount) {
                Ok(()) => return,
                Err(reason) => log::error("mounting failed, and is tried again", &[("reason", &reason)]),
            }
            self.unmount();
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn try_to_mount(&mut self, mount: u64) -> Result<(), String> {
        self.copies.leave_second().map_err(|errno| format!("setting times: {errno}"))?;
        self.copies.target.empty().map_err(|errno| format!("emptying the hidden folder: {errno}"))?;
        for (number, (directory, tree)) in self.config.directories.iter().zip(&self.copies.trees).enumerate() {
            let exclude = Exclude::new(directory.exclude.iter().map(String::as_str))?;
            let replicator = Replicator {
                driver: self.driver.clone(),
                metrics: self.metrics.clone(),
                resync: self.resync.clone(),
                call: self.call.clone(),
                pool: Arc::default(),
                tree: number as u16,
                mount,
                durable: (self.config.protocol().acknowledgement == Acknowledgement::Disk).then(|| tree.clone()),
            };
            let mirror = Mirror::new(tree.clone(), exclude);
            let served = Served::start(mirror, &directory.path, &replicator, self.config.threads)?;
            let way = format!("{:?}", served.way());
            log::info("mounted", &[("directory", &directory.path.display()), ("requests", &way)]);
            self.served.push(served);
        }
        self.driver.set_mounted(true);
        self.resync.mounted(self.served.iter().map(|served| served.mirror().clone()).collect());
        Ok(())
    }

    /// Ends the mounts at once: what is held or comes later gets an error.
    fn unmount(&mut self) {
        self.driver.set_mounted(false);
        self.resync.mounted(Vec::new());
        for (number, served) in self.served.drain(..).enumerate() {
            match served.abort(END) {
                Ok(true) => {}
                Ok(false) => log::info("still in use: it ends with this process", &[("directory", &number)]),
                Err(errno) => log::error("unmounting", &[("directory", &number), ("reason", &errno)]),
            }
        }
    }

    /// Takes the mounts away in good order, at the process' end.
    fn leave(&mut self) {
        self.resync.mounted(Vec::new());
        for (number, served) in self.served.drain(..).enumerate() {
            if let Err(errno) = served.stop(END) {
                log::error("unmounting", &[("directory", &number), ("reason", &errno)]);
            }
        }
    }
}
