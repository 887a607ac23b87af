//! A primary and a secondary as real processes, with certificates, over loopback or between two network namespaces.
//!
//! Needs root and /dev/fuse. All that a test makes is unmounted, killed and removed at its end, also when it fails.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Both machines of a mirror. `a` is the primary's directory, mounted over; `b` the secondary's.
pub struct Machines {
    pub base: tempfile::TempDir,
    pub primary: Option<Child>,
    pub secondary: Option<Child>,
    address: SocketAddr,
    /// The network between the two, where it is not loopback.
    pub network: Option<Network>,
    /// Further directories than the first.
    directories: usize,
    pub threads: usize,
}

impl Machines {
    pub fn new(directories: usize) -> Machines {
        // Free now; taken a moment later by our own secondary.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Machines::at(address, directories)
    }

    /// Each in a network namespace of its own, with a cable between them.
    pub fn apart() -> Machines {
        let network = Network::new();
        let mut machines = Machines::at(SocketAddr::from(([192, 0, 2, 2], 7801)), 1);
        machines.network = Some(network);
        machines
    }

    fn at(address: SocketAddr, directories: usize) -> Machines {
        assert!(rustix::process::geteuid().is_root(), "these tests mount FUSE file systems: run them as root");
        let base = tempfile::Builder::new().prefix("mirrorfs-e2e-").tempdir().unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for side in ["a", "b"] {
            for number in 0..directories {
                std::fs::create_dir_all(base.path().join(format!("{side}{number}"))).unwrap();
            }
        }
        let pins = ["a", "b"].map(|side| make_key(base.path(), side));
        let machines =
            Machines { base, primary: None, secondary: None, address, network: None, directories, threads: 4 };
        machines.configure("a", "primary", &pins[1]);
        machines.configure("b", "secondary", &pins[0]);
        machines
    }

    fn configure(&self, side: &str, role: &str, peer_pin: &str) {
        let directories: Vec<_> = (0..self.directories)
            .map(|number| serde_json::json!({"path": self.directory(side, number), "exclude": ["excluded"]}))
            .collect();
        let config = serde_json::json!({
            "mirror": "00112233445566778899aabbccddeeff", "role": role, "generation": 1,
            "directories": directories, "state": self.base.path().join(format!("state-{side}")),
            "address": self.address, "threads": self.threads, "stallSeconds": 5,
            "tls": {"certificate": self.base.path().join(format!("{side}.crt")),
                    "key": self.base.path().join(format!("{side}.key")), "peerPins": [peer_pin]},
        });
        std::fs::write(self.base.path().join(format!("{side}.json")), config.to_string()).unwrap();
    }

    pub fn directory(&self, side: &str, number: usize) -> PathBuf {
        self.base.path().join(format!("{side}{number}"))
    }

    /// The primary's own copy, below the mount.
    pub fn under(&self, side: &str, number: usize) -> PathBuf {
        self.base.path().join(format!("state-{side}/under-{number}"))
    }

    pub fn mount(&self) -> PathBuf {
        self.directory("a", 0)
    }

    fn spawn(&self, side: &str, namespace: usize) -> Child {
        let program = env!("CARGO_BIN_EXE_farmstead-mirrorfs");
        let mut command = match &self.network {
            None => Command::new(program),
            Some(network) => {
                // The network's namespace alone: mounts are to be seen by the test.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{}", network.names[namespace])).arg(program);
                command
            }
        };
        let log = File::options().create(true).append(true).open(self.log(side)).unwrap();
        command.arg(self.base.path().join(format!("{side}.json")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    pub fn log(&self, side: &str) -> PathBuf {
        self.base.path().join(format!("{side}.log"))
    }

    fn logged(&self, side: &str, message: &str) -> usize {
        std::fs::read_to_string(self.log(side)).unwrap_or_default().matches(message).count()
    }

    /// Starts the secondary, and waits until it listens.
    pub fn start_secondary(&mut self) {
        let before = self.logged("b", "\"listening\"");
        self.secondary = Some(self.spawn("b", 1));
        self.wait_for("b", "\"listening\"", before + 1);
    }

    /// Starts the primary, and waits until all is mounted.
    pub fn start_primary(&mut self) {
        let before = self.logged("a", "\"mounted\"");
        self.primary = Some(self.spawn("a", 0));
        self.wait_for("a", "\"mounted\"", before + self.directories);
    }

    pub fn start(&mut self) {
        self.start_secondary();
        self.start_primary();
    }

    fn wait_for(&mut self, side: &str, message: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.logged(side, message) < count {
            let child = if side == "a" { &mut self.primary } else { &mut self.secondary };
            let ended = child.as_mut().and_then(|child| child.try_wait().unwrap());
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.log(side)).unwrap_or_default();
                panic!("{side} ({ended:?}) did not say {message}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops both in order, primary first.
    pub fn stop(&mut self) {
        for (side, child) in [("a", self.primary.take()), ("b", self.secondary.take())] {
            if let Some(mut child) = child {
                terminate(&child);
                let status = child.wait().unwrap();
                let log = std::fs::read_to_string(self.log(side)).unwrap_or_default();
                assert!(status.success(), "{side}: {status}:\n{log}");
            }
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for child in [&mut self.primary, &mut self.secondary].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for number in 0..self.directories {
            // Dead mounts lie one over the other.
            while is_ours(&self.directory("a", number)) {
                let flags = UnmountFlags::DETACH | UnmountFlags::FORCE;
                if rustix::mount::unmount(self.directory("a", number), flags).is_err() {
                    break;
                }
            }
            for side in ["a", "b"] {
                let _ = rustix::mount::unmount(self.under(side, number), UnmountFlags::DETACH);
            }
        }
    }
}

/// Two network namespaces of this run's own and a cable between them, removed at the end.
pub struct Network {
    names: [String; 2],
}

impl Network {
    fn new() -> Network {
        let network = Network { names: ["a", "b"].map(|side| format!("mirrorfs-{}-{side}", std::process::id())) };
        let [a, b] = &network.names;
        for name in &network.names {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        ip(&["-n", a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b]);
        for (name, address) in network.names.iter().zip(["192.0.2.1/24", "192.0.2.2/24"]) {
            ip(&["-n", name, "address", "add", address, "dev", "cable"]);
            ip(&["-n", name, "link", "set", "cable", "up"]);
        }
        network
    }

    /// Takes the cable out.
    pub fn cut(&self) {
        ip(&["-n", &self.names[0], "link", "set", "cable", "down"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// Whether a FUSE mount lies over the directory.
pub fn is_ours(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == path.to_str() && fields.next() == Some("fuse.farmstead-mirrorfs")
    })
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Writes certificate and key of one side, and returns the key's pin.
fn make_key(base: &Path, side: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![side.to_string()]).unwrap();
    std::fs::write(base.join(format!("{side}.crt")), made.cert.pem()).unwrap();
    std::fs::write(base.join(format!("{side}.key")), made.signing_key.serialize_pem()).unwrap();
    let pin = mirrorfs_net::tls::KeyPin::of(made.cert.der()).unwrap();
    pin.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
