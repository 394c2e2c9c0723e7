//! Broken scenario files: whatever stands in them, there is a plan of the rest with a list of what could
//! not be planned and why, or an error that names its place; and that within a second of one core.
//!
//! What a stranger gets wrong: a value that is only odd (a price of -1, a departure in the year 3000) is no
//! fault. What counts is that nobody is dropped without being named.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use wattgate::app::plan::{Planned, Scenario, remarks};
use wattgate::logic::energy::plan::{Budget, solve};
use wattgate::texts::Lang;

use crate::plan::judge;

/// CPU time of this thread: other tests run beside it.
fn cpu() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn whole() -> Value {
    json!({
        "name": "whole", "start": "2026-03-02T08:00:00+01:00", "timezone": "Europe/Berlin",
        "step_s": 900, "steps": 24, "currency": "EUR",
        "pv_kw": 3, "base_load_kw": 2,
        "import_price": (0..24).map(|t| 0.2 + 0.01 * f64::from(t % 7)).collect::<Vec<_>>(),
        "export_price": 0.08, "demand_charge_per_kw": 0.5, "peak_so_far_kw": 4,
        "grid": {"import_kw": 40, "export_kw": 30, "voltage": 230, "phase_a": 80,
                 "base_phase_share": [0.4, 0.3, 0.3]},
        "battery": {"capacity_kwh": 10, "soc0_kwh": 5, "soc_min_kwh": 1, "soc_max_kwh": 10,
                    "soc_end_min_kwh": 4, "charge_kw": 5, "discharge_kw": 5, "eff_charge": 0.95,
                    "eff_discharge": 0.95, "wear_per_kwh": 0.02, "no_discharge_to_grid": true},
        "evs": [
            {"id": "good", "arrival": 2, "departure": 20, "kwh": 9, "max_kw": 11,
             "phases": [1, 2, 3]},
            {"id": "other", "arrival": 0, "departure": 12, "kwh": 6, "max_kw": 11, "min_a": 6,
             "max_a": 16, "phases": [1, 2, 3], "eff": 0.9},
        ],
        "compute": [{"id": "job", "release": 0, "deadline": 24, "kwh": 3, "min_kw": 0.5,
                     "max_kw": 2, "phases": [1, 2, 3]}],
        "groups": [{"name": "row", "limit_kw": 20, "members": ["good", "other"]}],
    })
}

/// Places of all values, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            found.push(format!("{at}/{key}"));
            places(inner, &format!("{at}/{key}"), found);
        }),
        Value::Array(list) => list.iter().take(3).enumerate().for_each(|(i, inner)| {
            found.push(format!("{at}/{i}"));
            places(inner, &format!("{at}/{i}"), found);
        }),
        _ => {}
    }
}

fn without(file: &mut Value, place: &str) {
    let (parent, key) = place.rsplit_once('/').unwrap();
    match file.pointer_mut(parent) {
        Some(Value::Object(map)) => _ = map.remove(key),
        Some(Value::Array(list)) => _ = list.remove(key.parse().unwrap()),
        _ => {}
    }
}

/// Plans a file's content; what a person is told of it.
fn tell(file: &Value, what: &str) -> Result<(Planned, Vec<String>), String> {
    let began = cpu();
    let scenario = Scenario::read(file).map_err(|wrong| wrong.place)?;
    let plan = solve(&scenario.problem, Budget::of(&scenario.problem));
    let took = cpu() - began;
    assert!(took <= Duration::from_secs(1), "{what}: {took:?}");
    let numbers = plan.session_kw.iter().chain(&plan.job_kw).flatten();
    let mut all = numbers.chain(&plan.store_kw).chain(&plan.curtail_kw);
    assert!(all.all(|kw| kw.is_finite()), "{what}");
    let planned = Planned { scenario, plan, solve_ms: took.as_secs_f64() * 1e3 };
    let told = remarks(&planned, Lang::En);
    Ok((planned, told))
}

/// kWh of a car, 0 where it is not even read.
fn served(planned: &Planned, id: &str) -> f64 {
    let at = planned.scenario.cars.iter().position(|known| known == id);
    at.map_or(0.0, |i| planned.plan.session_kw[i].iter().sum::<f64>() * 0.25)
}

#[test]
fn every_value_broken_in_every_way_is_planned_around_or_named() {
    let file = whole();
    let (good, told) = tell(&file, "whole").unwrap();
    let faultless = good.plan.faults.is_empty();
    assert!((served(&good, "good") - 9.0).abs() < 0.01 && faultless, "{told:?}");
    let mut all = Vec::new();
    places(&file, "", &mut all);
    let odd = [
        json!(null),
        json!("NaN"),
        json!(-1),
        json!(1e308),
        json!(1e-308),
        json!([]),
        json!({}),
        json!(true),
        json!([null, "x"]),
        json!(9_007_199_254_740_993_i64),
    ];
    let (mut planned, mut errors) = (0, 0);
    for place in &all {
        for way in 0..=odd.len() {
            let mut broken = file.clone();
            match odd.get(way) {
                Some(value) => *broken.pointer_mut(place).unwrap() = value.clone(),
                None => without(&mut broken, place),
            }
            let what = format!("{place} {:?}", odd.get(way));
            match tell(&broken, &what) {
                Err(wrong) => {
                    errors += 1;
                    assert!(!wrong.is_empty(), "{what}: an error without a place");
                    assert!(!place.starts_with("/evs/"), "{what}: one car stops the plan: {wrong}");
                }
                Ok((done, told)) => {
                    planned += 1;
                    let elsewhere = place.starts_with("/evs/1") || place.starts_with("/compute/0");
                    if elsewhere {
                        let kwh = served(&done, "good");
                        assert!((kwh - 9.0).abs() < 0.01, "{what}: the good car got {kwh}");
                    }
                    // Under whatever name it stands in the file now.
                    let others = done.scenario.cars.iter().filter(|id| *id != "good");
                    let other: f64 = others.map(|id| served(&done, id)).sum();
                    if place.starts_with("/evs/1/") && other < 0.1 {
                        let named =
                            |line: &String| line.contains("other") || line.contains("evs[1]");
                        assert!(
                            told.iter().any(named) || !place_matters(place, way),
                            "{what}: {told:?}"
                        );
                    }
                }
            }
        }
    }
    println!("{planned} broken files planned, {errors} refused with their place");
    assert!(planned > 300 && errors > 20, "{planned} {errors}");
}

/// Whether the change leaves a car that wants energy.
fn place_matters(place: &str, way: usize) -> bool {
    // "kwh": 1e-308 is nothing at all, and nothing is what it gets.
    !(place.ends_with("/kwh") && way == 4)
}

#[test]
fn ten_thousand_cars_half_of_them_broken_take_less_than_a_second() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut file = whole();
    file["steps"] = json!(96);
    file["import_price"] = json!(0.3);
    file["grid"] = json!({"import_kw": 4000, "export_kw": 4000});
    let car = |i: usize| {
        let from = rng.i64(0..80);
        let to = from + rng.i64(2..16);
        let (from, to) = if i.is_multiple_of(4) { (to, from) } else { (from, to) };
        let kwh = if i % 4 == 1 { json!("NaN") } else { json!(1.5 + 4.0 * rng.f64()) };
        json!({"id": format!("c{i}"), "arrival": from, "departure": to, "kwh": kwh, "max_kw": 11})
    };
    file["evs"] = (0..10_000).map(car).collect();
    file["groups"] = json!([]);
    let (done, told) = tell(&file, "ten thousand cars").unwrap();
    println!("10,000 cars: {:.0} ms of one core, {} named", done.solve_ms, told.len());
    let named = done.plan.faults.len() + done.scenario.unread.len();
    assert!(named >= 5_000, "{named} of 5,000 broken cars are named");
    let got = (0..10_000).filter(|i| served(&done, &format!("c{i}")) > 1.0).count();
    assert!(got >= 4_500, "{got} of 5,000 whole cars got energy");
}

/// Far finer than anybody plans, with every kind of limit: legal, and within a second.
#[test]
fn two_days_in_minutes_and_finer_take_less_than_a_second() {
    for (steps, step_s, cars) in [(2880, 60.0, 8), (2880, 60.0, 60), (4096, 42.1875, 60)] {
        let mut rng = fastrand::Rng::with_seed(steps);
        let mut file = whole();
        (file["steps"], file["step_s"]) = (json!(steps), json!(step_s));
        let price = (0..steps).map(|t| 0.2 + 0.01 * (t * 7 / 720 % 11) as f64);
        file["import_price"] = price.collect();
        let car = |i: usize| {
            let from = rng.u64(0..steps * 3 / 4);
            let to = from + rng.u64(steps / 16..steps / 3);
            let phases = if i.is_multiple_of(3) { json!([1, 2, 3]) } else { json!([i % 3]) };
            json!({"id": format!("c{i}"), "arrival": from, "departure": to,
                   "kwh": 2.0 + 10.0 * rng.f64(), "max_kw": 7.4, "phases": phases})
        };
        file["evs"] = (0..cars).map(car).collect();
        file["groups"] = json!([{"name": "row", "limit_kw": 20, "members": ["c0", "c1", "c2"]}]);
        let what = format!("{steps} steps, {cars} cars");
        let (done, _) = tell(&file, &what).unwrap();
        println!("{what}: {:.0} ms of one core", done.solve_ms);
        let (broken, _, _) = judge(&done.scenario.problem, &done.plan);
        assert!(broken.is_empty(), "{what}: {broken:?}");
        let kwh = |row: &Vec<f64>| row.iter().sum::<f64>() * step_s / 3600.0;
        let got = done.plan.session_kw.iter().filter(|row| kwh(row) > 1.0).count();
        assert!(got > cars / 2, "{what}: {got} cars got energy");
    }
}

#[test]
fn a_horizon_of_one_step_is_planned() {
    let mut file = whole();
    file["steps"] = json!(1);
    file["import_price"] = json!([0.3]);
    file["evs"] = json!([{"id": "good", "arrival": 0, "departure": 1, "kwh": 2, "max_kw": 11},
                         {"id": "gone", "arrival": 5, "departure": 9, "kwh": 2, "max_kw": 11}]);
    let (done, told) = tell(&file, "one step").unwrap();
    assert!((served(&done, "good") - 2.0).abs() < 0.01);
    assert!(told.iter().any(|line| line.contains("gone")), "{told:?}");
}
