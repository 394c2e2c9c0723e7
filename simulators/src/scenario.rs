//! A scenario: what the site has and who comes when. Read from TOML, or built in.

use serde::Deserialize;

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

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Hour of the day at the start.
    pub start_hour: f64,
    /// Number of piles; pile n serves bay n.
    pub piles: usize,
    /// Number of bays.
    pub bays: usize,
    /// Mean building load, W.
    pub building_w: f64,
    /// PV power at noon under a clear sky, W.
    pub pv_peak_w: f64,
    /// Who comes when.
    #[serde(default, rename = "visit")]
    pub visits: Vec<Visit>,
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
    /// The built-in scenario `scenarios/sunny_day.toml`.
    #[must_use]
    pub fn sunny_day() -> Scenario {
        let text = include_str!("../scenarios/sunny_day.toml");
        // The test below keeps the built-in text valid; an empty site is what is left otherwise.
        Scenario::parse("sunny_day", text).unwrap_or(Scenario {
            name: "empty".to_owned(),
            start_hour: 10.5,
            piles: 1,
            bays: 1,
            building_w: 0.0,
            pv_peak_w: 0.0,
            visits: Vec::new(),
        })
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
        if scenario.piles == 0 || scenario.piles > scenario.bays || scenario.bays > 4 {
            return Err(invalid("needs 1 to 4 bays and at most as many piles".to_owned()));
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
    #[test]
    fn the_built_in_scenario_is_valid() {
        let scenario = super::Scenario::sunny_day();
        assert_eq!(scenario.name, "sunny day");
        assert!(!scenario.visits.is_empty());
    }
}
