//! A [`Plan`] into a schedule file. Owns the file's keys and signs, and nothing else.
//!
//! What a stranger gets wrong: `battery_charge_kw` is positive when the battery charges, on the AC side.

use serde_json::{Map, Value, json};

use super::scenario::Scenario;
use crate::logic::energy::plan::Plan;

/// The file's sign of battery power; the one place where it is decided.
#[must_use]
pub fn battery_charge_kw(plan: &Plan) -> Vec<f64> {
    // The planner counts charging positive, too.
    plan.store_kw.iter().map(|kw| rounded(*kw)).collect()
}

/// To a milliwatt: far below what the rules see.
fn rounded(kw: f64) -> f64 {
    let value = (kw * 1e6).round() / 1e6;
    if value == 0.0 { 0.0 } else { value }
}

fn rows(ids: &[String], kw: &[Vec<f64>]) -> Map<String, Value> {
    let row = |(id, kw): (&String, &Vec<f64>)| {
        (id.clone(), Value::from(kw.iter().map(|kw| rounded(*kw)).collect::<Vec<_>>()))
    };
    ids.iter().zip(kw).map(row).collect()
}

/// How far from the best, percent of the bound (of 1 where the bound is smaller).
#[must_use]
pub fn gap_pct(plan: &Plan) -> f64 {
    100.0 * (plan.score - plan.bound) / plan.bound.abs().max(1.0)
}

/// The same against the bound that knows which needs are too small for any legal schedule.
#[must_use]
pub fn legal_gap_pct(plan: &Plan) -> f64 {
    100.0 * (plan.score - plan.legal_bound) / plan.legal_bound.abs().max(1.0)
}

/// The file's content.
#[must_use]
pub fn schedule(scenario: &Scenario, plan: &Plan, solve_ms: f64) -> Value {
    json!({
        "scenario": scenario.name,
        "ev_kw": rows(&scenario.cars, &plan.session_kw),
        "battery_charge_kw": battery_charge_kw(plan),
        "compute_kw": rows(&scenario.jobs, &plan.job_kw),
        "pv_curtail_kw": plan.curtail_kw.iter().map(|kw| rounded(*kw)).collect::<Vec<_>>(),
        "proof": {
            "bound_score": plan.bound,
            "score": plan.score,
            "gap_pct": gap_pct(plan),
            "legal_bound_score": plan.legal_bound,
            "legal_gap_pct": legal_gap_pct(plan),
            "solve_ms": solve_ms,
            "finished": plan.finished,
        },
    })
}
