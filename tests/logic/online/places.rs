//! Three sites and their weeks, made from seeds, in the form of scenario files: a home with a dynamic price, a car
//! park at work with a demand charge, and a depot of vans at night. Owns their proportions.
//!
//! What a stranger gets wrong: the week before is made, too: sun and building as they were then are what a
//! forecast may know.

use serde_json::{Value, json};

/// Steps of a day.
const DAY: usize = 96;
/// Days of the week that is lived, and of the one before.
const WEEK: usize = 7;

/// A week as a scenario file, and what was before it.
pub struct Week {
    pub file: Value,
    /// Sun and building of the week before, kW.
    pub before: Vec<(f64, f64)>,
    /// Who came then, in the form of the file; steps count from that week's beginning.
    pub came: Vec<Value>,
    /// Hour at which the next day's prices are published.
    pub published: Option<f64>,
}

/// A week at `home`, at `work` or of a depot.
pub fn week(name: &str, seed: u64) -> Week {
    let r = &mut fastrand::Rng::with_seed(seed);
    match name {
        "home" => home(r),
        "work" => work(r),
        _ => depot(r),
    }
}

fn hour(step: usize) -> f64 {
    (step % DAY) as f64 / 4.0
}

fn workday(step: usize) -> bool {
    step / DAY % 7 < 5
}

/// Sun of so many days, for 1 kW: clear, changeable and grey days, clouds that come and go.
fn sun(r: &mut fastrand::Rng, days: usize) -> Vec<f64> {
    let (mut clear, mut cloud) = (0.8, 0.0);
    let step = |t: usize| {
        if t.is_multiple_of(DAY) {
            clear = [0.95, 0.7, 0.3][r.usize(0..3)];
        }
        cloud += 0.3 * (0.5 * (r.f64() - 0.5) - cloud);
        let high = ((hour(t) - 6.0) / 12.0 * std::f64::consts::PI).sin().max(0.0);
        (high * (clear + cloud)).clamp(0.0, 1.0)
    };
    (0..days * DAY).map(step).collect()
}

fn split(pv: Vec<f64>, base: Vec<f64>) -> (Vec<(f64, f64)>, Vec<f64>, Vec<f64>) {
    let before = WEEK * DAY;
    let past = pv[..before].iter().copied().zip(base[..before].iter().copied()).collect();
    (past, pv[before..].to_vec(), base[before..].to_vec())
}

fn car(
    id: usize,
    (arrival, departure): (usize, usize),
    kwh: f64,
    phases: Value,
    max_a: f64,
) -> Value {
    json!({"id": format!("c{id}"), "arrival": arrival, "departure": departure,
           "kwh": (kwh * 1000.0).round() / 1000.0, "phases": phases, "max_a": max_a})
}

/// The week's file; of the cars of two weeks those of the second, and beside it those of the first.
fn file(name: &str, (pv, base): (&[f64], &[f64]), evs: Vec<Value>) -> (Value, Vec<Value>) {
    let from = (WEEK * DAY) as u64;
    let step = |car: &Value, key: &str| car[key].as_u64().unwrap();
    // Who would stay beyond the week's end is not part of it.
    let within = evs.into_iter().filter(|car| step(car, "departure") <= 2 * from);
    let (came, mut evs): (Vec<Value>, Vec<Value>) =
        within.partition(|car| step(car, "arrival") < from);
    for car in &mut evs {
        for key in ["arrival", "departure"] {
            car[key] = json!(step(car, key) - from);
        }
    }
    let file = json!({"name": name, "timezone": "UTC", "start": "2026-06-01T00:00:00+00:00",
        "step_s": 900, "steps": WEEK * DAY, "currency": "EUR", "pv_kw": pv,
        "base_load_kw": base, "evs": evs});
    (file, came)
}

fn battery(kwh: f64, kw: f64) -> Value {
    json!({"capacity_kwh": kwh, "soc0_kwh": 0.5 * kwh, "soc_min_kwh": 0.1 * kwh, "soc_max_kwh": kwh,
           "soc_end_min_kwh": 0.5 * kwh, "charge_kw": kw, "discharge_kw": kw, "eff_charge": 0.95,
           "eff_discharge": 0.95, "wear_per_kwh": 0.02})
}

/// Two cars, a roof, a battery, a price for each hour that is known a day ahead.
fn home(r: &mut fastrand::Rng) -> Week {
    let pv = sun(r, 2 * WEEK).into_iter().map(|sun| 8.0 * sun).collect();
    let base = (0..2 * WEEK * DAY).map(|t| {
        let cooking = if (17.0..21.0).contains(&hour(t)) { 1.0 } else { 0.0 };
        0.25 + cooking * r.f64() + 0.3 * r.f64() + if r.usize(0..24) == 0 { 2.0 } else { 0.0 }
    });
    let (before, pv, base) = split(pv, base.collect());
    let level: Vec<f64> = (0..WEEK).map(|_| 0.18 + 0.1 * r.f64()).collect();
    let price = (0..WEEK * 24).map(|h| {
        let (day, of_day) = (h / 24, h % 24);
        let shape = [0.7, 0.6, 0.9, 1.4][of_day / 6];
        let sunny = if (11..16).contains(&of_day) { 0.5 } else { 1.0 };
        level[day] * shape * sunny + 0.03 * (r.f64() - 0.5)
    });
    let price: Vec<f64> = price.collect();
    let mut evs = Vec::new();
    for day in 0..2 * WEEK {
        let noon = day * DAY + 48;
        if r.usize(0..7) < 6 {
            let stay = (noon + r.usize(18..28), noon + DAY - r.usize(16..22));
            evs.push(car(evs.len(), stay, 6.0 + 16.0 * r.f64(), json!([1, 2, 3]), 16.0));
        }
        if r.usize(0..7) < 4 {
            let from = noon - r.usize(0..16);
            let stay = (from, from + r.usize(10..36));
            evs.push(car(evs.len(), stay, 4.0 + 14.0 * r.f64(), json!([2]), 32.0));
        }
    }
    let (mut week, came) = file("home", (&pv, &base), evs);
    week["import_price"] = (0..WEEK * DAY).map(|t| price[t / 4]).collect();
    week["export_price"] = json!(0.06);
    week["grid"] = json!({"import_kw": 11.0, "export_kw": 8.0, "phase_a": 20.0});
    week["battery"] = battery(10.0, 5.0);
    Week { file: week, before, came, published: Some(13.0) }
}

fn tariff(step: usize) -> f64 {
    match hour(step) {
        h if !(7.0..22.0).contains(&h) => 0.14,
        h if (17.0..21.0).contains(&h) => 0.34,
        _ => 0.24,
    }
}

/// Twenty-four points at work: everybody comes in the morning, some at noon; each kW of the highest import costs.
fn work(r: &mut fastrand::Rng) -> Week {
    let pv = sun(r, 2 * WEEK).into_iter().map(|sun| 60.0 * sun).collect();
    let base = (0..2 * WEEK * DAY).map(|t| {
        let busy = workday(t) && (7.0..19.0).contains(&hour(t));
        8.0 + 3.0 * r.f64() + if busy { 22.0 + 6.0 * r.f64() } else { 0.0 }
    });
    let (before, pv, base) = split(pv, base.collect());
    let mut evs = Vec::new();
    for day in 0..2 * WEEK {
        let cars = if workday(day * DAY) { r.usize(16..25) } else { r.usize(0..4) };
        for _ in 0..cars {
            let late = r.usize(0..4) == 0;
            let from = day * DAY + if late { r.usize(44..58) } else { r.usize(28..40) };
            let stay = (from, (from + r.usize(10..38)).min(day * DAY + 80));
            let single = r.usize(0..10) < 6;
            let phases = if single { json!([r.usize(1..4)]) } else { json!([1, 2, 3]) };
            let kwh = (3.0 - 9.0 * (1.0 - r.f64()).ln()).min(40.0);
            evs.push(car(evs.len(), stay, kwh, phases, if single { 32.0 } else { 16.0 }));
        }
    }
    let (mut week, came) = file("work", (&pv, &base), evs);
    week["import_price"] = (0..WEEK * DAY).map(tariff).collect();
    week["export_price"] = json!(0.05);
    week["demand_charge_per_kw"] = json!(2.5);
    week["grid"] = json!({"import_kw": 90.0, "export_kw": 60.0, "phase_a": 150.0});
    week["battery"] = battery(60.0, 30.0);
    Week { file: week, before, came, published: None }
}

/// Fourteen vans that come in the evening and leave in the morning, on a connection that is small for them.
fn depot(r: &mut fastrand::Rng) -> Week {
    let pv = sun(r, 2 * WEEK).into_iter().map(|sun| 15.0 * sun).collect();
    let base = (0..2 * WEEK * DAY).map(|t| {
        let busy = workday(t) && (5.0..18.0).contains(&hour(t));
        4.0 + 2.0 * r.f64() + if busy { 8.0 + 4.0 * r.f64() } else { 0.0 }
    });
    let (before, pv, base) = split(pv, base.collect());
    let mut evs = Vec::new();
    for day in 0..2 * WEEK {
        for _ in 0..if workday(day * DAY) { 14 } else { r.usize(3..8) } {
            let from = day * DAY + r.usize(62..78);
            let stay = (from, (day + 1) * DAY + r.usize(20..32));
            evs.push(car(evs.len(), stay, 15.0 + 35.0 * r.f64(), json!([1, 2, 3]), 32.0));
        }
        if workday(day * DAY) {
            let from = day * DAY + r.usize(44..52);
            evs.push(car(evs.len(), (from, from + 6), 10.0, json!([1, 2, 3]), 32.0));
        }
    }
    let (mut week, came) = file("depot", (&pv, &base), evs);
    week["import_price"] = (0..WEEK * DAY).map(tariff).collect();
    week["export_price"] = json!(0.05);
    week["grid"] = json!({"import_kw": 63.0, "export_kw": 30.0, "phase_a": 100.0});
    Week { file: week, before, came, published: None }
}
