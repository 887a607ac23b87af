//! Counts and latencies for Prometheus, over HTTP on a local port. Counting costs a few atomic additions an operation.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mirror_core::RoleName;
use mirrorfs_fs::op::Op;
use mirrorfs_net::server::Server;

use crate::clock;
use crate::http::{self, Answer};
use crate::status::role_name;
use crate::verify::Verify;

/// Upper bounds of the histograms' buckets, microseconds.
const BOUNDS: [u64; 14] =
    [20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 200_000, 1_000_000, 5_000_000, 30_000_000];

/// The operations' names (`Op::kind`).
const KINDS: [&str; 14] = [
    "create",
    "tmpfile",
    "discard",
    "link",
    "unlink",
    "rename",
    "write",
    "setattr",
    "allocate",
    "copy",
    "setxattr",
    "removexattr",
    "sync",
    "adopt",
];

/// A histogram of durations.
#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    pub fn add(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        if let Some(at) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(micros, Ordering::Relaxed);
    }

    fn print(&self, out: &mut String, name: &str, labels: &str) {
        let count = self.count.load(Ordering::Relaxed);
        let separator = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let bound = *bound as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {count}");
        let sum = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {count}");
    }
}

/// What is counted.
#[derive(Default)]
pub struct Metrics {
    operations: [Histogram; KINDS.len()],
    pub round_trip: Histogram,
    pub bytes_sent: AtomicU64,
    pub resync_bytes: AtomicU64,
    pub resync_received: AtomicU64,
    pub resync_objects: AtomicU64,
    pub errors: AtomicU64,
    pub reconnects: AtomicU64,
    pub log_writes: AtomicU64,
    pub checkpoints: AtomicU64,
}

impl Metrics {
    /// An operation of the application was answered.
    pub fn operation(&self, op: &Op<'_>, took: Duration) {
        if let Some(at) = KINDS.iter().position(|kind| *kind == op.kind()) {
            self.operations[at].add(took);
        }
    }

    fn print(&self, verify: &Verify, server: &Server) -> String {
        let mut out = String::new();
        let name = "farmstead_mirrorfs_operation_seconds";
        head(&mut out, name, "histogram", "Changing operations of the application, from request to answer.");
        for (kind, histogram) in KINDS.iter().zip(&self.operations) {
            histogram.print(&mut out, name, &format!("kind=\"{kind}\""));
        }
        let name = "farmstead_mirrorfs_round_trip_seconds";
        head(&mut out, name, "histogram", "From sending an operation to the peer's answer.");
        self.round_trip.print(&mut out, name, "");
        let counters = server.counters();
        for (name, help, counter) in [
            ("sent_bytes_total", "Bytes of operations sent to the peer.", &self.bytes_sent),
            ("resync_sent_bytes_total", "Bytes sent by resyncs: questions and bodies.", &self.resync_bytes),
            ("resync_received_bytes_total", "Bytes of answers to a resync's questions.", &self.resync_received),
            ("resync_objects_total", "Objects that resyncs made equal.", &self.resync_objects),
            ("errors_total", "Operations that failed on this copy or could not be answered.", &self.errors),
            ("reconnects_total", "Data connections made.", &self.reconnects),
            ("log_writes_total", "Times that the difference log was written.", &self.log_writes),
            ("checkpoints_total", "Times that this copy was flushed for a checkpoint.", &self.checkpoints),
            ("received_operations_total", "Operations of the peer that were carried out.", &counters.operations),
            ("put_off_operations_total", "Operations of the peer that came at a wrong time.", &counters.put_off),
            ("refused_handshakes_total", "Connections refused for their certificate.", &counters.bad_handshakes),
            ("refused_frames_total", "Connections ended for a bad frame.", &counters.bad_frames),
            ("refused_generations_total", "Operations of a fenced generation.", &counters.bad_generations),
            ("refused_connections_total", "Connections beyond the limit.", &counters.too_many),
        ] {
            let name = format!("farmstead_mirrorfs_{name}");
            head(&mut out, &name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        gauges(&mut out, verify);
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn gauges(out: &mut String, verify: &Verify) {
    let made = &verify.resync;
    let different = verify.different();
    let out_of_sync = made.out_of_sync();
    let progress = made.progress().map(|(progress, _)| progress);
    let inner = made.driver.lock();
    let node = &inner.node;
    let name = "farmstead_mirrorfs_role";
    head(out, name, "gauge", "1 for the present role.");
    for role in RoleName::ALL {
        let _ = writeln!(out, "{name}{{role=\"{}\"}} {}", role_name(role), u8::from(role == node.role()));
    }
    let now = clock::now();
    let lease = node.serves_until().map_or(0.0, |until| (until.0.saturating_sub(now.0).max(0) as f64 / 1e3).min(1e9));
    let resync = node.resync();
    let left = resync.map_or(0, |resync| resync.left() + resync.copies.len());
    let remaining = resync.zip(progress).and_then(|(core, progress)| progress.remaining(left as u64, core.walking));
    for (name, help, value) in [
        ("generation", "The generation on disk.", node.generation().0 as f64),
        ("serving", "1 while file operations are answered.", f64::from(u8::from(lease > 0.0))),
        ("lease_left_seconds", "How long this node may serve without hearing anything; 1e9 while ALONE.", lease),
        ("window_operations", "Operations between call and answer.", node.window().len() as f64),
        (
            "out_of_sync_objects",
            "Files and directories that the difference log names; -1 for all.",
            node.touched().map_or(-1.0, |touched| touched.len() as f64),
        ),
        ("resync_running", "1 while the peer is made equal.", f64::from(u8::from(resync.is_some()))),
        (
            "out_of_sync_bytes",
            "Bytes of data that may differ: the files that the difference log, or the resync under way, names.",
            out_of_sync as f64,
        ),
        ("verify_different_objects", "Objects that the last verification found to differ.", different as f64),
        ("resync_left_objects", "Objects that are known to be compared still.", left as f64),
        (
            "resync_remaining_seconds",
            "How much longer the resync takes at the rate so far; -1 where nothing can be said.",
            remaining.map_or(-1.0, |time| time.as_secs_f64()),
        ),
        (
            "resync_compared_inodes",
            "Inodes that the present resync's walk has compared.",
            resync.and(progress).map_or(0.0, |progress| progress.compared as f64),
        ),
        (
            "halted",
            "1 while roles are frozen and a person has to decide.",
            f64::from(u8::from(node.halted().is_some())),
        ),
    ] {
        let name = format!("farmstead_mirrorfs_{name}");
        head(out, &name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
}

/// Serves the metrics until the process ends.
///
/// # Errors
/// A sentence: the address can't be listened on.
pub fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    verify: Arc<Verify>,
    server: Arc<Server>,
) -> Result<(), String> {
    http::serve("metrics", address, move |path| match path {
        "/metrics" => {
            Answer { status: "200 OK", kind: "text/plain; version=0.0.4", body: metrics.print(&verify, &server) }
        }
        _ => Answer::nothing(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirrorfs_fs::id::FileId;

    #[test]
    fn an_operation_is_counted_in_its_bucket_and_those_above() {
        let metrics = Metrics::default();
        let op = Op::Sync { id: FileId::ROOT, data_only: true };
        metrics.operation(&op, Duration::from_micros(70));
        metrics.operation(&op, Duration::from_secs(60));
        let mut out = String::new();
        metrics.operations[12].print(&mut out, "x", "kind=\"sync\"");
        assert!(out.contains("x_bucket{kind=\"sync\",le=\"0.00005\"} 0\n"), "{out}");
        assert!(out.contains("x_bucket{kind=\"sync\",le=\"0.0001\"} 1\n"), "{out}");
        assert!(out.contains("x_bucket{kind=\"sync\",le=\"30\"} 1\n"), "{out}");
        assert!(out.contains("x_bucket{kind=\"sync\",le=\"+Inf\"} 2\n"), "{out}");
        assert!(out.contains("x_count{kind=\"sync\"} 2\n"), "{out}");
    }
}
