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
        witness_poll: Span(2),
        give_up: Span(12),
        checkpoint: None,
        ..Config::default()
    };
    let s = Settings(Arc::new(cfg));
    let w = World::in_sync(&s, 1);
    println!("{w}");
    let z = Budget { versions: 4, ..Default::default() };
    for (n, b) in [
        ("none", z),
        ("write", Budget { writes: 1, ..z }),
        ("cut", Budget { cuts: 1, ..z }),
        ("cut write", Budget { cuts: 1, writes: 1, ..z }),
        ("kill", Budget { kills: 1, ..z }),
        ("kill write", Budget { kills: 1, writes: 1, ..z }),
        ("unknown cut", Budget { unknowns: 1, cuts: 1, ..z }),
        ("hold", Budget { delays: 1, ..z }),
        ("pause", Budget { pauses: 1, ..z }),
        ("switch", Budget { switches: 1, ..z }),
        ("disk", Budget { disks: 1, ..z }),
        ("cut cut", Budget { cuts: 2, ..z }),
        ("crash", Budget { crashes: 1, writes: 1, ..z }),
        ("reimage", Budget { kills: 1, reimages: 1, ..z }),
    ] {
        let t = std::time::Instant::now();
        let f = search::search(&s, &w, b, 400_000, 16);
        println!(
            "{n}: {} states {} steps depth {} exhausted {} followed {} {:?}",
            f.states,
            f.steps,
            f.depth,
            f.exhausted,
            f.followed,
            t.elapsed()
        );
        if std::env::args().nth(1).as_deref() == Some(n) {
            println!("{}", search::explain(&s, &w, b, &f.last));
            return;
        }
        if let Some((r, p)) = f.violation {
            println!("{r}\n{}", search::explain(&s, &w, b, &p));
            return;
        }
    }
}
