//! `make model`
use mirror_core::*;
use mirror_lab::{search, world::*};
use std::sync::Arc;
fn main() {
    let cfg = Config {
        beacon: Span(2),
        lease: Span(6),
        stop_budget: Span(0),
        head_start: Span(1),
        stall: None,
        crash_hold: Span(12),
        witness_poll: Span(20),
        give_up: Span(1000),
        checkpoint: Some(Span(10_000)),
        ..Config::default()
    };
    let s = Settings(Arc::new(cfg));
    let w = World::in_sync(&s, 1);
    println!("{w}");
    let b =
        Budget { writes: 1, kills: 1, crashes: 0, cuts: 1, versions: 5, time: 20, unknowns: 1, ..Default::default() };
    let t = std::time::Instant::now();
    let f = search::search(&s, &w, b, 2_000_000, 0);
    println!("{} states {} steps depth {} exhausted {} {:?}", f.states, f.steps, f.depth, f.exhausted, t.elapsed());
    if let Some((r, p)) = f.violation {
        println!("{r}\n{}", search::explain(&s, &w, b, &p));
    }
}
