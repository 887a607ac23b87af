use mirror_core::*;
use mirror_lab::scenes::*;
fn main() {
    let only: Option<String> = std::env::args().nth(1);
    for m in Mutation::ALL {
        if let Some(o) = &only {
            if format!("{m:?}") != *o {
                continue;
            }
        }
        let mut hit = false;
        for s in SCENES.iter() {
            let lim = if s.large { 100_000 } else { 200_000 };
            let f = s.search(Some(*m), lim, 8);
            if let Some((r, p)) = f.violation {
                println!("{m:?}: [{}] {r} depth {} states {}", s.name, p.len(), f.states);
                if only.is_some() {
                    let w = s.start().with(&settings(s.class, Some(*m)));
                    println!("{}", mirror_lab::search::explain(&settings(s.class, Some(*m)), &w, s.budget, &p));
                }
                hit = true;
                break;
            }
        }
        if !hit {
            println!("{m:?}: NOT FOUND");
        }
    }
}
