//! Every fact that can come into the controller. The order in which they come is part of the trace;
//! nothing else may change what `logic` thinks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compute::JobNews;
use super::safety::alarms::Signature;
use super::site::{ChargingMode, Id, Order, Reading, Target};
use super::vision::{Ledger, Scene};
use crate::units::{Moment, Watts};

/// Why a device gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// No connection could be made.
    Unreachable,
    /// The device did not answer in time.
    Timeout,
    /// The device answered with a Modbus exception.
    Exception,
    /// The answer was broken: wrong id, count, function or echo.
    Broken,
    /// The answer was complete but not to be believed: sentinel, range or rate.
    Implausible,
}

/// Something that the field bus has noticed of a device, beside what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It refuses registers that its profile asks for (exceptions 1 to 3).
    Misconfigured,
    /// It reports a failure of its own three times in a row (exceptions 4 and 8).
    DeviceFault,
    /// It refuses the connection: another master may hold it.
    OtherMaster,
    /// Somebody else writes its setpoint.
    ForeignWriter,
}

impl Finding {
    /// Stable code, the same as its alarm's.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Finding::Misconfigured => "misconfigured",
            Finding::DeviceFault => "device_fault",
            Finding::OtherMaster => "other_master",
            Finding::ForeignWriter => "foreign_writer",
        }
    }
}

/// Trouble of the gateway itself, seen outside the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// No session with the broker.
    BrokerDown,
    /// The outbox cannot be written, or was found damaged.
    StoreFault,
    /// The site file is broken: the last good copy is in use.
    ConfigFallback,
    /// Five crashes in a minute: nothing is written until the next start.
    SafeMode,
    /// The latch cannot be written.
    LatchFault,
    /// The latch could not be read at start: every zone counts as tripped.
    LatchUnreadable,
    /// An update did not prove itself: the version before it runs.
    UpdateUndone,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Observation {
    /// A device answered completely.
    Answered {
        /// The device.
        device: Id,
        /// When the answer came off the wire.
        at: Moment,
        /// What it said.
        reading: Reading,
    },
    /// A device gave no usable answer.
    Silent {
        /// The device.
        device: Id,
        /// When that was known.
        at: Moment,
        /// Why.
        why: Silence,
    },
    /// A setpoint was written and read back.
    Obeyed {
        /// The device.
        device: Id,
        /// When.
        at: Moment,
        /// Whether the value read back is the one written.
        matches: bool,
    },
    /// Something was noticed of a device, or is no longer so.
    Found {
        /// The device.
        device: Id,
        /// When.
        at: Moment,
        /// What.
        finding: Finding,
        /// Whether it holds now.
        holds: bool,
    },
    /// The vision process judged a frame.
    Scene(Scene),
    /// What looking has cost so far.
    Looked {
        /// The account.
        ledger: Ledger,
        /// When it was made up.
        at: Moment,
    },
    /// The vision process is gone: every bay is unknown, every camera blind.
    VisionLost {
        /// When that was known.
        at: Moment,
    },
    /// Something is wrong with the gateway itself, or is right again.
    Trouble {
        /// Which.
        trouble: Trouble,
        /// Whether it holds now.
        holds: bool,
        /// When that was known.
        at: Moment,
    },
    /// A person knows of an alarm.
    Acknowledged {
        /// The alarm's id.
        alarm: String,
        /// Who.
        signature: Signature,
        /// When.
        at: Moment,
    },
    /// A person puts an alarm out of sight for a time.
    Shelved {
        /// The alarm's id.
        alarm: String,
        /// Who.
        signature: Signature,
        /// For how long.
        span: Duration,
        /// When.
        at: Moment,
    },
    /// Somebody says what the car at a charger needs from now on.
    Asked {
        /// The charger.
        charger: Id,
        /// Energy and departure.
        target: Target,
        /// When.
        at: Moment,
    },
    /// Somebody says how a charger shall charge from now on.
    ModeChosen {
        /// The charger.
        charger: Id,
        /// How.
        mode: ChargingMode,
        /// When.
        at: Moment,
    },
    /// The grid operator, or somebody in its name, bounds what can be controlled for a while.
    Dimmed {
        /// What chargers, compute nodes and the charge of batteries together may take; never less than the rule
        /// leaves them.
        limit: Watts,
        /// Until when, on the clock that never jumps.
        until: Moment,
        /// When that was said.
        at: Moment,
    },
    /// A person asks for a latched zone to be released: first says so, then has inspected the place.
    ResetAsked {
        /// The zone.
        zone: Id,
        /// Who.
        by: String,
        /// Whether it is the second step.
        #[serde(default)]
        inspected: bool,
        /// When.
        at: Moment,
    },
    /// Somebody asks for a job, or about one.
    Ordered {
        /// What.
        order: Order,
        /// When.
        at: Moment,
    },
    /// Whoever runs jobs tells of one.
    Job {
        /// The job.
        job: Id,
        /// What.
        news: JobNews,
        /// When.
        at: Moment,
    },
    /// A person says that a sensor or relay was tested.
    Proven {
        /// The sensor or relay.
        id: Id,
        /// Who.
        by: String,
        /// When.
        at: Moment,
    },
}
