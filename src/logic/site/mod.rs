//! What the site is (`topology`), what was last seen of it (`readings`, `snapshot`), and what may be
//! asked of it (`setpoints`); what energy costs (`tariff`), what feeds whom (`circuits`), what guards it
//! (`guard`), how a grid operator bounds it (`dimming`), who may change phases (`switching`), how chargers charge
//! (`modes`) and what batteries are for (`storage`), what it may be asked to compute (`work`), what all of that is
//! called (`id`), and where its energy went (`daybook`).

mod circuits;
mod daybook;
mod dimming;
mod guard;
mod id;
mod labels;
mod modes;
mod readings;
mod setpoints;
mod snapshot;
mod storage;
mod switching;
mod tariff;
mod topology;
mod work;

pub use circuits::{Circuit, Feeders, Line, Overload, Right, overloads};
pub use daybook::{Daybook, Flow, Happened, Tally};
pub use dimming::{DimContact, DimmingWords};
pub use guard::{Guard, Limits, Relay, RelayKind, Roles, Sensor, SensorKind};
pub use id::{Id, InvalidId};
pub use labels::{BayLabels, Labels, Scores};
pub use modes::{ChargingMode, ChosenModes, ModeWords};
pub use readings::{
    BatteryReading, ChargerReading, ComputeReading, InputsReading, MeterReading, PvReading,
    Reading, Vehicle,
};
pub use setpoints::{ChargerSetpoint, Reason, RelaySetpoint, Setpoints};
pub use snapshot::{Known, LOST_AFTER, Snapshot};
pub use storage::{Aim, Strategy};
pub use switching::{PhaseCount, Switching};
pub use tariff::{Band, DayMinute, Leaves, Stay, Target, TargetWords, Tariff};
pub use topology::{
    Battery, Bay, Camera, Charger, Compute, DemandLimit, FALLS_BACK_WITHIN, GridLimits, Inverter,
    LEAST_EACH, Mode, OnBlind, Site, Zone,
};
pub use work::{
    Allowed, JobWish, MOST_HOURS, NotAllowed, Order, Submission, SubmissionWords, Work, Workload,
};
