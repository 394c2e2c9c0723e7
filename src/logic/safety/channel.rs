//! One value of one sensor over time: whether it can be believed, how many samples in a row it stood at
//! which stage, and, for cells, how it came there.
//!
//! ```text
//!   sample ─▶ missing, out of range, broken loop ─▶ bad: stages start anew, a fault until good for 60 s
//!          ─▶ jumps by more than 10 K            ─▶ held back; three that agree are believed (fault FB8)
//!          ─▶ else                               ─▶ believed at once
//! ```
//! What a stranger gets wrong: a bad sample is not a low one. It ends no alarm and starts no clear time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::logic::site::{Sensor, SensorKind};
use crate::units::Moment;

/// Without a sample for this long a value is a fault (EN4, EN5).
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
/// A value that was a fault must be good for this long (design/safety, row F).
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// A temperature that moves further than this between two samples is held back. Our own figure.
const JUMP_K: f64 = 10.0;
/// Jumps that agree and are believed (fault FB8).
const JUMPS: usize = 3;
/// A 4 to 20 mA loop below or above this is broken (NAMUR NE 43).
const LOOP_MA: std::ops::RangeInclusive<f64> = 3.6..=21.0;
/// Cells are remembered for the two minutes of their slowest rule, and a little more.
const REMEMBERED: Duration = Duration::from_secs(130);
/// Most samples remembered; more than one a second are not needed.
const MOST_SAMPLES: usize = 200;

/// A believed sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// What, in the sensor's unit.
    pub value: f64,
}

/// One value over time.
#[derive(Clone, Debug)]
pub struct Channel {
    /// From which value on it stands at watch, alarm and trip.
    stages: [f64; 3],
    /// Samples in a row at each stage.
    held: [u32; 3],
    last: Option<Moment>,
    value: f64,
    bits: u64,
    changed: Option<Moment>,
    /// Since when every sample was good; nothing while the last was bad.
    good_since: Option<Moment>,
    /// It was a fault and has not been good for long enough since.
    unproven: bool,
    doubted: Vec<f64>,
    history: VecDeque<Sample>,
}

impl Channel {
    /// Nothing seen yet; `stages` as in [`Channel`].
    #[must_use]
    pub fn new(stages: [f64; 3]) -> Channel {
        Channel {
            stages,
            held: [0; 3],
            last: None,
            value: 0.0,
            bits: 0,
            changed: None,
            good_since: None,
            unproven: false,
            doubted: Vec::new(),
            history: VecDeque::new(),
        }
    }

    /// Takes in what was delivered; nothing: the device answered without this value.
    pub fn take(&mut self, sensor: &Sensor, raw: Option<f64>, at: Moment) {
        if self.last.is_some_and(|last| at.uptime < last.uptime) {
            return;
        }
        let gap = self.last.is_some_and(|last| last.age_at(at) >= SILENT_AFTER);
        if gap {
            self.spoil();
        }
        let raw = raw.filter(|raw| !self.is_stuck(sensor, *raw, at));
        match raw.and_then(|raw| understood(sensor, raw)) {
            None => {
                self.doubted.clear();
                self.spoil();
            }
            Some(value) => self.weigh(sensor.kind, value, at),
        }
    }

    fn is_stuck(&mut self, sensor: &Sensor, raw: f64, at: Moment) -> bool {
        if self.changed.is_none() || self.bits != raw.to_bits() {
            self.bits = raw.to_bits();
            self.changed = Some(at);
        }
        let still = self.changed.map_or(Duration::ZERO, |changed| changed.age_at(at));
        sensor.stuck_after.is_some_and(|limit| still >= limit)
    }

    /// What came before counts for nothing; what is held back after a silence goes on being weighed.
    fn spoil(&mut self) {
        self.held = [0; 3];
        self.good_since = None;
        self.unproven = true;
    }

    /// A temperature that jumps is believed only when it repeats.
    fn weigh(&mut self, kind: SensorKind, value: f64, at: Moment) {
        let jumps = kind == SensorKind::CellTemperature
            && self.last.is_some()
            && (value - self.value).abs() > JUMP_K;
        if !jumps {
            self.doubted.clear();
            self.believe(kind, (value, 1), at);
            return;
        }
        self.doubted.push(value);
        if self.doubted.len() < JUMPS {
            return;
        }
        let agree = self.doubted.iter().all(|doubted| (doubted - value).abs() <= JUMP_K);
        if agree {
            // What was held back counts for the stages.
            self.doubted.clear();
            self.history.clear();
            self.held = [0; 3];
            self.believe(kind, (value, JUMPS as u32), at);
        } else {
            self.doubted.clear();
            self.spoil();
        }
    }

    fn believe(&mut self, kind: SensorKind, (value, times): (f64, u32), at: Moment) {
        for (held, stage) in self.held.iter_mut().zip(self.stages) {
            *held = if value >= stage { held.saturating_add(times) } else { 0 };
        }
        (self.value, self.last) = (value, Some(at));
        let since = *self.good_since.get_or_insert(at);
        self.unproven = self.unproven && since.age_at(at) < PROVEN_AFTER;
        if kind == SensorKind::CellTemperature {
            let oldest = at.uptime.saturating_sub(REMEMBERED);
            let full = self.history.len() >= MOST_SAMPLES;
            if full || self.history.front().is_some_and(|first| first.at < oldest) {
                self.history.pop_front();
            }
            self.history.push_back(Sample { at: at.uptime, value });
        }
    }

    /// Whether it delivers now, and has not just been a fault.
    #[must_use]
    pub fn is_sound(&self, now: Moment) -> bool {
        self.is_good(now) && !self.unproven
    }

    /// Whether its last sample was good and is not too old.
    #[must_use]
    pub fn is_good(&self, now: Moment) -> bool {
        self.good_since.is_some() && self.age(now).is_some_and(|age| age < SILENT_AFTER)
    }

    /// Age of the last believed sample; nothing if there never was one.
    #[must_use]
    pub fn age(&self, now: Moment) -> Option<Duration> {
        self.last.map(|last| last.age_at(now))
    }

    /// The last believed value, where it is good.
    #[must_use]
    pub fn value(&self, now: Moment) -> Option<f64> {
        self.is_good(now).then_some(self.value)
    }

    /// Good samples in a row at watch, alarm and trip up to now; none where it is not good.
    #[must_use]
    pub fn held(&self, now: Moment) -> [u32; 3] {
        if self.is_good(now) { self.held } else { [0; 3] }
    }

    /// The newest sample that is at least this much older than the last one.
    #[must_use]
    pub fn before(&self, age: Duration) -> Option<Sample> {
        let last = self.history.back()?.at;
        let after = self.history.partition_point(|sample| sample.at + age <= last);
        after.checked_sub(1).and_then(|i| self.history.get(i)).copied()
    }

    /// As [`Channel::before`], but the median with its two neighbours: one wild sample moves it little.
    #[must_use]
    pub fn smooth_before(&self, age: Duration) -> Option<Sample> {
        let last = self.history.back()?.at;
        let after = self.history.partition_point(|sample| sample.at + age <= last);
        let middle = after.checked_sub(1)?.min(self.history.len().saturating_sub(2)).max(1);
        let three = [middle - 1, middle, middle + 1].map(|i| self.history.get(i).copied());
        let [Some(a), Some(b), Some(c)] = three else {
            return None;
        };
        let median = a.value.max(b.value).min(a.value.min(b.value).max(c.value));
        Some(Sample { at: b.at, value: median })
    }
}

/// A raw value in the sensor's unit: contacts as 0 and 1; nothing where it cannot be.
fn understood(sensor: &Sensor, raw: f64) -> Option<f64> {
    if !raw.is_finite() {
        return None;
    }
    if sensor.kind.is_contact() {
        let closed = raw != 0.0;
        return Some(f64::from(u8::from(closed != sensor.active_low)));
    }
    let value = match sensor.loop_full {
        Some(_) if !LOOP_MA.contains(&raw) => return None,
        Some(full) => ((raw - 4.0) / 16.0 * full).max(0.0),
        None => raw,
    };
    let possible = match sensor.kind {
        SensorKind::Gas => -1.0..=1e6,
        // Thermistors end long before, but what repeats must be believed (fault FB8).
        SensorKind::CellTemperature | SensorKind::BoardTemperature => -40.0..=1000.0,
        SensorKind::CellVoltage => 0.0..=6.0,
        SensorKind::BatteryCurrent => -1e5..=1e5,
        _ => 0.0..=100.0,
    };
    possible.contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;

    fn sensor() -> Sensor {
        let id = Id::try_from("t1").unwrap();
        Sensor {
            id: id.clone(),
            name: "t1".into(),
            kind: SensorKind::CellTemperature,
            zones: vec![id.clone()],
            device: id,
            points: vec!["t1".into()],
            active_low: false,
            loop_full: None,
            certified: false,
            stuck_after: None,
            proof_every: None,
        }
    }

    fn second(s: u64) -> Moment {
        let utc = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment { uptime: Duration::ZERO, utc }.after(Duration::from_secs(s))
    }

    /// A cell that had these temperatures, one a second.
    fn channel(values: &[f64]) -> Channel {
        let mut channel = Channel::new([60.0, 70.0, 80.0]);
        for (s, value) in (0..).zip(values) {
            channel.take(&sensor(), Some(*value), second(s));
        }
        channel
    }

    #[test]
    fn one_wild_sample_moves_a_smooth_one_little() {
        let channel = channel(&[20.0, 20.0, 29.0, 20.0, 21.0]);
        let value = |age| channel.smooth_before(Duration::from_secs(age)).map(|s| s.value);
        assert_eq!([value(1), value(2), value(3)], [Some(21.0), Some(20.0), Some(20.0)]);
        assert_eq!(channel.before(Duration::from_secs(2)).map(|s| s.value), Some(29.0));
    }

    #[test]
    fn what_is_older_than_the_slowest_rule_is_forgotten_and_what_comes_late_does_not_count() {
        let mut channel = channel(&[20.0; 180]);
        let at = |age| channel.before(Duration::from_secs(age)).map(|s| s.at.as_secs());
        assert_eq!((at(130), at(131)), (Some(49), None));
        channel.take(&sensor(), Some(25.0), second(170));
        assert_eq!(channel.value(second(179)), Some(20.0));
        channel.take(&sensor(), Some(25.0), second(179));
        assert_eq!(channel.value(second(179)), Some(25.0), "two in one instant");
    }
}
