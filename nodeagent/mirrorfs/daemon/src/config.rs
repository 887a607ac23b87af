//! The daemon's configuration: one JSON file, read once, every mistake named.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mirror_core::config::Acknowledgement;
use mirror_core::{Config as Rules, Span};
use mirror_witness::Client;
use mirror_witness::http::Endpoint;
use mirrorfs_net::tls::{Identity, KeyPin};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// One replicated directory; both machines list them in the same order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    pub path: PathBuf,
    /// Paths below it that exist on the primary alone.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// A member of the mirror.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// Its name in the witness record, for people.
    pub name: String,
    /// Its node's UID, as in the witness record.
    pub uid: String,
    /// Where it listens to its peer: TCP.
    pub address: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// PEM files of this node.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// SHA-256 of the public keys that the peer may have, 64 hexadecimal digits each.
    pub peer_pins: Vec<String>,
}

/// Where the witness record is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Witness {
    /// `https://HOST:PORT` of the API server.
    pub server: String,
    /// PEM file of the authorities that may have issued its certificate.
    pub authorities: PathBuf,
    /// File of the bearer token, read at each request.
    pub token: PathBuf,
    pub namespace: String,
    pub name: String,
}

/// Where clients reach the application on this machine: what the serving gate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    #[serde(default)]
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
}

/// What a load balancer asks, over HTTP.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    pub address: SocketAddr,
    /// `/probe/NAMESPACE/NAME`.
    pub path: String,
}

/// What a returned operation promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Promise {
    /// Held by both kernels.
    #[default]
    Memory,
    /// On both disks.
    Disk,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The mirror's UID.
    pub mirror: String,
    /// This member, and the other one.
    pub member: Member,
    pub peer: Member,
    pub directories: Vec<Directory>,
    /// Reached by clients only while this machine may serve: the kernel sees to it (nftables). None: no gate.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// A folder for what this daemon keeps: private mounts of the directories, state, difference log, control socket.
    pub state: PathBuf,
    pub tls: Tls,
    pub witness: Witness,
    #[serde(default)]
    pub acknowledgement: Promise,
    /// L: how long a primary that hears nothing may serve, seconds.
    #[serde(default = "default_lease_seconds")]
    pub lease_seconds: f64,
    /// How long an operation may stay unacknowledged before the peer counts as lost, seconds.
    #[serde(default = "default_stall_seconds")]
    pub stall_seconds: f64,
    /// How long a node whose memory was lost waits for its peer before it takes over (`Memory`), seconds.
    #[serde(default = "default_crash_hold_seconds")]
    pub crash_hold_seconds: f64,
    /// FUSE threads for each directory, each with a connection of its own.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Where a load balancer's probe is answered; nowhere if left out.
    pub probe: Option<Probe>,
    /// How fast a resync or a verification may send, bytes a second; 0: as fast as it goes.
    #[serde(default)]
    pub resync_bytes_per_second: u64,
    /// Where Prometheus metrics are served over HTTP; nowhere if left out.
    pub metrics: Option<SocketAddr>,
}

fn default_threads() -> usize {
    8
}

fn default_lease_seconds() -> f64 {
    3.0
}

fn default_stall_seconds() -> f64 {
    10.0
}

fn default_crash_hold_seconds() -> f64 {
    120.0
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// A sentence that names the file and the mistake.
    pub fn read(path: &Path) -> Result<Config, String> {
        let at = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{at}: {error}"))?;
        let config: Config = serde_json::from_str(&text).map_err(|error| format!("{at}: {error}"))?;
        config.check().map_err(|error| format!("{at}: {error}"))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        uuid("mirror", &self.mirror)?;
        if uuid("member.uid", &self.member.uid)? == uuid("peer.uid", &self.peer.uid)? {
            return Err("peer.uid: the same as member.uid".into());
        }
        if self.directories.is_empty() || self.directories.len() >= usize::from(crate::wire::PURGE) {
            return Err("directories: name at least one".into());
        }
        if let Some(directory) = self.directories.iter().find(|directory| !directory.path.is_absolute()) {
            return Err(format!("directories: {} is not an absolute path", directory.path.display()));
        }
        if !(1..=64).contains(&self.threads) {
            return Err("threads: between 1 and 64".into());
        }
        if !(0.5..=120.0).contains(&self.lease_seconds) {
            return Err("leaseSeconds: between 0.5 and 120".into());
        }
        if self.stall_seconds < self.lease_seconds || !(0.0..=86_400.0).contains(&self.crash_hold_seconds) {
            return Err("stallSeconds: at least leaseSeconds; crashHoldSeconds: between 0 and 86400".into());
        }
        if let Some(twice) = self.listeners.iter().enumerate().find(|(at, one)| self.listeners[..*at].contains(one)) {
            return Err(format!("listeners: port {} is named twice", twice.1.port));
        }
        if self.listeners.iter().any(|listener| listener.port == 0) {
            return Err("listeners: port 0 is none".into());
        }
        self.witness.split().map(drop)
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.state.join("control.sock")
    }

    /// The mirror's UID as bytes.
    pub fn mirror_id(&self) -> [u8; 16] {
        uuid("mirror", &self.mirror).unwrap_or_default().to_be_bytes()
    }

    /// The two members' UIDs: this one's and the peer's.
    pub fn members(&self) -> [u128; 2] {
        [&self.member.uid, &self.peer.uid].map(|text| uuid("uid", text).unwrap_or_default())
    }

    /// What the protocol core is told.
    pub fn protocol(&self) -> Rules {
        let span = |seconds: f64| Span((seconds * 1_000.0) as i64);
        let acknowledgement = match self.acknowledgement {
            Promise::Memory => Acknowledgement::Memory,
            Promise::Disk => Acknowledgement::Disk,
        };
        Rules {
            beacon: span(self.lease_seconds / 6.0),
            lease: span(self.lease_seconds),
            stop_budget: span((self.lease_seconds / 30.0).max(0.02)),
            stall: Some(span(self.stall_seconds)),
            crash_hold: span(self.crash_hold_seconds),
            acknowledgement,
            ..Rules::default()
        }
    }

    /// The client of the witness record. Its whole exchange takes at most a quarter of the lease.
    ///
    /// # Errors
    /// A sentence: the authorities can't be read, or the name is not resolved (yet).
    pub fn witness_client(&self) -> Result<Client, String> {
        let (host, port) = self.witness.split()?;
        let told = |error| format!("witness.server {}: {error}", self.witness.server);
        let addresses = (host, port).to_socket_addrs().map_err(|error| told(error.to_string()))?;
        let address = addresses.into_iter().next().ok_or_else(|| told("no address".into()))?;
        let deadline = Duration::from_secs_f64((self.lease_seconds / 4.0).max(0.3));
        let endpoint = Endpoint::new(address, host, &self.witness.authorities, deadline)?;
        Ok(Client::new(endpoint, &self.witness.namespace, &self.witness.name, self.witness.token.clone()))
    }

    /// Certificate, key and pins.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn identity(&self) -> Result<Identity, String> {
        let tls = &self.tls;
        let certificates = CertificateDer::pem_file_iter(&tls.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| format!("{}: {error}", tls.certificate.display()))?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| format!("{}: {error}", tls.key.display()))?;
        let pins = tls.peer_pins.iter().map(|pin| hexadecimal(pin).map(KeyPin));
        let peers = pins.collect::<Result<_, _>>().map_err(|error| format!("tls.peerPins: {error}"))?;
        Ok(Identity { certificates, key, peers })
    }
}

impl Witness {
    fn split(&self) -> Result<(&str, u16), String> {
        let wrong = || format!("witness.server: {:?} is not https://HOST:PORT", self.server);
        let (host, port) =
            self.server.strip_prefix("https://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
        Ok((host, port.trim_end_matches('/').parse().map_err(|_| wrong())?))
    }
}

fn uuid(what: &str, text: &str) -> Result<u128, String> {
    mirror_witness::object::uuid(text).ok_or_else(|| format!("{what}: {text:?} is no UUID"))
}

fn hexadecimal<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let wrong = || format!("{text:?} is not {} hexadecimal digits", N * 2);
    if text.len() != N * 2 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"mirror": "00112233-4455-6677-8899-aabbccddeeff",
        "member": {"name": "vm1", "uid": "00000000-0000-0000-0000-000000000001", "address": "127.0.0.1:1"},
        "peer": {"name": "vm2", "uid": "00000000-0000-0000-0000-000000000002", "address": "127.0.0.1:2"},
        "directories": [{"path": "/data", "exclude": ["pid"]}], "state": "/run/x",
        "witness": {"server": "https://10.0.0.1:6443", "authorities": "ca", "token": "t", "namespace": "n", "name": "shop"},
        "tls": {"certificate": "c", "key": "k", "peerPins": []}}"#;

    fn read(text: &str) -> Result<Config, String> {
        serde_json::from_str::<Config>(text)
            .map_err(|e| e.to_string())
            .and_then(|config| config.check().map(|()| config))
    }

    #[test]
    fn a_whole_configuration_is_taken_as_it_is() {
        let config = read(GOOD).unwrap();
        assert_eq!((config.threads, config.acknowledgement), (8, Promise::Memory));
        assert_eq!(config.mirror_id()[..2], [0x00, 0x11]);
        assert_eq!(config.members(), [1, 2]);
        let protocol = config.protocol();
        assert_eq!((protocol.lease, protocol.beacon, protocol.stall), (Span(3_000), Span(500), Some(Span(10_000))));
        assert_eq!(config.witness.split(), Ok(("10.0.0.1", 6443)));
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, named) in [
            ("/data", "data", "absolute"),
            ("ddeeff", "ddeef", "mirror"),
            ("\"state\"", "\"stait\"", "stait"),
            ("000000000002", "000000000001", "peer.uid"),
            ("https://10.0.0.1:6443", "10.0.0.1:6443", "witness.server"),
            ("\"state\":", "\"leaseSeconds\": 0, \"state\":", "leaseSeconds"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
