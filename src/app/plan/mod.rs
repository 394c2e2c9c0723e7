//! `wattgate plan`: a scenario file in, a schedule file out, and what there is to say about it. Owns the
//! files; `scenario` reads the first form, `schedule` writes the second, the plan is `logic`'s.

mod picture;
mod scenario;
mod schedule;
mod words;

use std::path::{Path, PathBuf};

use crate::io::clock::Clock;
use crate::logic::energy::plan::{Budget, Plan, solve};
pub use picture::picture;
pub use scenario::{Scenario, Wrong};
pub use schedule::{battery_charge_kw, gap_pct, legal_gap_pct, schedule};
pub use words::{explain, remarks};

/// Why there is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The scenario cannot be read.
    #[error("{path}: {cause}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It is not JSON.
    #[error("{path}: {cause}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Why, with line and column.
        cause: serde_json::Error,
    },
    /// Something the plan cannot do without is missing or of the wrong form.
    #[error("{path}: {}", wrong.place)]
    Form {
        /// Which file.
        path: PathBuf,
        /// Where, and what should stand there.
        wrong: Wrong,
    },
    /// The schedule cannot be written.
    #[error("{path}: {cause}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// A scenario, its plan, and how long that took.
#[derive(Debug)]
pub struct Planned {
    /// What was asked.
    pub scenario: Scenario,
    /// What is to be done.
    pub plan: Plan,
    /// Milliseconds that the planner took.
    pub solve_ms: f64,
}

/// Reads, plans, writes.
pub fn run(from: &Path, out: &Path) -> Result<Planned, PlanError> {
    let done = plan(from)?;
    let content = schedule(&done.scenario, &done.plan, done.solve_ms).to_string();
    std::fs::write(out, content + "\n")
        .map_err(|cause| PlanError::Write { path: out.to_path_buf(), cause })?;
    Ok(done)
}

/// Reads and plans.
pub fn plan(from: &Path) -> Result<Planned, PlanError> {
    let path = from.to_path_buf();
    let text = std::fs::read_to_string(from)
        .map_err(|cause| PlanError::Read { path: path.clone(), cause })?;
    let file = serde_json::from_str(&text)
        .map_err(|cause| PlanError::Syntax { path: path.clone(), cause })?;
    let scenario = Scenario::read(&file).map_err(|wrong| PlanError::Form { path, wrong })?;
    let clock = Clock::real();
    let start = clock.now().uptime;
    let plan = solve(&scenario.problem, Budget::of(&scenario.problem));
    let solve_ms = clock.now().uptime.saturating_sub(start).as_secs_f64() * 1e3;
    Ok(Planned { scenario, plan, solve_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tiny() -> serde_json::Value {
        json!({
            "name": "tiny", "step_s": 3600, "steps": 2, "import_price": [0.1, 0.5],
            "grid": {"import_kw": 20},
            "battery": {"capacity_kwh": 4, "soc0_kwh": 0, "soc_min_kwh": 0, "soc_max_kwh": 4,
                        "charge_kw": 4, "discharge_kw": 4, "wear_per_kwh": 0.2},
            "base_load_kw": [0, 2],
            "evs": [
                {"id": "a", "arrival": 0, "departure": 2, "kwh": 5, "phases": [2]},
                {"id": "late", "arrival": 2, "departure": 1, "kwh": 5},
                {"arrival": 0},
            ],
        })
    }

    #[test]
    fn the_battery_charges_with_a_positive_sign() {
        let scenario = Scenario::read(&tiny()).unwrap();
        let plan = solve(&scenario.problem, Budget::default());
        let battery = battery_charge_kw(&plan);
        // Cheap first: charged in step 0, given to the base load in step 1. Its wear makes that the only best plan:
        // without, it might as well charge for the car.
        assert!((battery[0] - 2.0).abs() < 1e-3 && (battery[1] + 2.0).abs() < 1e-3, "{battery:?}");
        let file = schedule(&scenario, &plan, 1.0);
        assert!((file["ev_kw"]["a"][0].as_f64().unwrap() - 5.0).abs() < 1e-3, "{file}");
        assert_eq!(scenario.unread, ["evs[2]"]);
        assert_eq!(plan.faults.len(), 1);
    }

    #[test]
    fn those_that_share_a_limit_are_named_together_with_its_hours() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("in.json");
        let car = |i: usize| json!({"id": format!("c{i}"), "arrival": 0, "departure": 4, "kwh": 6});
        let file = json!({
            "start": "2026-01-14T17:00:00+01:00", "timezone": "Europe/Berlin",
            "step_s": 900, "steps": 8, "import_price": 0.3, "grid": {"import_kw": 10},
            "evs": (0..3).map(car).collect::<Vec<_>>(),
        });
        std::fs::write(&from, file.to_string()).unwrap();
        let done = plan(&from).unwrap();
        let en = explain(&done, crate::texts::Lang::En).join("\n");
        assert!(en.contains("17:00") && en.contains("18:00") && en.contains("import"), "{en}");
        assert_ne!(en, explain(&done, crate::texts::Lang::Zh).join("\n"));
        let drawn = picture(&done, crate::texts::Lang::En);
        assert_eq!(drawn.len(), 1 + 8, "{drawn:?}");
        assert!(drawn[1].contains("17:00") && drawn[1].contains("##"), "{drawn:?}");
        assert!(!drawn[8].contains('#'), "{drawn:?}");
    }

    #[test]
    fn a_wrong_form_names_its_place() {
        let cases = [
            ("steps", json!(0), "steps"),
            ("step_s", json!("x"), "step_s"),
            ("import_price", json!([1, 2, 3]), "import_price"),
            ("grid", json!(3), "grid"),
            ("grid", json!({"import_kw": null}), "grid.import_kw"),
            ("battery", json!([]), "battery"),
            ("battery", json!({"soc0_kwh": "full"}), "battery.soc0_kwh"),
            ("evs", json!(7), "evs"),
        ];
        for (key, value, place) in cases {
            let mut file = tiny();
            file[key] = value;
            assert_eq!(Scenario::read(&file).unwrap_err().place, place);
        }
    }

    #[test]
    fn files_are_read_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let (from, out) = (folder.path().join("in.json"), folder.path().join("out.json"));
        std::fs::write(&from, tiny().to_string()).unwrap();
        let done = run(&from, &out).unwrap();
        assert!(remarks(&done, crate::texts::Lang::En).iter().any(|line| line.contains("late")));
        assert!(std::fs::read_to_string(&out).unwrap().contains("legal_bound_score"));
        std::fs::write(&from, "{").unwrap();
        assert!(matches!(run(&from, &out), Err(PlanError::Syntax { .. })));
        assert!(matches!(run(folder.path(), &out), Err(PlanError::Read { .. })));
    }
}
