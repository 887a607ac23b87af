//! `make model`
use mirror_lab::scenes::*;
fn main() {
    for s in SCENES.iter() {
        if std::env::args().nth(1).is_some_and(|a| a != s.name) {
            continue;
        }
        let t = std::time::Instant::now();
        let f = s.search(None, 400_000, 16);
        println!(
            "{}: {} states {} steps depth {} exhausted {} followed {} {:?}",
            s.name,
            f.states,
            f.steps,
            f.depth,
            f.exhausted,
            f.followed,
            t.elapsed()
        );
        if let Some((r, p)) = f.violation {
            println!("   {r} {}", p.len());
            if std::env::args().nth(1).is_some() {
                let w = s.start();
                println!("{}", mirror_lab::search::explain(&settings(s.class, None), &w, s.budget, &p));
            }
        }
    }
}
