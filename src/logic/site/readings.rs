//! What devices say, in units and with the house's signs, whatever the device's own were.
//!
//! What a stranger gets wrong: a reading exists only when every value it needs was decoded and
//! plausible; a device that answers with a sentinel gives no reading, never a zero.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PhaseCount;
use crate::units::{Amps, Hertz, PerPhase, Soc, Volts, WattHours, Watts};

/// The meter at the grid connection, or any other meter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeterReading {
    /// Total active power, import positive.
    pub power: Watts,
    /// Active power of each phase, import positive.
    pub phase_power: PerPhase<Watts>,
    /// Current of each phase, signed by the phase's power.
    pub current: PerPhase<Amps>,
    /// Voltage of each phase.
    pub voltage: PerPhase<Volts>,
    /// Grid frequency, where the meter measures it.
    pub frequency: Option<Hertz>,
    /// Imported energy, ever growing.
    pub import: Option<WattHours>,
    /// Exported energy, ever growing.
    pub export: Option<WattHours>,
}

/// What stands at the plug (IEC 61851).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vehicle {
    /// State A: no vehicle.
    Absent,
    /// State B: connected, not charging.
    Connected,
    /// State C or D: charging.
    Charging,
    /// State E or F, or the charger's own fault.
    Fault,
}

/// One charging pile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChargerReading {
    /// What stands at the plug.
    pub vehicle: Vehicle,
    /// Current of each of the charger's own phases.
    pub current: PerPhase<Amps>,
    /// Voltage of each of the charger's own phases.
    pub voltage: PerPhase<Volts>,
    /// Active power.
    pub power: Watts,
    /// Current limit that the charger says it applies now.
    pub limit: Amps,
    /// Energy delivered, ever growing.
    pub energy: Option<WattHours>,
    /// Phases that it has connected, if it says so and may be switched.
    #[serde(default)]
    pub phases: Option<PhaseCount>,
    /// Time until the charger drops the setpoint and falls back, if it says so.
    pub lease: Option<Duration>,
}

impl ChargerReading {
    /// Largest current of its phases.
    #[must_use]
    pub fn most_drawn(&self) -> Amps {
        let [first, second, third] = self.current.0;
        first.max(second).max(third)
    }
}

/// One compute node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeReading {
    /// Power it takes.
    pub power: Watts,
    /// Cap that it says it applies now.
    pub cap: Watts,
    /// Energy taken, ever growing.
    pub energy: Option<WattHours>,
}

/// Battery storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatteryReading {
    /// Power, discharge positive.
    pub power: Watts,
    /// State of charge.
    pub soc: Soc,
}

/// PV production.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PvReading {
    /// Power, production positive.
    pub power: Watts,
}

impl Reading {
    /// Whether two answers that follow a silence agree well enough to raise anything on them: currents
    /// within 5 A or a quarter of each other (fault FB9; our own figures).
    #[must_use]
    pub fn is_like(&self, other: &Reading) -> bool {
        let near = |a: &PerPhase<Amps>, b: &PerPhase<Amps>| {
            a.iter().zip(b.iter()).all(|((_, a), (_, b))| {
                let scale = a.get().abs().max(b.get().abs());
                (a.get() - b.get()).abs() <= (scale * 0.25).max(5.0)
            })
        };
        match (self, other) {
            (Reading::Meter(a), Reading::Meter(b)) => near(&a.current, &b.current),
            (Reading::Charger(a), Reading::Charger(b)) => {
                a.vehicle == b.vehicle && near(&a.current, &b.current)
            }
            _ => true,
        }
    }
}

/// An input/output module, a gas detector, a battery monitoring unit: values by the names of its profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputsReading {
    /// What was delivered; a value that is missing or marked as such is not in here.
    pub values: BTreeMap<String, f64>,
}

/// One complete answer of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reading {
    /// A meter.
    Meter(MeterReading),
    /// A charging pile.
    Charger(ChargerReading),
    /// A compute node.
    Compute(ComputeReading),
    /// Battery storage.
    Battery(BatteryReading),
    /// PV.
    Pv(PvReading),
    /// Inputs and read-back outputs.
    Inputs(InputsReading),
    /// A hybrid inverter: battery and PV in one answer.
    Hybrid {
        /// Its battery.
        battery: BatteryReading,
        /// Its PV.
        pv: PvReading,
    },
}
