//! Many runs together: totals, coverage, planted bugs.

use super::*;

/// The roles that can hear anything.
pub const ROLES: [RoleName; 8] = [
    RoleName::Stop,
    RoleName::Wait,
    RoleName::Second,
    RoleName::Taking,
    RoleName::Prim,
    RoleName::Frozen,
    RoleName::Alone,
    RoleName::Join,
];

/// Many runs together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// Events of all runs.
    pub events: usize,
    /// Acknowledged writes of all runs.
    pub acknowledged: usize,
    /// Changes of the record in all runs.
    pub generations: u64,
    /// Fewest events of a run.
    pub shortest: usize,
    /// How often each message reached each role.
    pub coverage: BTreeMap<(RoleName, &'static str), usize>,
    /// Seeds that went wrong.
    pub violations: Vec<(u64, String)>,
}

/// Runs all seeds of a range, on two threads.
pub fn batch(seeds: std::ops::Range<u64>, events: usize, broken: Option<Mutation>) -> Total {
    let half = |odd: u64| {
        let seeds = seeds.clone().filter(move |seed| seed % 2 == odd);
        move || {
            let mut total = Total { shortest: usize::MAX, ..Total::default() };
            seeds.for_each(|seed| total.add(seed, Sim::new(Run { seed, events, broken, explain: false }).run()));
            total
        }
    };
    std::thread::scope(|scope| {
        let halves = [scope.spawn(half(0)), scope.spawn(half(1))];
        let mut both = halves.map(|thread| thread.join().expect("a simulation thread ends"));
        let second = std::mem::take(&mut both[1]);
        let mut total = std::mem::take(&mut both[0]);
        total.merge(second);
        total
    })
}

impl Total {
    fn add(&mut self, seed: u64, report: Report) {
        self.events += report.events;
        self.acknowledged += report.acknowledged;
        self.generations += report.generations;
        self.shortest = self.shortest.min(report.events);
        report.coverage.into_iter().for_each(|(pair, count)| *self.coverage.entry(pair).or_default() += count);
        self.violations.extend(report.violation.map(|reason| (seed, reason)));
    }

    fn merge(&mut self, other: Total) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.generations += other.generations;
        self.shortest = self.shortest.min(other.shortest);
        other.coverage.into_iter().for_each(|(pair, count)| *self.coverage.entry(pair).or_default() += count);
        self.violations.extend(other.violations);
    }
}

/// The role x message pairs that did not occur.
pub fn missing_from(total: &Total) -> Vec<(RoleName, &'static str)> {
    let pairs = MESSAGES.iter().flat_map(|message| ROLES.map(|role| (role, *message)));
    pairs.filter(|pair| !total.coverage.contains_key(pair)).collect()
}

/// The share of role x message pairs that occurred.
pub fn coverage_of(total: &Total) -> f64 {
    let pairs = ROLES.len() * MESSAGES.len();
    #[expect(clippy::cast_precision_loss, reason = "fewer than a hundred pairs")]
    let share = 1.0 - missing_from(total).len() as f64 / pairs as f64;
    share
}

/// How many seeds it takes until the absence of a guard is noticed, and by what.
pub fn seeds_until_noticed(mutation: Mutation, limit: u64, events: usize) -> Option<(u64, String)> {
    (0..limit).find_map(|seed| {
        let report = Sim::new(Run { seed, events, broken: Some(mutation), explain: false }).run();
        report.violation.map(|reason| (seed + 1, reason))
    })
}
