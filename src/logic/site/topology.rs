//! The site as it was built: limits, devices, bays, zones and cameras, all valid by construction of
//! `config`. Nothing here changes while the gateway runs.
//!
//! What a stranger gets wrong: `limit` is what the controller keeps to, `breaker` is what trips; the
//! first may be lower, never higher.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ChargingMode, Circuit, Guard, Id, Right, Stay, Strategy, Switching, Tariff, Work};
use crate::units::{Amps, PerPhase, Phase, Soc, Volts, WattHours, Watts};

/// Whether the gateway may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reads, plans and publishes; writes nothing. The default.
    Observe,
    /// Writes permitted setpoints once every check of arming holds.
    Auto,
}

/// What the grid connection allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridLimits {
    /// Import current the controller keeps to, each phase.
    pub limit: PerPhase<Amps>,
    /// Rated current of the main breaker (In), each phase; at least `limit`.
    pub breaker: Amps,
    /// Nominal voltage, phase to neutral; measured voltages count within ±10 % of it.
    pub nominal_voltage: Volts,
    /// Largest base load (everything that is not controlled) expected on any phase.
    pub max_base_load: Amps,
    /// Largest imported power of all phases together, if that is limited.
    #[serde(default)]
    pub power: Option<Watts>,
    /// How much more than the least loaded phase any other may carry, if that is limited.
    #[serde(default)]
    pub unbalance: Option<Amps>,
    /// Largest mean import of each window, if that was agreed.
    #[serde(default)]
    pub demand: Option<DemandLimit>,
    /// What each controllable load keeps when the grid operator dims.
    #[serde(default = "least_each")]
    pub dimmed_least: Watts,
    /// Largest exported power of all phases together, if that is limited; zero: nothing may be exported.
    #[serde(default)]
    pub export: Option<Watts>,
}

/// What a breaker carries, in multiples of its rated current, for the 12.4 s that the slowest chain of meter, decision,
/// charger and car takes (design/safety), and uses up a tenth of its patience (our model of its trip curve:
/// `app::simulate`). A second such step within minutes leaves as much again.
const BORNE: f64 = 1.58;

impl GridLimits {
    /// What cars together may draw of a phase, so that the base load may jump to the most that the site file
    /// allows and the breaker still stays far from a trip until the slowest of them has followed. No bound where
    /// the base load is at most half of the breaker.
    #[must_use]
    pub fn beside_a_step(&self) -> Amps {
        (self.breaker * BORNE - self.max_base_load).max(Amps::ZERO)
    }
}

/// What a controllable load keeps when the grid operator dims, where the site file says nothing (EnWG
/// sec. 14a).
pub const LEAST_EACH: Watts = Watts(4200.0);

fn least_each() -> Watts {
    LEAST_EACH
}

/// A mean that the import of each window must stay below.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemandLimit {
    /// The mean.
    pub power: Watts,
    /// Length of a window: 15, 30 or 60 minutes, from the full hour.
    pub minutes: u32,
}

/// One charging pile (or one socket of it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charger {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// Grid phases it loads; all three where the wiring is not known.
    pub phases: Vec<Phase>,
    /// Smallest current it can charge with (6 A by IEC 61851); between zero and this nothing is set.
    pub min: Amps,
    /// Largest current it may charge with.
    pub max: Amps,
    /// Current it falls back to by itself when it hears nothing; part of the failsafe sum.
    pub failsafe: Amps,
    /// Resolution of its setpoint; 0.1 A to 1 A.
    pub step: Amps,
    /// What is expected of its cars; nothing: they charge as fast as they may.
    pub stay: Option<Stay>,
    /// Who comes first when there is not enough.
    #[serde(default)]
    pub right: Right,
    /// How it may change phases; nothing: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switching: Option<Switching>,
    /// How it charges, where nobody has chosen otherwise.
    #[serde(default)]
    pub mode: ChargingMode,
    /// One that hears nothing has fallen back to its failsafe by itself, and its car has followed, within this;
    /// [`Duration::MAX`]: it never does.
    #[serde(default = "falls_back_within")]
    pub falls_back_within: Duration,
}

impl Charger {
    /// What it may draw while it hears nothing: its failsafe, or all it can where nothing makes it fall back.
    #[must_use]
    pub fn unheard(&self) -> Amps {
        if self.falls_back_within == Duration::MAX { self.max } else { self.failsafe }
    }
}

/// Where nothing is known of a charger's own time-out: a minute, and a car that is slow to follow.
pub const FALLS_BACK_WITHIN: Duration = Duration::from_secs(75);

fn falls_back_within() -> Duration {
    FALLS_BACK_WITHIN
}

/// One battery storage, alone or behind a hybrid inverter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    /// Its id (of the device that carries it).
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// Largest charging power, positive.
    pub max_charge: Watts,
    /// Largest discharging power, positive.
    pub max_discharge: Watts,
    /// Not discharged below this.
    pub min_soc: Soc,
    /// What it holds when full; without it nothing is planned for it.
    pub capacity: Option<WattHours>,
    /// What it is for and what it must not do.
    #[serde(default)]
    pub strategy: Strategy,
}

/// An inverter whose output can be limited, so that no more is exported than may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inverter {
    /// Its id (of the device that carries it; it is among the site's PVs).
    pub id: Id,
    /// Its rated power: what it gives where nothing limits it.
    pub rated: Watts,
}

/// A compute node whose power can be capped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// Grid phases it loads, all alike.
    pub phases: Vec<Phase>,
    /// Power that it takes idle: no cap goes below.
    pub min: Watts,
    /// Largest power.
    pub max: Watts,
    /// Power that it keeps to by itself when it hears nothing; part of the failsafe sum.
    pub failsafe: Watts,
    /// Resolution of its cap.
    pub step: Watts,
}

/// One parking bay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bay {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// The charger that serves it.
    pub charger: Option<Id>,
    /// The camera that sees it.
    pub camera: Option<Id>,
    /// Corners in the camera's frame, x and y in 0..1; at least three where there is a camera.
    pub polygon: Vec<[f64; 2]>,
}

/// What a blind zone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBlind {
    /// Half the power, as on Watch.
    Derate,
    /// Nothing is raised.
    Hold,
}

/// A part of the site whose fire hazard is judged together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Its id.
    pub id: Id,
    /// Bays inside.
    pub bays: Vec<Id>,
    /// Chargers inside.
    pub chargers: Vec<Id>,
    /// Cameras that watch it.
    pub cameras: Vec<Id>,
    /// The battery inside, if any.
    pub battery: Option<Id>,
    /// Zones that are stopped along with it.
    pub neighbours: Vec<Id>,
    /// What happens when no camera of it delivers.
    pub on_blind: OnBlind,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Camera {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
}

/// The whole site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Its id; part of every MQTT topic.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// Whether writing is wanted.
    pub mode: Mode,
    /// What the grid connection allows.
    pub limits: GridLimits,
    /// The meter at the grid connection.
    pub meter: Id,
    /// Chargers, in order of the file; earlier ones win ties.
    pub chargers: Vec<Charger>,
    /// Battery storage.
    pub batteries: Vec<Battery>,
    /// Compute nodes, in order of the file; earlier ones win.
    #[serde(default)]
    pub computes: Vec<Compute>,
    /// Devices that report PV power.
    pub pvs: Vec<Id>,
    /// Those of them whose output is limited; none where export is not.
    #[serde(default)]
    pub inverters: Vec<Inverter>,
    /// Bays.
    pub bays: Vec<Bay>,
    /// Zones.
    pub zones: Vec<Zone>,
    /// Cameras.
    pub cameras: Vec<Camera>,
    /// What energy costs; without it nothing is planned.
    pub tariff: Option<Tariff>,
    /// Circuits below the grid connection.
    #[serde(default)]
    pub circuits: Vec<Circuit>,
    /// What guards it.
    #[serde(default)]
    pub guard: Guard,
    /// What it may be asked to compute.
    #[serde(default)]
    pub work: Work,
}

impl Site {
    /// Bays that a camera sees.
    pub fn bays_of<'s>(&'s self, camera: &'s Id) -> impl Iterator<Item = &'s Bay> {
        self.bays.iter().filter(move |bay| bay.camera.as_ref() == Some(camera))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_base_load_leaves_room_for_its_own_jump() {
        let limits = |breaker: f64, base: f64| GridLimits {
            limit: PerPhase::all(Amps(breaker)),
            breaker: Amps(breaker),
            nominal_voltage: Volts(230.0),
            max_base_load: Amps(base),
            power: None,
            unbalance: None,
            demand: None,
            dimmed_least: LEAST_EACH,
            export: None,
        };
        // A base load of half the breaker binds nobody: the limit itself is lower.
        assert!(limits(100.0, 50.0).beside_a_step() > Amps(100.0));
        assert!((limits(100.0, 100.0).beside_a_step().get() - 58.0).abs() < 1e-9);
        assert_eq!(limits(100.0, 200.0).beside_a_step(), Amps::ZERO);
    }
}
