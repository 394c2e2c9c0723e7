//! Which date it is, for what is counted in months: proof tests. Somebody may set the wall clock by hours or
//! years (fault TM1), and nothing may act on that.
//!
//! What a stranger gets wrong: a clock that was set is not believed at once, nor never. Until it has run for
//! a day without being set again, the earlier of two dates counts: what it says now, and what it would
//! say had nobody set it. So no test becomes overdue by a jump, and a gateway that knew no time at its
//! boot learns it within a day.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::units::Moment;

/// A clock that moves by more than this against the time since boot was set. Our own figure.
const SET_BY: chrono::Duration = chrono::Duration::minutes(2);
/// It is believed after it has run so long. Our own figure.
const BELIEVED_AFTER: Duration = Duration::from_secs(86_400);
/// People are told for so long that it was set. Our own figure.
const TOLD_FOR: Duration = Duration::from_secs(3600);
/// Before this no gateway was built: whoever shows it knows no time (fault TM3). 2020-01-01, our own figure.
const KNOWN_FROM_S: i64 = 1_577_836_800;

/// The wall clock as it was last believed, and as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    believed: Moment,
    seen: Moment,
    /// When it was last set; nothing: it runs as it is believed.
    set: Option<Moment>,
}

/// What a clock that showed `from` and was not set since shows at `now`.
fn runs_on(from: Moment, now: Moment) -> DateTime<Utc> {
    from.after(from.age_at(now)).utc
}

impl Calendar {
    /// The clock at the start is believed: there is no other.
    pub fn new(now: Moment) -> Calendar {
        Calendar { believed: now, seen: now, set: None }
    }

    /// Looks at the clock.
    pub fn look(&mut self, now: Moment) {
        if (now.utc - runs_on(self.seen, now)).abs() > SET_BY {
            self.set = Some(now);
        }
        self.seen = now;
        if self.set.is_none_or(|set| set.age_at(now) >= BELIEVED_AFTER) {
            (self.believed, self.set) = (now, None);
        }
    }

    /// Whether the clock was set a short while ago (fault TM1).
    pub fn was_set(&self, now: Moment) -> bool {
        self.set.is_some_and(|set| set.age_at(now) < TOLD_FOR)
    }

    /// Whether the clock shows a time that cannot be (fault TM3).
    pub fn is_unknown(now: Moment) -> bool {
        now.utc.timestamp() < KNOWN_FROM_S
    }

    /// The date that may be acted on.
    pub fn date(&self, now: Moment) -> DateTime<Utc> {
        runs_on(self.believed, now).min(now.utc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Moment {
        let utc = DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        Moment { uptime: Duration::from_secs(100), utc }
    }

    #[test]
    fn tm1_a_clock_that_is_set_is_believed_after_a_day() {
        let years = chrono::Duration::days(3650);
        let mut calendar = Calendar::new(start());
        let at = |hours: u64, by: chrono::Duration| {
            let true_time = start().after(Duration::from_secs(hours * 3600));
            Moment { utc: true_time.utc + by, ..true_time }
        };
        for hour in 0..3 {
            calendar.look(at(hour, chrono::Duration::zero()));
        }
        let right = |hour| at(hour, chrono::Duration::zero()).utc;
        // Ten years ahead: not acted on for a day, then it is what there is.
        for hour in 3..60 {
            calendar.look(at(hour, years));
            let believed = calendar.date(at(hour, years)) - right(hour);
            assert_eq!(believed == years, hour >= 27, "{hour}: {believed}");
            assert!(believed == years || believed.is_zero(), "{hour}: {believed}");
        }
        // Set right again: the earlier one counts from the first look.
        calendar.look(at(60, chrono::Duration::zero()));
        assert_eq!(calendar.date(at(60, chrono::Duration::zero())), right(60));
    }

    #[test]
    fn tm3_a_gateway_that_knew_no_time_learns_it_within_a_day() {
        let booted = Moment { utc: DateTime::UNIX_EPOCH, ..start() };
        let mut calendar = Calendar::new(booted);
        let told = |hours: u64| start().after(Duration::from_secs(hours * 3600));
        calendar.look(told(1));
        assert!(calendar.date(told(1)).timestamp() < 7200, "{}", calendar.date(told(1)));
        (2..26).for_each(|hour| calendar.look(told(hour)));
        assert_eq!(calendar.date(told(25)), told(25).utc);
    }
}
