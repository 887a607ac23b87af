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

/// Pairs that may be missing from 10,000 runs, and why. None is impossible: each needs a frame that comes very late to one life of
/// a node which has changed its role several times since; how often that happens changes with every change of the core.
pub const ARGUED: [(RoleName, &str, &str); 13] = [
    (
        RoleName::Join,
        "ResyncBegin",
        "was a target, became primary by a switch, lost its peer and adds it again, within 8 s",
    ),
    (RoleName::Alone, "ResyncBegin", "was a target and took over since"),
    (RoleName::Frozen, "ResyncBegin", "was a target, became primary and froze since"),
    (RoleName::Prim, "ResyncBegin", "was a target and was switched to since"),
    (RoleName::Taking, "ResyncReady", "was a source, was switched away from and takes over since"),
    (RoleName::Second, "ResyncReady", "was a source and was switched away from since"),
    (RoleName::Join, "Prepare", "was a secondary, took over and adds its peer since"),
    (RoleName::Taking, "Granted", "was a source, was switched away from and takes over since"),
    (RoleName::Join, "Cut", "was a secondary, took over and adds its peer since"),
    (RoleName::Join, "CutDone", "was a secondary, took over and adds its peer since"),
    (RoleName::Join, "Operation", "was a secondary, took over and adds its peer since"),
    (RoleName::Taking, "CutReached", "was primary, was switched away from and takes over since"),
    (RoleName::Taking, "Acknowledgement", "was primary, was switched away from and takes over since"),
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
            seeds.for_each(|seed| {
                total.add(seed, Sim::new(Run { seed, events, broken, outside: None, explain: false }).run())
            });
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
    first(limit, Run { seed: 0, events, broken: Some(mutation), outside: None, explain: false })
}

/// How many seeds it takes until a promise that the outside breaks is noticed, and by what.
pub fn seeds_until_seen(outside: Outside, limit: u64, events: usize) -> Option<(u64, String)> {
    first(limit, Run { seed: 0, events, broken: None, outside: Some(outside), explain: false })
}

fn first(limit: u64, run: Run) -> Option<(u64, String)> {
    (0..limit).find_map(|seed| Sim::new(Run { seed, ..run }).run().violation.map(|reason| (seed + 1, reason)))
}
