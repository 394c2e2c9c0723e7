//! What is true of a world at one moment, for tests and people.

use serde::Serialize;

use super::charger::{Car, Pile, PlugState};
use super::node::Node;
use super::world::{Bay, World};

/// What is true at this moment, for tests and people.
#[derive(Clone, Debug, Serialize)]
pub struct Truth {
    /// Site time since the start, s.
    pub elapsed_s: f64,
    /// Grid power, import positive, W.
    pub grid_w: f64,
    /// Grid current of each phase, import positive, A.
    pub grid_a: [f64; 3],
    /// PV power, W.
    pub pv_w: f64,
    /// Battery power, discharge positive, W.
    pub battery_w: f64,
    /// State of charge, 0 to 1.
    pub soc: f64,
    /// Building load, W.
    pub building_w: f64,
    /// Compute node, W.
    pub node_w: f64,
    /// Its cap in force, W.
    pub node_cap_w: Option<f64>,
    /// Piles.
    pub chargers: Vec<PileTruth>,
    /// Bays.
    pub bays: Vec<BayTruth>,
}

/// What is true of one bay.
#[derive(Clone, Debug, Serialize)]
pub struct BayTruth {
    /// Its id.
    pub id: String,
    /// Whether a car stands there.
    pub occupied: bool,
    /// Flame, 0 to 1.
    pub fire: f64,
    /// Smoke, 0 to 1.
    pub smoke: f64,
}

/// What is true of one pile.
#[derive(Clone, Debug, Serialize)]
pub struct PileTruth {
    /// Its id.
    pub id: String,
    /// Power, W.
    pub power_w: f64,
    /// Current of each of its own phases, A.
    pub current_a: [f64; 3],
    /// Limit in force, A.
    pub limit_a: f64,
    /// `A`, `B` or `C`.
    pub state: String,
    /// Whether a car is plugged in.
    pub plugged: bool,
    /// State of charge of the car, 0 to 1.
    pub car_soc: Option<f64>,
    /// Energy delivered since ever, Wh.
    pub energy_wh: f64,
}

impl World {
    /// What is true now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let pile = |pile: &Pile| PileTruth {
            id: pile.id.clone(),
            power_w: pile.grid_currents().iter().zip(self.volts).map(|(a, v)| a * v).sum(),
            current_a: pile.currents(),
            limit_a: pile.limit_a(),
            state: match pile.state() {
                PlugState::A => "A",
                PlugState::B => "B",
                PlugState::C => "C",
            }
            .to_owned(),
            plugged: pile.car.is_some(),
            car_soc: pile.car.as_ref().map(Car::soc),
            energy_wh: pile.energy_wh,
        };
        let bay = |bay: &Bay| BayTruth {
            id: bay.id.clone(),
            occupied: bay.occupied,
            fire: bay.fire,
            smoke: bay.smoke,
        };
        Truth {
            elapsed_s: self.elapsed_s,
            grid_w: self.grid_w(),
            grid_a: std::array::from_fn(|i| self.grid_phase_a(i)),
            pv_w: self.hybrid.pv_w,
            battery_w: self.hybrid.battery_w,
            soc: self.hybrid.soc(),
            building_w: self.building_w.iter().sum(),
            node_w: self.node_w(),
            node_cap_w: self.node.as_ref().map(Node::cap_w),
            chargers: self.piles.iter().map(pile).collect(),
            bays: self.bays.iter().map(bay).collect(),
        }
    }
}
