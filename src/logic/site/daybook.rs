//! The daybook: how much energy went where, by the hour and the day, which alarms there were, and what the eyes said
//! where chargers knew. Nothing that acts reads it; it is what a bill, a report, a person and `recalibrate` ask for.
//!
//! What a stranger gets wrong: hours and days are those of UTC, as budgets are. A day of the site's own
//! clock is a sum of hours, which is why two days of them are kept.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Id, Labels};
use crate::units::WattHours;

/// Hours that are kept: yesterday and today, wherever the site's clock stands and when it is changed.
const MOST_HOURS: usize = 50;
/// Days that are kept.
const MOST_DAYS: usize = 31;
/// Windows of a clock that is behind that are kept beside them for a while, so that they drive nothing out.
const SPARE: usize = 4;
/// Alarms that are kept; the oldest go first.
const MOST_ALARMS: usize = 500;
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 86_400;

/// Energy of one thing by the hour and by the day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Number of the hour since 1970 and its Wh, the newest last; hours without any are left out.
    hours: VecDeque<(i64, f64)>,
    /// The same of days.
    days: VecDeque<(i64, f64)>,
    /// Since it is counted, Wh.
    all_wh: f64,
}

impl Tally {
    /// Takes in what was spent until now; less than nothing is nothing.
    pub fn add(&mut self, energy: WattHours, now: DateTime<Utc>) {
        let wh = energy.get().max(0.0);
        if wh > 0.0 {
            self.all_wh += wh;
            put(&mut self.hours, now.timestamp().div_euclid(HOUR_S), wh, MOST_HOURS);
            put(&mut self.days, now.timestamp().div_euclid(DAY_S), wh, MOST_DAYS);
        }
    }

    /// In the running hour.
    #[must_use]
    pub fn hour(&self, now: DateTime<Utc>) -> WattHours {
        of(&self.hours, now.timestamp().div_euclid(HOUR_S))
    }

    /// In the running day.
    #[must_use]
    pub fn day(&self, now: DateTime<Utc>) -> WattHours {
        of(&self.days, now.timestamp().div_euclid(DAY_S))
    }

    /// Since it is counted.
    #[must_use]
    pub fn all(&self) -> WattHours {
        WattHours(self.all_wh)
    }

    /// In the hours that began from `from` on and before `to`.
    #[must_use]
    pub fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> WattHours {
        let began = |hour: &i64| (from.timestamp()..to.timestamp()).contains(&(hour * HOUR_S));
        let within = self.hours.iter().filter(|(hour, _)| began(hour));
        WattHours(within.map(|(_, wh)| wh).sum())
    }
}

/// Adds to a window, in order. Where there are too many the oldest goes; where some lie ahead, one of the two clocks
/// was wrong, and what is furthest from now goes on whichever side, a little later.
fn put(windows: &mut VecDeque<(i64, f64)>, at: i64, wh: f64, most: usize) {
    match windows.binary_search_by_key(&at, |(window, _)| *window) {
        Ok(place) => windows.get_mut(place).into_iter().for_each(|(_, all)| *all += wh),
        Err(place) => windows.insert(place, (at, wh)),
    }
    loop {
        let Some(((first, _), (last, _))) = windows.front().zip(windows.back()) else { return };
        let ahead = *last > at;
        if windows.len() <= most + if ahead { SPARE } else { 0 } {
            return;
        }
        if last.abs_diff(at) > first.abs_diff(at) {
            windows.pop_back();
        } else {
            windows.pop_front();
        }
    }
}

fn of(windows: &VecDeque<(i64, f64)>, at: i64) -> WattHours {
    WattHours(windows.iter().rev().find(|(window, _)| *window == at).map_or(0.0, |(_, wh)| *wh))
}

/// Where energy of the site comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// From the grid.
    GridImport,
    /// Into the grid.
    GridExport,
    /// Of the sun.
    Pv,
    /// Into batteries.
    BatteryCharge,
    /// Out of batteries.
    BatteryDischarge,
    /// Into cars.
    Chargers,
    /// Of compute nodes.
    Compute,
    /// Everything else, where all of the above are known.
    Other,
}

impl Flow {
    /// All of them.
    pub const ALL: [Flow; 8] = [
        Flow::GridImport,
        Flow::GridExport,
        Flow::Pv,
        Flow::BatteryCharge,
        Flow::BatteryDischarge,
        Flow::Chargers,
        Flow::Compute,
        Flow::Other,
    ];

    /// Stable code: the key of its text (`flow.<code>`).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Flow::GridImport => "grid_import",
            Flow::GridExport => "grid_export",
            Flow::Pv => "pv",
            Flow::BatteryCharge => "battery_charge",
            Flow::BatteryDischarge => "battery_discharge",
            Flow::Chargers => "chargers",
            Flow::Compute => "compute",
            Flow::Other => "other",
        }
    }
}

/// An alarm as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Stable code.
    pub code: String,
    /// What it was about; empty for the site.
    pub about: String,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it was over; nothing while it is not.
    pub until: Option<DateTime<Utc>>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Daybook {
    /// Energy of the site.
    pub flows: BTreeMap<Flow, Tally>,
    /// Energy of looking, by camera.
    pub cameras: BTreeMap<Id, Tally>,
    /// Energy of jobs, by workload.
    pub workloads: BTreeMap<Id, Tally>,
    /// Alarms, the oldest first.
    pub alarms: VecDeque<Happened>,
    /// Labels of the bays, by camera.
    #[serde(default)]
    pub labels: BTreeMap<Id, Labels>,
}

impl Daybook {
    /// Books the alarms that are active now; one that is not among them any more is over.
    pub fn see_alarms<'a>(
        &mut self,
        active: impl Iterator<Item = (&'a str, &'a str, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) {
        let active: Vec<(&str, &str, DateTime<Utc>)> = active.collect();
        for known in self.alarms.iter_mut().filter(|known| known.until.is_none()) {
            let same = |(code, about, since): &(&str, &str, DateTime<Utc>)| {
                *code == known.code && *about == known.about && *since == known.since
            };
            if !active.iter().any(same) {
                known.until = Some(now);
            }
        }
        for (code, about, since) in active {
            let known = |alarm: &Happened| {
                alarm.until.is_none() && alarm.code == code && alarm.about == about
            };
            if !self.alarms.iter().any(known) {
                let (code, about) = (code.to_owned(), about.to_owned());
                self.alarms.push_back(Happened { code, about, since, until: None });
            }
        }
        while self.alarms.len() > MOST_ALARMS {
            self.alarms.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn energy_is_booked_in_its_hour_and_day_and_only_so_many_are_kept() {
        let mut tally = Tally::default();
        let begun = at("2026-05-04T00:00:00Z");
        for minute in 0..40 * 24 * 60 {
            tally.add(WattHours(0.5), begun + chrono::Duration::minutes(minute));
        }
        let last = at("2026-06-12T23:59:00Z");
        assert_eq!((tally.hour(last), tally.day(last)), (WattHours(30.0), WattHours(720.0)));
        assert_eq!(tally.hour(at("2026-06-12T22:10:00Z")), WattHours(30.0));
        assert_eq!(tally.hour(at("2026-06-13T00:00:00Z")), WattHours(0.0), "a new one");
        assert_eq!(tally.all(), WattHours(40.0 * 720.0));
        assert_eq!((tally.hours.len(), tally.days.len()), (MOST_HOURS, MOST_DAYS));
        // A day of a clock that is eight hours ahead.
        let (from, to) = (at("2026-06-11T16:00:00Z"), at("2026-06-12T16:00:00Z"));
        assert_eq!(tally.between(from, to), WattHours(720.0));
        tally.add(WattHours(-5.0), last);
        assert_eq!(tally.day(last), WattHours(720.0), "nobody gives energy back");
    }

    #[test]
    fn a_clock_that_was_wrong_and_is_set_back_loses_nothing_and_is_not_stuck() {
        let mut tally = Tally::default();
        tally.add(WattHours(1.0), at("2026-05-04T10:30:00Z"));
        tally.add(WattHours(2.0), at("2099-01-01T00:00:00Z"));
        tally.add(WattHours(4.0), at("2026-05-04T11:30:00Z"));
        tally.add(WattHours(8.0), at("2026-05-04T12:30:00Z"));
        let hour = |text: &str| tally.hour(at(text)).get();
        assert_eq!(hour("2026-05-04T10:00:00Z"), 1.0);
        assert_eq!(hour("2026-05-04T11:00:00Z"), 4.0);
        assert_eq!(hour("2026-05-04T12:00:00Z"), 8.0);
        assert_eq!((tally.day(at("2026-05-04T12:00:00Z")).get(), tally.all().get()), (13.0, 15.0));
        for hour in 0..100 {
            tally.add(WattHours(1.0), at("2026-05-05T00:00:00Z") + chrono::Duration::hours(hour));
        }
        assert_eq!(tally.hours.len(), MOST_HOURS);
        assert_eq!(tally.hours.back().unwrap().0, tally.hours.front().unwrap().0 + 49);
    }

    #[test]
    fn a_clock_that_is_behind_until_it_is_set_drives_nothing_out() {
        let mut tally = Tally::default();
        let begun = at("2026-05-04T00:00:00Z");
        for hour in 0..40 * 24 {
            tally.add(WattHours(1.0), begun + chrono::Duration::hours(hour));
        }
        let (now, known) = (at("2026-06-12T23:10:00Z"), tally.clone());
        // Booted without a clock, time and again.
        for boot in 0..9 {
            tally.add(WattHours(1.0), at("1970-01-01T00:00:30Z"));
            tally.add(WattHours(1.0), at("1970-01-01T01:00:30Z"));
            let today = f64::from(boot);
            assert_eq!(tally.hour(now), WattHours(1.0 + today));
            assert_eq!(tally.day(now), WattHours(24.0 + today));
            tally.add(WattHours(1.0), now);
        }
        assert_eq!(tally.hour(now), WattHours(10.0));
        let hours = |tally: &Tally| tally.hours.iter().map(|(hour, _)| *hour).collect::<Vec<_>>();
        assert_eq!(hours(&tally), hours(&known));
        let days = |tally: &Tally| tally.days.iter().map(|(day, _)| *day).collect::<Vec<_>>();
        assert_eq!(days(&tally), days(&known));
        // One that is behind for a whole day is booked, too: nobody waits for the future.
        for hour in 0..24 {
            tally.add(WattHours(2.0), at("2020-01-01T00:00:00Z") + chrono::Duration::hours(hour));
        }
        assert_eq!(tally.day(at("2020-01-01T23:00:00Z")), WattHours(48.0));
        assert_eq!(tally.hour(at("2020-01-01T23:00:00Z")), WattHours(2.0));
    }

    #[test]
    fn an_alarm_is_written_down_once_with_its_end_and_again_when_it_comes_back() {
        let mut book = Daybook::default();
        let second = |s| at("2026-05-04T10:00:00Z") + chrono::Duration::seconds(s);
        let lost = |since| ("device_lost", "grid", second(since));
        for s in 0..5 {
            book.see_alarms([lost(0)].into_iter(), second(s));
        }
        book.see_alarms([].into_iter(), second(5));
        book.see_alarms([lost(9), ("device_lost", "pile1", second(9))].into_iter(), second(9));
        let told: Vec<_> =
            book.alarms.iter().map(|a| (a.about.as_str(), a.since, a.until)).collect();
        let expected = [
            ("grid", second(0), Some(second(5))),
            ("grid", second(9), None),
            ("pile1", second(9), None),
        ];
        assert_eq!(told, expected);
        // One that came back so soon that nobody saw it gone.
        book.see_alarms([lost(11)].into_iter(), second(11));
        let grid = book.alarms.iter().filter(|a| a.about == "grid");
        assert_eq!(
            grid.map(|a| a.until).collect::<Vec<_>>(),
            [Some(second(5)), Some(second(11)), None]
        );
        for s in 0..600 {
            book.see_alarms([("a", "b", second(s))].into_iter(), second(s));
        }
        assert_eq!(book.alarms.len(), MOST_ALARMS);
    }
}
