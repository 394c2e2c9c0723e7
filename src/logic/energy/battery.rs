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
}

/// The battery's next power, discharge positive, within its limits.
#[must_use]
pub fn self_consumption(battery: &Battery, state: BatteryState) -> (Watts, Reason) {
    let correction = if state.grid.abs() < DEAD_BAND { Watts::ZERO } else { state.grid * GAIN };
    let wish = (state.power + correction).bounded(-battery.max_charge, battery.max_discharge);
    let empty = wish > Watts::ZERO && state.soc <= battery.min_soc;
    let full = wish < Watts::ZERO && is_full(state.soc);
    if empty || full { (Watts::ZERO, Reason::SocLimit) } else { (wish, Reason::SelfConsumption) }
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
    let wish = (state.power + correction).bounded(-battery.max_charge, battery.max_discharge);
    let empty = wish > Watts::ZERO && state.soc <= battery.min_soc;
    let full = wish < Watts::ZERO && is_full(state.soc);
    if empty || full { (Watts::ZERO, Reason::SocLimit) } else { (wish, Reason::Plan) }
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
        }
    }

    #[test]
    fn follows_the_grid_within_its_limits() {
        let battery = battery();
        let next = |power: f64, soc: f64, grid: f64| {
            let soc = Soc::from_ratio(soc).unwrap();
            let state = BatteryState { power: Watts(power), soc, grid: Watts(grid) };
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
            let state = BatteryState { power, soc: Soc::from_ratio(soc).unwrap(), grid };
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
                let state = BatteryState { power: now, soc, grid: Watts(rest) - now };
                now = planned(&battery, state, target).0;
            }
            assert!((now.get() - ends).abs() < 150.0, "{target:?}: {now:?}");
            assert!((rest - now.get() - ends_grid).abs() < 150.0, "{target:?}: {now:?}");
        }
    }
}
