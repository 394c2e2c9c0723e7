//! Taking a charger from three phases to one and back on the wire: one register, written only while the
//! charger was told to pause has been read back so and draws nothing, and shown by the next reading.
//!
//! What a stranger gets wrong: nobody waits for it here. Whether the charger did it is what `logic` sees in its
//! readings; a charger that does not show it is told once more, and then no more until it is told the other.

use std::time::Duration;

use super::bus::Bus;
use super::codec::Raw;
use super::device::{self, Device};
use super::readings::Values;
use crate::io::clock::Clock;
use crate::logic::safety::interlock::Permitted;
use crate::logic::site::{ChargerSetpoint, PhaseCount};
use crate::units::Moment;

/// A charger has this long to show that it moved before it is told once more. Our own figure.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// Less is metering noise.
const NO_CURRENT_A: f64 = 0.5;
const NO_POWER_W: f64 = 100.0;
/// Times that it is told the same.
const MOST_TIMES: u8 = 2;

/// What is known of a charger's phases.
#[derive(Debug, Default)]
pub struct Phases {
    /// What it showed last, raw.
    shown: Option<f64>,
    /// Whether current flowed then.
    flows: bool,
    tried: Option<Tried>,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    count: PhaseCount,
    times: u8,
    at: Moment,
}

impl Phases {
    /// Whoever is told the other, or that it may stay as it is, is told anew the next time.
    pub fn follow(&mut self, told: Option<PhaseCount>) {
        self.tried = self.tried.filter(|tried| told.is_none_or(|count| count == tried.count));
    }
}

impl Device {
    /// Keeps what the charger shows.
    pub(super) fn notice_phases(&mut self, values: &Values) {
        let number = |quantity: &str| match values.get(quantity) {
            Some(Raw::Number(number)) => Some(*number),
            _ => None,
        };
        self.phases.shown = number("phases");
        let currents = ["current_l1_a", "current_l2_a", "current_l3_a"].into_iter();
        let most = currents.filter_map(number).fold(0.0, f64::max);
        self.phases.flows =
            most >= NO_CURRENT_A || number("power_w").is_none_or(|w| w >= NO_POWER_W);
    }

    /// The word to be written now, and what it stands for; nothing where the charger shows it already, is not
    /// seen to be paused, or was told often enough.
    pub(super) fn next_change(
        &self,
        permitted: &Permitted,
        now: Moment,
    ) -> Option<(u16, PhaseCount)> {
        let recipe = self.config.profile.phase_switch.as_ref()?;
        let count = permitted.phases(&self.config.id)?;
        let (word, shows) = match count {
            PhaseCount::One => (recipe.one, recipe.shows_one),
            PhaseCount::Three => (recipe.three, recipe.shows_three),
        };
        let paused =
            matches!(permitted.charger(&self.config.id), Some((ChargerSetpoint::Pause, _)))
                && self.order.is_paused()
                && self.order.pending().is_none()
                && !self.phases.flows;
        let differs = self.phases.shown.is_some_and(|shown| shown != f64::from(shows));
        let free = self.phases.tried.is_none_or(|tried| {
            tried.count != count
                || (tried.times < MOST_TIMES && tried.at.age_at(now) >= SHOWN_WITHIN)
        });
        (paused && differs && free && !self.health.is_absent()).then_some((word, count))
    }

    /// Writes it.
    pub(super) async fn change_phases(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        (word, count): (u16, PhaseCount),
    ) {
        let Some(recipe) = self.config.profile.phase_switch else { return };
        let outcome = self.put(bus, recipe.function, (recipe.address, &[word])).await;
        let now = clock.now();
        let before = self.phases.tried.filter(|tried| tried.count == count);
        let times = before.map_or(1, |tried| tried.times.saturating_add(1));
        self.phases.tried = Some(Tried { count, times, at: now });
        let device = self.config.id.as_str();
        match outcome {
            Ok(()) => {
                tracing::info!(device, phases = count.number(), times, "told to change phases")
            }
            Err(error) => {
                tracing::warn!(device, %error, "the change of phases could not be written");
                if let super::bus::BusError::Exception(code) = &error {
                    self.refuses_writes |= device::is_refusal(*code);
                }
                self.health.not_told(&error, now);
            }
        }
    }
}
