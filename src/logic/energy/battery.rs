//! What the battery does without a plan: it takes the PV surplus and gives to the site what would be
//! imported, so that the grid connection stays near zero and far from its limit.
//!
//! What a stranger gets wrong: the law corrects half of the measured error each second. The meter and
//! the inverter each answer late; the full correction would swing.

use crate::logic::site::{Battery, Reason};
use crate::units::{Soc, Watts};

/// Share of the grid power that is corrected each second.
const GAIN: f64 = 0.5;
/// Grid power that is not worth moving for.
const DEAD_BAND: Watts = Watts(100.0);
/// At this state of charge nothing more is taken in.
const FULL: f64 = 0.99;
/// A battery that shaves peaks keeps the import below this share of the peak, and is filled up to that share of
/// it by so much of its largest power in a second. Our own figures.
const SHAVED_TO: f64 = 0.98;
const FILLED_TO: f64 = 0.9;
const FILLED_BY: f64 = 0.02;

/// Whether a battery takes nothing more in.
#[must_use]
pub fn is_full(soc: Soc) -> bool {
    soc.ratio() >= FULL
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct BatteryState {
    /// Battery power, discharge positive.
    pub power: Watts,
    /// State of charge.
    pub soc: Soc,
    /// Power at the grid connection, import positive.
    pub grid: Watts,
    /// Not discharged below this now.
    pub floor: Soc,
}

impl BatteryState {
    /// A wish within the battery's powers, and its reason; nothing where its charge forbids it.
    fn allowed(self, battery: &Battery, wish: Watts, reason: Reason) -> (Watts, Reason) {
        let wish = wish.bounded(-battery.max_charge, battery.max_discharge);
        if wish < Watts::ZERO && is_full(self.soc) {
            return (Watts::ZERO, Reason::SocLimit);
        }
        if wish <= Watts::ZERO || self.soc > self.floor {
            return (wish, reason);
        }
        let kept = self.soc > battery.min_soc;
        (Watts::ZERO, if kept { Reason::Reserve } else { Reason::SocLimit })
    }
}

/// The battery's next power, discharge positive, within its limits.
#[must_use]
pub fn self_consumption(battery: &Battery, state: BatteryState) -> (Watts, Reason) {
    let correction = if state.grid.abs() < DEAD_BAND { Watts::ZERO } else { state.grid * GAIN };
    state.allowed(battery, state.power + correction, Reason::SelfConsumption)
}

/// It gives what would be imported beyond `peak`, and below that takes in what there is up to it: so it is full
/// when the next peak comes.
#[must_use]
pub fn peak_shaving(battery: &Battery, state: BatteryState, peak: Watts) -> (Watts, Reason) {
    // Less is bought than may be, so that its own steps are no peaks.
    let (high, low) = (peak * SHAVED_TO, peak * FILLED_TO);
    let correction = if state.grid > high {
        (state.grid - high) * GAIN
    } else if state.grid < low - DEAD_BAND {
        let more = (state.grid - low) * GAIN;
        // What it gives is taken back at once; it is filled slowly.
        more.max(-state.power.max(Watts::ZERO) - battery.max_charge * FILLED_BY)
    } else {
        Watts::ZERO
    };
    state.allowed(battery, state.power + correction, Reason::PeakShaving)
}

/// No more is taken in than would be exported without it: the grid does not charge the battery.
#[must_use]
pub fn from_sun_only(state: BatteryState, (wish, reason): (Watts, Reason)) -> (Watts, Reason) {
    let exported = (-(state.grid + state.power)).max(Watts::ZERO);
    if wish >= -exported { (wish, reason) } else { (-exported, Reason::NoGridCharging) }
}

/// What the plan has for the battery and for the grid connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatteryTarget {
    /// Battery power, discharge positive.
    pub power: Watts,
    /// Grid power, import positive.
    pub grid: Watts,
}

/// As planned, and beyond that only towards less: more is given when more is imported than planned, more
/// is taken in when more is exported than planned. A car that stops early does not make the battery
/// buy its energy.
#[must_use]
pub fn planned(battery: &Battery, state: BatteryState, target: BatteryTarget) -> (Watts, Reason) {
    let (low, high) = (target.grid.min(Watts::ZERO), target.grid.max(Watts::ZERO));
    let correction = if state.grid > high + DEAD_BAND {
        (state.grid - high) * GAIN
    } else if state.grid < low - DEAD_BAND {
        (state.grid - low) * GAIN
    } else {
        // On the way to the planned power the grid stays within its band.
        ((target.power - state.power) * GAIN)
            .bounded((state.grid - high).min(Watts::ZERO), (state.grid - low).max(Watts::ZERO))
    };
    state.allowed(battery, state.power + correction, Reason::Plan)
}

/// No more is exported than `most`: the battery gives less, and takes in what is beyond it as far as it can.
#[must_use]
pub fn without_export(
    battery: &Battery,
    state: BatteryState,
    (wish, reason): (Watts, Reason),
    most: Watts,
) -> (Watts, Reason) {
    let highest = state.power + state.grid + most;
    if wish <= highest {
        return (wish, reason);
    }
    // Towards the limit in full: what is exported meanwhile is gone. A full battery takes nothing.
    let least = if is_full(state.soc) { Watts::ZERO } else { -battery.max_charge };
    (highest.bounded(least.min(wish), wish), Reason::ExportLimit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;

    fn battery() -> Battery {
        Battery {
            id: Id::try_from("b").unwrap(),
            name: "b".into(),
            max_charge: Watts(5000.0),
            max_discharge: Watts(8000.0),
            min_soc: Soc::from_ratio(0.1).unwrap(),
            capacity: None,
            strategy: crate::logic::site::Strategy::default(),
        }
    }

    #[test]
    fn follows_the_grid_within_its_limits() {
        let battery = battery();
        let next = |power: f64, soc: f64, grid: f64| {
            let soc = Soc::from_ratio(soc).unwrap();
            let state = BatteryState {
                power: Watts(power),
                soc,
                grid: Watts(grid),
                floor: battery.min_soc,
            };
            self_consumption(&battery, state).0.get()
        };
        assert_eq!(next(0.0, 0.5, 2000.0), 1000.0);
        assert_eq!(next(1000.0, 0.5, 60.0), 1000.0);
        assert_eq!(next(0.0, 0.5, -2000.0), -1000.0);
        assert_eq!(next(7900.0, 0.5, 9000.0), 8000.0);
        assert_eq!(next(-4900.0, 0.5, -9000.0), -5000.0);
        assert_eq!(next(500.0, 0.1, 2000.0), 0.0);
        assert_eq!(next(-500.0, 0.995, -2000.0), 0.0);
    }

    #[test]
    fn what_is_kept_for_an_outage_is_not_given_and_says_so() {
        let battery = battery();
        let told = |soc: f64, floor: f64| {
            let of = |ratio: f64| Soc::from_ratio(ratio).unwrap();
            let (power, grid) = (Watts(0.0), Watts(2000.0));
            self_consumption(&battery, BatteryState { power, soc: of(soc), grid, floor: of(floor) })
        };
        assert_eq!(told(0.41, 0.4), (Watts(1000.0), Reason::SelfConsumption));
        assert_eq!(told(0.4, 0.4), (Watts(0.0), Reason::Reserve));
        assert_eq!(told(0.1, 0.4), (Watts(0.0), Reason::SocLimit));
        assert_eq!(told(0.4, 0.1), (Watts(1000.0), Reason::SelfConsumption), "the grid is gone");
    }

    /// Where battery and grid come to rest, from rest, with what the rest of the site draws.
    fn settles(rest: f64, law: impl Fn(BatteryState) -> (Watts, Reason)) -> (f64, f64) {
        let mut now = Watts::ZERO;
        for _ in 0..300 {
            let soc = Soc::from_ratio(0.5).unwrap();
            let (grid, floor) = (Watts(rest) - now, Soc::default());
            now = law(BatteryState { power: now, soc, grid, floor }).0;
        }
        (now.get(), rest - now.get())
    }

    #[test]
    fn peaks_are_shaved_and_below_them_the_battery_is_filled() {
        let battery = battery();
        for (rest, ends) in
            [(14_000.0, 4200.0), (3000.0, -5000.0), (9500.0, 0.0), (7000.0, -2000.0)]
        {
            let law = |state| peak_shaving(&battery, state, Watts(10_000.0));
            let (power, grid) = settles(rest, law);
            assert!((power - ends).abs() < 250.0, "{rest}: {power}");
            assert!(grid <= 10_000.0, "{rest}: {grid} imported");
        }
    }

    #[test]
    fn the_grid_does_not_charge_a_battery_that_is_for_the_sun() {
        let battery = battery();
        for (rest, ends) in [(3000.0, 0.0), (-2000.0, -2000.0), (-9000.0, -5000.0)] {
            let law = |state| from_sun_only(state, peak_shaving(&battery, state, Watts(10_000.0)));
            let power = settles(rest, law).0;
            assert!((power - ends).abs() < 150.0, "{rest}: {power}");
        }
    }

    #[test]
    fn no_more_is_exported_than_may_be() {
        let battery = battery();
        // Battery, state of charge, grid, wish, most; what it is told and whether the limit bound it.
        let table = [
            (2000.0, 0.5, -500.0, 1750.0, 0.0, 1500.0, true),
            (2000.0, 0.5, -500.0, 1750.0, 500.0, 1750.0, false),
            (0.0, 0.5, -3000.0, -1500.0, 0.0, -3000.0, true),
            (0.0, 0.5, -9000.0, -4500.0, 1000.0, -5000.0, true),
            (0.0, 0.995, -3000.0, 0.0, 0.0, 0.0, true),
            (0.0, 0.5, 3000.0, 1500.0, 0.0, 1500.0, false),
        ];
        for (power, soc, grid, wish, most, told, bound) in table {
            let (power, grid) = (Watts(power), Watts(grid));
            let soc = Soc::from_ratio(soc).unwrap();
            let state = BatteryState { power, soc, grid, floor: battery.min_soc };
            let wish = (Watts(wish), Reason::SelfConsumption);
            let (next, reason) = without_export(&battery, state, wish, Watts(most));
            assert_eq!((next.get(), reason == Reason::ExportLimit), (told, bound), "{state:?}");
        }
    }

    #[test]
    fn the_plan_is_followed_and_deviations_are_taken_towards_less() {
        let battery = battery();
        // Planned battery and grid, what the rest of the site draws, where battery and grid end.
        let table = [
            (-3000.0, 5000.0, 2000.0, -3000.0, 5000.0),
            (-3000.0, 16_000.0, 2000.0, -3000.0, 5000.0),
            (2000.0, 1000.0, 3000.0, 2000.0, 1000.0),
            (2000.0, 1000.0, 6000.0, 5000.0, 1000.0),
            (0.0, 0.0, -4000.0, -4000.0, 0.0),
        ];
        for (power, grid, rest, ends, ends_grid) in table {
            let target = BatteryTarget { power: Watts(power), grid: Watts(grid) };
            let mut now = Watts::ZERO;
            for _ in 0..60 {
                let soc = Soc::from_ratio(0.5).unwrap();
                let (grid, floor) = (Watts(rest) - now, battery.min_soc);
                let state = BatteryState { power: now, soc, grid, floor };
                now = planned(&battery, state, target).0;
            }
            assert!((now.get() - ends).abs() < 150.0, "{target:?}: {now:?}");
            assert!((rest - now.get() - ends_grid).abs() < 150.0, "{target:?}: {now:?}");
        }
    }
}
