//! What clients saw, and whether one register per object explains it. Shares nothing with the core: no type, no rule.
//!
//! Every written value is unique, so linearizability of a register can be decided by zones (Gibbons and Korach): a value
//! and its reads form a cluster; a cluster whose first end lies before its last start was certainly current in between.
//! Two such spans must not overlap, and no other cluster may lie wholly inside one.

use std::collections::HashMap;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// This value was written.
    Write(u64),
    /// This value was read.
    Read(u64),
}

/// One call of one client.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The object.
    pub object: usize,
    /// What was asked, and, for a read, answered.
    pub asked: Asked,
    /// When it was asked.
    pub start: i64,
    /// When it was answered; never: it may have happened at any time after its start, or not at all.
    pub end: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    value: u64,
    written: i64,
    read: bool,
    first_end: i64,
    last_start: i64,
}

/// Why these calls can't have happened to one register per object that began with `initial`; `None`: they can.
pub fn inexplicable(calls: &[Call], initial: &[u64]) -> Option<String> {
    (0..initial.len()).find_map(|object| {
        let calls: Vec<&Call> = calls.iter().filter(|call| call.object == object).collect();
        inexplicable_object(&calls, initial[object]).map(|reason| format!("object {object}: {reason}"))
    })
}

fn inexplicable_object(calls: &[&Call], initial: u64) -> Option<String> {
    let begin = i64::MIN;
    let first = Cluster { value: initial, written: begin, read: true, first_end: begin, last_start: begin };
    let mut clusters = HashMap::from([(initial, first)]);
    for call in calls {
        if let Asked::Write(value) = call.asked {
            let end = call.end.unwrap_or(i64::MAX);
            let cluster = Cluster {
                value,
                written: call.start,
                read: call.end.is_some(),
                first_end: end,
                last_start: call.start,
            };
            clusters.insert(value, cluster);
        }
    }
    for call in calls {
        let (Asked::Read(value), Some(end)) = (call.asked, call.end) else { continue };
        let Some(cluster) = clusters.get_mut(&value) else { return Some(format!("{value} was read, never written")) };
        if end < cluster.written {
            return Some(format!("{value} was read before it was written"));
        }
        cluster.read = true;
        cluster.first_end = cluster.first_end.min(end);
        cluster.last_start = cluster.last_start.max(call.start);
    }
    let mut seen: Vec<Cluster> = clusters.into_values().filter(|cluster| cluster.read).collect();
    seen.sort_by_key(|cluster| (cluster.first_end.min(cluster.last_start), cluster.value));
    let spans: Vec<&Cluster> = seen.iter().filter(|cluster| cluster.first_end < cluster.last_start).collect();
    for pair in spans.windows(2) {
        if pair[1].first_end < pair[0].last_start {
            return Some(format!("{} and {} were both current at {}", pair[0].value, pair[1].value, pair[1].first_end));
        }
    }
    for cluster in seen.iter().filter(|cluster| cluster.first_end >= cluster.last_start) {
        let at = spans.partition_point(|span| span.first_end < cluster.last_start);
        let around = spans[..at].last().filter(|span| cluster.first_end < span.last_start);
        if let Some(span) = around {
            return Some(format!(
                "{} was acknowledged at {} and is gone: {} is current from {} to {}",
                cluster.value, cluster.first_end, span.value, span.first_end, span.last_start
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, start: i64, end: i64) -> Call {
        Call { object: 0, asked: Asked::Write(value), start, end: Some(end) }
    }

    fn read(value: u64, start: i64, end: i64) -> Call {
        Call { object: 0, asked: Asked::Read(value), start, end: Some(end) }
    }

    #[test]
    fn what_one_register_could_do_is_explained() {
        let calls = [write(1, 0, 10), read(0, 1, 2), read(1, 3, 4), write(2, 12, 20), read(1, 13, 14), read(2, 15, 30)];
        assert_eq!(inexplicable(&calls, &[0]), None);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_appear_late_or_never() {
        let lost = Call { object: 0, asked: Asked::Write(1), start: 0, end: None };
        assert_eq!(inexplicable(&[lost, read(0, 50, 60)], &[0]), None);
        assert_eq!(inexplicable(&[lost, read(0, 50, 60), read(1, 70, 80)], &[0]), None);
        assert!(inexplicable(&[lost, read(1, 50, 60), read(0, 70, 80)], &[0]).is_some(), "it can't vanish again");
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        let calls = [write(1, 0, 10), write(2, 20, 30), read(1, 40, 50)];
        assert!(inexplicable(&calls, &[0]).is_some_and(|reason| reason.contains("2 was acknowledged")));
        assert!(inexplicable(&[write(1, 0, 10), read(0, 20, 30)], &[0]).is_some());
    }

    #[test]
    fn a_stale_read_is_found() {
        let calls = [write(1, 0, 10), write(2, 20, 30), read(2, 31, 33), read(1, 34, 50)];
        assert!(inexplicable(&calls, &[0]).is_some());
    }

    #[test]
    fn a_read_from_nowhere_or_from_the_future_is_found() {
        assert!(inexplicable(&[read(9, 0, 1)], &[0]).is_some());
        assert!(inexplicable(&[read(1, 0, 1), write(1, 5, 6)], &[0]).is_some());
    }
}
