//! The day plan against a judge of its own: every rule is counted anew here from the problem's words,
//! with nothing taken from the planner but its schedule.

use wattgate::logic::energy::plan::{
    Budget, Demand, FaultKind, Group, Job, Limit, Member, Plan, Problem, Session, Store, Taper,
    solve,
};

const EPS: f64 = 1e-3;

pub fn site(steps: usize, hours: f64) -> Problem {
    Problem {
        steps,
        step_hours: hours,
        pv_kw: vec![0.0; steps],
        pv_curtailable: true,
        base_kw: vec![1.0; steps],
        import_price: vec![0.3; steps],
        export_price: vec![0.08; steps],
        import_limit_kw: vec![30.0; steps],
        export_limit_kw: vec![30.0; steps],
        base_share: [1.0 / 3.0; 3],
        ..Problem::default()
    }
}

pub fn car(arrival: i64, departure: i64, need_kwh: f64) -> Session {
    Session {
        arrival,
        departure,
        need_kwh,
        efficiency: 1.0,
        min_kw: 4.14,
        max_kw: 11.0,
        phases: [true; 3],
        taper: None,
    }
}

/// A rule that is broken, by how much; unserved kWh and cost.
pub fn judge(problem: &Problem, plan: &Plan) -> (Vec<String>, f64, f64) {
    let (steps, hours) = (problem.steps, problem.step_hours);
    let mut broken = Vec::new();
    let mut loads: Vec<(Member, Session, &Vec<f64>)> = Vec::new();
    for (i, (session, kw)) in problem.sessions.iter().zip(&plan.session_kw).enumerate() {
        loads.push((Member::Session(i), *session, kw));
    }
    for (i, (job, kw)) in problem.jobs.iter().zip(&plan.job_kw).enumerate() {
        let as_car = Session {
            arrival: job.release,
            departure: job.deadline,
            need_kwh: job.need_kwh,
            efficiency: 1.0,
            min_kw: job.min_kw,
            max_kw: job.max_kw,
            phases: job.phases,
            taper: None,
        };
        loads.push((Member::Job(i), as_car, kw));
    }
    let mut unserved = 0.0;
    let mut total = vec![0.0; steps];
    let mut phase = vec![[0.0; 3]; steps];
    for (member, load, kw) in &loads {
        let least = load.min_kw.min(load.max_kw);
        let mut got = 0.0;
        for (t, kw) in kw.iter().enumerate() {
            let there = (load.arrival..load.departure).contains(&(t as i64));
            let on = *kw > EPS;
            if !kw.is_finite() || *kw < -EPS || *kw > load.max_kw.max(0.0) + EPS || (on && !there) {
                broken.push(format!("{member:?} power {kw} in step {t}"));
            }
            if on && *kw < least - EPS {
                broken.push(format!("{member:?} below its least: {kw} in step {t}"));
            }
            if let Some(taper) = load.taper.filter(|_| on) {
                let most = taper.kw_per_kwh * (load.need_kwh - got);
                if *kw > most + EPS {
                    broken.push(format!("{member:?} above its taper in step {t}: {kw} > {most}"));
                }
            }
            got += kw * hours * load.efficiency;
            total[t] += kw;
            let count = load.phases.iter().filter(|p| **p).count().max(1) as f64;
            (0..3).filter(|p| load.phases[*p]).for_each(|p| phase[t][p] += kw / count);
        }
        if got > load.need_kwh.max(0.0) + EPS {
            broken.push(format!("{member:?} gets {got}"));
        }
        unserved += (load.need_kwh - got).max(0.0);
    }
    for group in &problem.groups {
        for t in 0..steps {
            let of = |m: &Member| loads.iter().find(|l| l.0 == *m).map_or(0.0, |l| l.2[t]);
            let sum: f64 = group.members.iter().map(of).sum();
            if sum > group.limit_kw + EPS {
                broken.push(format!("circuit in step {t}: {sum}"));
            }
        }
    }
    let cost = grid(problem, plan, (&total, &phase), &mut broken);
    (broken, unserved, cost)
}

fn grid(
    problem: &Problem,
    plan: &Plan,
    (total, phase): (&[f64], &[[f64; 3]]),
    broken: &mut Vec<String>,
) -> f64 {
    let hours = problem.step_hours;
    let store = problem.store.unwrap_or_default();
    let (mut level, mut cost, mut over) = (store.soc0_kwh, 0.0, 0.0);
    let mut peak = problem.demand.so_far_kw;
    for t in 0..problem.steps {
        let (battery, curtail) = (plan.store_kw[t], plan.curtail_kw[t]);
        if battery > store.charge_kw + EPS || -battery > store.discharge_kw + EPS {
            broken.push(format!("battery power {battery} in step {t}"));
        }
        if battery > 0.0 {
            level += battery * hours * store.eff_charge;
        } else if battery < 0.0 {
            level += battery * hours / store.eff_discharge;
        }
        if level < store.soc_min_kwh - EPS || level > store.soc_max_kwh + EPS {
            broken.push(format!("battery level {level} in step {t}"));
        }
        if curtail < -EPS || curtail > problem.pv_kw[t] + EPS {
            broken.push(format!("curtailment {curtail} in step {t}"));
        }
        let beside = battery - problem.pv_kw[t] + curtail;
        let net = problem.base_kw[t] + total[t] + beside;
        if store.sun_only && battery.min(net) > EPS {
            broken.push(format!("battery buys {battery} of {net} in step {t}"));
        }
        if -net > problem.export_limit_kw[t] + EPS {
            broken.push(format!("export {net} in step {t}"));
        }
        if store.no_discharge_to_grid && -net > problem.pv_kw[t] - curtail + EPS {
            broken.push(format!("battery to grid in step {t}"));
        }
        over += (net - problem.import_limit_kw[t]).max(0.0);
        if let Some(limit) = problem.phase_limit_kw {
            for (kw, share) in phase[t].iter().zip(problem.base_share) {
                let flow = kw + share * problem.base_kw[t] + beside / 3.0;
                over += (flow.abs() - limit).max(0.0);
            }
        }
        peak = peak.max(net);
        let price = if net > 0.0 { problem.import_price[t] } else { problem.export_price[t] };
        cost += hours * (net * price + store.wear_per_kwh / 2.0 * battery.abs());
    }
    // What the sun leaves over is no promise: such a battery only keeps what it has.
    let kept = if store.sun_only { store.soc0_kwh } else { f64::MAX };
    if level < store.soc_end_min_kwh.min(kept) - EPS {
        broken.push(format!("battery ends at {level}"));
    }
    if over * hours > 1e-2 {
        broken.push(format!("overload {}", over * hours));
    }
    cost + problem.demand.per_kw * peak
}

pub fn legal(problem: &Problem, words: &str) -> Plan {
    let plan = solve(problem, Budget::default());
    let (broken, unserved, cost) = judge(problem, &plan);
    assert!(broken.is_empty(), "{words}: {broken:?}");
    assert!((unserved - plan.unserved_kwh).abs() < 1e-2, "{words}: {unserved}");
    assert!((cost - plan.cost).abs() < 1e-3 * (1.0 + cost.abs()), "{words}: {cost} {}", plan.cost);
    assert!(plan.bound <= plan.score + 1e-9, "{words}");
    plan
}

#[test]
fn the_cheapest_steps_are_taken_and_the_proof_is_tight() {
    let mut problem = site(8, 0.5);
    problem.import_price = vec![0.3, 0.3, 0.1, 0.1, 0.3, 0.1, 0.3, 0.3];
    problem.sessions = vec![car(0, 8, 16.5)];
    let plan = legal(&problem, "one car");
    for t in [2, 3, 5] {
        assert!((plan.session_kw[0][t] - 11.0).abs() < 1e-3, "{:?}", plan.session_kw);
    }
    assert!(plan.score - plan.bound < 1e-3 && plan.finished, "{plan:?}");
    assert_eq!(plan, solve(&problem, Budget::default()));
}

#[test]
fn cars_take_turns_where_all_at_once_would_be_too_much() {
    let mut problem = site(12, 0.25);
    problem.import_limit_kw = vec![6.0; 12];
    problem.sessions = vec![car(0, 12, 7.0); 3];
    let plan = legal(&problem, "turns");
    assert!(plan.unserved_kwh < 21.0 - 0.98 * 15.0, "{}", plan.unserved_kwh);
    let named =
        |b: &wattgate::logic::energy::plan::Bottleneck| matches!(b.limit, Limit::Import { .. });
    assert!(plan.bottlenecks.iter().any(named), "{:?}", plan.bottlenecks);
}

/// A battery that only the sun may charge is filled by it in the plan, and cars take the sun of other hours.
#[test]
fn a_battery_for_the_sun_buys_nothing_in_the_plan() {
    let mut problem = site(12, 1.0);
    problem.import_price = (0..12).map(|t| if t < 2 { 0.05 } else { 0.4 }).collect();
    problem.pv_kw = (0..12).map(|t| if (4..8).contains(&t) { 6.0 } else { 0.0 }).collect();
    let store = Store {
        soc0_kwh: 1.0,
        soc_min_kwh: 1.0,
        soc_max_kwh: 11.0,
        soc_end_min_kwh: 1.0,
        charge_kw: 5.0,
        discharge_kw: 5.0,
        eff_charge: 1.0,
        eff_discharge: 1.0,
        wear_per_kwh: 0.0,
        no_discharge_to_grid: true,
        sun_only: false,
    };
    let bought = |sun_only: bool| {
        let problem = Problem { store: Some(Store { sun_only, ..store }), ..problem.clone() };
        let plan = legal(&problem, "battery");
        (plan.store_kw[..2].iter().sum::<f64>(), plan)
    };
    let (kwh, _) = bought(false);
    assert!(kwh > 4.9, "cheap energy is bought: {kwh}");
    let (kwh, plan) = bought(true);
    assert!(kwh <= 0.0, "{kwh}");
    // All that the sun leaves over, ten kWh at most, is used in the evening: four hours of 1 kW.
    let taken: f64 = plan.store_kw.iter().filter(|kw| **kw > 0.0).sum();
    assert!((taken - 4.0).abs() < 0.01, "{taken}");
    assert!(plan.score - plan.legal_bound < 0.01, "{} {}", plan.score, plan.legal_bound);
    // (charge asked for at the end, sun only, what is said)
    let table = [
        (1.0, true, None),
        (9.0, true, Some(FaultKind::EndOfSunOnly)),
        (12.0, true, Some(FaultKind::EndOutOfReach)),
        (9.0, false, None),
        (12.0, false, Some(FaultKind::EndOutOfReach)),
    ];
    for (soc_end_min_kwh, sun_only, wanted) in table {
        let store = Store { sun_only, soc_end_min_kwh, ..store };
        let plan = solve(&Problem { store: Some(store), ..problem.clone() }, Budget::default());
        let said: Vec<FaultKind> = plan.faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(said, Vec::from_iter(wanted), "{soc_end_min_kwh} kWh, {sun_only}");
    }
}

#[test]
fn a_car_that_tapers_is_never_given_more_than_it_takes() {
    let mut problem = site(16, 0.25);
    let mut slow = car(0, 16, 10.0);
    slow.taper = Some(Taper { kw_per_kwh: 2.0 });
    problem.sessions = vec![slow, car(2, 9, 9.0)];
    let plan = legal(&problem, "taper");
    assert!(plan.unserved_kwh < 2.5, "{plan:?}");
}

pub fn random_site(r: &mut fastrand::Rng) -> Problem {
    let steps = r.usize(1..60);
    let mut problem = site(steps, [0.25, 1.0 / 12.0][r.usize(0..2)]);
    let sun = r.f64() * 30.0;
    let dear = r.f64() - 0.2;
    problem.pv_kw = (0..steps).map(|_| sun * r.f64()).collect();
    problem.import_price = (0..steps).map(|_| dear + 0.2 * r.f64()).collect();
    problem.export_price = problem.import_price.iter().map(|p| p - 0.1 + 0.12 * r.f64()).collect();
    problem.import_limit_kw = vec![5.0 + 60.0 * r.f64(); steps];
    problem.export_limit_kw = vec![2.0 + 30.0 * r.f64(); steps];
    problem.demand = Demand { per_kw: r.f64(), so_far_kw: 20.0 * r.f64() };
    problem.phase_limit_kw = r.bool().then(|| 15.0 + 15.0 * r.f64());
    if r.bool() {
        problem.store = Some(Store {
            soc0_kwh: 5.0,
            soc_min_kwh: 1.0,
            soc_max_kwh: 10.0 + 10.0 * r.f64(),
            soc_end_min_kwh: 5.0 * r.f64(),
            charge_kw: 4.0,
            discharge_kw: 6.0,
            eff_charge: 0.95,
            eff_discharge: 0.95,
            wear_per_kwh: 0.02 * r.f64(),
            no_discharge_to_grid: r.bool(),
            sun_only: steps.is_multiple_of(3),
        });
    }
    let last = i64::try_from(steps).unwrap();
    let loads = r.usize(0..25);
    for _ in 0..loads {
        let from = r.i64(-2..last);
        let single = r.usize(0..4);
        let phases = if single == 3 { [true; 3] } else { [0, 1, 2].map(|p| p == single) };
        let ampere = if single == 3 { 0.69 } else { 0.23 };
        problem.sessions.push(Session {
            arrival: from,
            departure: from + r.i64(1..30),
            need_kwh: 25.0 * r.f64(),
            efficiency: 0.9 + 0.1 * r.f64(),
            min_kw: 6.0 * ampere,
            max_kw: (4.0 + 28.0 * r.f64()) * ampere,
            phases,
            taper: (r.usize(0..8) == 0).then(|| Taper { kw_per_kwh: 1.0 + 5.0 * r.f64() }),
        });
    }
    let (release, deadline) = (r.i64(0..last), last);
    let (need_kwh, min_kw, max_kw) = (4.0 * r.f64(), 0.3 * r.f64(), 0.5 + r.f64());
    problem.jobs.push(Job { release, deadline, need_kwh, min_kw, max_kw, phases: [true; 3] });
    if loads > 3 {
        let members = vec![Member::Session(0), Member::Session(1), Member::Job(0)];
        problem.groups.push(Group { limit_kw: 3.0 + 10.0 * r.f64(), members });
    }
    problem
}

#[test]
fn schedules_are_legal_on_any_sound_site() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let problem = random_site(&mut random);
        legal(&problem, &format!("seed {seed}"));
    }
}

/// Without least powers and with only the best of two budgets counted, no schedule may fall below the bound
/// of the stricter site: a bound above that would be no bound.
#[test]
fn no_schedule_is_better_than_the_bound() {
    for seed in 0..150 {
        let mut problem = random_site(&mut fastrand::Rng::with_seed(seed));
        problem.sessions.iter_mut().for_each(|session| session.taper = None);
        let strict = solve(&problem, Budget::default());
        let hasty = solve(&problem, Budget(300_000));
        problem.sessions.iter_mut().for_each(|session| session.min_kw = 0.0);
        problem.jobs.iter_mut().for_each(|job| job.min_kw = 0.0);
        let free = solve(&problem, Budget::default());
        if free.overload_kwh > 1e-6 || strict.overload_kwh > 1e-6 || hasty.overload_kwh > 1e-6 {
            continue;
        }
        let least = free.score.min(strict.score) + 1e-6 * (1.0 + free.score.abs());
        assert!(strict.bound <= least, "seed {seed}: {} {least}", strict.bound);
        assert!(hasty.bound <= least, "seed {seed}, hasty: {} {least}", hasty.bound);
        let legal = strict.score.min(hasty.score) + 1e-6 * (1.0 + strict.score.abs());
        assert!(strict.legal_bound <= legal && hasty.legal_bound <= legal, "seed {seed}");
    }
}

#[test]
fn a_small_budget_still_gives_a_legal_plan() {
    for seed in 0..60 {
        let problem = random_site(&mut fastrand::Rng::with_seed(seed));
        for budget in [0, 20_000, 400_000] {
            let plan = solve(&problem, Budget(budget));
            let (broken, _, _) = judge(&problem, &plan);
            assert!(broken.is_empty(), "seed {seed}, budget {budget}: {broken:?}");
        }
    }
}

#[test]
fn broken_input_is_named_and_the_rest_is_planned() {
    let mut problem = site(12, 0.25);
    problem.sessions = vec![
        car(8, 3, 5.0),
        car(0, 12, f64::NAN),
        car(0, 12, 500.0),
        car(0, 12, 0.2),
        Session { phases: [false; 3], ..car(0, 12, 5.0) },
        Session { max_kw: 2.0, ..car(0, 12, 2.0) },
        car(0, 12, 5.0),
    ];
    problem.groups = vec![Group { limit_kw: 40.0, members: vec![Member::Session(99)] }];
    let plan = solve(&problem, Budget::default());
    let kinds: Vec<FaultKind> = plan.faults.iter().map(|f| f.kind).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert!(kinds.contains(&FaultKind::NoWindow) && kinds.contains(&FaultKind::UnknownMember));
    let got: f64 = plan.session_kw[6].iter().sum::<f64>() * 0.25;
    assert!((got - 5.0).abs() < 1e-3, "{got}");
}

#[test]
fn any_input_gives_a_plan() {
    let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, -1.0, 0.0, 1e-300, 1e300, 7.0];
    for seed in 0..400 {
        let mut r = fastrand::Rng::with_seed(seed);
        let mut problem = random_site(&mut r);
        for _ in 0..r.usize(1..6) {
            let value = odd[r.usize(0..odd.len())];
            let places = problem.sessions.len().max(1);
            match r.usize(0..16) {
                0 => problem.steps = r.usize(0..3),
                1 => problem.step_hours = value,
                2 => problem.pv_kw[0] = value,
                3 => problem.base_kw[0] = value,
                4 => problem.import_price[0] = value,
                5 => problem.export_limit_kw.clear(),
                6 => problem.import_limit_kw[0] = value,
                7 => problem.phase_limit_kw = Some(value),
                8 => problem.base_share = [value; 3],
                9 => problem.demand.per_kw = value,
                10 => problem.store = problem.store.map(|s| Store { soc0_kwh: value, ..s }),
                11 => problem.store = problem.store.map(|s| Store { eff_charge: value, ..s }),
                12 => problem.groups.push(Group { limit_kw: value, members: vec![] }),
                13 => problem.jobs[0].max_kw = value,
                k => {
                    if let Some(s) = problem.sessions.get_mut(r.usize(0..places)) {
                        let fields = [&mut s.need_kwh, &mut s.min_kw, &mut s.max_kw];
                        *fields.into_iter().nth(k % 3).unwrap() = value;
                        s.departure = [i64::MIN, i64::MAX, 3][r.usize(0..3)];
                    }
                }
            }
            if problem.pv_kw.is_empty() || problem.export_limit_kw.is_empty() {
                break;
            }
        }
        let plan = solve(&problem, Budget(20_000_000));
        let numbers = plan.session_kw.iter().chain(&plan.job_kw).flatten();
        let all = numbers.chain(&plan.store_kw).chain(&plan.curtail_kw);
        assert!(all.into_iter().all(|kw| kw.is_finite()), "seed {seed}");
    }
}

#[test]
fn ten_thousand_cars_and_one_step_are_no_trouble() {
    let mut problem = site(96, 0.25);
    problem.import_limit_kw = vec![5000.0; 96];
    let mut r = fastrand::Rng::with_seed(7);
    for _ in 0..10_000 {
        let from = r.i64(0..90);
        problem.sessions.push(car(from, from + r.i64(2..40), 20.0 * r.f64()));
    }
    legal(&problem, "ten thousand");
    let mut problem = site(1, 0.25);
    problem.sessions = vec![car(0, 1, 2.0), car(-5, 9, 2.0)];
    legal(&problem, "one step");
}
