//! What may be asked of the site's actuators, each with the reason for it. A *wish* becomes a
//! *setpoint* only through the interlock (`logic::safety::interlock`).
//!
//! What a stranger gets wrong: `Pause` is not a current of zero. Devices pause in their own way, and
//! between zero and the minimum current there is nothing that may be set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Id, Line, PhaseCount};
use crate::units::{Amps, Phase, Watts};

/// What a charger is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargerSetpoint {
    /// Do not charge.
    Pause,
    /// Charge with at most this current on each phase; within the charger's minimum and maximum.
    Current(Amps),
}

impl ChargerSetpoint {
    /// The current this allows: zero when paused.
    #[must_use]
    pub fn amps(self) -> Amps {
        match self {
            ChargerSetpoint::Pause => Amps::ZERO,
            ChargerSetpoint::Current(current) => current,
        }
    }
}

/// What a relay is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelaySetpoint {
    /// As in normal operation: contactors and feeders may be closed, sirens are quiet.
    Rest,
    /// Does what it is there for: opens, sounds, ventilates.
    Act,
}

/// Why a setpoint is what it is: the one that bound last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// The device's own maximum.
    DeviceMaximum,
    /// What the jobs on a compute node may draw now.
    Jobs,
    /// A little more than the car takes by itself.
    VehicleMaximum,
    /// Nobody is plugged in.
    NoVehicle,
    /// The grid limit of a phase is reached.
    GridLimit {
        /// The phase that is full.
        phase: Phase,
    },
    /// The limit of a circuit is reached.
    CircuitLimit {
        /// The circuit.
        circuit: Id,
        /// Its phase that is full, or its power.
        line: Line,
    },
    /// The grid connection's limit of power is reached.
    PowerLimit,
    /// A phase of the grid connection carries as much more than the others as it may.
    UnbalanceLimit {
        /// The phase.
        phase: Phase,
    },
    /// Less than the minimum current is left: paused.
    BelowMinimum {
        /// The circuit that is full; nothing: the grid connection.
        circuit: Option<Id>,
        /// Its phase that is full, or its power.
        line: Line,
    },
    /// Others still draw what they are to give up: nothing is raised on it yet.
    AwaitsOthers,
    /// On one phase: on three there was not even the minimum current.
    OnePhase {
        /// The circuit that was full; nothing: the grid connection.
        circuit: Option<Id>,
        /// Its phase that was full, or its power.
        line: Line,
    },
    /// Paused while it changes between one phase and three.
    SwitchesPhases,
    /// It draws more than it was told: paused.
    Disobeys,
    /// There is no grid: stopped.
    GridLost,
    /// The grid operator dims what can be controlled.
    Dimmed,
    /// The mean import of this window would pass what was agreed.
    DemandLimit,
    /// No more is exported than may be.
    ExportLimit,
    /// Raised step by step.
    RampUp,
    /// Waits after a pause before it starts again.
    RestartDelay,
    /// The gateway has just started and nothing is raised yet.
    Starting,
    /// The grid meter's value is older than 5 s: nothing is raised.
    MeterStale,
    /// The grid meter is lost: the safe share.
    MeterLost,
    /// The device itself does not answer.
    DeviceLost,
    /// Half power: something in the zone may be burning, or the zone is blind.
    FireWatch {
        /// The zone.
        zone: Id,
    },
    /// The zone has no working eye.
    ZoneBlind {
        /// The zone.
        zone: Id,
    },
    /// Stopped: fire or smoke confirmed.
    FireAlarm {
        /// The zone.
        zone: Id,
    },
    /// Stopped: the zone is tripped.
    Tripped {
        /// The zone.
        zone: Id,
    },
    /// At rest: the battery's own management is silent.
    BmsSilent {
        /// The zone.
        zone: Id,
    },
    /// A relay at rest: there is no danger.
    NoDanger,
    /// The feeder is open: a charger did not stop in time.
    NotObeyed {
        /// The zone.
        zone: Id,
    },
    /// The contactor did not open: the breaker above it.
    Welded {
        /// The zone.
        zone: Id,
    },
    /// No fresh decision: the configured fallback.
    NoDecision,
    /// The battery takes PV surplus or gives to the site.
    SelfConsumption,
    /// The battery helps to keep a phase under its limit.
    PeakShaving,
    /// The battery is at the end of its range.
    SocLimit,
    /// As much as the plan has for now.
    Plan,
    /// The plan has nothing for now: cheaper or greener energy comes in time.
    PlanWaits,
    /// Switched off by its mode.
    ModeOff,
    /// As much as the sun leaves over.
    Sun,
    /// The sun does not leave over the minimum current.
    SunWaits,
    /// It charges to see whether the inverter can give more.
    SunTried,
    /// Kept for an outage.
    Reserve,
    /// Only what the sun leaves over may charge it.
    NoGridCharging,
}

impl Reason {
    /// Stable code: the key of the text in `texts/*/reason.json`, in MQTT and on the page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Reason::DeviceMaximum => "device_maximum",
            Reason::Jobs => "jobs",
            Reason::VehicleMaximum => "vehicle_maximum",
            Reason::NoVehicle => "no_vehicle",
            Reason::GridLimit { .. } => "grid_limit",
            Reason::CircuitLimit { .. } => "circuit_limit",
            Reason::PowerLimit => "power_limit",
            Reason::UnbalanceLimit { .. } => "unbalance_limit",
            Reason::BelowMinimum { .. } => "below_minimum",
            Reason::AwaitsOthers => "awaits_others",
            Reason::OnePhase { .. } => "one_phase",
            Reason::SwitchesPhases => "switches_phases",
            Reason::Disobeys => "disobeys",
            Reason::GridLost => "grid_lost",
            Reason::Dimmed => "dimmed",
            Reason::DemandLimit => "demand_limit",
            Reason::ExportLimit => "export_limit",
            Reason::RampUp => "ramp_up",
            Reason::RestartDelay => "restart_delay",
            Reason::Starting => "starting",
            Reason::MeterStale => "meter_stale",
            Reason::MeterLost => "meter_lost",
            Reason::DeviceLost => "device_lost",
            Reason::FireWatch { .. } => "fire_watch",
            Reason::ZoneBlind { .. } => "zone_blind",
            Reason::FireAlarm { .. } => "fire_alarm",
            Reason::Tripped { .. } => "tripped",
            Reason::BmsSilent { .. } => "bms_silent",
            Reason::NoDanger => "no_danger",
            Reason::NotObeyed { .. } => "not_obeyed",
            Reason::Welded { .. } => "welded",
            Reason::NoDecision => "no_decision",
            Reason::SelfConsumption => "self_consumption",
            Reason::PeakShaving => "peak_shaving",
            Reason::SocLimit => "soc_limit",
            Reason::Plan => "plan",
            Reason::PlanWaits => "plan_waits",
            Reason::ModeOff => "mode_off",
            Reason::Sun => "sun",
            Reason::SunWaits => "sun_waits",
            Reason::SunTried => "sun_tried",
            Reason::Reserve => "reserve",
            Reason::NoGridCharging => "no_grid_charging",
        }
    }
}

/// One setpoint for every actuator of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setpoints {
    /// Chargers.
    pub chargers: BTreeMap<Id, (ChargerSetpoint, Reason)>,
    /// On how many phases chargers charge that can be switched; nothing: as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<Id, PhaseCount>,
    /// Batteries: power, discharge positive.
    pub batteries: BTreeMap<Id, (Watts, Reason)>,
    /// Inverters: the most that they may give at their AC side, PV and battery together.
    #[serde(default)]
    pub inverters: BTreeMap<Id, (Watts, Reason)>,
    /// Compute nodes: power cap.
    #[serde(default)]
    pub computes: BTreeMap<Id, (Watts, Reason)>,
    /// Relays.
    #[serde(default)]
    pub relays: BTreeMap<Id, (RelaySetpoint, Reason)>,
}
