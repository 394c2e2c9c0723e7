//! The words in which `fire` speaks of a zone: how dangerous it is, what of that is remembered, and what keeps
//! it from being released.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::signs::Cause;
use crate::units::Moment;

/// How dangerous a zone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing known.
    #[default]
    Normal,
    /// Something may be wrong: half power.
    Watch,
    /// Fire, smoke, gas or a hot cell, confirmed: stop charging in the zone and its neighbours. Latched.
    Alarm,
    /// Stopped, the battery isolated where the vote says so. Latched. Not entered on vision alone.
    Trip,
}

impl Level {
    /// 0 to 3, as MQTT and the page say it.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The hazard of one zone now.
#[derive(Clone, Debug, PartialEq)]
pub struct Hazard {
    /// The level.
    pub level: Level,
    /// Nothing may charge in the zone and its neighbours: from Alarm on, and for a moment on a single sample that
    /// nobody has confirmed yet.
    pub stops: bool,
    /// A camera or sensor of the zone does not deliver.
    pub fault: bool,
    /// Since when the level stands.
    pub since: Moment,
    /// What holds now, worst first.
    pub causes: Vec<Cause>,
    /// The battery of the zone must be at rest whatever the level: its management is silent.
    pub battery_rests: bool,
    /// It is on watch only for what is told as an alarm of its own: lost devices, overdue proofs.
    pub told_otherwise: bool,
    /// The vote has asked for the battery's contactor to open. Latched with the level.
    pub isolate: bool,
}

/// A latched zone, as it is remembered across a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatchedZone {
    /// Alarm or Trip.
    pub level: Level,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The contactor was asked to open.
    #[serde(default)]
    pub isolate: bool,
    /// The feeder of the zone's chargers was opened, because one of them did not stop.
    #[serde(default)]
    pub feeder: bool,
}

/// Why a latched zone is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetObstacle {
    /// The zone is not latched: there is nothing to reset.
    NotLatched,
    /// What made the alarm still holds.
    StillSeen,
    /// A camera of the zone is blind: nobody can say that it is clear.
    Blind,
    /// A sensor of the zone is at fault: nobody can say that it is clear.
    SensorFault,
    /// It is clear, but not for ten minutes yet.
    NotClearLongEnough,
}
