//! The battery in the plan, and what its strategy asks for there.
//!
//! What a stranger gets wrong: the plan knows which battery the grid may not charge, but a battery that follows the sun
//! takes in all that is left over, planned or not. What the plan has found is put right for that afterwards.

use super::{EFFICIENCY, SLOT_HOURS};
use crate::logic::energy::plan::{Demand, Plan, Problem, Store};
use crate::logic::site::{Aim, Battery, Id, Site};
use crate::units::Soc;

/// What a kW of import above what a battery shaves off costs in the plan, currency. Our own figure: more than any tariff
/// saves by it, and less than a car that goes without.
const PEAK_PER_KW: f64 = 5.0;

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
        sun_only: is_for_sun(site, &battery.id),
    };
    Some((battery.id.clone(), store))
}

/// Where a battery shaves peaks, cars and jobs keep below them, too, as long as all get their energy.
pub(super) fn peak(batteries: &[Battery]) -> Demand {
    let peaks = batteries.iter().filter_map(|battery| match battery.strategy.aim {
        Aim::PeakShaving(peak) => Some(peak.get() / 1000.0),
        Aim::Arbitrage | Aim::SelfConsumption => None,
    });
    let lowest = peaks.reduce(f64::min);
    lowest.map_or(Demand::default(), |so_far_kw| Demand { per_kw: PEAK_PER_KW, so_far_kw })
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
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::{DayPlan, Early, Planning, in_good_order, slot_start};
    use super::*;
    use crate::logic::decision::PlanView;
    use crate::logic::energy::plan::{Budget, Group, Session, Standing, solve};
    use crate::logic::site::Strategy;
    use crate::units::{Moment, Watts};

    fn shaving(kw: f64) -> Battery {
        Battery {
            id: Id::try_from("b").unwrap(),
            name: "b".into(),
            max_charge: Watts(5000.0),
            max_discharge: Watts(5000.0),
            min_soc: Soc::default(),
            capacity: None,
            strategy: Strategy { aim: Aim::PeakShaving(Watts(kw * 1000.0)), ..Strategy::default() },
        }
    }

    /// Two cars that would all charge in the cheap hour keep below the peak, and pass it only for their energy.
    #[test]
    fn cars_keep_below_the_peak_that_a_battery_shaves() {
        for (need_kwh, highest) in [(6.0, 8.0), (20.0, 11.0)] {
            let car = Session {
                departure: 16,
                need_kwh,
                efficiency: 1.0,
                min_kw: 1.4,
                max_kw: 11.0,
                phases: [true; 3],
                ..Session::default()
            };
            let mut problem = Problem {
                steps: 16,
                step_hours: SLOT_HOURS,
                pv_kw: vec![0.0; 16],
                base_kw: vec![1.0; 16],
                import_price: (0..16).map(|t| if t < 4 { 0.1 } else { 0.3 }).collect(),
                export_price: vec![0.05; 16],
                import_limit_kw: vec![40.0; 16],
                export_limit_kw: vec![40.0; 16],
                demand: peak(&[shaving(8.0), shaving(9.0)]),
                sessions: vec![car; 2],
                groups: vec![Group { limit_kw: 40.0, members: Vec::new() }],
                ..Problem::default()
            };
            let mut highest_of = |demand: Demand| {
                problem.demand = demand;
                let mut plan = solve(&problem, Budget::default());
                let grid = in_good_order((&problem, &[16, 16]), &mut plan, 40.0);
                assert!(plan.unserved_kwh < 1e-3, "{}", plan.unserved_kwh);
                grid.into_iter().fold(0.0, f64::max)
            };
            let kept = highest_of(peak(&[shaving(8.0), shaving(9.0)]));
            assert!((kept - highest).abs() < 0.05, "{need_kwh} kWh: {kept}");
            assert!(highest_of(peak(&[])) > 12.0);
        }
    }

    /// A peak above what is filled early moves nobody beyond that.
    #[test]
    fn nobody_is_early_beyond_three_quarters_of_the_connection() {
        let car = Session {
            departure: 16,
            need_kwh: 10.0,
            efficiency: 1.0,
            min_kw: 1.4,
            max_kw: 11.0,
            phases: [true; 3],
            ..Session::default()
        };
        let problem = Problem {
            steps: 16,
            step_hours: SLOT_HOURS,
            pv_kw: vec![0.0; 16],
            base_kw: vec![1.0; 16],
            import_price: vec![0.3; 16],
            demand: peak(&[shaving(100.0)]),
            sessions: vec![car; 4],
            groups: vec![Group { limit_kw: 40.0, members: Vec::new() }],
            ..Problem::default()
        };
        let mut solved = Plan { session_kw: vec![vec![2.5; 16]; 4], ..Plan::default() };
        let grid = in_good_order((&problem, &[16; 4]), &mut solved, 40.0);
        let highest = grid.into_iter().fold(0.0, f64::max);
        assert!((29.0..=30.0 + 1e-6).contains(&highest), "{highest} kW of 40");
    }

    /// What the plan spreads below the peak is not handed out at once: cars share what is left below it.
    #[test]
    fn being_early_takes_nobody_above_the_peak() {
        let utc = chrono::DateTime::from_timestamp(1_780_000_200, 0).unwrap();
        let now = Moment { uptime: std::time::Duration::from_secs(1000), utc };
        let ids = ["a", "b"].map(|id| Id::try_from(id).unwrap());
        let priced = |most_kw: f64, least: f64, price: [f64; 4]| {
            let view = PlanView {
                made: utc,
                step_s: 900,
                currency: "EUR".into(),
                limit_w: 40_000.0,
                slots: Vec::new(),
                lanes: Vec::new(),
            };
            let chargers: BTreeMap<Id, Vec<f64>> =
                ids.iter().cloned().map(|id| (id, vec![2.0, 4.0, 4.0, 4.0])).collect();
            let plan = DayPlan {
                made: utc,
                start: slot_start(utc),
                standing: Standing::default(),
                early: Early::of(&price, &chargers, most_kw),
                chargers,
                jobs: BTreeMap::new(),
                battery: None,
                grid: vec![5.0, 8.0, 8.0, 8.0],
                short: BTreeSet::new(),
                view,
            };
            let planning = Planning { plan: Some(plan), ..Planning::default() };
            ids.each_ref().map(|id| planning.beyond_share(id, Watts(least), now).get())
        };
        let beyond = |most_kw: f64, least: f64| priced(most_kw, least, [0.3; 4]);
        assert_eq!(beyond(8.0, 1_000.0), [1_500.0; 2]);
        assert_eq!(beyond(8.0, 2_140.0), [0.0; 2], "the least current would pass the peak");
        assert_eq!(beyond(4.0, 0.0), [0.0; 2]);
        assert_eq!(beyond(f64::MAX, 2_140.0), [12_000.0; 2], "no peak costs anything");
        let cheaper = priced(f64::MAX, 0.0, [0.3, 0.2, 0.3, 0.4]);
        assert_eq!(cheaper, [8_000.0; 2], "nobody is early for what is cheaper later");
    }

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
