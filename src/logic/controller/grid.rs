//! Whether there is a grid: chargers stop when it is gone, and come back one after another when it is.
//!
//! What a stranger gets wrong: nothing here is random. When a charger may start again comes from its id,
//! so that a replay gives the same and two of them rarely start together.

use std::time::Duration;

use crate::logic::site::{Id, MeterReading, Reason};
use crate::units::{Moment, Volts};

/// Below this share of the nominal voltage on every phase there is no grid.
const GONE_BELOW: f64 = 0.5;
/// Chargers come back within this (fault EN7).
const BACK_WITHIN_S: u64 = 60;

/// What is known of the grid.
#[derive(Clone, Debug, Default)]
pub(super) struct GridWatch {
    gone: bool,
    back: Option<Moment>,
}

impl GridWatch {
    /// Takes in what the meter at the grid connection says.
    pub fn see(&mut self, meter: &MeterReading, nominal: Volts, at: Moment) {
        let gone = meter.voltage.iter().all(|(_, volts)| volts < nominal * GONE_BELOW);
        if self.gone && !gone {
            self.back = Some(at);
        }
        self.gone = gone;
    }

    /// Whether there is none.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Why a charger must wait, if it must.
    pub fn holds_back(&self, charger: &Id, now: Moment) -> Option<Reason> {
        if self.gone {
            return Some(Reason::GridLost);
        }
        let delay = Duration::from_secs(turn(charger) % BACK_WITHIN_S);
        let waits = self.back.is_some_and(|back| back.age_at(now) < delay);
        waits.then_some(Reason::RestartDelay)
    }
}

/// A number that a charger keeps for life: FNV-1a of its id.
fn turn(id: &Id) -> u64 {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    // The low bits of similar ids are close: take the high ones.
    id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix) >> 40
}
