//! One nftables transaction: what a set holds is replaced as a whole, so that no packet sees it empty in between.
//!
//! The numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`. Not here: tables, chains and rules.

use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;

const INET: u8 = 1;
const UNSPECIFIED: u8 = 0;

const NESTED: u16 = 0x8000;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const VALUE: u16 = 1;

const HEADER: usize = 16;
/// How long the kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What stands in a set, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Element {
    pub key: [u8; 8],
    pub milliseconds: u64,
}

/// A connection to the kernel's nftables.
pub struct Netlink {
    socket: OwnedFd,
    number: u32,
}

impl Netlink {
    /// # Errors
    /// What the kernel says.
    pub fn open() -> Result<Netlink, Errno> {
        let protocol = Some(netlink::NETFILTER);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink { socket, number: 0 })
    }

    /// Makes `elements` all that a set holds, in one step.
    ///
    /// # Errors
    /// What the kernel says; `NOENT`: there is no such table or set. The set is then as it was.
    pub fn replace(&mut self, table: &str, set: &str, elements: &[Element]) -> Result<(), Errno> {
        let first = self.number.wrapping_add(1);
        let mut batch = Message::default();
        batch.add(BATCH_BEGIN, REQUEST, first, UNSPECIFIED, SUBSYSTEM, |_| {});
        let mut last = first.wrapping_add(1);
        batch.add(DELETE_ELEMENTS, REQUEST | ACK, last, INET, 0, |message| message.name_set(table, set));
        if !elements.is_empty() {
            last = last.wrapping_add(1);
            batch.add(NEW_ELEMENTS, REQUEST | CREATE | ACK, last, INET, 0, |message| {
                message.name_set(table, set);
                message.nest(LIST_ELEMENTS, |message| elements.iter().for_each(|element| message.element(element)));
            });
        }
        self.number = last.wrapping_add(1);
        batch.add(BATCH_END, REQUEST, self.number, UNSPECIFIED, SUBSYSTEM, |_| {});
        rustix::net::send(&self.socket, &batch.0, SendFlags::empty())?;
        self.answer(first, last)
    }

    /// Waits for the answer to every message of a transaction; the first error among them counts.
    fn answer(&self, first: u32, last: u32) -> Result<(), Errno> {
        let mut result = Ok(());
        let mut piece = [0; 8192];
        loop {
            let (got, _) = rustix::net::recv(&self.socket, &mut piece, RecvFlags::empty())?;
            for (number, code) in errors(&piece[..got]) {
                // The rest of an answer that an earlier call did not wait for.
                if number.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                if code != 0 && result.is_ok() {
                    result = Err(Errno::from_raw_os_error(-code));
                }
                // Refused as a whole, or answered to the end.
                if number == first || number == last {
                    return result;
                }
            }
        }
    }
}

/// The error messages of an answer: of which message, and what (0: done).
fn errors(mut rest: &[u8]) -> Vec<(u32, i32)> {
    let mut found = Vec::new();
    while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, kind) = (word(0) as usize, u16::from_ne_bytes([header[4], header[5]]));
        if kind == NLMSG_ERROR
            && let Some(code) = rest.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok())
        {
            found.push((word(8), i32::from_ne_bytes(code)));
        }
        rest = rest.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Netlink messages, one behind the other.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn add(&mut self, kind: u16, flags: u16, number: u32, family: u8, resource: u16, body: impl FnOnce(&mut Message)) {
        let start = self.0.len();
        self.0.extend([0; 4]);
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(number.to_ne_bytes());
        self.0.extend([0; 4]);
        self.0.extend([family, 0]);
        self.0.extend(resource.to_be_bytes());
        body(self);
        let length = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn name_set(&mut self, table: &str, set: &str) {
        for (kind, name) in [(LIST_TABLE, table), (LIST_SET, set)] {
            self.attribute(kind, |message| {
                message.0.extend(name.as_bytes());
                message.0.push(0);
            });
        }
    }

    fn element(&mut self, element: &Element) {
        self.nest(ELEMENT, |message| {
            message.nest(ELEMENT_KEY, |message| message.attribute(VALUE, |message| message.0.extend(element.key)));
            message.attribute(ELEMENT_TIMEOUT, |message| message.0.extend(element.milliseconds.to_be_bytes()));
        });
    }

    fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Message)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Message)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        body(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
