//! Jobs and where energy went, as MQTT and the page show them.
//!
//! What a stranger gets wrong: nothing that acts reads these; hours and days are those of UTC, as budgets are.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::logic::compute::{Account, HeldBy, JobState, Method};
use crate::logic::site::Id;

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: Id,
    /// Its workload.
    pub workload: Id,
    /// What people call that.
    pub name: String,
    /// Where it runs; nothing: on the gateway.
    pub node: Option<Id>,
    /// How far it is.
    pub state: JobState,
    /// Code of why it does what it does.
    pub why: String,
    /// Values of its parameters.
    pub parameters: BTreeMap<String, String>,
    /// When it was submitted.
    pub submitted: DateTime<Utc>,
    /// When it must be done.
    pub deadline: DateTime<Utc>,
    /// By when it is planned to be done where its deadline could not be kept from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<DateTime<Utc>>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// What it may draw now, W.
    pub power_w: f64,
    /// What a run is thought to take, Wh.
    pub need_wh: f64,
    /// What it has taken, Wh.
    pub energy_wh: f64,
    /// The same, J.
    pub joules: f64,
    /// How that is known.
    pub method: Option<Method>,
    /// What it has taken in the running hour of UTC, Wh.
    #[serde(default)]
    pub hour_wh: f64,
    /// What it has taken in the running day of UTC, Wh.
    #[serde(default)]
    pub day_wh: f64,
    /// By what its power is held; nothing before it ran.
    #[serde(default)]
    pub held_by: Option<HeldBy>,
    /// CPU time of this try, s.
    pub cpu_s: f64,
    /// When it was over.
    pub ended: Option<DateTime<Utc>>,
    /// What was wrong.
    pub trouble: Option<String>,
}

/// What jobs have spent, and may.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobBudgetView {
    /// In the running hour of UTC, Wh.
    pub hour_wh: f64,
    /// In the running day of UTC, Wh.
    pub day_wh: f64,
    /// Most in an hour, Wh.
    pub per_hour_wh: Option<f64>,
    /// Most in a day, Wh.
    pub per_day_wh: Option<f64>,
    /// Each workload since ever.
    pub accounts: BTreeMap<Id, Account>,
}

/// Energy of one thing, Wh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnergyView {
    /// In the running hour of UTC.
    pub hour_wh: f64,
    /// In the running day of UTC.
    pub day_wh: f64,
    /// Since it is counted.
    pub all_wh: f64,
}

/// Where energy went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerView {
    /// The site's, by the code of each flow.
    pub site: BTreeMap<String, EnergyView>,
    /// Looking, by camera.
    pub cameras: BTreeMap<Id, EnergyView>,
    /// Jobs, by workload.
    pub workloads: BTreeMap<Id, EnergyView>,
}
