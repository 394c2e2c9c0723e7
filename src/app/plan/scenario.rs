//! A scenario file into a [`Problem`]. Owns the file's keys, defaults and units (amperes become kW here);
//! judges nothing but its shape: what a car asks for may be nonsense, and the planner says so.
//!
//! What a stranger gets wrong: phases count from 1 in the file; a missing list of phases means all three.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset};
use chrono_tz::Tz;
use serde_json::Value;

use crate::logic::energy::plan::{Demand, Group, Job, Member, Problem, Session, Store, Taper};

/// A scenario: the problem, and the names in the order of its lists.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The scenario's name.
    pub name: String,
    /// What is to be planned.
    pub problem: Problem,
    /// Ids of cars, in order.
    pub cars: Vec<String>,
    /// Ids of jobs, in order.
    pub jobs: Vec<String>,
    /// Names of circuits, in order.
    pub groups: Vec<String>,
    /// Its beginning, where the file has one that can be read.
    pub start: Option<DateTime<FixedOffset>>,
    /// Its time zone, likewise.
    pub zone: Option<Tz>,
    /// Places of entries that cannot be read at all: left out.
    pub unread: Vec<String>,
}

/// A key and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where in the file, like `grid.import_kw`.
    pub place: String,
    /// What should stand there: a text key.
    pub wanted: &'static str,
}

const NUMBER: &str = "cli.plan.wanted_number";
const SERIES: &str = "cli.plan.wanted_series";
const STEPS: &str = "cli.plan.wanted_steps";
const OBJECT: &str = "cli.plan.wanted_object";
const LIST: &str = "cli.plan.wanted_list";
/// More steps than this are no day plan.
const MOST_STEPS: u64 = 4096;

fn wrong(place: &str, wanted: &'static str) -> Wrong {
    Wrong { place: place.to_owned(), wanted }
}

/// A number, a default where the key is missing; not a number where it is something else.
fn number(from: &Value, key: &str, otherwise: f64) -> f64 {
    match from.get(key) {
        None | Some(Value::Null) => otherwise,
        Some(value) => value.as_f64().unwrap_or(f64::NAN),
    }
}

fn strict(from: &Value, place: &str, otherwise: Option<f64>) -> Result<f64, Wrong> {
    let key = place.rsplit('.').next().unwrap_or(place);
    match (from.get(key), otherwise) {
        (None | Some(Value::Null), Some(value)) => Ok(value),
        (value, _) => value.and_then(Value::as_f64).ok_or_else(|| wrong(place, NUMBER)),
    }
}

fn series(
    from: &Value,
    place: &str,
    steps: usize,
    otherwise: Option<f64>,
) -> Result<Vec<f64>, Wrong> {
    let key = place.rsplit('.').next().unwrap_or(place);
    let bad = || wrong(place, SERIES);
    match (from.get(key), otherwise) {
        (None | Some(Value::Null), Some(value)) => Ok(vec![value; steps]),
        (Some(Value::Array(values)), _) if values.len() == steps => {
            let all: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
            all.ok_or_else(bad)
        }
        (Some(Value::Number(value)), _) => Ok(vec![value.as_f64().unwrap_or(0.0); steps]),
        _ => Err(bad()),
    }
}

/// A step; beyond any horizon where it is not a number that fits.
fn step(from: &Value, key: &str) -> Option<i64> {
    let value = from.get(key)?.as_f64()?;
    value.is_finite().then_some(value.trunc().clamp(-1e9, 1e9) as i64)
}

fn phases(from: &Value) -> [bool; 3] {
    let Some(Value::Array(list)) = from.get("phases") else {
        return [true; 3];
    };
    let mut on = [false; 3];
    for phase in list.iter().filter_map(Value::as_u64) {
        if let Some(place) = phase.checked_sub(1).and_then(|p| on.get_mut(usize::try_from(p).ok()?))
        {
            *place = true;
        }
    }
    on
}

fn id(from: &Value) -> Option<String> {
    match from.get("id")? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn session(car: &Value, volts: f64) -> Option<Session> {
    let phases = phases(car);
    let count = phases.iter().filter(|p| **p).count() as f64;
    let kw = |amps: f64| amps * volts * count / 1e3;
    let named = number(car, "max_kw", 1e9);
    let wired = kw(number(car, "max_a", 32.0));
    Some(Session {
        arrival: step(car, "arrival")?,
        departure: step(car, "departure")?,
        need_kwh: number(car, "kwh", f64::NAN),
        efficiency: number(car, "eff", 1.0),
        min_kw: kw(number(car, "min_a", 6.0)),
        max_kw: if named.is_nan() || wired.is_nan() { f64::NAN } else { named.min(wired) },
        phases,
        taper: car.get("taper_kw_per_kwh").and_then(Value::as_f64).map(|k| Taper { kw_per_kwh: k }),
    })
}

fn job(job: &Value) -> Option<Job> {
    Some(Job {
        release: step(job, "release")?,
        deadline: step(job, "deadline")?,
        need_kwh: number(job, "kwh", f64::NAN),
        min_kw: number(job, "min_kw", 0.0),
        max_kw: number(job, "max_kw", f64::NAN),
        phases: phases(job),
    })
}

fn store(from: Option<&Value>) -> Result<Option<Store>, Wrong> {
    let battery = match from {
        None | Some(Value::Null) => return Ok(None),
        Some(battery @ Value::Object(_)) => battery,
        Some(_) => return Err(wrong("battery", OBJECT)),
    };
    let get = |key: &str, otherwise| strict(battery, &format!("battery.{key}"), otherwise);
    Ok(Some(Store {
        soc0_kwh: get("soc0_kwh", None)?,
        soc_min_kwh: get("soc_min_kwh", Some(0.0))?,
        soc_max_kwh: get("soc_max_kwh", battery.get("capacity_kwh").and_then(Value::as_f64))?,
        soc_end_min_kwh: get("soc_end_min_kwh", Some(0.0))?,
        charge_kw: get("charge_kw", None)?,
        discharge_kw: get("discharge_kw", None)?,
        eff_charge: get("eff_charge", Some(1.0))?,
        eff_discharge: get("eff_discharge", Some(1.0))?,
        wear_per_kwh: get("wear_per_kwh", Some(0.0))?,
        no_discharge_to_grid: battery.get("no_discharge_to_grid").and_then(Value::as_bool)
            == Some(true),
        sun_only: battery.get("no_grid_charging").and_then(Value::as_bool) == Some(true),
    }))
}

fn list<'a>(from: &'a Value, key: &str) -> Result<&'a [Value], Wrong> {
    match from.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(wrong(key, LIST)),
    }
}

impl Scenario {
    /// When a step begins: the clock at the site, or the step's number where the file names no beginning.
    #[must_use]
    pub fn clock(&self, step: usize) -> String {
        let seconds = (step as f64 * self.problem.step_hours * 3600.0).round();
        let after = chrono::Duration::seconds(seconds as i64);
        match (self.start.and_then(|start| start.checked_add_signed(after)), self.zone) {
            (Some(at), Some(zone)) => at.with_timezone(&zone).format("%H:%M").to_string(),
            (Some(at), None) => at.format("%H:%M").to_string(),
            (None, _) => format!("#{step}"),
        }
    }

    /// From the parsed file.
    pub fn read(file: &Value) -> Result<Scenario, Wrong> {
        let steps =
            file.get("steps").and_then(Value::as_u64).filter(|n| (1..=MOST_STEPS).contains(n));
        let steps =
            steps.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| wrong("steps", STEPS))?;
        let seconds = strict(file, "step_s", None)?;
        if seconds <= 0.0 {
            return Err(wrong("step_s", NUMBER));
        }
        let grid = file.get("grid").filter(|grid| grid.is_object());
        let grid = grid.ok_or_else(|| wrong("grid", OBJECT))?;
        let volts = strict(grid, "grid.voltage", Some(230.0))?;
        let shares = match grid.get("base_phase_share") {
            Some(Value::Array(list)) if list.len() == 3 => {
                [0, 1, 2].map(|p| list[p].as_f64().unwrap_or(f64::NAN))
            }
            _ => [1.0 / 3.0; 3],
        };
        let amps = match grid.get("phase_a") {
            None | Some(Value::Null) => None,
            Some(_) => Some(strict(grid, "grid.phase_a", None)?),
        };
        let problem = Problem {
            steps,
            step_hours: seconds / 3600.0,
            pv_kw: series(file, "pv_kw", steps, Some(0.0))?
                .into_iter()
                .map(|kw| kw.max(0.0))
                .collect(),
            pv_curtailable: file.get("pv_curtailable").and_then(Value::as_bool) != Some(false),
            base_kw: series(file, "base_load_kw", steps, Some(0.0))?,
            import_price: series(file, "import_price", steps, None)?,
            export_price: series(file, "export_price", steps, Some(0.0))?,
            demand: Demand {
                per_kw: strict(file, "demand_charge_per_kw", Some(0.0))?,
                so_far_kw: strict(file, "peak_so_far_kw", Some(0.0))?,
            },
            import_limit_kw: series(grid, "grid.import_kw", steps, None)?,
            export_limit_kw: series(grid, "grid.export_kw", steps, Some(1e6))?,
            phase_limit_kw: amps.map(|amps| amps * volts / 1e3),
            base_share: shares,
            store: store(file.get("battery"))?,
            ..Problem::default()
        };
        let name = file.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let word = |key: &str| file.get(key).and_then(Value::as_str);
        let start = word("start").and_then(|start| DateTime::parse_from_rfc3339(start).ok());
        let zone = word("timezone").and_then(|zone| zone.parse().ok());
        let (cars, jobs, groups, unread) = Default::default();
        let mut scenario = Scenario { name, problem, cars, jobs, groups, start, zone, unread };
        scenario.loads(file, volts)?;
        scenario.circuits(file)?;
        Ok(scenario)
    }

    fn loads(&mut self, file: &Value, volts: f64) -> Result<(), Wrong> {
        let mut known = BTreeSet::new();
        for (i, car) in list(file, "evs")?.iter().enumerate() {
            match id(car).filter(|id| !known.contains(id)).zip(session(car, volts)) {
                Some((id, session)) => {
                    known.insert(id.clone());
                    self.cars.push(id);
                    self.problem.sessions.push(session);
                }
                None => self.unread.push(format!("evs[{i}]")),
            }
        }
        for (i, entry) in list(file, "compute")?.iter().enumerate() {
            match id(entry).filter(|id| !known.contains(id)).zip(job(entry)) {
                Some((id, job)) => {
                    known.insert(id.clone());
                    self.jobs.push(id);
                    self.problem.jobs.push(job);
                }
                None => self.unread.push(format!("compute[{i}]")),
            }
        }
        Ok(())
    }

    fn circuits(&mut self, file: &Value) -> Result<(), Wrong> {
        let cars = self.cars.iter().enumerate().map(|(i, id)| (id.clone(), Member::Session(i)));
        let jobs = self.jobs.iter().enumerate().map(|(i, id)| (id.clone(), Member::Job(i)));
        let known: BTreeMap<String, Member> = cars.chain(jobs).collect();
        for (i, group) in list(file, "groups")?.iter().enumerate() {
            let name = group.get("name").and_then(Value::as_str).map(str::to_owned);
            let members = list(group, "members").unwrap_or_default();
            let place = |id: &Value| -> Member {
                let member = known.get(id.as_str().unwrap_or_default());
                member.copied().unwrap_or(Member::Session(usize::MAX))
            };
            self.problem.groups.push(Group {
                limit_kw: number(group, "limit_kw", f64::NAN),
                members: members.iter().map(place).collect(),
            });
            self.groups.push(name.unwrap_or_else(|| format!("groups[{i}]")));
        }
        Ok(())
    }
}
