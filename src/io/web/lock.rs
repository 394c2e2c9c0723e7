//! Who may change something on the page: whoever has the code that was printed at start. Wrong codes
//! cost time, for everybody, and more with each.
//!
//! What a stranger gets wrong: the wait is bounded, so that nobody can lock the owner out for good.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Wrong codes that cost nothing (fault SEC1).
const FREE: u32 = 5;
/// First and longest wait after more of them.
const WAIT_FIRST: Duration = Duration::from_secs(2);
const WAIT_MOST: Duration = Duration::from_secs(60);

/// What a code opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is the code.
    Open,
    /// It is not.
    Wrong,
    /// Too many were not: nothing is looked at for this long.
    Waiting(Duration),
}

/// The lock with its code.
#[derive(Debug)]
pub struct Lock {
    code: String,
    tries: Mutex<Tries>,
}

#[derive(Debug, Default)]
struct Tries {
    wrong: u32,
    closed_until: Duration,
}

impl Lock {
    /// Opens for `code` only; never for an empty one.
    #[must_use]
    pub fn new(code: String) -> Lock {
        Lock { code, tries: Mutex::default() }
    }

    /// Tries a code at `uptime`.
    pub fn try_open(&self, code: &str, uptime: Duration) -> Entry {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if uptime < tries.closed_until {
            return Entry::Waiting(tries.closed_until - uptime);
        }
        if !self.code.is_empty() && same(&self.code, code) {
            tries.wrong = 0;
            return Entry::Open;
        }
        tries.wrong = tries.wrong.saturating_add(1);
        if tries.wrong >= FREE {
            let doublings = (tries.wrong - FREE).min(8);
            tries.closed_until = uptime + (WAIT_FIRST * (1 << doublings)).min(WAIT_MOST);
        }
        Entry::Wrong
    }
}

/// Compares without telling by its duration how much was right. Case does not count.
fn same(code: &str, given: &str) -> bool {
    let (code, given) = (code.as_bytes(), given.trim().as_bytes());
    let differing = |(a, b): (&u8, &u8)| a.to_ascii_lowercase() ^ b.to_ascii_lowercase();
    code.len() == given.len()
        && code.iter().zip(given).map(differing).fold(0, |all, d| all | d) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_codes_cost_time_and_the_right_one_opens() {
        let lock = Lock::new("abcd-1234".to_owned());
        let mut now = Duration::from_secs(1000);
        for _ in 0..FREE {
            assert_eq!(lock.try_open("abcd-1235", now), Entry::Wrong);
        }
        assert!(matches!(lock.try_open("abcd-1234", now), Entry::Waiting(_)));
        for _ in 0..20 {
            now += WAIT_MOST;
            assert_eq!(lock.try_open("", now), Entry::Wrong);
        }
        assert!(matches!(lock.try_open("ABCD-1234", now), Entry::Waiting(w) if w == WAIT_MOST));
        assert_eq!(lock.try_open("ABCD-1234", now + WAIT_MOST), Entry::Open);
        assert_eq!(Lock::new(String::new()).try_open("", now), Entry::Wrong);
    }
}
