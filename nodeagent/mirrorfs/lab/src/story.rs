//! Stories: data files with a drawing on top, run against the real core, step by step.
//!
//! A line is one of
//!   `do STEP [ARGUMENTS]`      one thing happens (the words below),
//!   `run [until A ROLE]`       everything ready happens, and time, until a node has a role (`until W asked`: a PUT is out),
//!   `wait N`                   N times: everything ready happens, then time goes on to what is due next,
//!   `expect A ROLE`, `expect serves A|B|nobody`, `expect W gN A[,B]`, `expect acked N`, `expect equal`, `expect halted A`.
//! `#` begins the drawing and remarks; a story opens with them. Lines that set the scene: `start joining` (ALONE, the peer in
//! WAIT), `start new` (two machines and a record that nobody has touched), `class Disk`, `stall N`. Else both are in sync.
//! C is the machine that takes B's place.

use crate::host::Host;
use crate::scenes::{Begin, Scene, settings};
use crate::world::{Asked, Budget, Step, World};
use mirror_core::ids::{NodeId, OperationId};
use mirror_core::{Acknowledgement, Config, Event, Mutation, Order, Settings, Span};
use std::rc::Rc;
use std::sync::Arc;

/// Plays a story, with all guards standing or one switched off; the first line that does not come true is the error.
///
/// # Errors
/// The line's number, the line, and the world as it is instead.
pub fn play(text: &str, broken: Option<Mutation>) -> Result<(), String> {
    if !text.starts_with("# ") {
        return Err("line 1: a story opens with what it is about, and a drawing".into());
    }
    let class = if text.contains("\nclass Disk") { Acknowledgement::Disk } else { Acknowledgement::Memory };
    let begin = if text.contains("\nstart joining") { Begin::Rejoin } else { Begin::InSync };
    let scene = Scene { class, begin, ..Scene::of("story", Budget::AMPLE) };
    let quick = settings(class, broken);
    let stall = text.lines().find_map(|line| line.strip_prefix("stall ")?.parse().ok()).map(Span);
    let patient = Settings(Arc::new(Config { stall, ..(*quick.0).clone() }));
    let new = text.contains("\nstart new");
    let mut world = if new { World::new(&patient, 1) } else { scene.start().with(&patient) };
    world.left = Budget::AMPLE;
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let done = match words.as_slice() {
            [] | ["start" | "class" | "stall", ..] => Ok(()),
            ["do", words @ ..] => act(&mut world, &patient, words),
            ["run", "until", "W", "asked"] => {
                run(&mut world, &patient, |w| w.asked.iter().any(|asked| matches!(asked, Asked::Put(..))))
            }
            ["run", "until", node, role] => run(&mut world, &patient, |w| role_of(w, node).as_deref() == Some(*role)),
            ["wait", count] => wait(&mut world, &patient, count),
            ["run"] => run(&mut world, &patient, World::is_quiet),
            ["expect", words @ ..] => expect(&world, words),
            _ => Err("no such sentence".into()),
        };
        done.map_err(|reason| format!("line {}: {line}\n  {reason}\n  {world}", number + 1))?;
        if let Some(broken) = world.violation(&patient) {
            return Err(format!("line {}: {line}\n  {broken}\n  {world}", number + 1));
        }
    }
    Ok(())
}

fn index(node: &str) -> Result<u8, String> {
    match node {
        "A" => Ok(0),
        "B" | "C" => Ok(1),
        other => Err(format!("{other} is no node")),
    }
}

fn act(world: &mut World, settings: &Settings, words: &[&str]) -> Result<(), String> {
    let (what, node) = (words[0], index(words.get(1).copied().unwrap_or("A"))?);
    if let Some(event) = said(world, what) {
        world.say(settings, node, event);
        return Ok(());
    }
    let step = match what {
        "write" => Step::Write(node, 0),
        "fsync" => Step::Sync(node, 0),
        "lose-operation-to" => Step::Lose(node, 1),
        "refuse-connection-of" => Step::Fail(node),
        "kill" => Step::Kill(node, false),
        "crash" => Step::Crash(node, false),
        "reimage" => Step::Reimage(node),
        "start" => Step::Start(node),
        "cut-to" => Step::Cut(node),
        "heal-to" => Step::Heal(node),
        "witness-away-from" => Step::Away(node),
        "witness-near" => Step::Near(node),
        "lose-answer-of-put" => Step::Unknown(node, true),
        "delay-put" => Step::Unknown(node, false),
        "late-put-lands" => Step::Land(0),
        "pause" => Step::Pause(node),
        "resume" => Step::Resume(node),
        "switch" => Step::Switch(node),
        "force" => Step::Force(node),
        "disk-fails" => Step::DiskFails(node),
        "flush" => Step::Flush(node),
        "rollback" => Step::Rollback,
        "recreate-record" => return recreate(world),
        "take-the-place-of" => return replace(world, node),
        "advance" => Step::Advance,
        other => return Err(format!("nobody knows how to {other}")),
    };
    if !world.steps().contains(&step) {
        return Err(format!("{step:?} can't happen here; what can: {:?}", world.steps()));
    }
    world.take(settings, step);
    Ok(())
}

/// What a person, the machine or the agent says to a node.
fn said(world: &mut World, what: &str) -> Option<Event> {
    let force = |confirmed_off, peer_lease_fresh| {
        Event::Order(Order::Force { operation: OperationId(77), confirmed_off, peer_lease_fresh })
    };
    Some(match what {
        "stop" => Event::Order(Order::Stop),
        "force-unconfirmed" => force(false, false),
        "force-beside-fresh-lease" => force(true, true),
        "force-beside-living-peer" => force(true, false),
        "force-local" => {
            world.forced = true;
            Event::Order(Order::ForceLocal { operation: OperationId(88) })
        }
        "replace-peer-of" => Event::Order(Order::ReplacePeer { new: NodeId(3) }),
        "allow-overwrite" => Event::Order(Order::Overwrite),
        "say-recreated" => Event::Order(Order::RecreatedWitness { uid: world.witness.uid }),
        "agent-goes" => Event::Agent { alive: false },
        "clock-jumps" => Event::ClockJump,
        "disk-full" => Event::DiskFull,
        _ => return None,
    })
}

/// A person deletes the record and has it created again, as it was.
fn recreate(world: &mut World) -> Result<(), String> {
    world.witness.uid += 1;
    world.witness.version += 1;
    Ok(())
}

/// A machine that was never used stands where this one stood.
fn replace(world: &mut World, node: u8) -> Result<(), String> {
    let old = &world.hosts[usize::from(node)];
    if old.node.is_some() {
        return Err("it still runs".into());
    }
    world.hosts[usize::from(node)] = Rc::new(Host::new(3, old.peer.0, old.cache.len()));
    Ok(())
}

fn run(world: &mut World, settings: &Settings, done: impl Fn(&World) -> bool) -> Result<(), String> {
    if world.run_fairly(settings, 600, done) { Ok(()) } else { Err("it never comes to that".into()) }
}

fn wait(world: &mut World, settings: &Settings, count: &str) -> Result<(), String> {
    for _ in 0..count.parse::<usize>().map_err(|error| error.to_string())? {
        run(world, settings, World::is_quiet)?;
        world.take(settings, Step::Advance);
    }
    Ok(())
}

fn role_of(world: &World, node: &str) -> Option<String> {
    let host = &world.hosts[usize::from(index(node).ok()?)];
    Some(host.role().map_or("down".into(), |role| format!("{role:?}").to_uppercase()))
}

fn expect(world: &World, words: &[&str]) -> Result<(), String> {
    let holds = match words {
        ["serves", "nobody"] => world.hosts.iter().all(|host| !host.gate_open(mirror_core::Time(0))),
        ["serves", node] => world.hosts[usize::from(index(node)?)].serves(mirror_core::Time(0)),
        ["acked", count] => world.acked[0].count_ones().to_string() == **count,
        ["equal"] => world.hosts[0].cache == world.hosts[1].cache,
        ["halted", node] => world.hosts[usize::from(index(node)?)].node.as_ref().is_some_and(|n| n.halted().is_some()),
        ["W", generation, names] => {
            let w = &world.witness;
            let name = |node: NodeId| ["A", "B", "C"][usize::try_from(node.0 - 1).unwrap_or(0)];
            let other = w.other.map_or(String::new(), |o| format!(",{}", name(o.node)));
            format!("g{}", w.generation.0) == *generation && format!("{}{other}", name(w.primary.node)) == *names
        }
        [node, role] => role_of(world, node).as_deref() == Some(*role),
        _ => return Err("no such expectation".into()),
    };
    if holds { Ok(()) } else { Err("it is not so".into()) }
}
