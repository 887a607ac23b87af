//! `make sim`: many seeded runs, judged; `--seed N --explain` tells one as a story; `--planted` switches each guard off.

use mirror_core::Mutation;
use mirror_lab::sim::{
    MESSAGES, Outside, ROLES, Report, Run, Sim, batch, coverage_of, missing_from, seeds_until_noticed, seeds_until_seen,
};
use std::process::ExitCode;
use std::time::Instant;

/// Bad weather lasts this many events; the healing comes after.
const EVENTS: usize = 1_200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let number = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let broken = number("--broken").and_then(|n| Mutation::ALL.get(usize::try_from(n).ok()?)).copied();
    if has("--planted") {
        return planted(number("--runs").unwrap_or(2_000));
    }
    if let Some(seed) = number("--seed") {
        return one(
            Sim::new(Run { seed, events: EVENTS, broken, outside: None, explain: has("--explain") }).run(),
            seed,
        );
    }
    many(number("--from").unwrap_or(0), number("--runs").unwrap_or(100_000))
}

fn one(report: Report, seed: u64) -> ExitCode {
    report.story.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} events, {} acknowledged writes", report.events, report.acknowledged);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(reason) => {
            println!("VIOLATION: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn many(from: u64, runs: u64) -> ExitCode {
    let start = Instant::now();
    let total = batch(from..from + runs, EVENTS, None);
    println!(
        "{runs} runs, {} events, {} acknowledged writes, {} generations, {:.0} s",
        total.events,
        total.acknowledged,
        total.generations,
        start.elapsed().as_secs_f64()
    );
    println!("{:18}{}", "", ROLES.map(|role| format!("{:>10}", format!("{role:?}"))).concat());
    for message in MESSAGES {
        let count = |role| total.coverage.get(&(role, message)).copied().unwrap_or(0);
        println!("{message:18}{}", ROLES.map(|role| format!("{:>10}", count(role))).concat());
    }
    println!("role x message coverage: {:.1} %", coverage_of(&total) * 100.0);
    missing_from(&total).iter().for_each(|(role, message)| println!("never: {message} in {role:?}"));
    for (seed, reason) in &total.violations {
        println!("VIOLATION: seed {seed}: {reason}   (make sim SIM_ARGS=\"--seed {seed} --explain\")");
    }
    if total.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn planted(limit: u64) -> ExitCode {
    let line = |name: String, found: Option<(u64, String)>| match found {
        Some((seeds, reason)) => format!("| {name} | {seeds} | {reason} |"),
        None => format!("| {name} | not within {limit} | |"),
    };
    println!("| planted | found after seeds | what clients or gates saw |\n|---|---|---|");
    let of_outside = || {
        Outside::ALL
            .iter()
            .for_each(|it| println!("{}", line(format!("outside: {it:?}"), seeds_until_seen(*it, limit, EVENTS))))
    };
    let of_core = |guards: &[Mutation]| {
        guards
            .iter()
            .for_each(|it| println!("{}", line(format!("guard: {it:?}"), seeds_until_noticed(*it, limit, EVENTS))))
    };
    let (some, others) = Mutation::ALL.split_at(Mutation::ALL.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| of_core(others));
        of_outside();
        of_core(some);
    });
    ExitCode::SUCCESS
}
