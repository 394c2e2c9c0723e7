//! Thinking about power: who gets how much of this second's headroom (`allocation`), how fast a
//! setpoint may move (`ramp`), what the battery does (`battery`), and what PV and building will do
//! (`forecast`), and who gets what in the next hours (`plan`). It knows nothing of fire and
//! nothing of wires.

mod allocation;
mod battery;
mod filling;
mod forecast;
mod phases;
pub mod plan;
mod precedence;
mod ramp;

pub use allocation::{Claim, Room, Share, allocate, round_down};
pub use battery::{
    BatteryState, BatteryTarget, is_full, planned, self_consumption, without_export,
};
pub use forecast::{Forecast, SLOT_MINUTES, SlotMemory};
pub use phases::{Better, Full, PhaseSwitch, Second};
pub use precedence::{Steps, earliest_first, early_for_nothing};
pub use ramp::Ramp;
