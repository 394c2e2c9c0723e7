//! Thinking about power: who gets how much of this second's headroom (`allocation`), how fast a
//! setpoint may move (`ramp`), and what the battery does (`battery`). It knows nothing of fire and
//! nothing of wires.

mod allocation;
mod battery;
mod ramp;

pub use allocation::{Claim, Share, allocate};
pub use battery::{BatteryState, self_consumption};
pub use ramp::Ramp;
