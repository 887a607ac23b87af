//! A primary and a secondary as real processes, with certificates, over loopback, and a stand-in for the API server.
//!
//! Needs root and /dev/fuse. All that a test makes is unmounted, killed and removed at its end, also when it fails.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod fidget;
#[path = "../../../fs/tests/support/random.rs"]
pub mod random;
#[path = "../../../fs/tests/support/snapshot.rs"]
pub mod snapshot;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Both machines of a mirror. `a` is the primary to begin with.
pub struct Machines {
    pub base: tempfile::TempDir,
    pub primary: Option<Child>,
    pub secondary: Option<Child>,
    /// Stands in for the API server; ends when its input does.
    witness: Child,
    agents: Vec<UnixStream>,
    /// Replicated directories.
    directories: usize,
    pub threads: usize,
}

impl Machines {
    pub fn new(directories: usize) -> Machines {
        Machines::with(directories, serde_json::json!({}))
    }

    /// With further settings for both.
    pub fn with(directories: usize, settings: serde_json::Value) -> Machines {
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
        let (witness, server) = start_witness(base.path());
        let mut machines =
            Machines { base, primary: None, secondary: None, witness, agents: Vec::new(), directories, threads: 4 };
        // Free now; taken a moment later by our own daemons.
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [free(), free()];
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(listeners);
        machines.configure("a", addresses, &pins[1], &server, &settings);
        machines.configure("b", addresses, &pins[0], &server, &settings);
        machines.threads = 4;
        machines
    }

    fn configure(&self, side: &str, addresses: [SocketAddr; 2], pin: &str, server: &str, settings: &serde_json::Value) {
        let at = |name: &str| self.base.path().join(name);
        let directories: Vec<_> = (0..self.directories)
            .map(|number| serde_json::json!({"path": self.directory(side, number), "exclude": ["excluded"]}))
            .collect();
        let member = |side: &str| {
            let number = usize::from(side == "b");
            serde_json::json!({"name": side, "uid": UIDS[number], "address": addresses[number]})
        };
        let other = if side == "a" { "b" } else { "a" };
        // Free now; taken by our own daemon.
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::fs::write(at(&format!("{side}.metrics")), metrics.to_string()).unwrap();
        let mut config = serde_json::json!({
            "metrics": metrics,
            "mirror": "00112233-4455-6677-8899-aabbccddeeff", "member": member(side), "peer": member(other),
            "directories": directories, "state": at(&format!("state-{side}")), "threads": self.threads,
            "leaseSeconds": 1.5,
            "tls": {"certificate": at(&format!("{side}.crt")), "key": at(&format!("{side}.key")), "peerPins": [pin]},
            "witness": {"server": server, "authorities": at("witness-ca.pem"), "token": at("witness-token"),
                        "namespace": "test", "name": "mirror"},
        });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        std::fs::write(at(&format!("{side}.json")), config.to_string()).unwrap();
    }

    pub fn directory(&self, side: &str, number: usize) -> PathBuf {
        self.base.path().join(format!("{side}{number}"))
    }

    /// A machine's own copy, below whatever is mounted over it.
    pub fn under(&self, side: &str, number: usize) -> PathBuf {
        self.base.path().join(format!("state-{side}/under-{number}"))
    }

    pub fn mount(&self) -> PathBuf {
        self.directory("a", 0)
    }

    fn spawn(&self, side: &str) -> Child {
        let program = env!("CARGO_BIN_EXE_farmstead-mirrorfs");
        let log = File::options().create(true).append(true).open(self.log(side)).unwrap();
        let mut command = Command::new(program);
        command.arg(self.base.path().join(format!("{side}.json")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    pub fn log(&self, side: &str) -> PathBuf {
        self.base.path().join(format!("{side}.log"))
    }

    fn control(&self, side: &str) -> UnixStream {
        let path = self.base.path().join(format!("state-{side}/control.sock"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&path) {
                Ok(socket) => return socket,
                Err(error) if Instant::now() > deadline => panic!("{side}: {error}:\n{}", self.said(side)),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn said(&self, side: &str) -> String {
        std::fs::read_to_string(self.log(side)).unwrap_or_default()
    }

    /// Waits until a daemon's status is as wanted.
    pub fn wait_for(&self, side: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let mut socket = self.control(side);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"{\"version\": 1, \"do\": \"watch\"}\n").unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut last = serde_json::Value::Null;
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else { break };
            last = serde_json::from_str::<serde_json::Value>(&line).unwrap()["status"].take();
            if wanted(&last) {
                return last;
            }
            if Instant::now() > deadline {
                break;
            }
        }
        panic!("{side} did not become as wanted: {last}\n{}", self.said(side));
    }

    /// What a daemon says of itself now.
    pub fn status(&self, side: &str) -> serde_json::Value {
        self.ask(side, serde_json::json!({"do": "status"}))["status"].take()
    }

    /// One request to a daemon's control socket, and its answer.
    pub fn ask(&self, side: &str, mut request: serde_json::Value) -> serde_json::Value {
        let mut socket = self.control(side);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        request["version"] = 1.into();
        socket.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{side}: {error}: {line:?}\n{}", self.said(side)))
    }

    /// Orders again and again until it is not refused.
    pub fn until_done(&self, side: &str, request: serde_json::Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(side, request.clone());
            if answer["ok"] == true {
                return;
            }
            assert!(Instant::now() < deadline, "{side}: {request}: {answer}\n{}", self.said(side));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks again and again until the status is as wanted: for what changes without anybody being told.
    pub fn until(&self, side: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(side);
            if wanted(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "{side} did not become as wanted: {status}\n{}", self.said(side));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One of a daemon's metrics.
    pub fn metric(&self, side: &str, name: &str) -> f64 {
        let address = std::fs::read_to_string(self.base.path().join(format!("{side}.metrics"))).unwrap();
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut socket, &mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    pub fn wait_for_role(&self, side: &str, role: &str) {
        self.wait_for(side, |status| status["role"] == role);
    }

    /// Stays connected as a machine's agent.
    fn be_agent(&mut self, side: &str) {
        let mut socket = self.control(side);
        socket.write_all(b"{\"version\": 1, \"do\": \"agent\"}\n").unwrap();
        BufReader::new(&socket).read_line(&mut String::new()).unwrap();
        self.agents.push(socket);
    }

    pub fn start_secondary(&mut self) {
        self.secondary = Some(self.spawn("b"));
        self.be_agent("b");
    }

    pub fn start_primary(&mut self) {
        self.primary = Some(self.spawn("a"));
        self.be_agent("a");
    }

    /// Starts both, and waits until they are a pair and `a` is mounted.
    pub fn start(&mut self) {
        self.start_secondary();
        self.start_primary();
        self.wait_for("a", |status| status["role"] == "PRIM" && status["mounted"] == true);
        self.wait_for_role("b", "SECOND");
    }

    /// Stops both in order, secondary first: so the primary has nobody to hand over to.
    pub fn stop(&mut self) {
        if let Some(child) = self.secondary.take() {
            self.end("b", child);
            self.wait_for_role("a", "ALONE");
        }
        if let Some(child) = self.primary.take() {
            self.agents.clear();
            // With an agent it would wait for the application's end, which nobody here reports.
            self.wait_for("a", |status| status["agent"] == false);
            self.end("a", child);
        }
    }

    /// Stops both, and compares their copies in every respect.
    pub fn assert_equal(mut self) {
        self.stop();
        for number in 0..self.directories {
            let (a, b) = (self.directory("a", number), self.directory("b", number));
            snapshot::assert_same("a", &a, "b", &b, snapshot::Times::Exact);
        }
    }

    fn end(&self, side: &str, mut child: Child) {
        terminate(&child);
        let status = child.wait().unwrap();
        assert!(status.success(), "{side}: {status}:\n{}", self.said(side));
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for child in [&mut self.primary, &mut self.secondary].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(self.witness.stdin.take());
        let _ = self.witness.wait();
        for number in 0..self.directories {
            for side in ["a", "b"] {
                // Dead mounts lie one over the other.
                while is_ours(&self.directory(side, number)) {
                    let flags = UnmountFlags::DETACH | UnmountFlags::FORCE;
                    if rustix::mount::unmount(self.directory(side, number), flags).is_err() {
                        break;
                    }
                }
                let _ = rustix::mount::unmount(self.under(side, number), UnmountFlags::DETACH);
            }
        }
    }
}

const UIDS: [&str; 2] = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"];

/// Starts what stands in for the API server, with a record in generation 0; returns its address.
fn start_witness(base: &Path) -> (Child, String) {
    let record = serde_json::json!({
        "apiVersion": "farmstead.dev/v1alpha1", "kind": "MirrorWitness",
        "metadata": {"name": "mirror", "uid": "00000000-0000-0000-0000-0000000000e1"},
        "spec": {"members": [{"name": "a", "nodeUID": UIDS[0]}, {"name": "b", "nodeUID": UIDS[1]}], "generation": 0,
                 "primary": "a", "inSync": [], "lineage": "00000000-0000-0000-0000-0000000000d1", "nonce": "operator"},
    });
    std::fs::write(base.join("record.json"), record.to_string()).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_farmstead-mirrorfs")).with_file_name("examples").join("witness");
    let mut command = Command::new(&program);
    let child = command.arg(base).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}: cargo test builds it", program.display()));
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (child, address.trim().into())
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
