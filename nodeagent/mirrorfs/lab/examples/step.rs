//! `make bench-mirror-step`: what one operation costs the core, with 1 to 1,000 of them in the window.
//!
//! A primary in sync. One round is three steps: an operation is submitted, the oldest one is acknowledged by the peer, and
//! applied here. No disk, no network: the core's own time alone. The difference log knows every object already.

use mirror_core::ids::{Body, Incarnation, NodeId, ObjectId};
use mirror_core::message::{Frame, Kind, Message, Outcome};
use mirror_core::{Acknowledgement, Action, Event, Node, Time};
use mirror_lab::scenes::settings;
use mirror_lab::world::World;
use std::collections::VecDeque;
use std::time::Instant;

const NOW: Time = Time(0);
const OBJECTS: u64 = 2_000;
const ROUNDS: u64 = 200_000;
const REPEATS: usize = 7;

struct Primary {
    node: Node,
    peer: (NodeId, Incarnation),
    sent: VecDeque<Action>,
    submitted: u64,
}

impl Primary {
    fn new() -> Self {
        let world = World::in_sync(&settings(Acknowledgement::Memory, None), 1);
        let node = |i: usize| world.hosts[i].node.clone().expect("both run");
        let peer = (world.hosts[1].me, node(1).incarnation());
        let mut primary = Primary { node: node(0), peer, sent: VecDeque::new(), submitted: 0 };
        for _ in 0..OBJECTS {
            primary.submit();
            primary.finish_oldest();
        }
        primary
    }

    fn submit(&mut self) {
        let object = ObjectId(u128::from(self.submitted % OBJECTS));
        let change = Event::Change { kind: Kind::Change, object, also: None, body: Body(self.submitted) };
        self.submitted += 1;
        let actions = self.node.handle(NOW, change);
        self.sent.extend(actions.into_iter().filter(|action| matches!(action, Action::Send(_))));
    }

    fn finish_oldest(&mut self) {
        let operation = self.sent.pop_front();
        let Some(Action::Send(Frame { message: Message::Operation { generation, op, .. }, .. })) = operation else {
            panic!("no operation went out: {operation:?}")
        };
        let message = Message::Acknowledgement { generation, seq: op.seq, outcome: Outcome::Done };
        let answer = Frame { node: self.peer.0, from: self.peer.1, message };
        let mut actions = self.node.handle(NOW, Event::Received(answer));
        while actions.iter().any(|action| matches!(action, Action::PersistLog(_))) {
            actions = self.node.handle(NOW, Event::LogPersisted);
        }
        assert!(actions.iter().any(|action| matches!(action, Action::Apply { .. })), "{actions:?}");
        let applied = Event::Applied { generation, seq: op.seq, outcome: Outcome::Done };
        let actions = self.node.handle(NOW, applied);
        assert!(actions.iter().any(|action| matches!(action, Action::Reply { done: true, .. })), "{actions:?}");
    }
}

/// Nanoseconds a step.
fn measure(window: usize) -> f64 {
    let mut primary = Primary::new();
    (1..window).for_each(|_| primary.submit());
    let start = Instant::now();
    for _ in 0..ROUNDS {
        primary.submit();
        assert_eq!(primary.node.window().len(), window);
        primary.finish_oldest();
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let steps = (3 * ROUNDS) as f64;
    start.elapsed().as_secs_f64() * 1e9 / steps
}

fn main() {
    let windows = [1, 10, 100, 1_000];
    let mut found = windows.map(|_| Vec::new());
    for _ in 0..REPEATS {
        // Interleaved, so that what else runs on the machine meets all of them.
        windows.iter().zip(&mut found).for_each(|(window, times)| times.push(measure(*window)));
    }
    println!("| operations in the window | ns a step: median | least | most |\n|---|---|---|---|");
    for (window, times) in windows.iter().zip(&mut found) {
        times.sort_by(f64::total_cmp);
        println!("| {window} | {:.0} | {:.0} | {:.0} |", times[REPEATS / 2], times[0], times[REPEATS - 1]);
    }
}
