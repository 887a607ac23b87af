//! The daemon's configuration: one JSON file, read once, every mistake named.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mirrorfs_net::tls::{Identity, KeyPin};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// What this node is told to be, until the protocol core decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    Primary,
    Secondary,
}

/// One replicated directory; both machines list them in the same order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    pub path: PathBuf,
    /// Paths below it that exist on the primary alone.
    #[serde(default)]
    pub exclude: Vec<String>,
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

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The mirror's uid: 32 hexadecimal digits, dashes allowed.
    pub mirror: String,
    pub role: Role,
    pub generation: u64,
    pub directories: Vec<Directory>,
    /// A folder for what this daemon keeps while it runs (private mounts of the directories).
    pub state: PathBuf,
    /// The secondary's address: it listens there, the primary connects to it.
    pub address: SocketAddr,
    pub tls: Tls,
    /// FUSE threads for each directory, each with a connection of its own.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// How long the peer may take for one answer, seconds.
    #[serde(default = "default_stall_seconds")]
    pub stall_seconds: u64,
}

fn default_threads() -> usize {
    8
}

fn default_stall_seconds() -> u64 {
    10
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
        self.mirror_id()?;
        if self.directories.is_empty() || self.directories.len() > usize::from(u16::MAX) {
            return Err("directories: name at least one".into());
        }
        if let Some(directory) = self.directories.iter().find(|directory| !directory.path.is_absolute()) {
            return Err(format!("directories: {} is not an absolute path", directory.path.display()));
        }
        if !(1..=64).contains(&self.threads) {
            return Err("threads: between 1 and 64".into());
        }
        Ok(())
    }

    /// The mirror's uid as bytes.
    ///
    /// # Errors
    /// A sentence when it is none.
    pub fn mirror_id(&self) -> Result<[u8; 16], String> {
        hexadecimal(&self.mirror.replace('-', "")).map_err(|error| format!("mirror: {error}"))
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

    const GOOD: &str = r#"{"mirror": "00112233-4455-6677-8899-aabbccddeeff", "role": "primary", "generation": 1,
        "directories": [{"path": "/data", "exclude": ["pid"]}], "state": "/run/x", "address": "127.0.0.1:1",
        "tls": {"certificate": "c", "key": "k", "peerPins": []}}"#;

    fn read(text: &str) -> Result<Config, String> {
        serde_json::from_str::<Config>(text)
            .map_err(|e| e.to_string())
            .and_then(|config| config.check().map(|()| config))
    }

    #[test]
    fn a_whole_configuration_is_taken_as_it_is() {
        let config = read(GOOD).unwrap();
        assert_eq!((config.role, config.threads, config.stall_seconds), (Role::Primary, 8, 10));
        assert_eq!(config.mirror_id().unwrap()[..2], [0x00, 0x11]);
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, named) in [
            ("/data", "data", "absolute"),
            ("ddeeff", "ddeef", "mirror"),
            ("\"generation\"", "\"generashun\"", "generashun"),
            ("\"primary\"", "\"boss\"", "boss"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
