//! Work that needs no order, on the two cores that a machine of ours has at least.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `work` on each of `all`; what came of it, in their order.
///
/// # Panics
/// When `work` does.
pub fn on_two_threads<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<(&T, R)> {
    let next = AtomicUsize::new(0);
    let turn = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = all.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let threads = [scope.spawn(turn), scope.spawn(turn)];
        threads.into_iter().flat_map(|thread| thread.join().expect("the work ends")).collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(at, result)| (&all[at], result)).collect()
}
