//! `make sim`
use mirror_lab::sim::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |n: &str, d: u64| args.iter().position(|a| a == n).map_or(d, |i| args[i + 1].parse().unwrap());
    let from = get("--seed", 0);
    let runs = if args.iter().any(|a| a == "--seed") { 1 } else { get("--runs", 1000) };
    let explain = args.iter().any(|a| a == "--explain");
    let t = std::time::Instant::now();
    let (mut ev, mut bad, mut acks, mut gens) = (0, 0, 0, 0);
    for seed in from..from + runs {
        let r = Sim::new(Run { seed, events: 1200, broken: None, explain }).run();
        ev += r.events;
        acks += r.acknowledged;
        gens += r.generations;
        if explain {
            for l in &r.story {
                println!("{l}");
            }
        }
        if let Some(v) = r.violation {
            bad += 1;
            if bad < 25 {
                println!("seed {seed}: {v}");
            }
        }
    }
    println!("{runs} runs {ev} events {bad} bad acks {acks} gens {gens} {:?}", t.elapsed());
}
