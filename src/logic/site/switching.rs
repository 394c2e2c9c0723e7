//! Chargers that can take their car from three phases to one and back: on how many they charge, and how often
//! they may be switched.
//!
//! What a stranger gets wrong: one phase is always the charger's first own one, whichever phase of the grid
//! that is by its wiring.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// On how many phases a charger charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseCount {
    /// On its first own phase.
    One,
    /// On all three.
    Three,
}

impl PhaseCount {
    /// 1 or 3.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            PhaseCount::One => 1,
            PhaseCount::Three => 3,
        }
    }
}

/// What the installer allows of a charger that can switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switching {
    /// Switches during one car's stay, at most.
    pub most: u32,
    /// Shortest time between two switches with a car at the plug.
    pub lockout: Duration,
    /// The car stays paused for so long after the charger has confirmed a switch.
    pub settle: Duration,
}

impl Switching {
    /// Where the site file says nothing. Cars have been switched two to six times an hour elsewhere, and their
    /// owners minded (evcc #3543).
    pub const MOST: u32 = 4;
    /// Where the site file says nothing: openWB waits 7 minutes, EVerest 10.
    pub const LOCKOUT: Duration = Duration::from_secs(600);
}
