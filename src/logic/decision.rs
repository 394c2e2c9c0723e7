//! Everything that can go out of the controller: the decision that the field bus obeys, the duty that
//! the vision process gets, and the overview that MQTT and the page show.
//!
//! What a stranger gets wrong: the overview is for people and records only; nothing that acts reads it.

mod ledgers;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use ledgers::{EnergyView, JobBudgetView, JobView, LedgerView};

use super::compute::Errand;
use super::safety::alarms::Alarm;
use super::safety::fire::{LatchedZone, ResetObstacle};
use super::safety::interlock::Permitted;
use super::safety::linkage::Isolation;
use super::safety::signs::Cause;
use super::site::{ChosenModes, Id, Mode, RelayKind, RelaySetpoint, SensorKind};
use super::vision::{BayState, Ledger, Tier, Verdict};
use crate::units::Moment;

/// A complete answer, made every cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Counts up from 1.
    pub sequence: u64,
    /// When it was made; older than 5 s it is worth nothing.
    pub at: Moment,
    /// Whether the device tasks may write it.
    pub writing: bool,
    /// One setpoint for every actuator.
    pub permitted: Permitted,
    /// What the vision process should do.
    pub duty: Duty,
    /// What jobs are told; one that is not named must not run.
    pub errands: Vec<Errand>,
}

/// What must survive a restart: written twice with a checksum (`io::store::latch`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latched {
    /// Zones that stay stopped until a person resets them.
    pub zones: BTreeMap<Id, LatchedZone>,
    /// Alarms worse than a warning, with who acknowledged them.
    pub alarms: Vec<Alarm>,
    /// When each sensor and relay was last proven to react.
    #[serde(default)]
    pub proofs: BTreeMap<Id, DateTime<Utc>>,
    /// Zones whose feeder stays open until a person releases it: a charger ignored its setpoint (fault FB10).
    #[serde(default)]
    pub deaf: BTreeSet<Id>,
    /// How people want chargers to charge, where that is not as the site file has it.
    #[serde(default, skip_serializing_if = "ChosenModes::is_empty")]
    pub modes: ChosenModes,
}

/// How eagerly each camera is looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Duty {
    /// Cameras to be looked at every second; the others at their floor of one look in 2 s.
    pub eager: Vec<Id>,
    /// How much may be spent on looking.
    #[serde(default)]
    pub effort: Effort,
}

/// How much may be spent on looking. Fire is looked for at the same rates in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Everything.
    #[default]
    Full,
    /// No big net, bays at half the rate.
    Eco,
    /// Fire only: bays are unknown.
    Survival,
}

/// How far a number can be trusted, as MQTT and the page say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Fresh from the wire.
    Good,
    /// Older than 5 s.
    Stale,
    /// Lost, or never seen.
    Bad,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its id.
    pub id: Id,
    /// `meter`, `charger`, `battery` or `pv`: the MQTT kind.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// How far its values can be trusted.
    pub q: Quality,
    /// When its values came off the wire.
    pub ts: Option<DateTime<Utc>>,
    /// Age of its values in seconds; nothing if never seen.
    pub age_s: Option<f64>,
    /// Flat values, keys with their unit (`power_w`, `current_l1_a`, `soc_pct`, `vehicle`, ...).
    pub values: BTreeMap<String, serde_json::Value>,
    /// The setpoint it is told, if it is an actuator.
    pub setpoint: Option<SetpointView>,
}

/// A setpoint with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetpointView {
    /// Current for chargers (0 = paused), A.
    pub current_a: Option<f64>,
    /// Power for batteries, discharge positive; the most for nodes and inverters, W.
    pub power_w: Option<f64>,
    /// Phases that a charger is told to use, 1 or 3, where it may be switched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<u8>,
    /// Code of the reason.
    pub reason: String,
    /// What the reason is about: a phase or a zone.
    pub about: Option<String>,
}

/// One bay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BayView {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// What the camera (and the plug, where there is one) say.
    pub state: BayState,
    /// What the camera says by itself; nothing where none looks there, or it cannot see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eyes: Option<BayState>,
    /// Whether its charger says that a vehicle is plugged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugged: Option<bool>,
    /// Whether a vehicle charges there now.
    pub charging: bool,
    /// Its charger.
    pub charger: Option<Id>,
    /// Its camera.
    pub camera: Option<Id>,
    /// Corners in the camera's frame, 0..1.
    pub polygon: Vec<[f64; 2]>,
    /// Score of the last read, 0..1.
    pub score: Option<f64>,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraView {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// When its last judged frame was received.
    pub ts: Option<DateTime<Utc>>,
    /// Age of that frame, s.
    pub age_s: Option<f64>,
    /// Flame score, 0..1.
    pub fire: Option<f64>,
    /// Smoke score, 0..1.
    pub smoke: Option<f64>,
    /// Verdict over time; nothing while there is a fault.
    pub verdict: Option<Verdict>,
    /// Which net had the last word on its last look.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// CPU time per look, ms.
    pub cpu_ms: Option<f64>,
    /// Mean energy of a look since the vision process started, J.
    #[serde(default)]
    pub look_j: Option<f64>,
    /// Code of what is wrong with it.
    pub fault: Option<String>,
}

/// Hazard level of a zone: 0 normal, 1 watch, 2 alarm, 3 trip; a fault stands beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZoneView {
    /// Its id.
    pub id: Id,
    /// 0 to 3.
    pub level: u8,
    /// Whether a sensor or camera of it is missing.
    pub fault: bool,
    /// Since when the level stands.
    pub since: Option<DateTime<Utc>>,
    /// What keeps a latched zone from being reset; nothing if it may be, or if it is not latched.
    #[serde(default)]
    pub reset_obstacle: Option<ResetObstacle>,
    /// Who reset it last.
    #[serde(default)]
    pub reset_by: Option<String>,
    /// Who has taken the first of the two steps of a reset.
    #[serde(default)]
    pub reset_begun_by: Option<String>,
    /// What holds now, worst first.
    #[serde(default)]
    pub causes: Vec<Cause>,
    /// How far the isolation of its battery has come.
    #[serde(default)]
    pub isolation: Isolation,
    /// The feeder of its chargers was opened, because one of them did not stop; a person releases it.
    #[serde(default)]
    pub feeder_open: bool,
}

/// One sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorView {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: SensorKind,
    /// Whether it does not deliver, or has not been good for a minute since.
    pub fault: bool,
    /// When it was last proven to react.
    pub proven: Option<DateTime<Utc>>,
    /// Whether it was seen to react in the last quarter of an hour, so that it can be recorded as proven.
    pub reacted: bool,
}

/// One relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelayView {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// What it does.
    pub kind: RelayKind,
    /// What it is told.
    pub told: RelaySetpoint,
    /// Code of the reason.
    pub reason: String,
    /// When it was last proven to react.
    pub proven: Option<DateTime<Utc>>,
    /// Whether it was seen to act in the last quarter of an hour, so that it can be recorded as proven.
    pub reacted: bool,
}

/// One slot of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanSlot {
    /// When it begins.
    pub ts: DateTime<Utc>,
    /// Paid for an imported kWh.
    pub price: f64,
    /// PV as forecast, W.
    pub pv_w: f64,
    /// Everything that is not controlled, as forecast, W.
    pub other_w: f64,
    /// Battery, discharge positive, W.
    pub battery_w: f64,
    /// All chargers, W.
    pub chargers_w: f64,
    /// All jobs, W.
    #[serde(default)]
    pub jobs_w: f64,
    /// Grid, import positive, W.
    pub grid_w: f64,
    /// State of charge when the slot begins, %.
    pub soc_pct: Option<f64>,
}

/// What a car shall have, and by when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanTarget {
    /// Energy still to be delivered, Wh.
    pub energy_wh: f64,
    /// When it leaves.
    pub by: DateTime<Utc>,
}

/// One actuator in the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanLane {
    /// Its id.
    pub id: Id,
    /// What people call it.
    pub name: String,
    /// `charger`, `battery` or `job`.
    pub kind: String,
    /// What it is planned for.
    pub target: Option<PlanTarget>,
    /// Power of each slot, W; chargers: consumption positive, batteries: discharge positive.
    pub power_w: Vec<f64>,
}

/// The plan of the next 24 h.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// When it was made.
    pub made: DateTime<Utc>,
    /// Length of a slot, s.
    pub step_s: u32,
    /// ISO 4217 code of the prices.
    pub currency: String,
    /// Import limit of all phases, W.
    pub limit_w: f64,
    /// Its slots.
    pub slots: Vec<PlanSlot>,
    /// Its actuators.
    pub lanes: Vec<PlanLane>,
}

/// What MQTT and the page show of the site, made every cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The site's id.
    pub site: Id,
    /// Its name.
    pub name: String,
    /// Number of the decision.
    pub sequence: u64,
    /// When the decision was made.
    pub ts: DateTime<Utc>,
    /// Name of the site's time zone, as its tariff has it; nothing without a tariff.
    #[serde(default)]
    pub timezone: Option<String>,
    /// What is configured.
    pub mode: Mode,
    /// Whether the gateway writes now (armed).
    pub writing: bool,
    /// Code of why it does not write, if it does not.
    pub not_writing: Option<String>,
    /// Import limit of each phase, A.
    pub limit_a: [f64; 3],
    /// Current left on the fullest phase, A; nothing while the meter is not fresh.
    pub headroom_a: Option<f64>,
    /// Grid power, import positive, W.
    pub grid_w: Option<f64>,
    /// PV power, W.
    pub pv_w: Option<f64>,
    /// Battery power, discharge positive, W.
    pub battery_w: Option<f64>,
    /// State of charge, %.
    pub soc_pct: Option<f64>,
    /// Power of all chargers, W.
    pub chargers_w: Option<f64>,
    /// All compute nodes, W.
    #[serde(default)]
    pub compute_w: Option<f64>,
    /// Everything else: grid + pv + battery - chargers, W.
    pub other_w: Option<f64>,
    /// Devices.
    pub devices: Vec<DeviceView>,
    /// Bays.
    pub bays: Vec<BayView>,
    /// Zones.
    pub zones: Vec<ZoneView>,
    /// Cameras.
    pub cameras: Vec<CameraView>,
    /// What looking costs; nothing before the vision process has told it.
    #[serde(default)]
    pub looking: Option<Ledger>,
    /// Sensors.
    #[serde(default)]
    pub sensors: Vec<SensorView>,
    /// Relays.
    #[serde(default)]
    pub relays: Vec<RelayView>,
    /// Alarms: not acknowledged first, then the worse, then the newer.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
    /// The plan; nothing where no tariff is configured.
    #[serde(default)]
    pub plan: Option<PlanView>,
    /// Jobs, in the order in which they were submitted.
    #[serde(default)]
    pub jobs: Vec<JobView>,
    /// What jobs have spent; nothing where no workload is declared.
    #[serde(default)]
    pub job_budget: Option<JobBudgetView>,
    /// Where energy went.
    #[serde(default)]
    pub ledger: LedgerView,
}

/// The link to the broker and the outbox behind it, as the page shows them. Written by the uplink,
/// never read by anything that acts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// `host:port` of the broker; nothing where none is configured.
    pub broker: Option<String>,
    /// Whether a session stands.
    pub connected: bool,
    /// Since when it is so.
    pub since: Option<DateTime<Utc>>,
    /// Whether the link is in clear text (lasting warning).
    pub plaintext: bool,
    /// What went wrong with the session last.
    pub last_error: Option<String>,
    /// Why the broker did not take a message last; the session goes on.
    #[serde(default)]
    pub last_refusal: Option<String>,
    /// Messages acknowledged by the broker since start.
    pub acknowledged: u64,
}

impl DeviceView {
    /// The mode of a charger, by its name.
    #[must_use]
    pub fn mode(&self) -> Option<&str> {
        self.values.get("mode")?.as_str()
    }
}

impl Overview {
    /// The charger of this id.
    #[must_use]
    pub fn charger(&self, id: &str) -> Option<&DeviceView> {
        self.devices.iter().find(|device| device.kind == "charger" && device.id.as_str() == id)
    }
}

/// The outbox, as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutboxView {
    /// Records waiting.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Age of the oldest, s.
    pub oldest_s: Option<f64>,
    /// Records dropped at the cap since the store was made.
    pub dropped: u64,
    /// Damaged records that were skipped.
    pub damaged: u64,
    /// What is wrong with the store, if anything (disk full, quarantined, memory only).
    pub fault: Option<String>,
}
