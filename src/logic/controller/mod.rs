//! The order of thinking, and the only place where the kinds of thinking meet:
//! observe → snapshot (silence makes it worse) → hazard → allocation → ramp → interlock → decision.
//!
//! What a stranger gets wrong: `decide` is complete and total. Every actuator has a setpoint with a
//! reason in every decision, and no input makes it fail; what is unknown makes it careful.

mod arming;
mod batteries;
mod calendar;
mod computes;
mod conditions;
mod curbs;
mod daybook;
mod errands;
mod grid;
mod guarding;
mod inverters;
mod labels;
mod modes;
mod overview;
mod planned;
mod planning;
mod rules;
mod sharing;
mod stored;
mod tasks;
mod visits;

use std::collections::{BTreeMap, BTreeSet};

use arming::Obstacle;
use curbs::Curbs;
use grid::GridWatch;
use inverters::Outputs;
use modes::Sun;
use planning::Planning;
pub use rules::Rule;
use stored::BatteryWatch;

use super::compute::{CapRamp, JobBook};
use super::decision::{Decision, Duty, Effort, Latched, Overview};
use super::energy::{PhaseSwitch, Ramp};
use super::observation::{Finding, Observation, Silence, Trouble};
use super::safety::alarms::AlarmBook;
use super::safety::fire::{FireWatch, Hazard, Level};
use super::safety::interlock;
use super::site::{
    Battery, Charger, ChargerReading, ChargerSetpoint, ChosenModes, Daybook, Feeders, Id, Known,
    MeterReading, OnBlind, Reading, Reason, Setpoints, Site, Snapshot, Vehicle,
};
use super::vision::{Ledger, Scene, Verdict};
use crate::units::{Amps, Moment};

/// Kept free below the limit: metering noise and steps of the devices. Our own figure.
const MARGIN: Amps = Amps(0.5);
/// Answers in a row that a device must give before anything is raised on it (fault FB9).
const FRESH_SAMPLES: u32 = 2;
/// This far below its floor (points of charge) a battery is taken to carry the site alone. Our figures.
const ECO_BELOW: f64 = 1.0;
const SURVIVAL_BELOW: f64 = 3.0;

/// The gateway's mind.
#[derive(Debug)]
pub struct Controller {
    site: Site,
    feeders: Feeders,
    grid: GridWatch,
    curbs: Curbs,
    batteries: BTreeMap<Id, BatteryWatch>,
    outputs: Outputs,
    modes: ChosenModes,
    sun: Sun,
    snapshot: Snapshot,
    fire: FireWatch,
    hazards: BTreeMap<Id, Hazard>,
    ramps: BTreeMap<Id, Ramp>,
    /// Of those that may change phases.
    switches: BTreeMap<Id, PhaseSwitch>,
    caps: BTreeMap<Id, CapRamp>,
    scenes: BTreeMap<Id, Scene>,
    looking: Option<Ledger>,
    silences: BTreeMap<Id, Silence>,
    disobeyed: BTreeMap<Id, u32>,
    findings: BTreeSet<(Id, Finding)>,
    alarms: AlarmBook,
    troubles: BTreeSet<Trouble>,
    planning: Planning,
    jobs: JobBook,
    daybook: Daybook,
    flowed: daybook::Flowed,
    /// Of bays whose charger says whether a vehicle is plugged in.
    spells: BTreeMap<Id, labels::Spell>,
    reset_by: BTreeMap<Id, String>,
    guarding: guarding::Guarding,
    /// The vision process is gone, and no scene has come since.
    eyes_gone: bool,
    started: Moment,
    armed: bool,
    sequence: u64,
    /// Nothing, but in tests that show what a rule is for.
    off: Option<Rule>,
}

impl Controller {
    /// A controller that has seen nothing yet.
    #[must_use]
    pub fn new(site: Site, now: Moment) -> Controller {
        let fire = FireWatch::new(&site, now);
        let ramps = site.chargers.iter().map(|c| (c.id.clone(), Ramp::default())).collect();
        Controller {
            feeders: Feeders::of(&site),
            grid: GridWatch::default(),
            curbs: Curbs::default(),
            batteries: BTreeMap::new(),
            outputs: Outputs::default(),
            modes: ChosenModes::default(),
            sun: Sun::default(),
            snapshot: Snapshot::default(),
            fire,
            hazards: BTreeMap::new(),
            ramps,
            switches: sharing::switches(&site),
            caps: BTreeMap::new(),
            scenes: BTreeMap::new(),
            looking: None,
            silences: BTreeMap::new(),
            disobeyed: BTreeMap::new(),
            findings: BTreeSet::new(),
            alarms: AlarmBook::default(),
            troubles: BTreeSet::new(),
            planning: Planning::default(),
            jobs: JobBook::default(),
            daybook: Daybook::default(),
            flowed: daybook::Flowed::default(),
            spells: BTreeMap::new(),
            reset_by: BTreeMap::new(),
            guarding: guarding::Guarding::new(now),
            eyes_gone: false,
            started: now,
            armed: false,
            sequence: 0,
            off: None,
            site,
        }
    }

    /// For simulated sites whose time runs faster than cameras: see `io::clock`.
    pub fn stretch_vision(&mut self, pace: f64) {
        self.fire.stretch(pace);
    }

    /// Takes up what was latched before the gateway started. To be called before the first decision.
    pub fn remember(&mut self, latched: &Latched, now: Moment) {
        guarding::remember(self, latched, now);
    }

    /// What must survive a restart, as of the last decision.
    #[must_use]
    pub fn latched(&self) -> Latched {
        guarding::latched(self)
    }

    /// Takes up the jobs that were there before the gateway started. To be called before the first
    /// decision.
    pub fn remember_jobs(&mut self, book: JobBook) {
        self.jobs = book.after_restart(&self.site.work, self.started);
    }

    /// The book of jobs, to be kept.
    #[must_use]
    pub fn jobs(&self) -> &JobBook {
        &self.jobs
    }

    /// When it was made.
    #[must_use]
    pub fn started(&self) -> Moment {
        self.started
    }

    /// The site it thinks about.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Takes in a fact and steps the machines. Whether it is urgent: worth deciding at once.
    pub fn observe(&mut self, observation: Observation) -> bool {
        match observation {
            Observation::Answered { device, at, reading } => self.take_answer(device, at, reading),
            Observation::Found { device, finding, holds, .. } => self.find(device, finding, holds),
            Observation::Silent { device, at, why } => self.miss(device, at, why),
            Observation::Obeyed { device, matches, .. } => {
                let count = self.disobeyed.entry(device).or_insert(0);
                *count = if matches { 0 } else { count.saturating_add(1) };
                false
            }
            Observation::Scene(scene) => {
                self.eyes_gone = false;
                self.fire.see(&scene);
                let urgent = scene.verdict != Verdict::Clear && scene.fault.is_none();
                self.scenes.insert(scene.camera.clone(), scene);
                urgent
            }
            Observation::VisionLost { .. } => {
                // Urgent: nobody may go on reading "free" from a dead eye.
                self.fire.go_blind();
                self.scenes.clear();
                self.looking = None;
                self.eyes_gone = true;
                true
            }
            Observation::Looked { ledger, at } => {
                self.book_looking(&ledger, at);
                self.looking = Some(ledger);
                false
            }
            Observation::Trouble { trouble, holds, .. } => {
                if holds {
                    self.troubles.insert(trouble);
                } else {
                    self.troubles.remove(&trouble);
                }
                false
            }
            Observation::Asked { charger, target, at } => {
                self.planning.visits.ask(&charger, target, at);
                true
            }
            Observation::ModeChosen { charger, mode, .. } => self.choose_mode(&charger, mode),
            Observation::Dimmed { limit, until, .. } => {
                self.curbs.dim(limit, until);
                true
            }
            Observation::Ordered { order, at } => {
                self.jobs.order(order, &self.site.work, at.utc);
                true
            }
            Observation::Job { job, news, at } => {
                self.jobs.hear(&job, news, &self.site.work, at.utc);
                false
            }
            // All urgent: a person waits for the answer.
            said @ (Observation::Acknowledged { .. }
            | Observation::ResetAsked { .. }
            | Observation::Shelved { .. }
            | Observation::Proven { .. }) => {
                guarding::hear(self, said);
                true
            }
        }
    }

    /// A device has answered. Whether it is urgent.
    fn take_answer(&mut self, device: Id, at: Moment, reading: Reading) -> bool {
        self.silences.remove(&device);
        let urgent =
            self.charger_fault_begins(&device, &reading) | self.fire.sense(&device, at, &reading);
        self.adopt_held(&device, &reading);
        if let Reading::Charger(reading) = &reading
            && let Some(charger) = self.site.chargers.iter().find(|c| c.id == device)
        {
            let believed = sharing::believed(&mut self.switches, charger, (at, reading));
            self.planning.visits.see(charger, at, &believed);
            // Who was told nothing disobeys nobody.
            if self.armed
                && let Some(ramp) = self.ramps.get_mut(&device)
            {
                ramp.see(at, reading.most_drawn());
            }
        }
        if let Reading::Meter(meter) = &reading
            && device == self.site.meter
        {
            self.grid.see(meter, self.site.limits.nominal_voltage, at);
            if let Some(demand) = self.site.limits.demand {
                self.curbs.see(meter, at, demand);
            }
        }
        if let (Reading::Inputs(inputs), Some(contact)) = (&reading, &self.site.guard.dimming)
            && device == contact.device
            && let Some(value) = inputs.values.get(&contact.point).filter(|v| v.is_finite())
        {
            self.curbs.see_contact(contact.dims(*value).then_some(contact.limit), at);
        }
        if let Reading::Battery(battery) | Reading::Hybrid { battery, .. } = &reading
            && let Some(watch) = self.batteries.get_mut(&device)
        {
            watch.see(battery.power, at);
        }
        self.meter_jobs(&device, at, &reading);
        self.snapshot.store(device, at, reading);
        urgent
    }

    /// Whether nothing stands in the way of writing.
    fn may_arm(&self, now: Moment) -> bool {
        arming::obstacle(&self.site, &self.snapshot, now).is_none_or(|obstacle| {
            obstacle == Obstacle::FailsafeSum && !self.holds(Rule::FailsafeSum)
        })
    }

    /// The complete answer for now. Called every second and on urgent news.
    pub fn decide(&mut self, now: Moment) -> Decision {
        self.sequence += 1;
        let overdue = guarding::overdue(self, now);
        self.hazards = self.fire.assess(&overdue, now);
        let relays = guarding::relays(self, now);
        let conditions = conditions::conditions(self, overdue, now);
        self.alarms.step(&conditions, now);
        self.armed = self.armed || self.may_arm(now);
        self.follow_sun(now);
        self.plan(now);
        let mut wishes = Setpoints::default();
        // Cars, then compute, then the batteries' refill: each of what is left.
        self.wish_jobs(now);
        let mut left = self.wish_chargers(now, &mut wishes);
        self.wish_computes(now, left.as_mut(), &mut wishes);
        self.wish_batteries(now, left, &mut wishes);
        self.wish_inverters(now, &mut wishes);
        wishes.relays = relays;
        let permitted = interlock::permit(&self.site, wishes, &self.hazards);
        for (id, ramp) in &mut self.ramps {
            if let Some((setpoint, _)) = permitted.charger(id)
                && ramp.last() != Some(*setpoint)
            {
                ramp.force(now, *setpoint);
            }
        }
        if self.armed {
            for battery in &self.site.batteries {
                if let Some((power, _)) = permitted.battery(&battery.id) {
                    self.batteries.entry(battery.id.clone()).or_default().tell(*power);
                }
            }
        }
        let errands = self.errands(&permitted, now);
        self.keep_daybook(now);
        self.label_bays(now);
        Decision {
            sequence: self.sequence,
            at: now,
            writing: self.armed || guarding::must_act(self),
            permitted,
            duty: self.duty(now),
            errands,
        }
    }

    /// What MQTT and the page show, made from the same state as `decision`.
    #[must_use]
    pub fn overview(&self, decision: &Decision) -> Overview {
        overview::overview(self, decision)
    }

    /// Before the first decision the ramps start from what the devices hold, bounded by the failsafe:
    /// nothing is raised at start.
    fn adopt_held(&mut self, device: &Id, reading: &Reading) {
        let Some(charger) = self.site.chargers.iter().find(|c| c.id == *device) else {
            return;
        };
        let starts_low = self.holds(Rule::StartsLow);
        if let (Reading::Charger(reading), Some(ramp)) = (reading, self.ramps.get_mut(device))
            && (ramp.last().is_none() || !self.armed)
        {
            let failsafe = interlock::at_failsafe(charger);
            let held = reading.limit.min(failsafe.amps());
            let held = if starts_low { held } else { charger.max };
            let held = if held < charger.min {
                ChargerSetpoint::Pause
            } else {
                ChargerSetpoint::Current(held)
            };
            ramp.adopt(held);
        }
    }

    fn charger_fault_begins(&self, device: &Id, reading: &Reading) -> bool {
        let faulty = |r: &Reading| matches!(r, Reading::Charger(c) if c.vehicle == Vehicle::Fault);
        faulty(reading) && !self.snapshot.last(device).is_some_and(|(_, old)| faulty(old))
    }

    fn meter(&self, now: Moment) -> Known<&MeterReading> {
        let known = match self.snapshot.last(&self.site.meter) {
            Some((_, last)) if !self.holds(Rule::Age) => Known::Fresh(last),
            Some((_, last))
                if !self.holds(Rule::Frozen) && self.snapshot.is_frozen(&self.site.meter) =>
            {
                Known::Fresh(last)
            }
            _ => self.snapshot.at(&self.site.meter, now),
        };
        known.and_then(|reading| match reading {
            Reading::Meter(meter) => Some(meter),
            _ => None,
        })
    }

    fn charger(&self, id: &Id, now: Moment) -> Known<&ChargerReading> {
        self.snapshot.at(id, now).and_then(|reading| match reading {
            Reading::Charger(charger) => Some(charger),
            _ => None,
        })
    }

    fn derated(&self, device: &Id) -> bool {
        self.derating(device).is_some()
    }

    /// Why the zone of a device is at half power, if it is.
    fn derating(&self, device: &Id) -> Option<Reason> {
        let mine = self
            .site
            .zones
            .iter()
            .filter(|z| z.chargers.contains(device) || z.battery.as_ref() == Some(device));
        for zone in mine {
            let Some(hazard) = self.hazards.get(&zone.id) else {
                continue;
            };
            if hazard.level >= Level::Watch {
                return Some(Reason::FireWatch { zone: zone.id.clone() });
            }
            if hazard.fault && zone.on_blind == OnBlind::Derate {
                return Some(Reason::ZoneBlind { zone: zone.id.clone() });
            }
        }
        None
    }

    /// What a charger may have for its zone's sake: half of it in danger, and no more than it has where a blind
    /// zone holds.
    fn most_in_zone(&self, charger: &Charger, last: Option<ChargerSetpoint>) -> Amps {
        let most = match self.derated(&charger.id) {
            true => (charger.max * 0.5).max(charger.min),
            false => charger.max,
        };
        match self.held_blind(&charger.id) {
            Some(_) => most.min(last.map_or(Amps::ZERO, ChargerSetpoint::amps)),
            None => most,
        }
    }

    /// Why nothing of a device may be raised, if its zone is blind and its file says so.
    fn held_blind(&self, device: &Id) -> Option<Reason> {
        let blind = |zone: &Id| self.hazards.get(zone).is_some_and(|hazard| hazard.fault);
        let zone = self.site.zones.iter().find(|zone| {
            (zone.chargers.contains(device) || zone.battery.as_ref() == Some(device))
                && zone.on_blind == OnBlind::Hold
                && blind(&zone.id)
        })?;
        Some(Reason::ZoneBlind { zone: zone.id.clone() })
    }

    /// Cameras of zones from Watch on, and those that see anything, are looked at every second.
    fn duty(&self, now: Moment) -> Duty {
        let hot = |id: &Id| self.hazards.get(id).is_some_and(|h| h.level >= Level::Watch);
        let zones = self.site.zones.iter().filter(|zone| hot(&zone.id));
        let mut eager: Vec<Id> = zones.flat_map(|zone| zone.cameras.clone()).collect();
        let doubted = self.scenes.values().filter(|scene| scene.verdict != Verdict::Clear);
        eager.extend(doubted.map(|scene| scene.camera.clone()));
        eager.sort();
        eager.dedup();
        Duty { eager, effort: self.effort(now) }
    }

    /// A battery at work never goes below its floor by itself. One that is below it carries the site
    /// without the grid, and looking shall not be what empties it; fire is the last to go (INF6).
    fn effort(&self, now: Moment) -> Effort {
        let below = |battery: &Battery| match self.snapshot.at(&battery.id, now).fresh() {
            Some(Reading::Battery(b) | Reading::Hybrid { battery: b, .. }) => {
                battery.min_soc.percent() - b.soc.percent()
            }
            _ => 0.0,
        };
        let deepest = self.site.batteries.iter().map(below).fold(0.0, f64::max);
        if deepest >= SURVIVAL_BELOW {
            Effort::Survival
        } else if deepest >= ECO_BELOW {
            Effort::Eco
        } else {
            Effort::Full
        }
    }
}
