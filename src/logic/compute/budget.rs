//! The hard energy budget of all jobs together: what was spent in the running hour and day of UTC, and
//! how much power that still leaves.
//!
//! What a stranger gets wrong: a budget is not a target. What is granted until the next reports come in
//! is taken off beforehand, so that the sum at the end of the hour is below the bound and not near it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::logic::site::Work;
use crate::units::{WattHours, Watts};

/// Reports of what was spent are at most this old, and a job that is told to stop has stopped: hours.
/// Five seconds of each, and as much again for a meter that is read late.
const UNTIL_KNOWN_H: f64 = 20.0 / 3600.0;

/// Which of the two is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
}

/// What was spent in the running windows.
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
        let (hour, day) = (now.timestamp().div_euclid(3600), now.timestamp().div_euclid(86_400));
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

    /// The power that all jobs together may have now, and which window bounds it.
    #[must_use]
    pub fn room(&self, work: &Work) -> (Watts, Option<Window>) {
        let left = |bound: Option<WattHours>, spent: f64| {
            bound.map_or(f64::MAX, |wh| (wh.get() - spent).max(0.0) / UNTIL_KNOWN_H)
        };
        let hour = left(work.per_hour, self.hour_wh);
        let day = left(work.per_day, self.day_wh);
        if hour == f64::MAX && day == f64::MAX {
            (Watts(f64::MAX), None)
        } else if hour <= day {
            (Watts(hour), Some(Window::Hour))
        } else {
            (Watts(day), Some(Window::Day))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greed_stays_below_the_budget_of_every_hour_and_day() {
        let work = Work {
            per_hour: Some(WattHours(500.0)),
            per_day: Some(WattHours(6_000.0)),
            ..Work::default()
        };
        let mut spent = Spent::default();
        let (mut hours, mut days) = (vec![0.0; 72], [0.0; 3]);
        let mut reported = 0.0;
        for second in 0..3 * 86_400_i64 {
            let now = DateTime::from_timestamp(1_700_006_400 + second, 0).unwrap();
            spent.turn(now);
            let power = spent.room(&work).0.get().min(2_000.0);
            let power = if power < 1_000.0 { 0.0 } else { power };
            let wh = power / 3600.0;
            hours[(second / 3600) as usize] += wh;
            days[(second / 86_400) as usize] += wh;
            reported += wh;
            if second % 5 == 4 {
                spent.add(WattHours(reported), now);
                reported = 0.0;
            }
        }
        assert!(hours.iter().all(|wh| *wh <= 500.0), "{hours:?}");
        assert!(days.iter().all(|wh| *wh <= 6_000.0), "{days:?}");
        assert!(days.iter().all(|wh| *wh > 5_950.0), "it is not used up: {days:?}");
    }
}
