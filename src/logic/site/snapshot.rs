//! What was last seen of every device, made worse by silence: a value is fresh, stale, lost or was
//! never there. The age comes from the wire, on the clock that counts through suspend.
//!
//! What a stranger gets wrong: a failed read does not age a value faster and a repeated old value
//! does not make it younger; only a complete answer of the device does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Id, Reading};
use crate::units::Moment;

/// From this age on nothing is raised on the value (design: fault FB1).
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// From this age on the value counts as lost and the safe share is written (fault FB1).
pub const LOST_AFTER: Duration = Duration::from_secs(10);

/// A meter that has not moved in so many answers is frozen: voltage, frequency and current always move a
/// little (design/decisions, fault FB2). From then on its answers do not make it younger.
const FROZEN_AFTER: u32 = 20;

/// A value and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known<T> {
    /// Younger than [`STALE_AFTER`].
    Fresh(T),
    /// Older: good enough to lower on, not to raise.
    Stale {
        /// The last value.
        last: T,
        /// Its age.
        age: Duration,
    },
    /// Older than [`LOST_AFTER`]: not to be used.
    Lost {
        /// Its age.
        age: Duration,
    },
    /// Never seen since start.
    Never,
}

impl<T> Known<T> {
    /// The value if it is fresh.
    pub fn fresh(&self) -> Option<&T> {
        match self {
            Known::Fresh(value) => Some(value),
            _ => None,
        }
    }

    /// The value if it is fresh or stale.
    pub fn usable(&self) -> Option<&T> {
        match self {
            Known::Fresh(value) | Known::Stale { last: value, .. } => Some(value),
            _ => None,
        }
    }

    /// Narrows the value, keeping its age.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Option<U>) -> Known<U> {
        match self {
            Known::Fresh(value) => f(value).map_or(Known::Never, Known::Fresh),
            Known::Stale { last, age } => {
                f(last).map_or(Known::Never, |last| Known::Stale { last, age })
            }
            Known::Lost { age } => Known::Lost { age },
            Known::Never => Known::Never,
        }
    }
}

/// The last complete answer of every device.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    seen: BTreeMap<Id, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    at: Moment,
    reading: Reading,
    /// Complete answers without a gap longer than [`STALE_AFTER`]; two are needed to raise on.
    in_row: u32,
    /// Answers since then that were not to be believed.
    doubted: u32,
    /// Answers of a meter before this one that were the same in everything that always moves.
    same: u32,
}

impl Snapshot {
    /// Stores a complete answer. An answer older than the stored one is dropped.
    pub fn store(&mut self, device: Id, at: Moment, reading: Reading) {
        let Some(old) = self.seen.get_mut(&device) else {
            self.seen.insert(device, Seen { at, reading, in_row: 1, doubted: 0, same: 0 });
            return;
        };
        if at.uptime < old.at.uptime {
            return;
        }
        old.same = if unmoved(&old.reading, &reading) { old.same.saturating_add(1) } else { 0 };
        if old.same >= FROZEN_AFTER {
            return;
        }
        let follows =
            old.at.age_at(at) <= STALE_AFTER && (old.in_row > 1 || old.reading.is_like(&reading));
        old.in_row = if follows { old.in_row.saturating_add(1) } else { 1 };
        (old.at, old.reading, old.doubted) = (at, reading, 0);
    }

    /// The device answered with something that is not to be believed. The last good answer is held for
    /// one such answer, raises nothing after two, and is lost after three in a row (fault FB8).
    pub fn doubt(&mut self, device: &Id, at: Moment) {
        if let Some(seen) = self.seen.get_mut(device)
            && seen.at.uptime <= at.uptime
        {
            seen.doubted = seen.doubted.saturating_add(1);
        }
    }

    /// The last answer of `device` as it must be seen at `now`.
    #[must_use]
    pub fn at(&self, device: &Id, now: Moment) -> Known<&Reading> {
        let Some(seen) = self.seen.get(device) else {
            return Known::Never;
        };
        let age = seen.at.age_at(now);
        if age >= LOST_AFTER || seen.doubted >= 3 {
            Known::Lost { age }
        } else if age >= STALE_AFTER || seen.doubted == 2 {
            Known::Stale { last: &seen.reading, age }
        } else {
            Known::Fresh(&seen.reading)
        }
    }

    /// Whether a meter has said the same for so long that its answers count no more.
    #[must_use]
    pub fn is_frozen(&self, device: &Id) -> bool {
        self.seen.get(device).is_some_and(|seen| seen.same >= FROZEN_AFTER)
    }

    /// Answers without a gap up to the last one; 0 when nothing was ever seen.
    #[must_use]
    pub fn in_row(&self, device: &Id) -> u32 {
        self.seen.get(device).map_or(0, |seen| seen.in_row)
    }

    /// The last answer and its moment, however old: for display only.
    #[must_use]
    pub fn last(&self, device: &Id) -> Option<(Moment, &Reading)> {
        self.seen.get(device).map(|seen| (seen.at, &seen.reading))
    }
}

/// Whether a meter says the same again in everything that always moves a little.
fn unmoved(old: &Reading, new: &Reading) -> bool {
    match (old, new) {
        (Reading::Meter(old), Reading::Meter(new)) => {
            old.power == new.power
                && old.phase_power == new.phase_power
                && old.voltage == new.voltage
                && old.frequency == new.frequency
                && old.current == new.current
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::MeterReading;
    use crate::units::{Amps, Hertz, PerPhase, Volts, Watts};

    fn at(seconds: u64) -> Moment {
        Moment { uptime: Duration::from_secs(seconds), utc: chrono::DateTime::UNIX_EPOCH }
    }

    fn meter(amps: f64) -> Reading {
        Reading::Meter(MeterReading {
            power: Watts(amps * 690.0),
            phase_power: PerPhase::all(Watts(amps * 230.0)),
            current: PerPhase::all(Amps(amps)),
            voltage: PerPhase::all(Volts(230.0)),
            frequency: Some(Hertz(50.0)),
            import: None,
            export: None,
        })
    }

    fn grid() -> Id {
        Id::try_from("grid").unwrap()
    }

    #[test]
    fn fb8_one_bad_answer_is_held_over_two_raise_nothing_three_are_a_loss() {
        let mut snapshot = Snapshot::default();
        for second in 0..5 {
            snapshot.store(grid(), at(second), meter(20.0));
        }
        let seen = |snapshot: &Snapshot, now| match snapshot.at(&grid(), at(now)) {
            Known::Fresh(_) => "fresh",
            Known::Stale { .. } => "stale",
            Known::Lost { .. } => "lost",
            Known::Never => "never",
        };
        for (second, expected) in [(5, "fresh"), (6, "stale"), (7, "lost")] {
            snapshot.doubt(&grid(), at(second));
            assert_eq!(seen(&snapshot, second), expected);
        }
        snapshot.store(grid(), at(8), meter(20.0));
        assert_eq!(seen(&snapshot, 8), "fresh");
        snapshot.doubt(&grid(), at(9));
        assert_eq!(seen(&snapshot, 9), "fresh", "the count begins anew");
    }

    #[test]
    fn fb9_after_a_gap_two_answers_must_agree_before_they_count() {
        let mut snapshot = Snapshot::default();
        for second in 0..5 {
            snapshot.store(grid(), at(second), meter(40.0));
        }
        assert_eq!(snapshot.in_row(&grid()), 5);
        // 25 s of silence, then one wrong answer, then right ones.
        snapshot.store(grid(), at(30), meter(2.0));
        assert_eq!(snapshot.in_row(&grid()), 1);
        snapshot.store(grid(), at(31), meter(40.0));
        assert_eq!(snapshot.in_row(&grid()), 1, "they contradict each other");
        snapshot.store(grid(), at(32), meter(41.0));
        assert_eq!(snapshot.in_row(&grid()), 2);
        snapshot.store(grid(), at(33), meter(10.0));
        assert_eq!(snapshot.in_row(&grid()), 3, "a load may fall once the meter is trusted");
    }
}
