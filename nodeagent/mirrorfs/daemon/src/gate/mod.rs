//! The kernel's serving gate: nftables lets the application's clients through only as long as this machine may serve.
//!
//! A daemon that is stopped or dead can't stop anything, so the kernel does: traffic of the configured listeners passes while they
//! stand in a set whose elements expire with the lease. Renewing them is one transaction over netlink (`netlink`), since the nft
//! program costs 17 ms a call; it is only asked to write the rules, at start and after somebody flushed them.
//!
//! Not here: when the gate is open, which the core decides (`Action::Gate`), and what else a machine filters.

mod netlink;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use mirror_core::Time;
use rustix::io::Errno;

use crate::clock;
use crate::config::{Listener, Protocol};
use crate::log;
use netlink::{Element, Netlink};

/// The set of the listeners that may be reached now.
const SERVING: &str = "serving";

/// The gate of one mirror.
pub struct Gate {
    table: String,
    listeners: Vec<Listener>,
    netlink: Netlink,
}

impl Gate {
    /// Writes the rules, closed. A gate that an earlier daemon left open closes here: this one does not serve yet.
    ///
    /// # Errors
    /// A sentence: nft is missing or refuses, or there is no netlink.
    pub fn install(mirror: u128, listeners: &[Listener]) -> Result<Gate, String> {
        let table = format!("farmstead-mirror-{mirror:032x}");
        let netlink = Netlink::open().map_err(|errno| format!("netlink: {errno}"))?;
        let gate = Gate { table, listeners: listeners.to_vec(), netlink };
        gate.write_rules()?;
        Ok(gate)
    }

    fn write_rules(&self) -> Result<(), String> {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("nft: {error}: the serving gate needs the package nftables"))?;
        // What it says about an early end says more than a broken pipe.
        let _ = nft.stdin.take().map(|mut stdin| stdin.write_all(rules(&self.table, &self.listeners).as_bytes()));
        let output = nft.wait_with_output().map_err(|error| format!("nft: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("nft refused the serving gate: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Lets traffic through for so many milliseconds from now; 0: no longer.
    ///
    /// # Errors
    /// A sentence. The gate then closes by itself when what was there before expires.
    fn set(&mut self, milliseconds: u64) -> Result<(), String> {
        match self.renew(milliseconds) {
            // Somebody flushed the rules, and with them the gate.
            Err(Errno::NOENT) => {
                log::error("the serving gate was removed from nftables, and is put back", &[("table", &self.table)]);
                self.write_rules()?;
                self.renew(milliseconds)
            }
            result => result,
        }
        .map_err(|errno| format!("nftables table {}: {errno}", self.table))
    }

    fn renew(&mut self, milliseconds: u64) -> Result<(), Errno> {
        let open = self.listeners.iter().filter(|_| milliseconds > 0);
        let elements: Vec<Element> = open.map(|listener| Element { key: key(*listener), milliseconds }).collect();
        self.netlink.replace(&self.table, SERVING, &elements)
    }
}

/// Follows what the core wants of the gate, as long as the process lives. Without a gate nothing is to be done.
pub fn keep(mut gate: Option<Gate>, wanted: &Receiver<Option<Time>>) {
    while let Ok(mut until) = wanted.recv() {
        // Only the newest word counts.
        while let Ok(newer) = wanted.try_recv() {
            until = newer;
        }
        let Some(gate) = &mut gate else { continue };
        let rest = until.map_or(0, |until| u64::try_from((until - clock::now()).0).unwrap_or(0));
        if let Err(reason) = gate.set(rest) {
            log::error("the serving gate can't be set, and closes when the lease is over", &[("reason", &reason)]);
        }
    }
}

/// A key of `inet_proto . inet_service`: each part fills four bytes, in network order.
fn key(listener: Listener) -> [u8; 8] {
    let protocol = match listener.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    let [high, low] = listener.port.to_be_bytes();
    [protocol, 0, 0, 0, high, low, 0, 0]
}

/// Before addresses are translated on the way in, and after it on the way out, so that published ports of containers are meant, too.
/// What comes in while the gate is closed is refused at once: clients of old connections go elsewhere and do not hang.
fn rules(table: &str, listeners: &[Listener]) -> String {
    let mut gated = String::new();
    for listener in listeners {
        let protocol = match listener.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let _ = write!(gated, "{protocol} . {}, ", listener.port);
    }
    format!(
        "table inet {table}
delete table inet {table}
table inet {table} {{
  set gated {{ type inet_proto . inet_service; elements = {{ {gated} }}; }}
  set {SERVING} {{ type inet_proto . inet_service; flags timeout; }}
  chain in {{
    type filter hook prerouting priority raw; policy accept;
    meta l4proto . th dport @{SERVING} accept
    meta l4proto . th dport != @gated accept
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain out {{
    type filter hook postrouting priority srcnat + 200; policy accept;
    meta l4proto . th sport @{SERVING} accept
    meta l4proto . th sport != @gated accept
    tcp flags & rst == rst accept
    drop
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_nft_writes_for_the_same_element() {
        assert_eq!(key(Listener { protocol: Protocol::Tcp, port: 5432 }), [6, 0, 0, 0, 0x15, 0x38, 0, 0]);
        assert_eq!(key(Listener { protocol: Protocol::Udp, port: 53 }), [17, 0, 0, 0, 0, 53, 0, 0]);
    }
}
