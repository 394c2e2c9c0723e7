//! The battery in the plan, and what its strategy forbids there.
//!
//! What a stranger gets wrong: the planner's own problem knows no battery that the grid may not charge. What it
//! has found is put right afterwards: what it would buy is left out, and what the sun leaves over is taken in.

use super::{EFFICIENCY, SLOT_HOURS};
use crate::logic::energy::plan::{Plan, Problem, Store};
use crate::logic::site::{Aim, Id, Site};
use crate::units::Soc;

/// The first battery whose capacity is known. A day ends with at least the charge it began with, or
/// half full.
pub(super) fn of(site: &Site, soc: Option<Soc>) -> Option<(Id, Store)> {
    let battery = site.batteries.iter().find(|battery| battery.capacity.is_some())?;
    let kwh = battery.capacity?.get() / 1000.0;
    let now = soc?.ratio() * kwh;
    let store = Store {
        soc0_kwh: now,
        soc_min_kwh: (battery.floor(false).ratio() * kwh).min(now),
        soc_max_kwh: kwh,
        soc_end_min_kwh: now.min(kwh / 2.0),
        charge_kw: battery.max_charge.get() / 1000.0,
        discharge_kw: battery.max_discharge.get() / 1000.0,
        eff_charge: EFFICIENCY,
        eff_discharge: EFFICIENCY,
        wear_per_kwh: 0.0,
        no_discharge_to_grid: true,
    };
    Some((battery.id.clone(), store))
}

/// Whether the plan may not let the grid charge it.
pub(super) fn is_for_sun(site: &Site, battery: &Id) -> bool {
    let strategy = site.batteries.iter().find(|known| known.id == *battery).map(|b| b.strategy);
    strategy.is_some_and(|s| s.no_grid_charging || s.aim == Aim::SelfConsumption)
}

/// The battery takes in what the sun leaves over and nothing else; it gives where it was planned to, as long as it
/// has something.
pub(super) fn keep_to_sun(problem: &Problem, solved: &mut Plan) {
    let Some(store) = problem.store else { return };
    let mut kwh = store.soc0_kwh;
    for t in 0..problem.steps.min(solved.store_kw.len()) {
        let of = |series: &[f64]| series.get(t).copied().unwrap_or(0.0);
        let loads: f64 = solved.session_kw.iter().chain(&solved.job_kw).map(|kw| of(kw)).sum();
        let net = of(&problem.base_kw) + loads + of(&solved.curtail_kw) - of(&problem.pv_kw);
        let planned = solved.store_kw[t];
        let space = ((store.soc_max_kwh - kwh) / store.eff_charge / SLOT_HOURS).max(0.0);
        let stock = ((kwh - store.soc_min_kwh) * store.eff_discharge / SLOT_HOURS).max(0.0);
        let power = if net < 0.0 {
            (-net).min(store.charge_kw).min(space)
        } else {
            planned.min(0.0).max(-net).max(-stock)
        };
        kwh += if power > 0.0 { power * store.eff_charge } else { power / store.eff_discharge }
            * SLOT_HOURS;
        solved.store_kw[t] = power;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_bought_is_left_out_and_the_sun_is_taken_in() {
        let store = Store {
            soc0_kwh: 2.0,
            soc_min_kwh: 1.0,
            soc_max_kwh: 10.0,
            charge_kw: 5.0,
            discharge_kw: 5.0,
            eff_charge: 1.0,
            eff_discharge: 1.0,
            ..Store::default()
        };
        let problem = Problem {
            steps: 6,
            pv_kw: vec![0.0, 0.0, 4.0, 9.0, 0.0, 0.0],
            base_kw: vec![1.0; 6],
            store: Some(store),
            ..Problem::default()
        };
        let mut solved = Plan { store_kw: vec![5.0, 5.0, 0.0, 0.0, -5.0, -5.0], ..Plan::default() };
        keep_to_sun(&problem, &mut solved);
        assert_eq!(solved.store_kw, [0.0, 0.0, 3.0, 5.0, -1.0, -1.0]);
        let mut kwh = 2.0;
        for kw in solved.store_kw {
            kwh += kw * SLOT_HOURS;
            assert!((1.0..=10.0).contains(&kwh), "{kwh}");
        }
    }
}
