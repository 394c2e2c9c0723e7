//! A moment as the gateway knows it: two clocks read together.
//!
//! What a stranger gets wrong: ages are always taken from `uptime`, which counts through suspend and
//! never jumps; `utc` is for prices, plans and people, and may jump when somebody sets the clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One reading of both clocks, made only by `io::clock` (or by a simulation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Time since boot, suspend included, scaled by the site's speed when simulated.
    pub uptime: Duration,
    /// Wall clock, UTC.
    pub utc: DateTime<Utc>,
}

impl Moment {
    /// How long before `now` this moment was; zero if it is not before.
    #[must_use]
    pub fn age_at(&self, now: Moment) -> Duration {
        now.uptime.saturating_sub(self.uptime)
    }

    /// This moment moved forward on both clocks.
    #[must_use]
    pub fn after(self, span: Duration) -> Moment {
        let utc = chrono::Duration::from_std(span).unwrap_or(chrono::Duration::MAX);
        Moment {
            uptime: self.uptime.saturating_add(span),
            utc: self.utc.checked_add_signed(utc).unwrap_or(self.utc),
        }
    }
}
