//! What a kilowatt-hour costs at which time of the day, and when a car is expected to leave. Rules are
//! in local time, answers in UTC.
//!
//! What a stranger gets wrong: an instant has one local time, but a local time may come twice a year or
//! not at all. Prices are asked for instants; a departure that a clock change skips is an hour later.

use chrono::{DateTime, Days, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::units::WattHours;

/// Minute of a local day, 0 to 1439.
pub type DayMinute = u16;

/// A time-of-use tariff.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tariff {
    /// ISO 4217 code, for people.
    pub currency: String,
    /// Where the clock hangs.
    pub zone: Tz,
    /// Paid for an imported kWh outside every band.
    pub import: f64,
    /// Earned for an exported kWh.
    pub export: f64,
    /// Bands of the day; they do not overlap.
    pub bands: Vec<Band>,
}

/// A part of the day with its own price.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Begins with this minute.
    pub from: DayMinute,
    /// Ends before this minute; a band that ends before it begins runs through midnight.
    pub to: DayMinute,
    /// Paid for an imported kWh.
    pub import: f64,
}

impl Band {
    /// Whether a minute of the day is in it.
    #[must_use]
    pub fn holds(&self, minute: DayMinute) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl Tariff {
    /// Paid for a kWh imported at this instant.
    #[must_use]
    pub fn import_at(&self, at: DateTime<Utc>) -> f64 {
        let minute = minute_of(at, self.zone);
        let band = self.bands.iter().find(|band| band.holds(minute));
        band.map_or(self.import, |band| band.import)
    }
}

/// When a car is expected to leave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaves {
    /// At the next such minute of the local day.
    By(DayMinute),
    /// So many hours after it was plugged in.
    After(f64),
}

/// What is expected of a car until somebody says better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stay {
    /// Energy it shall leave with.
    pub need: WattHours,
    /// When.
    pub leaves: Leaves,
}

/// What somebody asked for a car that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Energy that it shall still get.
    pub need: WattHours,
    /// When it leaves.
    pub leaves: DateTime<Utc>,
}

/// A target in the words of whoever asks: energy, and either how long the car stays or when it leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetWords {
    /// Energy that the car shall still get, kWh, 0 to 2000.
    pub energy_kwh: f64,
    /// Hours until it leaves, up to a week.
    pub stay_h: Option<f64>,
    /// When it leaves.
    pub leaves: Option<DateTime<Utc>>,
}

impl TargetWords {
    /// What is meant, at `now`.
    ///
    /// # Errors
    /// What is wrong and what is expected.
    pub fn target(&self, now: DateTime<Utc>) -> Result<Target, &'static str> {
        const WEEK_H: f64 = 168.0;
        if !(0.0..=2000.0).contains(&self.energy_kwh) {
            return Err("`energy_kwh` is 0 to 2000");
        }
        let leaves = match (self.stay_h, self.leaves) {
            (Some(hours), None) if (0.0..=WEEK_H).contains(&hours) => {
                now + chrono::Duration::seconds((hours * 3600.0) as i64)
            }
            (None, Some(leaves)) => leaves,
            (Some(_), None) => return Err("`stay_h` is 0 to 168"),
            _ => return Err("either `stay_h` or `leaves` is needed"),
        };
        let ahead = (leaves - now).num_seconds();
        if !(0..=(WEEK_H * 3600.0) as i64).contains(&ahead) {
            return Err("`leaves` is within the next week");
        }
        Ok(Target { need: WattHours(self.energy_kwh * 1000.0), leaves })
    }
}

impl Stay {
    /// When a car plugged in at `since` is expected to leave.
    #[must_use]
    pub fn ends(&self, since: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
        match self.leaves {
            Leaves::By(minute) => next_local(since, minute, zone),
            Leaves::After(hours) => {
                let span = chrono::Duration::seconds((hours.clamp(0.0, 1000.0) * 3600.0) as i64);
                since.checked_add_signed(span).unwrap_or(since)
            }
        }
    }
}

fn minute_of(at: DateTime<Utc>, zone: Tz) -> DayMinute {
    let local = at.with_timezone(&zone);
    (local.hour() * 60 + local.minute()) as DayMinute
}

/// The first instant after `after` at which the local clock shows this minute of the day.
fn next_local(after: DateTime<Utc>, minute: DayMinute, zone: Tz) -> DateTime<Utc> {
    let today = after.with_timezone(&zone).date_naive();
    let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::from(minute) * 60, 0);
    let instants = (0..3).filter_map(|days| {
        let local = today.checked_add_days(Days::new(days))?.and_time(time?);
        let hour_later = || local.checked_add_signed(chrono::Duration::hours(1));
        let found = zone.from_local_datetime(&local).earliest();
        found.or_else(|| zone.from_local_datetime(&hour_later()?).earliest())
    });
    instants.map(|local| local.with_timezone(&Utc)).find(|at| *at > after).unwrap_or(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_target_says_what_and_when_or_is_refused() {
        let now = utc("2026-11-24T10:00:00Z");
        let target = |text: &str| {
            let words: TargetWords = serde_json::from_str(text).map_err(|_| "not understood")?;
            words.target(now)
        };
        let by = |text| Target { need: WattHours(20_000.0), leaves: utc(text) };
        let stay = target(r#"{"energy_kwh": 20, "stay_h": 2.5}"#);
        assert_eq!(stay, Ok(by("2026-11-24T12:30:00Z")));
        let leaves = target(r#"{"energy_kwh": 20, "leaves": "2026-11-24T19:00:00+08:00"}"#);
        assert_eq!(leaves, Ok(by("2026-11-24T11:00:00Z")));
        for wrong in [
            r#"{"energy_kwh": 20}"#,
            r#"{"energy_kwh": -1, "stay_h": 1}"#,
            r#"{"energy_kwh": 20, "stay_h": 1, "leaves": "2026-11-24T19:00:00Z"}"#,
            r#"{"energy_kwh": 20, "leaves": "2026-11-24T09:00:00Z"}"#,
            r#"{"energy_kwh": 20, "stay_h": 1e9}"#,
            r#"{"energy_kwh": 20, "stay": 1}"#,
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    fn tariff() -> Tariff {
        let night = Band { from: 22 * 60, to: 6 * 60, import: 0.3 };
        let peak = Band { from: 18 * 60, to: 21 * 60, import: 1.1 };
        Tariff {
            currency: "EUR".into(),
            zone: chrono_tz::Europe::Berlin,
            import: 0.6,
            export: 0.1,
            bands: vec![night, peak],
        }
    }

    #[test]
    fn prices_follow_the_local_clock_through_summer_and_winter() {
        let table = [
            ("2026-07-01T03:59:00Z", 0.3),
            ("2026-07-01T04:00:00Z", 0.6),
            ("2026-01-01T04:30:00Z", 0.3),
            ("2026-01-01T05:00:00Z", 0.6),
            ("2026-07-01T16:00:00Z", 1.1),
            ("2026-07-01T20:00:00Z", 0.3),
            // 25 hours: 02:30 comes twice, both at night.
            ("2026-10-25T00:30:00Z", 0.3),
            ("2026-10-25T01:30:00Z", 0.3),
            ("2026-10-25T05:00:00Z", 0.6),
        ];
        for (at, price) in table {
            assert_eq!(tariff().import_at(utc(at)), price, "{at}");
        }
    }

    #[test]
    fn departures_are_found_through_clock_changes() {
        let zone = chrono_tz::Europe::Berlin;
        let by = |minute| Stay { need: WattHours(1.0), leaves: Leaves::By(minute) };
        let table = [
            ("2026-07-01T10:00:00Z", 17 * 60 + 30, "2026-07-01T15:30:00Z"),
            ("2026-07-01T15:30:00Z", 17 * 60 + 30, "2026-07-02T15:30:00Z"),
            // 02:30 does not exist on this day: an hour later.
            ("2026-03-28T22:00:00Z", 150, "2026-03-29T01:30:00Z"),
            ("2026-10-24T22:30:00Z", 150, "2026-10-25T00:30:00Z"),
        ];
        for (since, minute, ends) in table {
            assert_eq!(by(minute).ends(utc(since), zone), utc(ends), "{since}");
        }
        let after = Stay { need: WattHours(1.0), leaves: Leaves::After(1.5) };
        assert_eq!(after.ends(utc("2026-07-01T10:00:00Z"), zone), utc("2026-07-01T11:30:00Z"));
    }
}
