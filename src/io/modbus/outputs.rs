//! Outputs of an input/output module: relays are switched, read back, and switched again when the module
//! shows something else (it was power-cycled, somebody else writes).
//!
//! What a stranger gets wrong: when decisions stop coming nothing is written here. A dead gateway is no
//! reason for a black-out; outputs stay as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bus::{Bus, BusError, Pace};
use super::codec::Raw;
use super::readings::Values;
use crate::config::{Profile, RelayOutput, Table};
use crate::logic::safety::interlock::Permitted;
use crate::logic::site::{Id, RelaySetpoint};
use crate::units::Moment;

/// An output that cannot be read back is written again this often.
const RENEW: Duration = Duration::from_secs(5);

/// What was last written to each relay.
#[derive(Debug, Default)]
pub struct Outputs {
    written: BTreeMap<Id, (u16, Moment)>,
}

/// Where the module is, and what it is.
pub struct Module<'m> {
    /// Unit id.
    pub unit: u8,
    /// Times of its calls.
    pub pace: Pace,
    /// Its profile.
    pub profile: &'m Profile,
    /// Its relays.
    pub relays: &'m [RelayOutput],
}

fn word(output: &RelayOutput, told: RelaySetpoint) -> u16 {
    let on = (told == RelaySetpoint::Act) == output.acts_energised;
    if on { output.output.on } else { output.output.off }
}

impl Outputs {
    /// Forgets what the module does not show any more, so that it is written again.
    pub fn notice(&mut self, module: &Module<'_>, values: &Values) {
        for relay in module.relays {
            let (Some(Raw::Number(shown)), Some((written, _))) =
                (values.get(&relay.output.name), self.written.get(&relay.relay))
            else {
                continue;
            };
            if *shown != f64::from(*written) {
                tracing::warn!(
                    relay = relay.relay.as_str(),
                    shown,
                    told = written,
                    "an output was changed behind our back"
                );
                self.written.remove(&relay.relay);
            }
        }
    }

    /// Writes what differs and reads it back. Nothing where nothing had to be written.
    pub async fn obey(
        &mut self,
        bus: &mut Bus,
        module: &Module<'_>,
        (permitted, now): (&Permitted, Moment),
    ) -> Option<Result<bool, BusError>> {
        let mut outcome = None;
        for relay in module.relays {
            let Some((told, _)) = permitted.relay(&relay.relay) else {
                continue;
            };
            let word = word(relay, *told);
            let shown = module.profile.point(&relay.output.name);
            let holds = self.written.get(&relay.relay).is_some_and(|(written, at)| {
                *written == word && (shown.is_some() || at.age_at(now) < RENEW)
            });
            if holds {
                continue;
            }
            match switch(bus, module, (relay, word)).await {
                Ok(true) => {
                    self.written.insert(relay.relay.clone(), (word, now));
                    outcome = Some(outcome.unwrap_or(Ok(true)));
                }
                Ok(false) => outcome = Some(Ok(false)),
                Err(error) => return Some(Err(error)),
            }
        }
        outcome
    }
}

/// Whether the module shows what was written; it does where it cannot be asked.
async fn switch(
    bus: &mut Bus,
    module: &Module<'_>,
    (relay, word): (&RelayOutput, u16),
) -> Result<bool, BusError> {
    let output = &relay.output;
    bus.write(module.unit, output.function, (output.address, &[word]), module.pace).await?;
    if module.profile.point(&output.name).is_none() {
        return Ok(true);
    }
    let span = (output.address, 1);
    let held = bus.read(module.unit, Table::Holding, span, module.pace).await?;
    Ok(held == [word])
}
