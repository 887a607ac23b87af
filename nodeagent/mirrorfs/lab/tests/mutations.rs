//! Every guard that is switched off is noticed: by the search, with the shortest way to it, by a story, or by a test of its own.

use mirror_core::durable::DataMark;
use mirror_core::ids::{Generation, Incarnation, NodeId, Seq};
use mirror_core::message::{Frame, Message};
use mirror_core::{Acknowledgement, Event, Mutation, Node, Start, Time};
use mirror_lab::scenes::{SCENES, noticed_in, settings};
use mirror_lab::sim::seeds_until_noticed;
use mirror_lab::story::play;
use mirror_lab::threads::on_two_threads;

/// What no scene shows: a person's word on one machine, and a machine that was imaged anew while its peer lost its memory.
const BY_STORY: [(Mutation, &str); 2] = [
    (Mutation::LocalForceUnrecorded, include_str!("../../../../tests/scenarios/mirror/21-forced-on-the-machine.txt")),
    (
        Mutation::LostStateUntold,
        include_str!("../../../../tests/scenarios/mirror/47-an-empty-copy-is-not-waited-for.txt"),
    ),
];

/// What the simulator's clients see of two that the search notices too.
const BY_SIMULATOR: [Mutation; 2] = [Mutation::NoResend, Mutation::NoOrder];

#[test]
fn the_search_notices() {
    println!("| guard switched off | invariant | scene | depth | states |\n|---|---|---|---|---|");
    let searched: Vec<_> = Mutation::ALL.iter().filter_map(|guard| Some((*guard, noticed_in(*guard)?))).collect();
    let found = on_two_threads(&searched, |(guard, name)| {
        let scene = SCENES.iter().find(|scene| scene.name == *name).expect("a scene of that name");
        scene.search(Some(*guard), 500_000, 8)
    });
    let mut unnoticed = Vec::new();
    for ((guard, name), found) in found {
        match found.violation {
            Some((reason, path)) => println!("| {guard:?} | {reason} | {name} | {} | {} |", path.len(), found.states),
            None => unnoticed.push(guard),
        }
    }
    assert!(unnoticed.is_empty(), "nobody notices that these are off: {unnoticed:?}");
}

#[test]
fn a_story_notices() {
    for (guard, text) in BY_STORY {
        let wrong = play(text, Some(guard)).expect_err(&format!("the story comes true without {guard:?}"));
        println!("| {guard:?} | {} |", wrong.lines().next().unwrap_or_default());
    }
}

#[test]
fn the_simulator_notices() {
    for guard in BY_SIMULATOR {
        let noticed = seeds_until_noticed(guard, 1_000, 1_200);
        let (seeds, reason) = noticed.unwrap_or_else(|| panic!("{guard:?} is not noticed"));
        println!("| {guard:?} | {seeds} | {reason} |");
    }
}

/// A request that comes again long after: no network of the laboratory keeps one across two lives of a primary.
fn still_takes_from_the_new_life(broken: Option<Mutation>) -> bool {
    let life = |process| Incarnation { boot: 1, process };
    let start = Start {
        me: NodeId(2),
        peer: NodeId(1),
        incarnation: life(20),
        disk: None,
        log: None,
        found: DataMark::default(),
        agent: true,
        now: Time(0),
    };
    let (mut node, _) = Node::new(settings(Acknowledgement::Memory, broken), start);
    let begins = |from, generation, session| {
        let message = Message::ResyncBegin { generation: Generation(generation), session, first: Seq(1) };
        Event::Received(Frame { node: NodeId(1), from: life(from), message })
    };
    node.handle(Time(0), begins(11, 2, 1));
    node.handle(Time(0), Event::Persisted);
    node.handle(Time(0), begins(10, 1, 9));
    node.takes_in(life(11), Generation(2))
}

#[test]
fn a_former_lifes_request_is_noticed() {
    assert!(still_takes_from_the_new_life(None));
    assert!(!still_takes_from_the_new_life(Some(Mutation::FormerLifeResyncs)));
}

#[test]
fn no_guard_is_left_out() {
    let elsewhere =
        |guard: &Mutation| BY_STORY.iter().any(|(g, _)| g == guard) || *guard == Mutation::FormerLifeResyncs;
    let left: Vec<_> =
        Mutation::ALL.iter().filter(|guard| noticed_in(**guard).is_none() && !elsewhere(guard)).collect();
    assert!(left.is_empty(), "nobody looks for {left:?}");
}
