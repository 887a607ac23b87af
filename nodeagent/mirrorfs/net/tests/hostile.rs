//! Strangers and damaged frames: refused, counted, and nothing of them carried out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mirrorfs_net::client::{Call, Caller, Outcome};
use mirrorfs_net::frame::{self, HEADER, Header, Kind, PAYLOAD_MAX, Refused};
use mirrorfs_net::hello::{self, Channel, Hello};
use mirrorfs_net::link::Broken;
use mirrorfs_net::server::{Counters, Listen, Serve, Server, Verdict};
use mirrorfs_net::tls::{Identity, KeyPin};

const MIRROR: [u8; 16] = *b"mirror-of-a-test";
const GENERATION: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

/// Remembers what it was told to carry out.
#[derive(Default)]
struct Ledger(Mutex<Vec<Vec<u8>>>);

impl Serve for Ledger {
    fn operation(&self, _peer: &Hello, header: &Header, payload: &[u8]) -> Verdict {
        if header.generation < GENERATION {
            return Verdict::Refused(Refused::Generation { expected: GENERATION, found: header.generation });
        }
        if payload == b"later" {
            return Verdict::Later;
        }
        self.0.lock().unwrap().push(payload.to_vec());
        Verdict::Answer(match payload.first() {
            Some(b'!') => Outcome::Refused(28),
            Some(b'?') => Outcome::Failed,
            Some(b'~') => Outcome::NotYet,
            _ if header.flags == 0 => Outcome::Done,
            _ => Outcome::Failed,
        })
    }

    fn message(&self, _peer: &Hello, payload: &[u8]) -> Result<(), Refused> {
        self.0.lock().unwrap().push(payload.to_vec());
        Ok(())
    }

    fn piece(&self, _: &Hello, _: &Header, payload: &[u8], answer: &mut Vec<u8>) -> Result<(), Refused> {
        answer.extend(payload.iter().rev());
        Ok(())
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
    let hello = |node| Hello { mirror: MIRROR, node, boot: 1, process: 2, channel: Channel::Control };
    let listen = Listen {
        tls: secondary.server().unwrap(),
        hello: hello(2),
        peer: 1,
        connections: 4,
        report: Box::new(move |_, _| {
            *note.0.lock().unwrap() += 1;
            note.1.notify_all();
        }),
    };
    let ledger = Arc::new(Ledger::default());
    let server = Server::start("127.0.0.1:0".parse::<SocketAddr>().unwrap(), listen, ledger.clone()).unwrap();
    let tls = primary.client().unwrap();
    let call =
        Call { address: server.address(), tls, hello: hello(1), peer: 2, connecting: PATIENCE, patience: PATIENCE };
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
        let mine = Hello { channel: Channel::Data, ..self.call.hello }.to_bytes();
        stream.write_all(&whole(frame::header(Kind::Hello, 0, 0, 0, &[&mine]), &mine)).unwrap();
        let mut hello = [0; HEADER + hello::LENGTH];
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
    let mut caller = Caller::connect(&rig.call, Channel::Data, drop).unwrap();
    let big = vec![7; 1 << 20];
    for (sequence, data, outcome) in [
        (1, &b"one"[..], Outcome::Done),
        (5, &big[..], Outcome::Done),
        (6, b"!", Outcome::Refused(28)),
        (9, b"?", Outcome::Failed),
        (10, b"~", Outcome::NotYet),
        (11, b"", Outcome::Done),
    ] {
        caller.send(0, GENERATION, sequence, [data, b"tail"]).unwrap();
        assert_eq!(caller.answer().unwrap(), outcome);
    }
    assert_eq!(rig.ledger.0.lock().unwrap()[1].len(), (1 << 20) + 4);
    assert_eq!(rig.counted(|c| &c.operations), 6);
}

/// Long enough for both sides to look first; 1 MiB takes longer than a look.
#[test]
fn answers_come_to_who_looks_and_to_who_sleeps() {
    let rig = rig();
    let mut caller = Caller::connect(&rig.call, Channel::Data, drop).unwrap();
    let big = vec![7; 1 << 20];
    for sequence in 1..=100 {
        let data = if sequence % 10 == 0 { &big[..] } else { b"small" };
        caller.send(0, GENERATION, sequence, [data, b"tail"]).unwrap();
        assert_eq!(caller.answer_to(true).unwrap(), Outcome::Done);
        assert_eq!(caller.last(), (GENERATION, sequence));
    }
    assert_eq!(rig.counted(|c| &c.operations), 100);
}

#[test]
fn a_caller_refuses_a_server_key_that_is_not_pinned() {
    let rig = rig();
    let (mut other, pin) = node();
    other.peers = vec![pin];
    let call = Call { tls: other.client().unwrap(), ..rig.call.clone() };
    assert!(matches!(Caller::connect(&call, Channel::Data, drop), Err(Broken::Tls(_))));
    rig.wait_for_ends(1);
    rig.assert_nothing_carried_out();
}

#[test]
fn a_server_refuses_a_client_key_that_is_not_pinned() {
    let mut rig = rig();
    // The server's key is pinned by the client, but not the other way round.
    let (mut stranger, _) = node();
    let server_pin = {
        let caller_link = Caller::connect(&rig.call, Channel::Data, drop).unwrap();
        drop(caller_link);
        peer_pin(&rig)
    };
    stranger.peers = vec![server_pin];
    rig.call.tls = stranger.client().unwrap();
    assert!(Caller::connect(&rig.call, Channel::Data, drop).is_err());
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
fn another_member_or_mirror_is_refused_at_the_door() {
    let rig = rig();
    let hello = rig.call.hello;
    for hello in [Hello { node: 3, ..hello }, Hello { mirror: [0; 16], ..hello }] {
        assert!(Caller::connect(&Call { hello, ..rig.call.clone() }, Channel::Data, drop).is_err());
    }
    rig.wait_for_ends(2);
    assert_eq!(rig.counted(|c| &c.bad_frames), 2);
    // And a caller does not speak to another member than the one it looks for.
    assert!(Caller::connect(&Call { peer: 3, ..rig.call.clone() }, Channel::Data, drop).is_err());
}

#[test]
fn what_is_not_taken_in_now_ends_the_connection_and_may_come_again() {
    let rig = rig();
    let mut caller = Caller::connect(&rig.call, Channel::Data, drop).unwrap();
    caller.send(0, GENERATION, 1, [b"later", b""]).unwrap();
    assert!(matches!(caller.answer(), Err(Broken::Closed)));
    let mut caller = Caller::connect(&rig.call, Channel::Data, drop).unwrap();
    caller.send(0, GENERATION, 1, [b"now", b""]).unwrap();
    assert_eq!(caller.answer().unwrap(), Outcome::Done);
    assert_eq!(rig.counted(|c| &c.put_off), 1);
}

#[test]
fn each_channel_carries_its_own_frames_only() {
    let rig = rig();
    let mut resync = Caller::connect(&rig.call, Channel::Resync, drop).unwrap();
    resync.tell(GENERATION, b"abcd").unwrap();
    resync.tell(GENERATION, b"ef").unwrap();
    assert_eq!(resync.told().unwrap(), b"dcba");
    assert_eq!(resync.told().unwrap(), b"fe");
    resync.send(0, GENERATION, 1, [b"operation", b""]).unwrap();
    assert!(resync.answer().is_err());
    let mut control = Caller::connect(&rig.call, Channel::Control, drop).unwrap();
    control.send(0, GENERATION, 1, [b"operation", b""]).unwrap();
    assert!(control.answer().is_err());
    rig.wait_for_ends(2);
    rig.assert_nothing_carried_out();
    assert_eq!(rig.counted(|c| &c.bad_frames), 2);
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
        if let Ok(caller) = Caller::connect(&rig.call, Channel::Data, drop) {
            break caller;
        }
    };
    caller.send(0, GENERATION, 1, [b"whole", b""]).unwrap();
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

/// The primary keeps its connections when it goes on in a higher generation.
#[test]
fn numbers_begin_anew_with_a_generation() {
    let rig = rig();
    let mut caller = Caller::connect(&rig.call, Channel::Data, drop).unwrap();
    for (generation, sequence) in [(GENERATION, 4), (GENERATION + 1, 1), (GENERATION + 1, 2)] {
        caller.send(0, generation, sequence, [b"fine", b""]).unwrap();
        assert_eq!(caller.answer().unwrap(), Outcome::Done);
    }
    caller.send(0, GENERATION + 1, 2, [b"again", b""]).unwrap();
    assert!(caller.answer().is_err());
    assert_eq!(rig.ledger.0.lock().unwrap().len(), 3);
}

#[test]
fn there_is_an_end_to_connections() {
    let rig = rig();
    let callers: Vec<_> = (0..4).map(|_| Caller::connect(&rig.call, Channel::Data, drop).unwrap()).collect();
    assert!(Caller::connect(&rig.call, Channel::Data, drop).is_err());
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
