//! Drives a real core against a real API server, without a peer: for tests of the witness client alone.
//!
//! Prints one JSON line a change (`{"role": ..., "generation": ...}`) and one a notice. State lies in two checksummed slots,
//! fsynced before the core hears of it. Ends when its standard input does.

use mirror_core::difflog::Image;
use mirror_core::durable::{DataMark, Durable};
use mirror_core::ids::{Incarnation, NodeId};
use mirror_core::slots::{encode, newest};
use mirror_core::{Action, Config, Event, Node, Order, Settings, Span, Start, Time};
use mirror_witness::Client;
use mirror_witness::http::Endpoint;
use mirror_witness::object::uuid;
use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// As in the product, an exchange may take a quarter of it.
const LEASE: Duration = Duration::from_secs(2);

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing argument: {what}"));
    let address = next("ADDRESS:PORT")?.parse().map_err(|error| format!("address: {error}"))?;
    let (authorities, token) = (PathBuf::from(next("CA FILE")?), PathBuf::from(next("TOKEN FILE")?));
    let (namespace, name) = (next("NAMESPACE")?, next("NAME")?);
    let state = PathBuf::from(next("STATE FOLDER")?);
    let mut id = |what: &str| uuid(&next(what)?).ok_or(format!("{what} is no UUID"));
    let (me, peer, boot, process) = (id("MY UID")?, id("PEER UID")?, id("BOOT")?, id("PROCESS")?);
    let endpoint = Endpoint::new(address, "127.0.0.1", &authorities, LEASE / 4)?;
    let client = Client::new(endpoint, &namespace, &name, token);
    let incarnation = Incarnation { boot, process };
    drive(&client, &state, (NodeId(me), NodeId(peer), incarnation))
}

fn drive(client: &Client, state: &Path, who: (NodeId, NodeId, Incarnation)) -> Result<(), String> {
    let orders = orders();
    let origin = Instant::now();
    let now = || Time(i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX));
    let lease = Span(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
    let config = Config { witness_poll: Span(300), beacon: Span(100), lease, ..Config::default() };
    let slots = [0, 1].map(|n| std::fs::read(state.join(format!("state.{n}"))).unwrap_or_default());
    let found = newest::<Durable>([&slots[0], &slots[1]]);
    let mut number = found.map_or(0, |(number, _)| number);
    let (me, peer, incarnation) = who;
    let mark = DataMark { filesystem: 1, checkpoint: 0 };
    let disk = found.map(|(_, durable)| durable);
    let start =
        Start { me, peer, incarnation, disk, log: Some(Image::default()), found: mark, agent: true, now: now() };
    let (mut node, actions) = Node::new(Settings(Arc::new(config)), start);
    let mut actions = VecDeque::from(actions);
    let mut shown = String::new();
    loop {
        while let Some(action) = actions.pop_front() {
            if let Some(event) = carry_out(client, state, &mut number, action)? {
                actions.extend(node.handle(now(), event));
            }
        }
        let line = format!(r#"{{"role": "{:?}", "generation": {}}}"#, node.role(), node.generation().0);
        if line != shown {
            println!("{line}");
            shown = line;
        }
        let pause = (node.next_wake(now()) - now()).0.clamp(1, 1_000);
        let event = match orders.recv_timeout(Duration::from_millis(pause.unsigned_abs())) {
            Ok(order) => Event::Order(order),
            Err(RecvTimeoutError::Timeout) => Event::Tick,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        actions.extend(node.handle(now(), event));
    }
}

fn carry_out(client: &Client, state: &Path, number: &mut u64, action: Action) -> Result<Option<Event>, String> {
    Ok(match action {
        Action::Persist(durable) => {
            *number += 1;
            save(&state.join(format!("state.{}", *number % 2)), &encode(*number, &durable))?;
            Some(Event::Persisted)
        }
        Action::PersistLog(_) => Some(Event::LogPersisted),
        Action::ReadWitness => Some(Event::Read(client.get())),
        Action::WriteWitness { expect, record } => Some(Event::Written(client.put(expect, &record))),
        Action::Flush { number } => Some(Event::Flushed { number }),
        Action::StopApplication => Some(Event::ApplicationStopped),
        Action::Tell(notice) => {
            println!(r#"{{"notice": "{}"}}"#, format!("{notice:?}").replace('"', "'"));
            None
        }
        _ => None,
    })
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}

/// One order a line: `recreated UID`. The channel closes with the input.
fn orders() -> Receiver<Order> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let order = line.strip_prefix("recreated ").and_then(uuid).map(|uid| Order::RecreatedWitness { uid });
            if order.is_some_and(|order| sender.send(order).is_err()) {
                return;
            }
        }
    });
    receiver
}
