//! `frames SECONDS SIZE...`: operations of SIZE bytes sent one after the other over one link, and answered.
//!
//! What the transport costs by itself: TLS, checksums and loopback, no file system on either side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mirrorfs_net::client::{Call, Caller, Outcome};
use mirrorfs_net::server::{Carry, Listen, Server};
use mirrorfs_net::tls::{Identity, KeyPin};

struct Nothing;

impl Carry for Nothing {
    fn carry(&self, _tree: u16, _payload: &[u8]) -> Outcome {
        Outcome::Done
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
    let listen = Listen {
        tls: there.server().expect("tls"),
        mirror: [7; 16],
        generation: 1,
        connections: 1,
        report: Box::new(|_, broken| eprintln!("{broken}")),
    };
    let server =
        Server::start("127.0.0.1:0".parse().expect("an address"), listen, Arc::new(Nothing)).expect("a server");
    let tls = here.client().expect("tls");
    let call =
        Call { address: server.address(), tls, mirror: [7; 16], generation: 1, patience: Duration::from_secs(10) };
    let mut caller = Caller::connect(&call).expect("a connection");
    let mut sequence = 0;
    for size in &numbers[1..] {
        let data = vec![7; *size];
        let (start, before) = (Instant::now(), sequence);
        while start.elapsed() < Duration::from_secs(numbers[0] as u64) {
            sequence += 1;
            caller.send(0, sequence, [&[1; 40], &data]).expect("sent");
            caller.answer().expect("answered");
        }
        let (count, seconds) = ((sequence - before) as f64, start.elapsed().as_secs_f64());
        println!(
            "{size} bytes: {:.1} us, {:.0} MiB/s",
            seconds / count * 1e6,
            count * *size as f64 / seconds / 1048576.0
        );
    }
}
