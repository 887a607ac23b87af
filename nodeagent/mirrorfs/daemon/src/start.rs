//! A daemon's life: what it finds, the core made of that, the threads around it, and its end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mirror_core::ids::{Incarnation, NodeId};
use mirror_core::{Event, Node, Order, RoleName, Settings, Start};
use mirrorfs_net::client::Call;
use mirrorfs_net::hello::{Channel, Hello};
use mirrorfs_net::server::{Listen, Server};
use mirrorfs_sync::store::Store;

use crate::config::Config;
use crate::copies::Copies;
use crate::driver::Driver;
use crate::gate::Gate;
use crate::hands::{self, spawn};
use crate::intake::Intake;
use crate::keeper::Keeper;
use crate::machine::Machine;
use crate::metrics::{self, Metrics};
use crate::resync::{self, Resync};
use crate::verify::Verify;
use crate::{clock, control, gate, log, probe, socket, under};

/// How long connecting to the peer may take.
const CONNECTING: Duration = Duration::from_millis(500);
/// How long a stopping daemon tries to leave in good order; then it ends as if it had been killed, which is as safe.
const FAREWELL: Duration = Duration::from_secs(30);
/// An answer of the peer may take as long as the core wants to wait for it.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence for people.
pub fn run(config: Config) -> Result<(), String> {
    // Taken before any thread starts, so that no signal is missed.
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
        .map_err(|error| format!("signals: {error}"))?;
    // A half-done step of the core must not be gone on with.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    refuse_request_timeouts()?;
    hold_on();
    offer_io_uring();
    rustix::process::umask(rustix::fs::Mode::empty());
    let config = Arc::new(config);
    let daemon = start(&config)?;
    signals.forever().next();
    daemon.leave();
    for number in 0..config.directories.len() {
        under::close(&config.state, number).map_err(|errno| format!("private mount {number}: {errno}"))?;
    }
    log::info("ended", &[]);
    Ok(())
}

/// A daemon at work.
struct Daemon {
    driver: Arc<Driver>,
    copies: Arc<Copies>,
    config: Arc<Config>,
}

fn start(config: &Arc<Config>) -> Result<Daemon, String> {
    let copies = Arc::new(Copies::open(config)?);
    for directory in &config.directories {
        under::clear(&directory.path)?;
    }
    // Before anything else: an earlier life's gate may still be open.
    let serving_gate = match config.listeners.as_slice() {
        [] => None,
        listeners => Some(Gate::install(u128::from_be_bytes(config.mirror_id()), listeners)?),
    };
    let told = |what: &str, errno| format!("{what} in {}: {errno}", config.state.display());
    let protocol = config.protocol();
    let (state, disk) = Store::state(&config.state.join("state")).map_err(|errno| told("state", errno))?;
    let (log, image) =
        Store::log(&config.state.join("log"), protocol.log_objects).map_err(|errno| told("difference log", errno))?;
    let found = copies.mark().map_err(|errno| format!("the copies' marks: {errno}"))?;
    let incarnation = incarnation()?;
    let [me, peer] = config.members().map(NodeId);
    let begun = Start { me, peer, incarnation, disk, log: image, found, agent: false, now: clock::now() };
    let (node, actions) = Node::new(Settings(Arc::new(protocol.clone())), begun);
    let (hands, queues) = hands::queues();
    let driver = Arc::new(Driver::new(node, peer, hands));
    let identity = config.identity()?;
    let hello = Hello {
        mirror: config.mirror_id(),
        node: me.0,
        boot: incarnation.boot,
        process: incarnation.process,
        channel: Channel::Control,
    };
    let call = Call {
        address: config.peer.address,
        tls: identity.client().map_err(|error| format!("tls: {error}"))?,
        hello,
        peer: peer.0,
        connecting: CONNECTING,
        patience: PATIENCE,
    };
    let listen = Listen {
        tls: identity.server().map_err(|error| format!("tls: {error}"))?,
        hello,
        peer: peer.0,
        // Operations, messages, copies and questions, and as many again that are on their way out.
        connections: 2
            * (config.threads * config.directories.len() + 2 + 2 * resync::THREADS + mirrorfs_sync::source::LINES),
        report: Box::new(|from, broken| {
            log::error("connection refused or lost", &[("peer", from), ("reason", broken)]);
        }),
    };
    let keeper = Arc::new(Keeper::new(driver.clone(), copies.clone()));
    let intake = Intake {
        driver: driver.clone(),
        copies: copies.clone(),
        keeper: keeper.clone(),
        acknowledgement: protocol.acknowledgement,
    };
    let server = Server::start(config.member.address, listen, Arc::new(intake))
        .map_err(|error| format!("{}: {error}", config.member.address))?;
    log::info("listening", &[("address", &server.address())]);
    let metrics = Arc::new(Metrics::default());
    let rate = config.resync_bytes_per_second;
    let resync = Arc::new(Resync::new(driver.clone(), metrics.clone(), copies.clone(), (call.clone(), rate)));
    let verify = Arc::new(Verify::new(resync.clone(), call.clone()));
    if let Some(address) = config.metrics {
        metrics::serve(address, metrics.clone(), verify.clone(), Arc::new(server))?;
    } else {
        // It listens as long as the process lives.
        std::mem::forget(server);
    }
    if let Some(probe) = &config.probe {
        probe::serve(probe, driver.clone())?;
    }
    let mut machine = Machine {
        config: config.clone(),
        driver: driver.clone(),
        copies: copies.clone(),
        metrics: metrics.clone(),
        call: call.clone(),
        resync: resync.clone(),
        served: Vec::new(),
    };
    let of = |driver: &Arc<Driver>| driver.clone();
    spawn("state", {
        let d = of(&driver);
        move || hands::keep_state(&d, state, &queues.state)
    })?;
    spawn("log", {
        let d = of(&driver);
        let m = metrics.clone();
        move || hands::keep_log(&d, &m, log, &queues.log)
    })?;
    spawn("flush", {
        let d = of(&driver);
        let c = copies.clone();
        let m = metrics.clone();
        move || hands::flush(&d, &m, &c, &queues.flush)
    })?;
    spawn("witness", {
        let d = of(&driver);
        let c = config.clone();
        move || hands::ask_witness(&d, &c, &queues.witness)
    })?;
    let lease = Duration::from_millis(protocol.lease.0.unsigned_abs());
    spawn("beacons", {
        let call = call.clone();
        let d = of(&driver);
        move || control::send(&d, &call, lease, &queues.control)
    })?;
    spawn("gate", move || gate::keep(serving_gate, &queues.gate))?;
    spawn("orders", move || machine.work(&queues.orders))?;
    spawn("walk", {
        let r = resync.clone();
        move || r.walks(&queues.tasks)
    })?;
    let copying = Arc::new(Mutex::new(queues.copies));
    for number in 0..resync::THREADS {
        let (r, copies) = (resync.clone(), copying.clone());
        spawn(&format!("copy-{number}"), move || r.copies(&copies))?;
    }
    driver.begin(actions);
    spawn("timer", {
        let d = of(&driver);
        let patience = Duration::from_secs_f64(config.stall_seconds);
        move || d.keep_time(patience)
    })?;
    socket::listen(&config.control(), &socket::Parts { driver: of(&driver), resync, verify, keeper })?;
    let incarnation = mirror_witness::object::print(incarnation.process);
    log::info(
        "started",
        &[("member", &config.member.name), ("peer", &config.peer.name), ("incarnation", &incarnation)],
    );
    Ok(Daemon { driver, copies, config: config.clone() })
}

impl Daemon {
    /// Hands over, or stops alone; the mounts go last.
    fn leave(&self) {
        log::info("stopping", &[]);
        self.driver.tell(Event::Order(Order::Stop));
        let deadline = Instant::now() + FAREWELL;
        let mut seen = None;
        loop {
            let inner = self.driver.news_before(seen, deadline);
            if inner.node.role() == RoleName::Stop || Instant::now() >= deadline {
                break;
            }
            seen = Some(inner.status.version);
        }
        let (done, told) = std::sync::mpsc::channel();
        self.driver.last_order(done);
        let _ = told.recv_timeout(FAREWELL);
        // A copy that is not mounted shows all its times, too.
        if let Err(errno) = self.copies.leave_second() {
            log::error("setting times", &[("reason", &errno)]);
        }
        for directory in &self.config.directories {
            if let Err(reason) = under::clear(&directory.path) {
                log::error("unmounting", &[("reason", &reason)]);
            }
        }
    }
}

/// This boot, this process.
fn incarnation() -> Result<Incarnation, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let boot = mirror_witness::object::uuid(text.trim()).ok_or(format!("{path}: no UUID"))?;
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| format!("random: {errno}"))?;
    Ok(Incarnation { boot, process: u128::from_le_bytes(bytes) })
}

/// Beacons have to go out when memory and processors are short, too. What is not allowed is done without.
fn hold_on() {
    use rustix::mm::{MlockAllFlags, mlockall};
    let results = [
        ("mlockall", mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()),
        // Threads inherit it.
        ("priority", rustix::process::setpriority_process(None, -10).is_ok()),
        ("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "-900").is_ok()),
    ];
    for (what, _) in results.iter().filter(|(_, done)| !done) {
        log::info("not permitted, and done without", &[("what", what)]);
    }
}

/// Lets FUSE servers of this machine ask for requests over io_uring, which is a third faster: a switch of the kernel's that is off
/// by default, and that kernels before 6.14 don't have. What is not allowed is done without: requests come through `/dev/fuse`.
fn offer_io_uring() {
    // The switch comes with the kernel's module, and that with its first use.
    drop(std::fs::File::open("/dev/fuse"));
    let path = "/sys/module/fuse/parameters/enable_uring";
    if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "N") {
        match std::fs::write(path, "Y") {
            Ok(()) => log::info("FUSE over io_uring allowed on this machine", &[("switch", &path)]),
            Err(reason) => log::info("FUSE over io_uring can't be allowed", &[("switch", &path), ("reason", &reason)]),
        }
    }
}

/// With these set, the kernel would end the mount of a node that holds its answers while the protocol decides.
fn refuse_request_timeouts() -> Result<(), String> {
    for name in ["default_request_timeout", "max_request_timeout"] {
        let path = format!("/proc/sys/fs/fuse/{name}");
        // Older kernels have none.
        let value = std::fs::read_to_string(&path).unwrap_or_default();
        if value.trim().parse::<u64>().is_ok_and(|seconds| seconds > 0) {
            return Err(format!(
                "{path} is {}: set it to 0, or the kernel ends mounts that wait for a peer",
                value.trim()
            ));
        }
    }
    Ok(())
}
