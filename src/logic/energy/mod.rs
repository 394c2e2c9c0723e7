//! Thinking about power: who gets how much of this second's headroom (`allocation`), how fast a
//! setpoint may move (`ramp`), what the battery does (`battery`), and the day plan (`plan`). It knows
//! nothing of fire and nothing of wires.

mod allocation;
mod battery;
pub mod plan;
mod ramp;

pub use allocation::{Claim, Share, allocate};
pub use battery::{BatteryState, self_consumption};
pub use ramp::Ramp;
