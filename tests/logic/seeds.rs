//! Runs over many seeds: which ones, and on all cores.
//!
//! What a stranger gets wrong: a long run may be made in parts, on several machines. `WATTGATE_FIRST` is the
//! first seed and `WATTGATE_DAYS` how many; without them a test runs what its name says.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The seeds of a long run: `count` from `first` on, or the part that was asked for.
pub fn seeds(first: u64, count: u64) -> Range<u64> {
    let first = number("WATTGATE_FIRST").unwrap_or(first);
    first..first + number("WATTGATE_DAYS").unwrap_or(count)
}

/// Runs `one` for every seed on all cores; results in the order of the seeds. One that fails does not hide the
/// others: all are named at the end.
#[allow(clippy::print_stdout)] // progress
pub fn on_all_cores<T: Send>(seeds: Range<u64>, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(seeds.start);
    let ended = Mutex::new((Vec::new(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(seed)));
            let mut ended = ended.lock().unwrap();
            match end {
                Ok(end) => ended.0.push((seed, end)),
                Err(_) => ended.1.push(seed),
            }
            let done = ended.0.len() + ended.1.len();
            if done.is_multiple_of(100) {
                println!("{done} of {}", seeds.end - seeds.start);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| _ = scope.spawn(work)));
    let (mut ends, failed) = ended.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    ends.sort_by_key(|(seed, _)| *seed);
    ends.into_iter().map(|(_, end)| end).collect()
}
