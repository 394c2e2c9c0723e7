//! A scenario: what the site has, who comes when, and what goes wrong. Read from TOML, or built in.

use serde::Deserialize;

use crate::physics::{Car, Pile};

/// One visit of a car to a bay.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// The bay.
    pub bay: String,
    /// Arrival and departure, s after the start.
    pub arrives_s: f64,
    /// Departure, s after the start.
    pub leaves_s: f64,
    /// Battery capacity, kWh.
    #[serde(default = "capacity")]
    pub capacity_kwh: f64,
    /// State of charge on arrival, 0 to 1.
    #[serde(default = "soc")]
    pub soc: f64,
    /// Phases it charges on.
    #[serde(default = "phases")]
    pub phases: usize,
    /// Largest current on each phase, A.
    #[serde(default = "max_a")]
    pub max_a: f64,
    /// What it looks like (colour, shape).
    #[serde(default)]
    pub look: u64,
}

fn capacity() -> f64 {
    60.0
}
fn soc() -> f64 {
    0.3
}
fn phases() -> usize {
    3
}
fn max_a() -> f64 {
    32.0
}

impl Visit {
    /// A car that somebody brings outside the plan.
    #[must_use]
    pub fn guest(bay: &str) -> Visit {
        Visit {
            bay: bay.to_owned(),
            arrives_s: 0.0,
            leaves_s: f64::INFINITY,
            capacity_kwh: capacity(),
            soc: soc(),
            phases: phases(),
            max_a: max_a(),
            look: 6,
        }
    }
}

impl Visit {
    /// Hours in which the car would get from its state of charge to `soc`, alone at a pile that lets it
    /// take what it likes.
    #[must_use]
    pub fn hours_alone(&self, soc: f64) -> f64 {
        let mut pile = Pile::new("alone", &PileSpec { make: Make::Alfen, rotation: straight() });
        pile.car = Some(Car::of(self));
        let step_s = 10.0;
        let mut seconds = 0.0;
        while pile.car.as_ref().is_some_and(|car| car.soc() < soc) && seconds < 1e6 {
            pile.write_setpoint(pile.max_a);
            pile.step(step_s, [230.0; 3]);
            seconds += step_s;
        }
        seconds / 3600.0
    }
}

/// Whose register map a pile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Make {
    /// Alfen Eve NG9xx: the setpoint expires.
    Alfen,
    /// KEBA KeContact P40: only writes keep it from its failsafe.
    Keba,
    /// ABB Terra AC: any request keeps it from its fall-back.
    Abb,
}

/// One pile; pile n serves bay n.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PileSpec {
    /// Register map.
    pub make: Make,
    /// Grid phase (1 to 3) behind each of the pile's own phases.
    #[serde(default = "straight")]
    pub rotation: [usize; 3],
}

fn straight() -> [usize; 3] {
    [1, 2, 3]
}

/// What an event changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Flame on a bay; the value is its intensity, 0 to 1.
    Fire,
    /// Smoke on a bay; the value is its intensity, 0 to 1.
    Smoke,
    /// The broker: reachable when the value is over 0.
    Broker,
}

/// Something that happens once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, s after the start.
    pub at_s: f64,
    /// What.
    pub kind: EventKind,
    /// Where; without meaning for the broker.
    #[serde(default)]
    pub bay: String,
    /// How much.
    pub value: f64,
}

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Hour of the day at the start.
    pub start_hour: f64,
    /// Number of bays.
    pub bays: usize,
    /// Building load in the late morning, W; it follows the hour of the day.
    pub building_w: f64,
    /// PV power at noon under a clear sky, W.
    pub pv_peak_w: f64,
    /// Largest power of the compute node, W, up to 60 000; nothing: there is none.
    pub node_w: Option<f64>,
    /// Whether there is an input/output module: sensors, a battery contactor, the feeder of the piles.
    #[serde(default)]
    pub module: bool,
    /// Who comes when.
    #[serde(default, rename = "visit")]
    pub visits: Vec<Visit>,
    /// Piles.
    #[serde(rename = "pile")]
    pub piles: Vec<PileSpec>,
    /// What happens once.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// The visits come again after this many hours.
    pub repeat_h: Option<f64>,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not readable.
    #[error("scenario {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// Not valid.
    #[error("scenario {0}: {1}")]
    Invalid(String, String),
}

impl Scenario {
    /// Names of the built-in scenarios that a person may ask for.
    pub const NAMES: [&'static str; 5] =
        ["sunny_day", "evening_peak", "broker_outage", "cable_fire", "guarded_store"];

    /// A built-in scenario by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        let text = match name {
            "sunny_day" => include_str!("../scenarios/sunny_day.toml"),
            "evening_peak" => include_str!("../scenarios/evening_peak.toml"),
            "broker_outage" => include_str!("../scenarios/broker_outage.toml"),
            "cable_fire" => include_str!("../scenarios/cable_fire.toml"),
            "guarded_store" => include_str!("../scenarios/guarded_store.toml"),
            "one_pile" => include_str!("../scenarios/one_pile.toml"),
            _ => return None,
        };
        // The test below keeps the built-in texts valid.
        Scenario::parse(name, text).ok()
    }

    /// Four piles of three makes and a day of visits that repeats.
    #[must_use]
    pub fn sunny_day() -> Scenario {
        Scenario::named("sunny_day").unwrap_or_else(Scenario::empty)
    }

    /// One pile, for tests of one thing.
    #[must_use]
    pub fn one_pile() -> Scenario {
        Scenario::named("one_pile").unwrap_or_else(Scenario::empty)
    }

    fn empty() -> Scenario {
        Scenario {
            name: "empty".to_owned(),
            start_hour: 10.5,
            bays: 1,
            building_w: 0.0,
            pv_peak_w: 0.0,
            node_w: None,
            module: false,
            visits: Vec::new(),
            piles: Vec::new(),
            events: Vec::new(),
            repeat_h: None,
        }
    }

    /// A built-in scenario or a file, whichever `name` is.
    ///
    /// # Errors
    /// When it is neither, or the file is not valid.
    pub fn find(name: &str) -> Result<Scenario, ScenarioError> {
        Scenario::named(name).map_or_else(|| Scenario::load(std::path::Path::new(name)), Ok)
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// When it cannot be read or is not valid.
    pub fn load(path: &std::path::Path) -> Result<Scenario, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|cause| ScenarioError::Unreadable(name.clone(), cause))?;
        Scenario::parse(&name, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let invalid = |why: String| ScenarioError::Invalid(name.to_owned(), why);
        let scenario: Scenario =
            toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let piles = scenario.piles.len();
        if piles == 0 || piles > scenario.bays || scenario.bays > 4 {
            return Err(invalid("needs 1 to 4 bays, and 1 to as many piles".to_owned()));
        }
        for pile in &scenario.piles {
            let mut phases = pile.rotation;
            phases.sort_unstable();
            if phases != [1, 2, 3] {
                return Err(invalid("`rotation` names the phases 1, 2 and 3 once each".to_owned()));
            }
        }
        if scenario.repeat_h.is_some_and(|hours| hours.is_nan() || hours <= 0.0) {
            return Err(invalid("`repeat_h` must be over 0".to_owned()));
        }
        if scenario.node_w.is_some_and(|watts| !(1000.0..=60_000.0).contains(&watts)) {
            return Err(invalid("`node_w` is 1000 to 60000".to_owned()));
        }
        let bay = |i: usize| format!("bay{i}");
        for event in &scenario.events {
            let placed = (1..=scenario.bays).any(|i| bay(i) == event.bay);
            if event.kind != EventKind::Broker && !placed {
                return Err(invalid(format!("there is no bay `{}` for an event", event.bay)));
            }
        }
        for visit in &scenario.visits {
            let sane = visit.capacity_kwh > 0.0
                && (0.0..=1.0).contains(&visit.soc)
                && (visit.phases == 1 || visit.phases == 3)
                && visit.arrives_s < visit.leaves_s;
            if !sane {
                return Err(invalid(format!("the visit to {} does not make sense", visit.bay)));
            }
        }
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_scenarios_are_valid() {
        for name in Scenario::NAMES.into_iter().chain(["one_pile"]) {
            let text = Scenario::named(name);
            let scenario = text.unwrap_or_else(|| panic!("{name} is not valid"));
            assert!(!scenario.visits.is_empty() && !scenario.piles.is_empty(), "{name}");
        }
        assert!(Scenario::find("no_such_scenario").is_err());
    }

    #[test]
    fn faults_are_named() {
        let head = "name = \"x\"\nstart_hour = 1\nbays = 1\nbuilding_w = 1\npv_peak_w = 1\n";
        let pile = "[[pile]]\nmake = \"keba\"\n";
        for (text, word) in [
            ("pile = []\n", "piles"),
            ("[[pile]]\nmake = \"keba\"\nrotation = [1, 1, 3]\n", "rotation"),
            (
                &format!("{pile}[[event]]\nat_s = 1\nkind = \"fire\"\nvalue = 1\nbay = \"b\"\n"),
                "no bay",
            ),
        ] {
            let error = Scenario::parse("x", &format!("{head}{text}")).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
