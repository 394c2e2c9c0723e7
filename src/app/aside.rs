//! What a drill puts aside for a while: the meter's answers, the broker, or a charger's obedience. The desk
//! begins it; the control thread and the uplink look at it.
//!
//! What a stranger gets wrong: no device is touched. The charger of a drill goes on obeying; only what it
//! says of its current is changed on its way to the controller, so that it seems to draw more than it
//! was told.

use std::time::Duration;

use tokio::sync::watch;

use crate::io::clock::Clock;
use crate::logic::decision::Decision;
use crate::logic::observation::Observation;
use crate::logic::site::{Id, Reading};
use crate::units::{Amps, Moment};

/// So much more than it was told a charger seems to draw: well beyond what counts as obeying.
const TOO_MUCH: Amps = Amps(4.0);
/// A phase of a charger below this is not used by its car.
const UNUSED: Amps = Amps(1.0);

/// What is put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The answers of the meter at the grid connection.
    Meter,
    /// The broker.
    Broker,
    /// The obedience of a charger.
    Charger(Id),
}

/// What is put aside now, and until when; one thing at a time.
pub type Aside = Option<(Put, Moment)>;

/// Who begins it.
pub type Begins = watch::Sender<Aside>;

/// Who looks at it.
#[derive(Clone, Debug)]
pub struct Looks(watch::Receiver<Aside>);

/// Nothing is put aside.
#[must_use]
pub fn nothing() -> (Begins, Looks) {
    let (begins, looks) = watch::channel(None);
    (begins, Looks(looks))
}

/// Puts something aside for a while.
pub fn begin(aside: &Begins, put: Put, (lasts, clock): (Duration, Clock)) {
    aside.send_replace(Some((put, clock.now().after(lasts))));
}

impl Looks {
    fn now(&self, clock: Clock) -> Option<Put> {
        let aside = self.0.borrow().clone();
        let (put, until) = aside?;
        (clock.now().uptime < until.uptime).then_some(put)
    }

    /// Whether the broker is put aside.
    #[must_use]
    pub fn takes_broker(&self, clock: Clock) -> bool {
        self.now(clock) == Some(Put::Broker)
    }

    /// An observation as it comes to the controller: not at all, or changed; `told` is the last decision.
    #[must_use]
    pub fn pass(
        &self,
        mut observation: Observation,
        (meter, told): (&Id, Option<&Decision>),
        clock: Clock,
    ) -> Option<Observation> {
        // Most of the time there is nothing, and nothing to ask the clock for.
        if self.0.borrow().is_none() {
            return Some(observation);
        }
        let Observation::Answered { device, reading, .. } = &mut observation else {
            return Some(observation);
        };
        match self.now(clock) {
            Some(Put::Meter) if device == meter => return None,
            Some(Put::Charger(charger)) if *device == charger => {
                let setpoint = told.and_then(|told| told.permitted.charger(&charger));
                let amps = setpoint.map_or(Amps::ZERO, |(setpoint, _)| setpoint.amps());
                too_much(reading, amps + TOO_MUCH);
            }
            _ => {}
        }
        Some(observation)
    }
}

/// Makes a charger's reading show at least this much on the phases that its car uses, or on the first one.
fn too_much(reading: &mut Reading, amps: Amps) {
    let Reading::Charger(charger) = reading else { return };
    let [first, second, third] = &mut charger.current.0;
    *first = first.max(amps);
    for phase in [second, third].into_iter().filter(|phase| **phase >= UNUSED) {
        *phase = phase.max(amps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::{ChargerReading, Vehicle};
    use crate::units::{PerPhase, Volts, Watts};

    fn id(text: &str) -> Id {
        Id::try_from(text).unwrap()
    }

    fn answer(device: &str, amps: [f64; 3]) -> Observation {
        let reading = Reading::Charger(ChargerReading {
            vehicle: Vehicle::Charging,
            current: PerPhase(amps.map(Amps)),
            voltage: PerPhase::all(Volts(230.0)),
            power: Watts(0.0),
            limit: Amps(16.0),
            energy: None,
            phases: None,
            lease: None,
        });
        Observation::Answered { device: id(device), at: Clock::real().now(), reading }
    }

    #[test]
    fn only_what_is_put_aside_is_touched_and_only_for_so_long() {
        let ((begins, looks), clock) = (nothing(), Clock::real());
        let pass =
            |observation: &Observation| looks.pass(observation.clone(), (&id("grid"), None), clock);
        let pile = answer("pile1", [2.0, 2.0, 0.0]);
        assert_eq!(pass(&pile), Some(pile.clone()));
        begin(&begins, Put::Charger(id("pile1")), (Duration::from_secs(30), clock));
        let Some(Observation::Answered { reading: Reading::Charger(changed), .. }) = pass(&pile)
        else {
            panic!("its answer is heard")
        };
        assert_eq!(changed.current.0.map(Amps::get), [4.0, 4.0, 0.0]);
        let other = answer("pile2", [2.0, 2.0, 0.0]);
        assert_eq!(pass(&other), Some(other));
        begin(&begins, Put::Meter, (Duration::from_secs(30), clock));
        assert_eq!(pass(&answer("grid", [0.0; 3])), None);
        assert_eq!(pass(&pile), Some(pile.clone()));
        begin(&begins, Put::Broker, (Duration::from_secs(30), clock));
        assert!(looks.takes_broker(clock));
        begin(&begins, Put::Broker, (Duration::ZERO, clock));
        assert!(!looks.takes_broker(clock));
    }
}
