//! The order of thinking, and the only place where the kinds of thinking meet:
//! observe → snapshot (silence makes it worse) → hazard → allocation → ramp → interlock → decision.
//!
//! What a stranger gets wrong: `decide` is complete and total. Every actuator has a setpoint with a
//! reason in every decision, and no input makes it fail; what is unknown makes it careful.

mod arming;
mod computes;
mod conditions;
mod guarding;
mod overview;
mod planned;
mod planning;
mod visits;

use std::collections::{BTreeMap, BTreeSet};

use planning::Planning;

use super::compute::CapRamp;
use super::decision::{Decision, Duty, Latched, Overview};
use super::energy::{self, BatteryState, Claim, Ramp};
use super::observation::{Finding, Observation, Silence, Trouble};
use super::safety::alarms::AlarmBook;
use super::safety::fire::{FireWatch, Hazard, Level};
use super::safety::interlock;
use super::site::{
    Charger, ChargerReading, ChargerSetpoint, Id, Known, MeterReading, OnBlind, Reading, Reason,
    Setpoints, Site, Snapshot, Vehicle,
};
use super::vision::{Scene, Verdict};
use crate::units::{Amps, Moment, PerPhase, Watts};

/// Kept free below the limit: metering noise and steps of the devices. Our own figure.
const MARGIN: Amps = Amps(0.5);
/// Answers in a row that a device must give before anything is raised on it (fault FB9).
const FRESH_SAMPLES: u32 = 2;

/// The gateway's mind.
#[derive(Debug)]
pub struct Controller {
    site: Site,
    snapshot: Snapshot,
    fire: FireWatch,
    hazards: BTreeMap<Id, Hazard>,
    ramps: BTreeMap<Id, Ramp>,
    caps: BTreeMap<Id, CapRamp>,
    scenes: BTreeMap<Id, Scene>,
    silences: BTreeMap<Id, Silence>,
    disobeyed: BTreeMap<Id, u32>,
    findings: BTreeSet<(Id, Finding)>,
    alarms: AlarmBook,
    troubles: BTreeSet<Trouble>,
    planning: Planning,
    reset_by: BTreeMap<Id, String>,
    guarding: guarding::Guarding,
    /// The vision process is gone, and no scene has come since.
    eyes_gone: bool,
    started: Moment,
    armed: bool,
    sequence: u64,
}

impl Controller {
    /// A controller that has seen nothing yet.
    #[must_use]
    pub fn new(site: Site, now: Moment) -> Controller {
        let fire = FireWatch::new(&site, now);
        let ramps = site.chargers.iter().map(|c| (c.id.clone(), Ramp::default())).collect();
        Controller {
            snapshot: Snapshot::default(),
            fire,
            hazards: BTreeMap::new(),
            ramps,
            caps: BTreeMap::new(),
            scenes: BTreeMap::new(),
            silences: BTreeMap::new(),
            disobeyed: BTreeMap::new(),
            findings: BTreeSet::new(),
            alarms: AlarmBook::default(),
            troubles: BTreeSet::new(),
            planning: Planning::default(),
            reset_by: BTreeMap::new(),
            guarding: guarding::Guarding::default(),
            eyes_gone: false,
            started: now,
            armed: false,
            sequence: 0,
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

    /// The site it thinks about.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Takes in a fact and steps the machines. Whether it is urgent: worth deciding at once.
    pub fn observe(&mut self, observation: Observation) -> bool {
        match observation {
            Observation::Answered { device, at, reading } => {
                self.silences.remove(&device);
                let urgent = self.charger_fault_begins(&device, &reading)
                    | self.fire.sense(&device, at, &reading);
                self.adopt_held(&device, &reading);
                if let Reading::Charger(reading) = &reading
                    && let Some(charger) = self.site.chargers.iter().find(|c| c.id == device)
                {
                    self.planning.visits.see(charger, at, reading);
                }
                self.snapshot.store(device, at, reading);
                urgent
            }
            Observation::Found { device, finding, holds, .. } => {
                self.findings.retain(|known| *known != (device.clone(), finding));
                self.findings.extend(holds.then_some((device, finding)));
                false
            }
            Observation::Silent { device, at, why } => {
                if why == Silence::Implausible {
                    self.snapshot.doubt(&device, at);
                }
                self.silences.insert(device, why);
                false
            }
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
                self.eyes_gone = true;
                true
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

    /// The complete answer for now. Called every second and on urgent news.
    pub fn decide(&mut self, now: Moment) -> Decision {
        self.sequence += 1;
        self.hazards = self.fire.assess(&guarding::overdue(self, now), now);
        let relays = guarding::relays(self, now);
        let conditions = conditions::conditions(self, now);
        self.alarms.step(&conditions, now);
        let not_writing = arming::obstacle(&self.site, &self.snapshot, now);
        self.armed = self.armed || not_writing.is_none();
        self.plan(now);
        let mut wishes = Setpoints::default();
        let left = self.wish_chargers(now, &mut wishes);
        self.wish_batteries(now, &mut wishes);
        self.wish_computes(now, left, &mut wishes);
        wishes.relays = relays;
        let permitted = interlock::permit(&self.site, wishes, &self.hazards);
        for (id, ramp) in &mut self.ramps {
            if let Some((setpoint, _)) = permitted.charger(id)
                && ramp.last() != Some(*setpoint)
            {
                ramp.force(*setpoint);
            }
        }
        Decision {
            sequence: self.sequence,
            at: now,
            writing: self.armed || guarding::must_act(self),
            permitted,
            duty: self.duty(),
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
        if let (Reading::Charger(reading), Some(ramp)) = (reading, self.ramps.get_mut(device))
            && (ramp.last().is_none() || !self.armed)
        {
            let failsafe = interlock::at_failsafe(charger);
            let held = reading.limit.min(failsafe.amps());
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
        self.snapshot.at(&self.site.meter, now).and_then(|reading| match reading {
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

    /// Shares the headroom, or falls to the safe share when there is no meter to trust. What is left of
    /// each phase, where that is known.
    fn wish_chargers(&mut self, now: Moment, wishes: &mut Setpoints) -> Option<PerPhase<Amps>> {
        let meter = self.meter(now);
        let Some(available) = meter.usable().map(|meter| self.available(meter, now)) else {
            let starting = matches!(meter, Known::Never);
            for charger in &self.site.chargers {
                let reason = if starting { Reason::Starting } else { Reason::MeterLost };
                let safe = self.safe_share(charger);
                wishes.chargers.insert(charger.id.clone(), (safe, reason));
            }
            return None;
        };
        let meter_fresh =
            meter.fresh().is_some() && self.snapshot.in_row(&self.site.meter) >= FRESH_SAMPLES;
        let nodes_known = self.nodes_known(now);
        let order = self.order_of_right();
        let claims: Vec<Claim<'_>> = order.iter().map(|&i| self.claim(i, now)).collect();
        let shares = energy::allocate(available, &claims);
        let left = left_over(available, &claims, &shares);
        let lost: Vec<bool> =
            order.iter().map(|&i| self.device_lost(&self.site.chargers[i].id, now)).collect();
        let mut told = Vec::with_capacity(order.len());
        for (place, &i) in order.iter().enumerate() {
            let charger = &self.site.chargers[i];
            let known = self.charger(&charger.id, now);
            let device_fresh =
                known.fresh().is_some() && self.snapshot.in_row(&charger.id) >= FRESH_SAMPLES;
            let plugged = known.usable().map(|r| r.vehicle);
            let share = &shares[place];
            let may_raise = meter_fresh && device_fresh && nodes_known && self.armed;
            let bound = share.bound.clone().or_else(|| self.planned_why(charger, now));
            let bound = bound.or_else(|| self.vehicle_why(charger, share.setpoint));
            let why = self.why(charger, plugged, meter_fresh, bound);
            let idle = matches!(plugged, Some(Vehicle::Absent | Vehicle::Fault));
            told.push((i, share.setpoint, may_raise, why, (lost[place], idle)));
        }
        for (i, share, may_raise, why, (lost, idle)) in told {
            let charger = &self.site.chargers[i];
            let ramp = self.ramps.entry(charger.id.clone()).or_default();
            let (setpoint, reason) = if lost {
                let fallback = interlock::at_failsafe(charger);
                ramp.force(fallback);
                (fallback, Reason::DeviceLost)
            } else if idle {
                ramp.force(ChargerSetpoint::Pause);
                (ChargerSetpoint::Pause, why)
            } else {
                let (setpoint, bound) = ramp.step(now, charger, share, may_raise);
                (setpoint, bound.filter(|_| may_raise).unwrap_or(why))
            };
            wishes.chargers.insert(charger.id.clone(), (setpoint, reason));
        }
        Some(left)
    }

    /// Failsafe current, but never more than it had: losing the meter raises nothing.
    fn safe_share(&self, charger: &Charger) -> ChargerSetpoint {
        let failsafe = interlock::at_failsafe(charger);
        match self.ramps.get(&charger.id).and_then(Ramp::last) {
            Some(last) if last.amps() < failsafe.amps() => last,
            _ => failsafe,
        }
    }

    /// What all chargers together may draw: the limit less everything else that is measured.
    fn available(&self, meter: &MeterReading, now: Moment) -> PerPhase<Amps> {
        let mut others = meter.current;
        for charger in &self.site.chargers {
            let drawn = self.charger(&charger.id, now);
            let drawn = drawn.usable().map(|r| r.current).unwrap_or_default();
            for (own, &phase) in charger.phases.iter().enumerate() {
                others.set(phase, others.on(phase) - drawn.0[own]);
            }
        }
        let (sheddable, reserved) = (self.sheddable(now), self.reserved_for_nodes(now));
        let nominal = self.site.limits.nominal_voltage;
        let others =
            PerPhase::from_fn(|p| others.on(p) + (reserved.on(p) - sheddable.on(p)) / nominal);
        // Export of PV and battery is not lent to chargers: a cloud would overdraw the next second.
        PerPhase::from_fn(|p| self.site.limits.limit.on(p) - MARGIN - others.on(p).max(Amps::ZERO))
    }

    /// Who may have a minimum current first: those that charge, then the others, as in the file; last those
    /// whose cars have shown that they want nothing.
    fn order_of_right(&self) -> Vec<usize> {
        let charges = |i: &usize| {
            let last = self.ramps.get(&self.site.chargers[*i].id).and_then(Ramp::last);
            !matches!(last, Some(ChargerSetpoint::Current(_)))
        };
        let mut order: Vec<usize> = (0..self.site.chargers.len()).collect();
        let sated = |i: &usize| self.planning.visits.is_sated(&self.site.chargers[*i].id);
        order.sort_by_key(|i| (sated(i), charges(i)));
        order
    }

    fn claim(&self, i: usize, now: Moment) -> Claim<'_> {
        let charger = &self.site.chargers[i];
        if self.device_lost(&charger.id, now) {
            let last = self.ramps.get(&charger.id).and_then(Ramp::last);
            let last = last.map_or(Amps::ZERO, ChargerSetpoint::amps);
            let reserved = charger.failsafe.max(last);
            let phases = &charger.phases;
            return Claim { charger, phases, most: Amps::ZERO, reserved, promised: Amps::ZERO };
        }
        let vehicle = self.charger(&charger.id, now).usable().map(|r| r.vehicle);
        let most = match vehicle {
            Some(Vehicle::Absent | Vehicle::Fault) => Amps::ZERO,
            _ if self.derated(&charger.id) => (charger.max * 0.5).max(charger.min),
            _ => charger.max,
        };
        let worth = self.planning.visits.worth_granting(charger).unwrap_or(charger.max);
        let planned = self.planned(charger, now);
        let most = most.min(worth).min(planned.map_or(charger.max, |planned| planned.most));
        let promised = planned.map_or(Amps::ZERO, |planned| planned.promised);
        let phases = &charger.phases[..self.planning.visits.phases(charger)];
        Claim { charger, phases, most, reserved: Amps::ZERO, promised }
    }

    fn device_lost(&self, id: &Id, now: Moment) -> bool {
        self.snapshot.at(id, now).usable().is_none()
    }

    fn why(
        &self,
        charger: &Charger,
        vehicle: Option<Vehicle>,
        meter_fresh: bool,
        bound: Option<Reason>,
    ) -> Reason {
        if !self.armed {
            return Reason::Starting;
        }
        if let Some(Vehicle::Absent) = vehicle {
            return Reason::NoVehicle;
        }
        if !meter_fresh {
            return Reason::MeterStale;
        }
        if let Some(reason) = bound {
            return reason;
        }
        self.derating(&charger.id).unwrap_or(Reason::DeviceMaximum)
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

    fn wish_batteries(&self, now: Moment, wishes: &mut Setpoints) {
        for battery in &self.site.batteries {
            let reading = self.snapshot.at(&battery.id, now);
            let state = match (reading.fresh(), self.meter(now).fresh()) {
                (Some(Reading::Battery(b) | Reading::Hybrid { battery: b, .. }), Some(meter)) => {
                    Ok(BatteryState { power: b.power, soc: b.soc, grid: meter.power })
                }
                (None, _) => Err(Reason::DeviceLost),
                _ => Err(Reason::MeterStale),
            };
            let wish = match state {
                Err(reason) => (Watts::ZERO, reason),
                Ok(_) if !self.armed => (Watts::ZERO, Reason::Starting),
                Ok(state) => {
                    let (power, reason) = match self.planning.battery(&battery.id, now) {
                        Some(target) => energy::planned(battery, state, target),
                        None => energy::self_consumption(battery, state),
                    };
                    match self.derating(&battery.id) {
                        Some(derating) => {
                            let low = -battery.max_charge * 0.5;
                            let high = battery.max_discharge * 0.5;
                            let half = power.bounded(low, high);
                            (half, if half == power { reason } else { derating })
                        }
                        None => (power, reason),
                    }
                }
            };
            wishes.batteries.insert(battery.id.clone(), wish);
        }
    }

    /// Cameras of zones from Watch on, and those that see anything, are looked at every second.
    fn duty(&self) -> Duty {
        let hot = |id: &Id| self.hazards.get(id).is_some_and(|h| h.level >= Level::Watch);
        let zones = self.site.zones.iter().filter(|zone| hot(&zone.id));
        let mut eager: Vec<Id> = zones.flat_map(|zone| zone.cameras.clone()).collect();
        let doubted = self.scenes.values().filter(|scene| scene.verdict != Verdict::Clear);
        eager.extend(doubted.map(|scene| scene.camera.clone()));
        eager.sort();
        eager.dedup();
        Duty { eager }
    }
}

/// What the shares leave of each phase.
fn left_over(
    available: PerPhase<Amps>,
    claims: &[Claim<'_>],
    shares: &[energy::Share],
) -> PerPhase<Amps> {
    let mut left = available;
    for (claim, share) in claims.iter().zip(shares) {
        for &phase in claim.phases {
            left.set(phase, left.on(phase) - share.setpoint.amps().max(claim.reserved));
        }
    }
    left
}
