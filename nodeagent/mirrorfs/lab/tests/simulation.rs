//! 10,000 seeded runs, each of at least 1,000 events, without a violation. `make sim` runs ten times as many.

use mirror_lab::sim::{batch, coverage_of};

#[test]
fn ten_thousand_runs_are_clean() {
    let total = batch(0..10_000, 1_200, None);
    println!("{} events, {} acknowledged writes", total.events, total.acknowledged);
    assert_eq!(total.violations, Vec::new());
    assert!(total.shortest >= 1_000, "a run of {} events", total.shortest);
    assert!(total.acknowledged > 100_000, "clients did next to nothing: {}", total.acknowledged);
    assert!(coverage_of(&total) > 0.80, "role x message coverage {:.2}", coverage_of(&total));
}
