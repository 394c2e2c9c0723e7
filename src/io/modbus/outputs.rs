//! Outputs of an input/output module: relays are switched, read back, and switched again when the module
//! shows something else (it was power-cycled, somebody else writes).
//!
//! What a stranger gets wrong: when decisions stop coming nothing is written here. A dead gateway is no
//! reason for a black-out; outputs stay as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bus::{Bus, BusError};
use super::codec::Raw;
use super::device::{Device, Rank};
use super::readings::Values;
use crate::config::{RelayOutput, Table};
use crate::io::clock::Clock;
use crate::logic::observation::Observation;
use crate::logic::safety::interlock::Permitted;
use crate::logic::site::{Id, RelaySetpoint};
use crate::units::Moment;

/// An output that cannot be read back is written again this often.
const RENEW: Duration = Duration::from_secs(5);
/// Pause before a switch that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Pause before a relay that must act is tried again at a module that is gone: probes are up to half a minute
/// apart, and a trip waits for none of them. Our own figure.
const RETRY_ABSENT: Duration = Duration::from_secs(10);

/// What was last written to each relay, and which failed.
#[derive(Debug, Default)]
pub struct Outputs {
    written: BTreeMap<Id, (u16, Moment)>,
    /// The word that failed, and when it is tried again.
    not_before: BTreeMap<Id, (u16, Moment)>,
}

fn word(relay: &RelayOutput, told: RelaySetpoint) -> u16 {
    let on = (told == RelaySetpoint::Act) == relay.acts_energised;
    if on { relay.output.on } else { relay.output.off }
}

/// When a switch that failed, and was to be tried again at `wait`, is tried again; where the module
/// is gone only what must act is, the rest waits for a probe.
fn again(wait: Moment, told: RelaySetpoint, may_be_told: bool) -> Option<Moment> {
    match (may_be_told, told) {
        (true, _) => Some(wait),
        (false, RelaySetpoint::Act) => Some(wait.after(RETRY_ABSENT)),
        (false, RelaySetpoint::Rest) => None,
    }
}

impl Device {
    /// Forgets what the module does not show any more, so that it is written again.
    pub(super) fn notice_outputs(&mut self, values: &Values) {
        for relay in &self.config.relays {
            let name = &relay.output.name;
            let (Some(Raw::Number(shown)), Some((written, at)), Some(asked)) =
                (values.get(name), self.outputs.written.get(&relay.relay), self.asked(name))
            else {
                continue;
            };
            if asked.uptime >= at.uptime && *shown != f64::from(*written) {
                let (relay, told) = (relay.relay.as_str(), *written);
                tracing::warn!(relay, shown, told, "an output was changed behind our back");
                self.outputs.written.retain(|id, _| id.as_str() != relay);
            }
        }
    }

    /// The first relay that must be switched or renewed, when, and its word.
    fn next_relay(&self, permitted: &Permitted, now: Moment) -> Option<(Moment, Rank, usize, u16)> {
        let mut next: Option<(Moment, Rank, usize, u16)> = None;
        for (i, relay) in self.config.relays.iter().enumerate() {
            let Some((told, _)) = permitted.relay(&relay.relay) else {
                continue;
            };
            let word = word(relay, *told);
            let is_shown = self.config.profile.point(&relay.output.name).is_some();
            let (mut at, rank) = match self.outputs.written.get(&relay.relay) {
                Some((written, _)) if *written == word && is_shown => continue,
                Some((written, at)) if *written == word => (at.after(RENEW), Rank::Renewal),
                _ => (now, Rank::Setpoint),
            };
            if let Some((failed, wait)) = self.outputs.not_before.get(&relay.relay)
                && *failed == word
            {
                let Some(wait) = again(*wait, *told, self.health.may_be_told(now)) else {
                    continue;
                };
                if wait.uptime > at.uptime {
                    at = wait;
                }
            }
            if next.is_none_or(|(soonest, ..)| at.uptime < soonest.uptime) {
                next = Some((at, rank, i, word));
            }
        }
        next
    }

    /// When an output must be switched, and how urgent that is.
    pub(super) fn next_switch(&self, permitted: &Permitted, now: Moment) -> Option<(Moment, Rank)> {
        self.next_relay(permitted, now).map(|(at, rank, ..)| (at, rank))
    }

    /// Switches the next output and reads it back.
    pub(super) async fn switch(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        permitted: &Permitted,
        told: &mut Vec<Observation>,
    ) {
        let Some((_, _, i, word)) = self.next_relay(permitted, clock.now()) else {
            return;
        };
        let relay = self.config.relays[i].clone();
        let outcome = self.write_output(bus, &relay, word).await;
        let now = clock.now();
        let matches = matches!(outcome, Ok(true));
        if matches {
            self.outputs.written.insert(relay.relay.clone(), (word, now));
            self.outputs.not_before.remove(&relay.relay);
        } else {
            let (id, error) = (relay.relay.as_str(), outcome.as_ref().err());
            tracing::warn!(relay = id, ?error, "an output was not switched");
            self.outputs.not_before.insert(relay.relay.clone(), (word, now.after(RETRY)));
        }
        if let Err(error) = &outcome {
            self.health.not_told(error, now);
        }
        told.push(Observation::Obeyed { device: self.config.id.clone(), at: now, matches });
    }

    /// Whether the module shows what was written; it does where it cannot be asked.
    async fn write_output(
        &self,
        bus: &mut Bus,
        relay: &RelayOutput,
        word: u16,
    ) -> Result<bool, BusError> {
        let (unit, output) = (self.config.unit, &relay.output);
        self.put(bus, output.function, (output.address, &[word])).await?;
        if self.config.profile.point(&output.name).is_none() {
            return Ok(true);
        }
        let span = (output.address, 1);
        let held = bus.read(unit, Table::Holding, span, self.pace).await?;
        Ok(held == [word])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_a_module_that_is_gone_only_what_must_act_is_tried_again_and_within_eleven_seconds() {
        use RelaySetpoint::{Act, Rest};
        let now = Moment { uptime: Duration::from_secs(60), utc: chrono::DateTime::UNIX_EPOCH };
        let soon = now.after(RETRY);
        let waits = |told, there| {
            again(soon, told, there).map(|at| at.uptime.saturating_sub(now.uptime).as_millis())
        };
        assert_eq!([waits(Act, true), waits(Rest, true)], [Some(500), Some(500)]);
        assert_eq!([waits(Act, false), waits(Rest, false)], [Some(10_500), None]);
    }
}
