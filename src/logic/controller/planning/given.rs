//! Cars whose mode decides when they charge, and not the plan: what they are going to draw is given to it, like
//! the load of the building.
//!
//! What a stranger gets wrong: a car on sun only has no energy from the grid in any slot, so it may leave with
//! less than it needs. That is what its mode says, and no fault of the plan.

use super::SLOT_HOURS;
use crate::logic::energy::plan::{Problem, Session};
use crate::logic::site::ChargingMode;

/// What a car is going to draw in each step, kW, until it has what it needs or leaves.
pub(super) fn powers(
    mode: ChargingMode,
    car: &Session,
    problem: &Problem,
    all_kw: f64,
) -> Vec<f64> {
    let mut left = car.need_kwh;
    let gone = usize::try_from(car.departure).unwrap_or(0);
    let step = |t: usize| {
        if t >= gone {
            return 0.0;
        }
        let spare = problem.pv_kw[t] - problem.base_kw[t];
        let sunny = if spare < car.min_kw { 0.0 } else { spare.min(car.max_kw) };
        let wanted = match mode {
            ChargingMode::Off | ChargingMode::Departure => 0.0,
            ChargingMode::PvOnly => sunny,
            ChargingMode::MinPv => sunny.max(car.min_kw),
            ChargingMode::Fast => car.max_kw,
        };
        let kw = wanted.min((all_kw + spare).max(0.0)).min(left / SLOT_HOURS);
        left -= kw * SLOT_HOURS;
        kw
    };
    (0..problem.steps).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sun_only_takes_nothing_from_the_grid_and_fast_takes_it_at_once() {
        let problem = Problem {
            steps: 8,
            pv_kw: vec![0.0, 3.0, 6.0, 9.0, 20.0, 6.0, 2.0, 0.0],
            base_kw: vec![1.0; 8],
            ..Problem::default()
        };
        let car = Session {
            departure: 7,
            need_kwh: 6.0,
            min_kw: 4.0,
            max_kw: 11.0,
            ..Session::default()
        };
        let of = |mode| powers(mode, &car, &problem, 40.0);
        assert_eq!(of(ChargingMode::PvOnly), [0.0, 0.0, 5.0, 8.0, 11.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(ChargingMode::MinPv), [4.0, 4.0, 5.0, 8.0, 3.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(ChargingMode::Fast), [11.0, 11.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(ChargingMode::Off), [0.0; 8]);
        let tight = powers(ChargingMode::Fast, &car, &problem, 5.0);
        assert!(tight[0] <= 4.0, "no more than the connection has: {tight:?}");
    }
}
