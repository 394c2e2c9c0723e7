//! What may be wrong with the devices of a simulated site, for how long, and what is then heard of them.
//!
//! What a stranger gets wrong: a frozen or late answer is complete and carries the moment at which it
//! came off the wire; only its content is old. That is why it is worse than silence.

use std::collections::{BTreeMap, VecDeque};

use crate::logic::site::{MeterReading, Reading};
use crate::units::{Amps, Moment, PerPhase, Watts};

/// A device, or the eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The meter at the grid connection.
    Meter,
    /// The n-th charger of the site.
    Charger(usize),
    /// Battery or PV.
    Battery,
    /// The compute node.
    Compute,
    /// All cameras.
    Eyes,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Neither answers nor takes anything.
    Silent,
    /// Answers with what it measured when that began.
    Frozen,
    /// Answers with what it measured two seconds ago.
    Late,
    /// Every answer is wild, but of the right form.
    Garbage,
    /// Takes setpoints and stays with what it had before.
    Deaf,
    /// Takes setpoints and gives all it can.
    Runaway,
}

/// What is heard of a device in a second.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An answer, true or not.
    Answer(Reading),
    /// None.
    Silence,
}

/// Seconds by which a late answer is old.
const LATE_S: usize = 2;

/// What is wrong now, and the memory that it takes to play it.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    /// Until when what holds, s of uptime.
    until: BTreeMap<(Who, What), f64>,
    frozen: BTreeMap<Who, Reading>,
    past: BTreeMap<Who, VecDeque<Reading>>,
}

impl Troubles {
    /// Begins a trouble, or prolongs it, for so many seconds from `now` on.
    pub fn begin(&mut self, (who, what): (Who, What), now: Moment, seconds: f64) {
        let ends = now.uptime.as_secs_f64() + seconds;
        let until = self.until.entry((who, what)).or_insert(ends);
        *until = until.max(ends);
    }

    /// Whether a trouble holds.
    #[must_use]
    pub fn has(&self, who: Who, what: What) -> bool {
        self.until.contains_key(&(who, what))
    }

    /// Whether any trouble of this kind holds, whoever has it.
    #[must_use]
    pub fn any(&self, what: What) -> bool {
        self.until.keys().any(|(_, holds)| *holds == what)
    }

    /// Ends what is over.
    pub fn pass(&mut self, now: Moment) {
        if self.until.is_empty() {
            return;
        }
        let now = now.uptime.as_secs_f64();
        self.until.retain(|_, until| *until > now);
        let until = &self.until;
        self.frozen.retain(|who, _| until.contains_key(&(*who, What::Frozen)));
        self.past.retain(|who, _| until.contains_key(&(*who, What::Late)));
    }

    /// What is heard instead of `reading`.
    pub fn hear(&mut self, who: Who, reading: Reading, rng: &mut fastrand::Rng) -> Heard {
        if self.until.is_empty() {
            return Heard::Answer(reading);
        }
        if self.has(who, What::Silent) {
            return Heard::Silence;
        }
        if self.has(who, What::Garbage) {
            return garbage(reading, rng).map_or(Heard::Silence, Heard::Answer);
        }
        if self.has(who, What::Frozen) {
            return Heard::Answer(self.frozen.entry(who).or_insert(reading).clone());
        }
        if self.has(who, What::Late) {
            let past = self.past.entry(who).or_default();
            past.push_back(reading);
            let old = if past.len() > LATE_S { past.pop_front() } else { past.front().cloned() };
            return old.map_or(Heard::Silence, Heard::Answer);
        }
        Heard::Answer(reading)
    }
}

/// A wild answer that ranges and sentinels of a register map let through. Wilder ones never come to the
/// controller: they are silence.
fn garbage(reading: Reading, rng: &mut fastrand::Rng) -> Option<Reading> {
    match reading {
        Reading::Meter(meter) => {
            let factor = [0.0, -1.0, 0.3, 2.5][rng.usize(0..4)];
            let scaled = |watts: Watts| watts * factor;
            Some(Reading::Meter(MeterReading {
                power: scaled(meter.power),
                phase_power: PerPhase(meter.phase_power.0.map(scaled)),
                current: PerPhase(meter.current.0.map(|amps: Amps| amps * factor)),
                ..meter
            }))
        }
        _ => None,
    }
}
