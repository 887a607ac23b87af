//! Strangers and damaged frames: refused, counted, and nothing of them carried out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mirrorfs_net::client::{Call, Caller, Outcome};
use mirrorfs_net::frame::{self, HEADER, Kind, PAYLOAD_MAX};
use mirrorfs_net::link::Broken;
use mirrorfs_net::server::{Carry, Counters, Listen, Server};
use mirrorfs_net::tls::{Identity, KeyPin};

const MIRROR: [u8; 16] = *b"mirror-of-a-test";
const GENERATION: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

/// Remembers what it was told to carry out.
#[derive(Default)]
struct Ledger(Mutex<Vec<Vec<u8>>>);

impl Carry for Ledger {
    fn carry(&self, tree: u16, payload: &[u8]) -> Outcome {
        self.0.lock().unwrap().push(payload.to_vec());
        match payload.first() {
            Some(b'!') => Outcome::Refused(28),
            Some(b'?') => Outcome::Failed,
            _ if tree == 0 => Outcome::Done,
            _ => Outcome::Failed,
        }
    }
}

struct Rig {
    server: Server,
    ledger: Arc<Ledger>,
    call: Call,
    ended: Arc<(Mutex<usize>, Condvar)>,
}

/// A node's certificate and key, and the pin by which others know it.
fn node() -> (Identity, KeyPin) {
    let made = rcgen::generate_simple_self_signed(vec!["node".into()]).unwrap();
    let pin = KeyPin::of(made.cert.der()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    (Identity { certificates: vec![made.cert.der().clone()], key, peers: Vec::new() }, pin)
}

fn rig() -> Rig {
    let ((mut primary, primary_pin), (mut secondary, secondary_pin)) = (node(), node());
    primary.peers = vec![secondary_pin];
    secondary.peers = vec![primary_pin];
    let ended = Arc::new((Mutex::new(0), Condvar::new()));
    let note = ended.clone();
    let listen = Listen {
        tls: secondary.server().unwrap(),
        mirror: MIRROR,
        generation: GENERATION,
        connections: 4,
        report: Box::new(move |_, _| {
            *note.0.lock().unwrap() += 1;
            note.1.notify_all();
        }),
    };
    let ledger = Arc::new(Ledger::default());
    let server = Server::start("127.0.0.1:0".parse::<SocketAddr>().unwrap(), listen, ledger.clone()).unwrap();
    let tls = primary.client().unwrap();
    let call = Call { address: server.address(), tls, mirror: MIRROR, generation: GENERATION, patience: PATIENCE };
    Rig { server, ledger, call, ended }
}

impl Rig {
    /// Waits until `count` connections have ended badly.
    fn wait_for_ends(&self, count: usize) {
        let ended = self.ended.0.lock().unwrap();
        let (_ended, timeout) = self.ended.1.wait_timeout_while(ended, PATIENCE, |ended| *ended < count).unwrap();
        assert!(!timeout.timed_out(), "the connection was not ended");
    }

    fn counted(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        counter(self.server.counters()).load(Ordering::Relaxed)
    }

    fn assert_nothing_carried_out(&self) {
        assert!(self.ledger.0.lock().unwrap().is_empty());
    }

    /// A peer with the right key that has said hello, and then sends what it likes.
    fn raw(&self) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let name = rustls::pki_types::ServerName::IpAddress(self.call.address.ip().into());
        let tls = rustls::ClientConnection::new(self.call.tls.clone(), name).unwrap();
        let socket = TcpStream::connect(self.call.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, socket);
        stream.write_all(&whole(frame::header(Kind::Hello, 0, GENERATION, 0, &[&MIRROR]), &MIRROR)).unwrap();
        let mut hello = [0; HEADER];
        stream.read_exact(&mut hello).unwrap();
        stream
    }

    /// Sends `bytes` after the hello; the server must end the connection and carry nothing out.
    fn send_hostile(&self, bytes: &[u8]) {
        let mut stream = self.raw();
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
        self.wait_for_ends(1);
        self.assert_nothing_carried_out();
    }
}

fn whole(header: [u8; HEADER], payload: &[u8]) -> Vec<u8> {
    [&header[..], payload].concat()
}

fn operation(sequence: u64, payload: &[u8]) -> Vec<u8> {
    whole(frame::header(Kind::Operation, 0, GENERATION, sequence, &[payload]), payload)
}

#[test]
fn operations_are_carried_out_and_answered_in_turn() {
    let rig = rig();
    let mut caller = Caller::connect(&rig.call).unwrap();
    let big = vec![7; 1 << 20];
    for (sequence, data, outcome) in [
        (1, &b"one"[..], Outcome::Done),
        (5, &big[..], Outcome::Done),
        (6, b"!", Outcome::Refused(28)),
        (9, b"?", Outcome::Failed),
        (10, b"", Outcome::Done),
    ] {
        caller.send(0, sequence, [data, b"tail"]).unwrap();
        assert_eq!(caller.answer().unwrap(), outcome);
    }
    assert_eq!(rig.ledger.0.lock().unwrap()[1].len(), (1 << 20) + 4);
    assert_eq!(rig.counted(|c| &c.operations), 5);
}

#[test]
fn a_caller_refuses_a_server_key_that_is_not_pinned() {
    let rig = rig();
    let (mut other, pin) = node();
    other.peers = vec![pin];
    let call = Call { tls: other.client().unwrap(), ..rig.call.clone() };
    assert!(matches!(Caller::connect(&call), Err(Broken::Tls(_))));
    rig.wait_for_ends(1);
    rig.assert_nothing_carried_out();
}

#[test]
fn a_server_refuses_a_client_key_that_is_not_pinned() {
    let mut rig = rig();
    // The server's key is pinned by the client, but not the other way round.
    let (mut stranger, _) = node();
    let server_pin = {
        let caller_link = Caller::connect(&rig.call).unwrap();
        drop(caller_link);
        peer_pin(&rig)
    };
    stranger.peers = vec![server_pin];
    rig.call.tls = stranger.client().unwrap();
    assert!(Caller::connect(&rig.call).is_err());
    rig.wait_for_ends(1);
    assert_eq!(rig.counted(|c| &c.bad_handshakes), 1);
    rig.assert_nothing_carried_out();
}

fn peer_pin(rig: &Rig) -> KeyPin {
    let stream = rig.raw();
    KeyPin::of(&stream.conn.peer_certificates().unwrap()[0]).unwrap()
}

#[test]
fn bytes_without_tls_are_refused() {
    let rig = rig();
    let mut socket = TcpStream::connect(rig.call.address).unwrap();
    socket.write_all(&operation(1, b"plain")).unwrap();
    rig.wait_for_ends(1);
    assert_eq!(rig.counted(|c| &c.bad_handshakes), 1);
    rig.assert_nothing_carried_out();
}

#[test]
fn another_generation_or_mirror_is_refused_at_the_door() {
    let rig = rig();
    for generation in [GENERATION - 1, GENERATION + 1] {
        assert!(Caller::connect(&Call { generation, ..rig.call.clone() }).is_err());
    }
    assert!(Caller::connect(&Call { mirror: [0; 16], ..rig.call.clone() }).is_err());
    rig.wait_for_ends(3);
    assert_eq!(rig.counted(|c| &c.bad_generations), 2);
    assert_eq!(rig.counted(|c| &c.bad_frames), 1);
}

#[test]
fn a_frame_of_another_generation_ends_the_connection() {
    let rig = rig();
    let payload = b"old";
    rig.send_hostile(&whole(frame::header(Kind::Operation, 0, GENERATION - 1, 1, &[payload]), payload));
    assert_eq!(rig.counted(|c| &c.bad_generations), 1);
}

#[test]
fn damaged_oversized_and_senseless_frames_end_the_connection() {
    let mut damaged = operation(1, b"payload");
    *damaged.last_mut().unwrap() ^= 1;
    let mut oversized = operation(1, b"payload");
    oversized[8..12].copy_from_slice(&(PAYLOAD_MAX as u32 + 1).to_le_bytes());
    let mut newer = operation(1, b"payload");
    newer[4] = 200;
    let mut strange = operation(1, b"payload");
    strange[5] = 99;
    for bytes in [damaged, oversized, newer, strange, vec![0xa5; 4096]] {
        let rig = rig();
        rig.send_hostile(&bytes);
        assert_eq!(rig.counted(|c| &c.bad_frames), 1);
    }
}

#[test]
fn a_torn_frame_is_not_carried_out() {
    let rig = rig();
    let bytes = operation(1, &[1; 5000]);
    for cut in [1, HEADER - 1, HEADER, HEADER + 1, bytes.len() - 1] {
        let mut stream = rig.raw();
        stream.write_all(&bytes[..cut]).unwrap();
        stream.flush().unwrap();
        drop(stream);
    }
    // The server has seen all of them end when it has answered one more, and there was room for it.
    let mut caller = loop {
        if let Ok(caller) = Caller::connect(&rig.call) {
            break caller;
        }
    };
    caller.send(0, 1, [b"whole", b""]).unwrap();
    assert_eq!(caller.answer().unwrap(), Outcome::Done);
    assert_eq!(*rig.ledger.0.lock().unwrap(), [b"whole".to_vec()]);
}

#[test]
fn a_repeated_number_ends_the_connection() {
    let rig = rig();
    let mut stream = rig.raw();
    stream.write_all(&operation(4, b"first")).unwrap();
    let mut answer = [0; HEADER + 4];
    stream.read_exact(&mut answer).unwrap();
    stream.write_all(&operation(4, b"again")).unwrap();
    rig.wait_for_ends(1);
    assert_eq!(*rig.ledger.0.lock().unwrap(), [b"first".to_vec()]);
    assert_eq!(rig.counted(|c| &c.bad_frames), 1);
}

#[test]
fn nothing_is_carried_out_behind_the_fence() {
    let rig = rig();
    let mut caller = Caller::connect(&rig.call).unwrap();
    caller.send(0, 1, [b"before", b""]).unwrap();
    assert_eq!(caller.answer().unwrap(), Outcome::Done);
    rig.server.fence(GENERATION + 1);
    caller.send(0, 2, [b"after", b""]).unwrap();
    assert!(caller.answer().is_err());
    rig.wait_for_ends(1);
    assert_eq!(*rig.ledger.0.lock().unwrap(), [b"before".to_vec()]);
    assert_eq!(rig.counted(|c| &c.bad_generations), 1);
}

#[test]
fn there_is_an_end_to_connections() {
    let rig = rig();
    let callers: Vec<_> = (0..4).map(|_| Caller::connect(&rig.call).unwrap()).collect();
    assert!(Caller::connect(&rig.call).is_err());
    assert_eq!(rig.counted(|c| &c.too_many), 1);
    drop(callers);
}

/// Random damage to a stream of good frames, by seed: no panic, and nothing but whole, good operations is carried out.
#[test]
fn random_damage_carries_out_nothing_that_was_not_sent() {
    let rig = rig();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..150 {
        let mut bytes: Vec<u8> = (1..6).flat_map(|n| operation(n, b"a good operation")).collect();
        for _ in 0..=next() % 3 {
            let at = next() as usize % bytes.len();
            bytes[at] ^= 1 << (next() % 8);
        }
        let mut stream = rig.raw();
        if stream.write_all(&bytes).and_then(|()| stream.flush()).is_ok() {
            // Until the server, which has seen something wrong, closes.
            stream.conn.send_close_notify();
            let _ = stream.flush();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    assert!(rig.counted(|c| &c.bad_frames) + rig.counted(|c| &c.bad_generations) > 100);
    assert!(rig.ledger.0.lock().unwrap().iter().all(|done| done == b"a good operation"));
}
