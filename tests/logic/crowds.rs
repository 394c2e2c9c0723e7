//! The day plan of many cars, for which prices are cried: legal, near its bound, for little work, and for less
//! after another plan.
//!
//! What a stranger gets wrong: work is counted, not timed, so a machine that is busy says the same.

use wattgate::logic::energy::plan::{Budget, Plan, Problem, Session, Store, solve, solve_after};

use crate::plan::{car, judge, legal, random_site, site};

/// A site of many cars, for which prices are cried: everything else as on any random site.
fn crowd(r: &mut fastrand::Rng) -> Problem {
    let mut problem = random_site(r);
    while problem.steps < 48 {
        problem = random_site(r);
    }
    let last = i64::try_from(problem.steps).unwrap();
    let cars = r.usize(150..300);
    for _ in 0..cars {
        let one = car(r.i64(-2..last - 4), 0, 1.0 + 8.0 * r.f64());
        let phase = r.usize(0..4);
        let single = Session { min_kw: 1.38, max_kw: 7.36, ..one };
        let one = if phase == 3 {
            one
        } else {
            Session { phases: [0, 1, 2].map(|p| p == phase), ..single }
        };
        problem.sessions.push(Session { departure: one.arrival + r.i64(10..40), ..one });
    }
    let more = 4.0 + 12.0 * r.f64();
    problem.import_limit_kw.iter_mut().for_each(|kw| *kw *= more);
    problem.export_limit_kw.iter_mut().for_each(|kw| *kw *= more);
    problem.phase_limit_kw = problem.phase_limit_kw.map(|kw| kw * more);
    problem
}

/// Legal, and no better than the bound, where many cars are planned at once; what the bound says holds for cars
/// that know no least power, too.
#[test]
fn crowds_are_planned_legally_and_within_their_bound() {
    let mut near = 0;
    for seed in 0..24 {
        let mut problem = crowd(&mut fastrand::Rng::with_seed(seed));
        let plan = legal(&problem, &format!("crowd {seed}"));
        near += usize::from(plan.score - plan.legal_bound <= 2.5e-3 * plan.score.abs());
        problem
            .sessions
            .iter_mut()
            .for_each(|session| (session.min_kw, session.taper) = (0.0, None));
        problem.jobs.iter_mut().for_each(|job| job.min_kw = 0.0);
        let free = solve(&problem, Budget::default());
        if free.overload_kwh <= 1e-6 && plan.overload_kwh <= 1e-6 {
            let least = free.score.min(plan.score) + 1e-6 * (1.0 + free.score.abs());
            assert!(
                plan.bound <= least && free.bound <= least,
                "crowd {seed}: {} {} {least}",
                plan.bound,
                free.bound
            );
        }
    }
    assert!(near >= 9, "only {near} of 24 are near their bound");
}

/// A battery of so many kWh, two fifths full.
pub fn battery(size: f64) -> Store {
    Store {
        soc0_kwh: 0.4 * size,
        soc_min_kwh: 0.1 * size,
        soc_max_kwh: size,
        soc_end_min_kwh: 0.4 * size,
        charge_kw: 0.4 * size,
        discharge_kw: 0.4 * size,
        eff_charge: 0.96,
        eff_discharge: 0.96,
        wear_per_kwh: 0.01,
        no_discharge_to_grid: false,
        sun_only: false,
    }
}

/// A day of a car park, in the proportions that such places have; some ask for more than their stay can give.
fn car_park(cars: usize, r: &mut fastrand::Rng) -> Problem {
    let (steps, size) = (96, cars as f64);
    let mut problem = site(steps, 0.25);
    let day = |t: usize| ((t as f64 / 4.0 - 6.0) / 12.0 * std::f64::consts::PI).sin().max(0.0);
    problem.pv_kw = (0..steps).map(|t| 0.4 * size * day(t)).collect();
    problem.base_kw = vec![0.05 * size; steps];
    let hourly: Vec<f64> = (0..24).map(|_| 0.05 + 0.3 * r.f64()).collect();
    problem.import_price = (0..steps).map(|t| hourly[t / 4]).collect();
    problem.export_price = vec![0.04; steps];
    problem.sessions = (0..cars)
        .map(|_| {
            let arrival = 4 * r.i64(5..13) + r.i64(0..4);
            let kwh = 0.5 - 11.0 * (1.0 - r.f64()).ln();
            let stay = 4.0 - 24.0 * (1.0 - r.f64()).ln();
            let (single, phase) = (r.usize(0..5) > 1, r.usize(0..3));
            let one = car(arrival, arrival + stay as i64, kwh);
            let phases = [0, 1, 2].map(|p| !single || p == phase);
            let (min_kw, max_kw) = if single { (1.38, 7.36) } else { (4.14, 11.0) };
            Session { min_kw, max_kw, phases, ..one }
        })
        .collect();
    let asked: f64 = problem.sessions.iter().map(|session| session.need_kwh).sum();
    problem.import_limit_kw = vec![asked / 24.0 * 1.8 + 0.05 * size; steps];
    problem.export_limit_kw = vec![asked / 24.0; steps];
    problem.store = Some(battery(size));
    problem
}

/// More than prices take, and less than the careful way, multiplications.
const BY_PRICES: u64 = 15_000_000;

/// Prices alone find the plan of a car park, in a tenth of the work that the careful way takes.
#[test]
fn a_car_park_is_planned_by_prices_alone() {
    for seed in 0..6 {
        let problem = car_park(400, &mut fastrand::Rng::with_seed(seed));
        let plan = legal(&problem, &format!("car park {seed}"));
        let gap = plan.score - plan.legal_bound;
        assert!(gap <= 1e-3 * plan.score.abs(), "seed {seed}: {gap} of {}", plan.score);
        assert!(plan.work < BY_PRICES, "seed {seed}: {} multiplications", plan.work);
    }
}

/// The plan after a car has gone begins with the prices before: as good, for less work.
#[test]
fn a_plan_after_another_takes_less_work() {
    let mut by_prices = 0;
    for seed in 0..6 {
        let mut problem = car_park(400, &mut fastrand::Rng::with_seed(seed));
        let before = legal(&problem, &format!("all cars {seed}"));
        problem.sessions.remove(200);
        let (cold, warm) = (
            solve(&problem, Budget::default()),
            solve_after(&before.standing, &problem, Budget::default()),
        );
        let (broken, ..) = judge(&problem, &warm);
        assert!(broken.is_empty(), "seed {seed}: {broken:?}");
        let gap = warm.score - warm.legal_bound;
        assert!(gap <= 1e-3 * warm.score.abs(), "seed {seed}: {gap} of {}", warm.score);
        if cold.work < BY_PRICES {
            by_prices += 1;
            assert!(4 * warm.work < 3 * cold.work, "seed {seed}: {} of {}", warm.work, cold.work);
        }
    }
    assert!(by_prices >= 4, "only {by_prices} of 6 are planned by prices alone");
}

/// What has been mended after a car has gone or come is legal, within its own bound, and no further from it than a plan
/// that is searched for may be; it leaves no more energy out, and takes a part of the work.
#[test]
fn a_plan_is_mended_after_a_car_has_gone_or_come() {
    let (mut searched, mut mended, mut quick) = (0, 0, 0);
    for seed in 0..12 {
        let r = &mut fastrand::Rng::with_seed(seed);
        let cars = [12, 30, 200, 400][seed as usize % 4];
        let all = car_park(cars, r);
        let mut less = all.clone();
        less.sessions.remove(r.usize(0..cars));
        for (before, after, what) in [(&all, &less, "gone"), (&less, &all, "come")] {
            let what = format!("seed {seed}, {cars} cars, one has {what}");
            let from = solve(before, Budget::default());
            let anew = solve(after, Budget::default());
            let plan = solve_after(&from.standing, after, Budget::default());
            let (broken, unserved, cost) = judge(after, &plan);
            assert!(broken.is_empty(), "{what}: {broken:?}");
            assert!((unserved - plan.unserved_kwh).abs() < 1e-3, "{what}: {unserved}");
            assert!((cost - plan.cost).abs() < 1e-3 * (1.0 + cost.abs()), "{what}: {cost}");
            let least = plan.score.min(anew.score) + 1e-6 * anew.score.abs();
            assert!(plan.legal_bound <= least, "{what}: {} {least}", plan.legal_bound);
            let gap = |plan: &Plan| plan.score - plan.legal_bound;
            let most = gap(&anew).max(gap(&from) + 0.01 + 1e-3 * plan.cost.abs());
            let most = most.max(1e-3 * plan.score.abs());
            assert!(gap(&plan) <= most, "{what}: {} {most}", gap(&plan));
            let short = anew.unserved_kwh + (1e-4 * anew.unserved_kwh).max(2e-3);
            assert!(plan.unserved_kwh <= short, "{what}: {} {short}", plan.unserved_kwh);
            quick += usize::from(2 * plan.work < anew.work);
            (searched, mended) = (searched + anew.work, mended + plan.work);
        }
    }
    assert!(quick >= 8, "only {quick} of 24 are mended and not searched for");
    assert!(2 * mended < searched, "{mended} for {searched} multiplications");
}
