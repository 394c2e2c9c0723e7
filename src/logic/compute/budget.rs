//! The hard energy budget of all jobs together: what was spent in the running hour and day of UTC, and
//! how much power that still leaves.
//!
//! What a stranger gets wrong: a budget is not a target. What is granted until the next reports come in
//! is taken off beforehand, so that the sum at the end of the hour is below the bound and not near it. And the hour of
//! UTC is what a clock says that somebody may set: an hour's budget is whole again only when an hour has passed as well.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::logic::site::Work;
use crate::units::{Moment, WattHours, Watts};

/// Reports of what was spent are at most this old, and a job that is told to stop has stopped: hours.
/// Five seconds of each, and as much again for a meter that is read late.
const UNTIL_KNOWN_H: f64 = 20.0 / 3600.0;
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 86_400;
/// An hour of the budget lasts at least this long, whatever the clock says: clocks are put right by seconds.
const LEAST_HOUR: Duration = Duration::from_secs(59 * 60);
/// The same of a day. How long a gateway without a clock was off nobody knows; for what a restart takes there is room.
const LEAST_DAY: Duration = Duration::from_secs(23 * 3600);

/// Which of the two is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
}

/// What was spent in the running windows, as the wall clock says them: to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    hour: i64,
    day: i64,
    /// In the running hour, Wh.
    pub hour_wh: f64,
    /// In the running day, Wh.
    pub day_wh: f64,
}

impl Spent {
    /// Begins new windows when their time has come.
    pub fn turn(&mut self, now: DateTime<Utc>) {
        let (hour, day) = numbers(now);
        if hour != self.hour {
            (self.hour, self.hour_wh) = (hour, 0.0);
        }
        if day != self.day {
            (self.day, self.day_wh) = (day, 0.0);
        }
    }

    /// Takes in what was spent.
    pub fn add(&mut self, energy: WattHours, now: DateTime<Utc>) {
        self.turn(now);
        let wh = energy.get().max(0.0);
        self.hour_wh += wh;
        self.day_wh += wh;
    }
}

/// What was spent of the budget. A window ends when the wall clock goes into another one *and* it has lasted about as long
/// as it should on the clock that nobody sets: a clock that is put forward or back any number of times makes no budget
/// whole.
///
/// The price: after the clock was put right, a window may last up to twice as long. What is not known is how long a
/// machine was off: there the wall clock is believed if it has gone forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Purse {
    #[serde(flatten)]
    spent: Spent,
    /// How long the running hour has lasted.
    #[serde(default)]
    hour_age: Duration,
    /// How long the running day has lasted.
    #[serde(default)]
    day_age: Duration,
    /// When that was known last.
    #[serde(default)]
    turned: Option<Moment>,
}

impl Purse {
    /// What was spent in the running hour and day.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Begins new windows when their time has come.
    pub fn turn(&mut self, now: Moment) {
        match self.turned {
            Some(before) => self.pass(before, before.age_at(now), now),
            None => self.begin(now),
        }
    }

    /// The same after the gateway was started again, perhaps with its machine.
    pub fn resume(&mut self, now: Moment) {
        match self.turned {
            Some(before) if now.uptime < before.uptime => {
                let off = (now.utc - before.utc).to_std().unwrap_or_default();
                self.pass(before, off.max(now.uptime), now);
            }
            _ => self.turn(now),
        }
    }

    /// Nothing is known but the wall clock.
    fn begin(&mut self, now: Moment) {
        self.spent.turn(now.utc);
        (self.hour_age, self.day_age) = (into(HOUR_S, now.utc), into(DAY_S, now.utc));
        self.turned = Some(now);
    }

    fn pass(&mut self, before: Moment, passed: Duration, now: Moment) {
        let (then, (hour, day)) = (numbers(before.utc), numbers(now.utc));
        self.hour_age = self.hour_age.saturating_add(passed);
        self.day_age = self.day_age.saturating_add(passed);
        if hour != then.0 && self.hour_age >= LEAST_HOUR {
            (self.spent.hour, self.spent.hour_wh) = (hour, 0.0);
            self.hour_age = into(HOUR_S, now.utc).min(passed);
        }
        if day != then.1 && self.day_age >= LEAST_DAY {
            (self.spent.day, self.spent.day_wh) = (day, 0.0);
            self.day_age = into(DAY_S, now.utc).min(passed);
        }
        self.turned = Some(now);
    }

    /// Takes in what was spent, in the windows of the last turn.
    pub fn add(&mut self, energy: WattHours) {
        let wh = energy.get().max(0.0);
        self.spent.hour_wh += wh;
        self.spent.day_wh += wh;
    }

    /// The power that all jobs together may have now, and which window bounds it.
    #[must_use]
    pub fn room(&self, work: &Work) -> (Watts, Option<Window>) {
        let left = |bound: Option<WattHours>, spent: f64| {
            bound.map_or(f64::MAX, |wh| (wh.get() - spent).max(0.0) / UNTIL_KNOWN_H)
        };
        let hour = left(work.per_hour, self.spent.hour_wh);
        let day = left(work.per_day, self.spent.day_wh);
        if hour == f64::MAX && day == f64::MAX {
            (Watts(f64::MAX), None)
        } else if hour <= day {
            (Watts(hour), Some(Window::Hour))
        } else {
            (Watts(day), Some(Window::Day))
        }
    }
}

/// Numbers of the hour and of the day since 1970.
fn numbers(at: DateTime<Utc>) -> (i64, i64) {
    (at.timestamp().div_euclid(HOUR_S), at.timestamp().div_euclid(DAY_S))
}

/// How far in its window of so many seconds a time is.
fn into(span: i64, at: DateTime<Utc>) -> Duration {
    Duration::from_secs(u64::try_from(at.timestamp().rem_euclid(span)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uptime and wall clock, s; the second counts from a midnight.
    fn at(uptime: u64, clock: i64) -> Moment {
        let utc = DateTime::from_timestamp(1_700_006_400 + clock, 0).unwrap();
        Moment { uptime: Duration::from_secs(uptime), utc }
    }

    #[test]
    fn greed_stays_below_the_budget_of_every_hour_and_day() {
        let work = Work {
            per_hour: Some(WattHours(500.0)),
            per_day: Some(WattHours(6_000.0)),
            ..Work::default()
        };
        let mut spent = Purse::default();
        let (mut hours, mut days) = (vec![0.0; 72], [0.0; 3]);
        let mut reported = 0.0;
        for second in 0..3 * 86_400_i64 {
            spent.turn(at(second as u64, second));
            let power = spent.room(&work).0.get().min(2_000.0);
            let power = if power < 1_000.0 { 0.0 } else { power };
            let wh = power / 3600.0;
            hours[(second / 3600) as usize] += wh;
            days[(second / 86_400) as usize] += wh;
            reported += wh;
            if second % 5 == 4 {
                spent.add(WattHours(reported));
                reported = 0.0;
            }
        }
        assert!(hours.iter().all(|wh| *wh <= 500.0), "{hours:?}");
        assert!(days.iter().all(|wh| *wh <= 6_000.0), "{days:?}");
        assert!(days.iter().all(|wh| *wh > 5_950.0), "it is not used up: {days:?}");
    }

    /// What can be spent in so many true seconds where the wall clock is `off(second)` from the truth.
    fn spends(work: &Work, seconds: i64, off: impl Fn(i64) -> i64) -> f64 {
        let (mut purse, mut all) = (Purse::default(), 0.0);
        for second in 0..seconds {
            purse.turn(at(second as u64, second + off(second)));
            let wh = purse.room(work).0.get().min(50_000.0) / 3600.0;
            all += wh;
            purse.add(WattHours(wh));
        }
        all
    }

    #[test]
    fn a_clock_that_is_put_forward_or_back_makes_no_budget_whole() {
        let hour = Work { per_hour: Some(WattHours(300.0)), ..Work::default() };
        let day = Work { per_day: Some(WattHours(300.0)), ..Work::default() };
        // From 10:00 to 10:50 of a day.
        let (begins, fifty) = (10 * 3600, 50 * 60);
        let year = 365 * 86_400;
        type Off = fn(i64) -> i64;
        let steps: [(&str, Off); 5] = [
            ("not", |_| 0),
            ("forward", |s| if s > 600 { 3 * 86_400 } else { 0 }),
            ("back", |s| if s > 600 { -3 * 86_400 } else { 0 }),
            ("there and back", |s| if (600..1200).contains(&s) { 86_400 } else { 0 }),
            ("every minute", |s| (s / 60) % 7 * 86_400 - 86_400),
        ];
        for (words, off) in steps {
            for work in [&hour, &day] {
                let all = spends(work, fifty, |s| begins + off(s));
                assert!((295.0..=300.1).contains(&all), "{words}: {all} Wh");
            }
        }
        // Nobody waits for ever: two days of a clock that jumps every minute are worth what they are at most by an
        // honest one, three budgets of a day; and one that is a year behind is as good as any.
        let all = spends(&day, 2 * 86_400, |s| (s / 60) % 7 * 86_400);
        assert!((590.0..=900.1).contains(&all), "{all} Wh");
        let all = spends(&hour, 10 * 3600, |s| if s < 1000 { 0 } else { -year });
        assert!((2_990.0..=3_000.1).contains(&all), "{all} Wh");
    }

    #[test]
    fn a_restart_with_a_wrong_clock_makes_no_budget_whole_and_a_night_off_does() {
        let mut spent = Purse::default();
        let ten = 10 * 3600;
        spent.turn(at(500_000, ten));
        spent.add(WattHours(300.0));
        spent.turn(at(500_030, ten + 30));
        let kept = serde_json::to_string(&spent).unwrap();
        let known = |purse: &Purse| (purse.spent().hour_wh, purse.spent().day_wh);
        let year = 365 * 86_400;
        // (uptime and clock of the start, clock a minute later, what is known of hour and day then)
        let table = [
            ("only the gateway", 500_040, ten + 40, ten + 100, (300.0, 300.0)),
            ("only the gateway, and the clock is put forward", 500_040, year, year, (300.0, 300.0)),
            ("the machine, with a clock", 20, ten + 90, ten + 150, (300.0, 300.0)),
            ("the machine, without", 20, -50 * year, ten + 150, (300.0, 300.0)),
            ("the machine, without for ever", 20, -50 * year, -50 * year + 60, (300.0, 300.0)),
            ("off over lunch", 20, ten + 2 * 3600, ten + 2 * 3600 + 60, (0.0, 300.0)),
            ("off for a night", 20, ten + 86_400, ten + 86_460, (0.0, 0.0)),
        ];
        for (words, uptime, clock, later, wanted) in table {
            let mut purse: Purse = serde_json::from_str(&kept).unwrap();
            assert_eq!(purse, spent, "{words}");
            purse.resume(at(uptime, clock));
            purse.turn(at(uptime + 60, later));
            assert_eq!(known(&purse), wanted, "{words}");
        }
        // A book of before, which knew only the wall clock.
        let before = "{\"hour\": 472223, \"day\": 19675, \"hour_wh\": 5.0, \"day_wh\": 7.0}";
        let mut purse: Purse = serde_json::from_str(before).unwrap();
        purse.resume(at(9, 19675 * 86_400 - 1_700_006_400 + 60));
        assert_eq!(known(&purse), (0.0, 7.0));
    }
}
