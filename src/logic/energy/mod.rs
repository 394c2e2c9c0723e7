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
mod sun;

pub use allocation::{Claim, Room, Share, allocate, round_down};
pub use battery::{
    BatteryState, BatteryTarget, from_sun_only, is_full, peak_shaving, planned, self_consumption,
    without_export,
};
pub use forecast::{Forecast, SLOT_MINUTES, SlotMemory};
pub use phases::{Better, Full, PhaseSwitch, Second};
pub use precedence::{Circuits, Steps, earliest_first, early_for_nothing};
pub use ramp::Ramp;
pub use sun::{SunClaim, SunSecond, SunSwitch, share_sun};
