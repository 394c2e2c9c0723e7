//! What a battery is for, by the names that people know: self-consumption, peak shaving, arbitrage; and what it
//! must not do: charge from the grid, or go below what is kept for an outage.
//!
//! What a stranger gets wrong: the reserve is a second floor above the battery's own one. It holds while there
//! is a grid; when the grid is gone it is what the site lives on.

use serde::{Deserialize, Serialize};

use super::Battery;
use crate::units::{Soc, Watts};

/// What a battery is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// The plan: it buys when energy is cheap and gives when it is dear. Without a plan: self-consumption.
    #[default]
    Arbitrage,
    /// It takes what the sun leaves over and gives to the site what would be imported, whatever the prices.
    SelfConsumption,
    /// It gives what would be imported beyond this power, and is filled below it.
    PeakShaving(Watts),
}

impl Aim {
    /// Names in the site file.
    pub const NAMES: [&str; 3] = ["arbitrage", "self_consumption", "peak_shaving"];
}

/// What a battery is for and what it must not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// What it is for.
    pub aim: Aim,
    /// Kept for an outage: not discharged below this while there is a grid.
    pub reserve: Soc,
    /// It is charged with what the sun leaves over, and with nothing else.
    pub no_grid_charging: bool,
    /// Below this charge what the sun leaves over is the battery's before it is the cars'.
    pub before_cars: Soc,
}

impl Battery {
    /// Not discharged below this now.
    #[must_use]
    pub fn floor(&self, grid_gone: bool) -> Soc {
        if grid_gone || self.strategy.reserve < self.min_soc {
            return self.min_soc;
        }
        self.strategy.reserve
    }
}
