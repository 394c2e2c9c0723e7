//! Quantities and moments: the ground floor. Every number that crosses a module boundary inside the
//! gateway carries its unit in its type; plain `f64` appears only at the edges, where the key names
//! the unit (`power_w`, `max_current_a`).
//!
//! Signs, everywhere: grid + = import, battery + = discharge, PV + = production, charger + =
//! consumption, so that `grid + pv + battery = chargers + other`.

mod electrical;
mod time;

pub use electrical::{Amps, Hertz, PerPhase, Phase, Soc, Volts, WattHours, Watts};
pub use time::Moment;
