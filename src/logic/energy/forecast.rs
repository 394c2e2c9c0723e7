//! What PV and building will do in the next hours, from what they did: the mean of each quarter hour of
//! the day, corrected by how today compares so far. Before a day has been seen, a half sine.
//!
//! What a stranger gets wrong: there is no weather in here. A forecast is only as good as yesterday;
//! the plan is made anew every quarter hour, and battery and allocation take up the difference.

use chrono::{DateTime, Timelike, Utc};

use crate::units::Watts;

/// Length of a slot, minutes.
pub const SLOT_MINUTES: usize = 15;
/// Slots of a day.
const SLOTS: usize = 24 * 60 / SLOT_MINUTES;
/// Weight of the newest day in a slot's mean. Our own figure.
const NEWEST_DAY: f64 = 0.4;
/// How today compares counts in full now and not at all after this many slots. Our own figure.
const TODAY_FADES: f64 = 12.0;
/// Today may be this much better than the mean. Our own figure.
const MOST_BETTER: f64 = 2.0;

/// What was measured in the slots of past days.
#[derive(Clone, Debug)]
pub struct SlotMemory {
    pv: [Option<f64>; SLOTS],
    load: [Option<f64>; SLOTS],
    now: Option<Running>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Running {
    slot: usize,
    samples: f64,
    pv: f64,
    load: f64,
}

/// The next slots, the running one first.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// PV power, production positive.
    pub pv: Vec<Watts>,
    /// Power of everything that is not controlled.
    pub load: Vec<Watts>,
}

impl Default for SlotMemory {
    fn default() -> SlotMemory {
        SlotMemory { pv: [None; SLOTS], load: [None; SLOTS], now: None }
    }
}

fn slot_of(at: DateTime<Utc>) -> usize {
    (at.hour() as usize * 60 + at.minute() as usize) / SLOT_MINUTES % SLOTS
}

impl SlotMemory {
    /// Takes in one measurement; to be called at even intervals.
    pub fn take_in(&mut self, at: DateTime<Utc>, pv: Watts, load: Watts) {
        if !(pv.get().is_finite() && load.get().is_finite()) {
            return;
        }
        let slot = slot_of(at);
        match &mut self.now {
            Some(running) if running.slot == slot => {
                running.samples += 1.0;
                running.pv += pv.get();
                running.load += load.get();
            }
            running => {
                let done =
                    running.replace(Running { slot, samples: 1.0, pv: pv.get(), load: load.get() });
                if let Some(done) = done {
                    let learn = |mean: &mut Option<f64>, sum: f64| {
                        let newest = sum / done.samples;
                        *mean = Some(mean.map_or(newest, |old| old + NEWEST_DAY * (newest - old)));
                    };
                    learn(&mut self.pv[done.slot], done.pv);
                    learn(&mut self.load[done.slot], done.load);
                }
            }
        }
    }

    /// The next `steps` slots. `noon` is the UTC hour at which the sun stands highest, 0 to 24.
    #[must_use]
    pub fn forecast(&self, at: DateTime<Utc>, steps: usize, noon: f64) -> Forecast {
        let slot = slot_of(at);
        let running = self.now.unwrap_or_default();
        let now = |sum: f64| if running.samples > 0.0 { sum / running.samples } else { 0.0 };
        let (pv_now, load_now) = (now(running.pv).max(0.0), now(running.load));
        let sine = |slot: usize| half_sine(slot, noon);
        let usual = |slot: usize| self.pv[slot % SLOTS];
        // The same hour of yesterday, or the shape of a clear day.
        let better = match usual(slot) {
            Some(mean) if mean > 1.0 => (pv_now / mean).min(MOST_BETTER),
            _ => 1.0,
        };
        let peak = if sine(slot) > 0.1 { pv_now / sine(slot) } else { 0.0 };
        let pv = |step: usize| match usual(slot + step) {
            _ if step == 0 => Watts(pv_now),
            Some(mean) => {
                let fading = (1.0 - step as f64 / TODAY_FADES).max(0.0);
                Watts((mean * (1.0 + (better - 1.0) * fading)).max(0.0))
            }
            None => Watts(peak * sine(slot + step)),
        };
        let load = |step: usize| {
            let usual = self.load[(slot + step) % SLOTS];
            let fading = (1.0 - step as f64 / TODAY_FADES).max(0.0);
            Watts(usual.map_or(load_now, |mean| mean + (load_now - mean) * fading))
        };
        Forecast { pv: (0..steps).map(pv).collect(), load: (0..steps).map(load).collect() }
    }
}

/// A day of twelve hours of sun round `noon`, 0 to 1.
fn half_sine(slot: usize, noon: f64) -> f64 {
    let hour = (slot % SLOTS) as f64 * SLOT_MINUTES as f64 / 60.0;
    let off = (hour - noon + 36.0) % 24.0 - 12.0;
    libm::cos(off / 12.0 * std::f64::consts::PI).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        let start: DateTime<Utc> = "2026-06-01T00:00:00Z".parse().unwrap();
        start + chrono::Duration::minutes(minutes)
    }

    fn sun(minute: i64) -> f64 {
        8000.0 * half_sine((minute as usize % 1440) / SLOT_MINUTES, 12.0)
    }

    #[test]
    fn a_first_day_is_a_half_sine_through_what_is_measured() {
        let mut memory = SlotMemory::default();
        memory.take_in(at(9 * 60), Watts(sun(540)), Watts(700.0));
        let forecast = memory.forecast(at(9 * 60), 48, 12.0);
        let noon = forecast.pv[12].get();
        assert!((noon - 8000.0).abs() < 1.0, "{noon}");
        assert_eq!(forecast.pv[47], Watts(0.0));
        assert!(forecast.load.iter().all(|load| *load == Watts(700.0)));
        let dark = SlotMemory::default().forecast(at(0), 96, 12.0);
        assert!(dark.pv.iter().all(|pv| *pv == Watts(0.0)), "nothing seen, nothing promised");
    }

    #[test]
    fn a_second_day_is_the_first_scaled_by_how_it_begins() {
        let mut memory = SlotMemory::default();
        for minute in 0..1440 {
            memory.take_in(at(minute), Watts(sun(minute)), Watts(500.0));
        }
        for minute in 1440..1440 + 10 * 60 {
            memory.take_in(at(minute), Watts(sun(minute) * 0.5), Watts(500.0));
        }
        let forecast = memory.forecast(at(1440 + 10 * 60 - 1), 24, 12.0);
        let (next, later) = (forecast.pv[1].get(), forecast.pv[20].get());
        let usual = |step: i64| sun(9 * 60 + 45 + 15 * step);
        assert!((next / usual(1) - 0.54).abs() < 0.05, "{next} of {}", usual(1));
        assert!((later / usual(20) - 1.0).abs() < 0.05, "{later} of {}", usual(20));
    }
}
