//! Whether a battery does what it is told (fault EN9: a mode that it will not leave).
//!
//! What a stranger gets wrong: an inverter takes seconds to follow and ends at the battery's own limits;
//! only a difference that stays is disobedience.

use std::time::Duration;

use crate::units::{Moment, Watts};

/// Differences up to this are losses, metering and rounding. Our own figure.
const NEAR: Watts = Watts(500.0);
/// How long it must differ before people are told (fault EN9).
pub(super) const DISOBEYS_FOR: Duration = Duration::from_secs(55);

/// What a battery was told and since when it does otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct BatteryWatch {
    told: Watts,
    differs_since: Option<Duration>,
}

impl BatteryWatch {
    /// What it is told from now on, discharge positive.
    pub fn tell(&mut self, power: Watts) {
        self.told = power;
    }

    /// What it does. Less than it was told is its own affair (empty, full, warm); more, or the other way,
    /// is not.
    pub fn see(&mut self, power: Watts, at: Moment) {
        let low = self.told.min(Watts::ZERO) - NEAR;
        let high = self.told.max(Watts::ZERO) + NEAR;
        let differs = power < low || power > high;
        self.differs_since = differs.then(|| self.differs_since.unwrap_or(at.uptime));
    }

    /// What it was told last.
    pub fn told(&self) -> Watts {
        self.told
    }

    /// For how long it has done otherwise.
    pub fn differs_for(&self, now: Moment) -> Duration {
        self.differs_since.map_or(Duration::ZERO, |since| now.uptime.saturating_sub(since))
    }

    /// Whether people must be told.
    pub fn disobeys(&self, now: Moment) -> bool {
        self.differs_for(now) >= DISOBEYS_FOR
    }
}
