//! The cars at the plugs: since when, what they took, what their drivers asked for, and what they have
//! shown of themselves (phases, largest current).
//!
//! What a stranger gets wrong: a car does not say what it can draw. For its first minutes it gets what
//! there is, and the current that it takes of it is what the plan reckons with from then on.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::logic::site::{Charger, ChargerReading, Id, PhaseCount, Target, Vehicle};
use crate::units::{Amps, Moment, WattHours};

/// A car that draws less than this on its second phase charges on one.
const ONE_PHASE: Amps = Amps(1.0);
/// Below this current a car does not charge.
const CHARGES: Amps = Amps(5.0);
/// A car that takes this much less than it may is at its own limit.
const OWN_LIMIT: Amps = Amps(2.0);
/// How long it must be so: a car follows its pilot within seconds; one that does not begin to charge
/// for longer than this is full, or its driver does not want it yet.
const LEARNED_IN: Duration = Duration::from_secs(30);
const IDLE_IN: Duration = Duration::from_secs(300);
/// A car without a proven limit is taken for one of this size: on-board chargers of 11 kW.
const USUAL: Amps = Amps(16.0);
/// For so long after plugging in a car is not planned, to see what it takes.
const TRIAL: Duration = Duration::from_secs(120);
/// How long a wish waits for its car.
const WISH_WAITS: Duration = Duration::from_secs(600);
/// A car is meant to be ready this much before it leaves.
const READY_BEFORE: f64 = 15.0 / 60.0;
/// Cars charge slower at the end; this much of the need is taken to be in that part (a fifth of a
/// battery of 80 kWh).
const SLOW_PART_KWH: f64 = 16.0;
/// Less than this is not worth planning for.
const LEAST_NEED: WattHours = WattHours(100.0);

/// A wish, and when it was made, and the charger's counter then.
#[derive(Clone, Copy, Debug)]
struct Wish {
    target: Target,
    told: DateTime<Utc>,
    counter: Option<WattHours>,
}

/// One car at its plug.
#[derive(Clone, Copy, Debug)]
struct Visit {
    since: Moment,
    counter_at_start: Option<WattHours>,
    counter: Option<WattHours>,
    one_phase: bool,
    one_since: Option<Moment>,
    /// The charger gives it one phase only.
    taken_to_one: bool,
    /// Largest current seen.
    drawn: Amps,
    /// Its own limit, once shown.
    own: Option<Amps>,
    below_since: Option<Moment>,
    /// Its first minutes are over, and the plan knows it.
    tried: bool,
    wish: Option<Wish>,
}

impl Visit {
    fn new(since: Moment, counter: Option<WattHours>) -> Visit {
        Visit {
            since,
            counter_at_start: counter,
            counter,
            one_phase: false,
            one_since: None,
            taken_to_one: false,
            drawn: Amps::ZERO,
            own: None,
            below_since: None,
            tried: false,
            wish: None,
        }
    }

    /// What it can take, as far as is known.
    fn largest(&self, charger: &Charger) -> Amps {
        let shown = self.own.unwrap_or_else(|| USUAL.max(self.drawn));
        shown.bounded(charger.min, charger.max)
    }

    /// Learns from what the car takes of what it may. Whether anything of weight has changed.
    fn learn(&mut self, charger: &Charger, at: Moment, reading: &ChargerReading) -> bool {
        let [_, second, third] = reading.current.0;
        let most = reading.most_drawn();
        let before = (self.uses_one(), self.own);
        self.taken_to_one = reading.phases == Some(PhaseCount::One);
        // What a car does with one phase shows nothing of what it would do with three.
        if most >= CHARGES && !self.taken_to_one {
            // One phase is believed late, three at once: the other phases must not be given away.
            let one = second < ONE_PHASE && third < ONE_PHASE;
            let since = *self.one_since.get_or_insert(at);
            self.one_since = one.then_some(since);
            self.one_phase = one && since.age_at(at) >= LEARNED_IN;
        }
        if most >= CHARGES {
            self.drawn = self.drawn.max(most);
        }
        // It takes nearly all it may: what it has shown before was not its limit.
        let takes_all = most >= CHARGES && most + OWN_LIMIT * 0.5 > reading.limit;
        if takes_all || self.own.is_some_and(|own| most > own + OWN_LIMIT * 0.5) {
            self.own = None;
        }
        let may = reading.limit >= charger.min;
        if may && most + OWN_LIMIT <= reading.limit {
            let since = *self.below_since.get_or_insert(at);
            let patience = if most < CHARGES { IDLE_IN } else { LEARNED_IN };
            if since.age_at(at) >= patience {
                self.own = Some(most);
            }
        } else {
            self.below_since = None;
        }
        let near = |a: Option<Amps>, b: Option<Amps>| match (a, b) {
            (Some(a), Some(b)) => (a - b).get().abs() < OWN_LIMIT.get(),
            (a, b) => a == b,
        };
        before.0 != self.uses_one() || !near(before.1, self.own)
    }

    fn uses_one(&self) -> bool {
        self.one_phase || self.taken_to_one
    }

    fn taken_since(&self, counter: Option<WattHours>) -> WattHours {
        match (self.counter, counter) {
            (Some(now), Some(then)) => WattHours((now.get() - then.get()).max(0.0)),
            _ => WattHours(0.0),
        }
    }
}

/// What a car still wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wanted {
    /// When it leaves.
    pub leaves: DateTime<Utc>,
    /// When it should be done, so that it is done when it leaves.
    pub done_by: DateTime<Utc>,
    pub need: WattHours,
    /// Largest current it takes.
    pub most: Amps,
    pub one_phase: bool,
}

/// All cars.
#[derive(Debug, Default)]
pub(super) struct Visits {
    visits: BTreeMap<Id, Visit>,
    /// Wishes whose car is not seen yet.
    waiting: BTreeMap<Id, (Target, Moment)>,
    changed: bool,
}

impl Visits {
    /// Takes in what a charger says of its car.
    pub fn see(&mut self, charger: &Charger, at: Moment, reading: &ChargerReading) {
        match reading.vehicle {
            Vehicle::Connected | Vehicle::Charging => {}
            // A fault of the charger does not end a stay.
            Vehicle::Fault => return,
            Vehicle::Absent => {
                self.changed |= self.visits.remove(&charger.id).is_some();
                return;
            }
        }
        let visit = self.visits.entry(charger.id.clone()).or_insert_with(|| {
            self.changed = true;
            Visit::new(at, reading.energy)
        });
        visit.counter_at_start = visit.counter_at_start.or(reading.energy);
        visit.counter = reading.energy.or(visit.counter);
        if let Some((target, told)) = self.waiting.remove(&charger.id)
            && told.age_at(at) < WISH_WAITS
        {
            visit.wish = Some(Wish { target, told: at.utc, counter: visit.counter });
            self.changed = true;
        }
        self.changed |= visit.learn(charger, at, reading);
    }

    /// A driver, or somebody for them, says what the car needs from now on and when it leaves.
    pub fn ask(&mut self, charger: &Id, target: Target, at: Moment) {
        match self.visits.get_mut(charger) {
            Some(visit) => {
                visit.wish = Some(Wish { target, told: at.utc, counter: visit.counter });
                self.changed = true;
            }
            None => _ = self.waiting.insert(charger.clone(), (target, at)),
        }
    }

    /// Something else has changed that a plan depends on.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    /// Whether anything has changed that a plan depends on; asked once.
    pub fn take_changed(&mut self, now: Moment) -> bool {
        for visit in self.visits.values_mut().filter(|visit| !visit.tried) {
            visit.tried = visit.since.age_at(now) >= TRIAL;
            self.changed |= visit.tried;
        }
        std::mem::take(&mut self.changed)
    }

    /// On how many phases a charger's car charges.
    pub fn phases(&self, charger: &Charger) -> usize {
        let one = self.visits.get(&charger.id).is_some_and(Visit::uses_one);
        if one { charger.phases.len().min(1) } else { charger.phases.len() }
    }

    /// What a charger's car still wants; nothing where that is not known, met, or its time is over.
    pub fn wanted(&self, charger: &Charger, volts: f64, zone: Tz, now: Moment) -> Option<Wanted> {
        let visit = self.visits.get(&charger.id)?;
        if visit.since.age_at(now) < TRIAL {
            return None;
        }
        let (from, leaves, asked, counter) = match (visit.wish, charger.stay) {
            (Some(wish), _) => (wish.told, wish.target.leaves, wish.target.need, wish.counter),
            (None, Some(stay)) => {
                let leaves = stay.ends(visit.since.utc, zone);
                (visit.since.utc, leaves, stay.need, visit.counter_at_start)
            }
            (None, None) => return None,
        };
        let need = asked.get() - visit.taken_since(counter).get();
        if leaves <= now.utc || need < LEAST_NEED.get() {
            return None;
        }
        // Who leaves short even alone takes at once what those leave who can be full.
        let able = USUAL.max(visit.drawn).bounded(charger.min, charger.max);
        let hours = (leaves - from).num_seconds() as f64 / 3600.0;
        if asked.get() > able.get() * volts * self.phases(charger) as f64 * hours {
            return None;
        }
        if self.is_sated(&charger.id) {
            return None;
        }
        let most = visit.largest(charger);
        let kw = |amps: Amps| amps.get() * volts * self.phases(charger) as f64 / 1000.0;
        let (kwh, most_kw) = (need / 1000.0, kw(most).max(0.1));
        let span = |hours: f64| chrono::Duration::seconds((hours.clamp(0.0, 1e4) * 3600.0) as i64);
        let slower = hours_to_take(kwh, kw(charger.min), most_kw) - kwh / most_kw;
        // A car in a hurry is planned at full power and not given up.
        let earliest = now.utc + span(kwh / most_kw);
        let done_by = (leaves - span(READY_BEFORE + slower)).max(earliest).min(leaves);
        let one_phase = visit.uses_one();
        Some(Wanted { leaves, done_by, need: WattHours(need), most, one_phase })
    }

    /// Whether a charger's car has shown that it uses one phase of three.
    pub fn is_one_phase(&self, charger: &Id) -> bool {
        self.visits.get(charger).is_some_and(|visit| visit.one_phase)
    }

    /// Whether a charger's car has shown that it wants nothing now.
    pub fn is_sated(&self, charger: &Id) -> bool {
        self.visits.get(charger).is_some_and(|visit| visit.own.is_some_and(|own| own < CHARGES))
    }

    /// The most that is worth granting a charger's car: a little more than it takes by itself, so that it
    /// can show when it wants more. What is granted and not drawn is lost to the others.
    pub fn worth_granting(&self, charger: &Charger) -> Option<Amps> {
        let own = self.visits.get(&charger.id)?.own?;
        Some((own + OWN_LIMIT).max(charger.min))
    }
}

/// Hours that a car takes for its last `kwh` when its power falls with what is left of the slow part,
/// down to its least power.
fn hours_to_take(kwh: f64, least_kw: f64, most_kw: f64) -> f64 {
    let least = least_kw.clamp(0.01, most_kw.max(0.01));
    let fast = (kwh - SLOW_PART_KWH).max(0.0) / most_kw;
    let from = kwh.min(SLOW_PART_KWH);
    let to = SLOW_PART_KWH * least / most_kw;
    if from <= to {
        return fast + from / least;
    }
    fast + SLOW_PART_KWH / most_kw * libm::log(from / to) + to / least
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{PerPhase, Phase, Watts};

    fn charger() -> Charger {
        Charger {
            id: Id::try_from("c").unwrap(),
            name: "c".into(),
            phases: Phase::ALL.to_vec(),
            min: Amps(6.0),
            max: Amps(32.0),
            failsafe: Amps(6.0),
            step: Amps(1.0),
            stay: None,
            right: crate::logic::site::Right::default(),
            switching: None,
            mode: crate::logic::site::ChargingMode::default(),
            falls_back_within: crate::logic::site::FALLS_BACK_WITHIN,
        }
    }

    fn second(s: u64) -> Moment {
        let utc = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        Moment { uptime: Duration::from_secs(1000), utc }.after(Duration::from_secs(s))
    }

    fn reading(current: [f64; 3], limit: f64, kwh: f64) -> ChargerReading {
        ChargerReading {
            vehicle: Vehicle::Charging,
            current: PerPhase(current.map(Amps)),
            voltage: PerPhase::default(),
            power: Watts(0.0),
            limit: Amps(limit),
            energy: Some(WattHours(kwh * 1000.0)),
            lease: None,
            phases: None,
        }
    }

    fn target(kwh: f64, hours: u64) -> Target {
        let leaves = second(hours * 3600).utc;
        Target { need: WattHours(kwh * 1000.0), leaves }
    }

    fn wanted(visits: &Visits, at: u64) -> Option<Wanted> {
        visits.wanted(&charger(), 230.0, Tz::UTC, second(at))
    }

    #[test]
    fn a_wish_holds_from_when_it_was_made_and_waits_for_its_car() {
        let mut visits = Visits::default();
        visits.ask(&charger().id, target(20.0, 8), second(0));
        for s in 60..200 {
            visits.see(&charger(), second(s), &reading([16.0; 3], 16.0, 100.0));
        }
        assert_eq!(wanted(&visits, 200).unwrap().need, WattHours(20_000.0));
        visits.see(&charger(), second(201), &reading([16.0; 3], 16.0, 104.0));
        assert_eq!(wanted(&visits, 201).unwrap().need, WattHours(16_000.0));
        visits.ask(&charger().id, target(30.0, 8), second(202));
        assert_eq!(wanted(&visits, 203).unwrap().need, WattHours(30_000.0));
        let gone = ChargerReading { vehicle: Vehicle::Absent, ..reading([0.0; 3], 6.0, 104.0) };
        visits.see(&charger(), second(204), &gone);
        visits.see(&charger(), second(900), &reading([16.0; 3], 16.0, 104.0));
        assert_eq!(wanted(&visits, 1200), None, "a wish goes with its car");
    }

    #[test]
    fn a_car_shows_its_phases_and_its_largest_current() {
        let mut visits = Visits::default();
        visits.ask(&charger().id, target(20.0, 8), second(0));
        for s in 0..150 {
            visits.see(&charger(), second(s), &reading([10.0, 0.0, 0.0], 32.0, 100.0));
        }
        let seen = wanted(&visits, 150).unwrap();
        assert_eq!((seen.most, seen.one_phase), (Amps(10.0), true));
        assert_eq!(visits.worth_granting(&charger()), Some(Amps(12.0)));
        for s in 150..190 {
            visits.see(&charger(), second(s), &reading([12.0, 0.0, 0.0], 12.0, 100.0));
        }
        assert_eq!(visits.worth_granting(&charger()), None, "it wants more");
        for s in 200..600 {
            visits.see(&charger(), second(s), &reading([0.0; 3], 12.0, 100.0));
        }
        assert_eq!(wanted(&visits, 600), None, "a full car is not planned");
        assert_eq!(visits.worth_granting(&charger()), Some(Amps(6.0)));
    }

    #[test]
    fn the_slow_end_of_charging_moves_the_time_to_be_done_forward() {
        let flat = |kwh: f64| kwh / 22.0;
        assert!((hours_to_take(4.0, 22.0, 22.0) - flat(4.0)).abs() < 1e-9);
        let mut before = 0.0;
        for kwh in 1..80 {
            let hours = hours_to_take(f64::from(kwh), 4.14, 22.0);
            assert!(hours >= flat(f64::from(kwh)) && hours > before, "{kwh}");
            before = hours;
        }
        let mut visits = Visits::default();
        visits.ask(&charger().id, target(20.0, 8), second(0));
        for s in 0..150 {
            visits.see(&charger(), second(s), &reading([32.0; 3], 32.0, 100.0));
        }
        let seen = wanted(&visits, 150).unwrap();
        let early = (seen.leaves - seen.done_by).num_minutes();
        assert!((60..120).contains(&early), "{early} min");
        visits.ask(&charger().id, target(170.0, 8), second(151));
        let hurry = wanted(&visits, 152).unwrap();
        let early = (hurry.leaves - hurry.done_by).num_minutes();
        assert!((0..20).contains(&early), "no time to lose, and not given up: {early} min");
        visits.ask(&charger().id, target(500.0, 8), second(153));
        assert_eq!(wanted(&visits, 154), None, "it leaves short even alone");
    }
}
