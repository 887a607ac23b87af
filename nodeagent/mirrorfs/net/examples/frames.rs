//! `frames SECONDS SIZE...`: operations of SIZE bytes sent one after the other over one link, and answered.
//!
//! What the transport costs by itself: TLS, checksums and loopback, no file system on either side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorfs_net::client::{Call, Caller, Outcome};
use mirrorfs_net::frame::{Header, Refused};
use mirrorfs_net::hello::{Channel, Hello};
use mirrorfs_net::server::{Listen, Serve, Server, Verdict};
use mirrorfs_net::tls::{Identity, KeyPin};

struct Nothing;

impl Serve for Nothing {
    fn operation(&self, _peer: &Hello, _header: &Header, _payload: &[u8]) -> Verdict {
        Verdict::Answer(Outcome::Done)
    }

    fn message(&self, _peer: &Hello, _payload: &[u8]) -> Result<(), Refused> {
        Err(Refused::Place)
    }

    fn piece(&self, _: &Hello, _: &Header, _payload: &[u8], _answer: &mut Vec<u8>) -> Result<(), Refused> {
        Err(Refused::Place)
    }
}

fn node() -> (Identity, KeyPin) {
    let made = rcgen::generate_simple_self_signed(vec!["node".into()]).expect("a certificate");
    let pin = KeyPin::of(made.cert.der()).expect("its pin");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    (Identity { certificates: vec![made.cert.der().clone()], key, peers: Vec::new() }, pin)
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let ((mut here, here_pin), (mut there, there_pin)) = (node(), node());
    (here.peers, there.peers) = (vec![there_pin], vec![here_pin]);
    let hello = |node| Hello { mirror: [7; 16], node, boot: 1, process: 1, channel: Channel::Data };
    let listen = Listen {
        tls: there.server().expect("tls"),
        hello: hello(2),
        peer: 1,
        connections: 1,
        report: Box::new(|_, broken| eprintln!("{broken}")),
    };
    let server =
        Server::start("127.0.0.1:0".parse().expect("an address"), listen, Arc::new(Nothing)).expect("a server");
    let tls = here.client().expect("tls");
    let (connecting, patience) = (Duration::from_secs(10), Duration::from_secs(10));
    let call = Call { address: server.address(), tls, hello: hello(1), peer: 2, connecting, patience };
    let mut caller = Caller::connect(&call, Channel::Data, drop).expect("a connection");
    let mut sequence = 0;
    for size in &numbers[1..] {
        let data = vec![7; *size];
        let (start, before) = (Instant::now(), sequence);
        while start.elapsed() < Duration::from_secs(numbers[0] as u64) {
            sequence += 1;
            caller.send(0, 1, sequence, [&[1; 40], &data]).expect("sent");
            caller.answer_to(true).expect("answered");
        }
        let (count, seconds) = ((sequence - before) as f64, start.elapsed().as_secs_f64());
        println!(
            "{size} bytes: {:.1} us, {:.0} MiB/s",
            seconds / count * 1e6,
            count * *size as f64 / seconds / 1048576.0
        );
    }
}
