//! The last gate: only what passes here can reach a wire. Device tasks accept [`Permitted`] and
//! nothing else, and only this file can make one.
//!
//! What a stranger gets wrong: the interlock does not trust the rest of `logic`. It bounds, completes
//! and stops again what others should have bounded, completed and stopped already.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fire::{Hazard, Level};
use crate::logic::site::{
    Charger, ChargerSetpoint, Compute, Id, Inverter, PhaseCount, Reason, RelayKind, RelaySetpoint,
    Setpoints, Site,
};
use crate::units::{Amps, Watts};

/// Setpoints that may be written. One for every actuator of the site.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Permitted(Setpoints);

impl Permitted {
    /// What a charger is told, and why.
    #[must_use]
    pub fn charger(&self, id: &Id) -> Option<&(ChargerSetpoint, Reason)> {
        self.0.chargers.get(id)
    }

    /// On how many phases a charger charges; nothing: as it is.
    #[must_use]
    pub fn phases(&self, id: &Id) -> Option<PhaseCount> {
        self.0.phases.get(id).copied()
    }

    /// What a battery is told (discharge positive), and why.
    #[must_use]
    pub fn battery(&self, id: &Id) -> Option<&(Watts, Reason)> {
        self.0.batteries.get(id)
    }

    /// The most that an inverter may give, and why.
    #[must_use]
    pub fn inverter(&self, id: &Id) -> Option<&(Watts, Reason)> {
        self.0.inverters.get(id)
    }

    /// The cap of a compute node, and why.
    #[must_use]
    pub fn compute(&self, id: &Id) -> Option<&(Watts, Reason)> {
        self.0.computes.get(id)
    }

    /// What a relay is told, and why; nothing: it stays as it is.
    #[must_use]
    pub fn relay(&self, id: &Id) -> Option<&(RelaySetpoint, Reason)> {
        self.0.relays.get(id)
    }

    /// All of them.
    #[must_use]
    pub fn setpoints(&self) -> &Setpoints {
        &self.0
    }
}

/// What is written when there is no fresh decision: every charger at its failsafe current, every
/// battery at rest, every inverter at no more than may be exported, every compute node at its failsafe power. Relays stay as they are: the gateway's own
/// death is no reason for a black-out (design/safety, "Fail direction").
#[must_use]
pub fn fallback(site: &Site) -> Permitted {
    let charger = |c: &Charger| (c.id.clone(), (at_failsafe(c), Reason::NoDecision));
    let chargers = site.chargers.iter().map(charger).collect();
    let rest = |id: &Id| (id.clone(), (Watts::ZERO, Reason::NoDecision));
    let batteries = site.batteries.iter().map(|battery| rest(&battery.id)).collect();
    let node = |c: &Compute| (c.id.clone(), (c.failsafe, Reason::NoDecision));
    let computes = site.computes.iter().map(node).collect();
    let blind = |i: &Inverter| (i.id.clone(), (blind_output(site, i), Reason::NoDecision));
    // Without a limit of export an inverter is told nothing.
    let limited = site.inverters.iter().filter(|_| site.limits.export.is_some());
    let inverters = limited.map(blind).collect();
    // Nor are phases changed without a decision.
    Permitted(Setpoints { chargers, batteries, inverters, computes, ..Setpoints::default() })
}

/// What an inverter may give where nobody knows what the site takes: its part of what may be exported.
#[must_use]
pub fn blind_output(site: &Site, inverter: &Inverter) -> Watts {
    let all: Watts = site.inverters.iter().map(|inverter| inverter.rated).sum();
    let most = site.limits.export.unwrap_or(all);
    (most * (inverter.rated.get() / all.get().max(1.0))).min(inverter.rated)
}

/// What is written once decisions have stopped: the fallback, but to nobody more than what was permitted last.
/// The loss of the controller raises nothing, least of all in a zone in alarm. An inverter gets its part of what
/// may be exported, which holds whatever the site takes.
#[must_use]
pub fn fall_from(site: &Site, last: &Permitted) -> Permitted {
    let mut fallen = fallback(site);
    for (id, (setpoint, _)) in &mut fallen.0.chargers {
        if let Some((told, _)) = last.charger(id)
            && told.amps() < setpoint.amps()
        {
            *setpoint = *told;
        }
    }
    for (id, (cap, _)) in &mut fallen.0.computes {
        if let Some((told, _)) = last.compute(id) {
            *cap = Watts::min(*cap, *told);
        }
    }
    fallen
}

/// The charger's failsafe as a setpoint.
#[must_use]
pub fn at_failsafe(charger: &Charger) -> ChargerSetpoint {
    if charger.failsafe >= charger.min {
        ChargerSetpoint::Current(charger.failsafe.min(charger.max))
    } else {
        ChargerSetpoint::Pause
    }
}

/// Bounds, completes and stops: no current above a maximum or between zero and a minimum, no actuator
/// left out, nothing at all where a zone or a neighbour of it is stopped.
#[must_use]
pub fn permit(site: &Site, mut wishes: Setpoints, hazards: &BTreeMap<Id, Hazard>) -> Permitted {
    let mut permitted = fallback(site).0;
    for charger in &site.chargers {
        if let Some((setpoint, reason)) = wishes.chargers.remove(&charger.id) {
            let allowed = match setpoint {
                ChargerSetpoint::Pause => ChargerSetpoint::Pause,
                ChargerSetpoint::Current(amps) => bounded(charger, amps),
            };
            permitted.chargers.insert(charger.id.clone(), (allowed, reason));
        }
        if let Some(count) = wishes.phases.remove(&charger.id)
            && charger.switching.is_some()
        {
            permitted.phases.insert(charger.id.clone(), count);
        }
    }
    for battery in &site.batteries {
        if let Some((power, reason)) = wishes.batteries.remove(&battery.id)
            && power.get().is_finite()
        {
            let power = power.bounded(-battery.max_charge, battery.max_discharge);
            permitted.batteries.insert(battery.id.clone(), (power, reason));
        }
    }
    for inverter in &site.inverters {
        if let Some((most, reason)) = wishes.inverters.remove(&inverter.id)
            && most.get().is_finite()
        {
            let most = most.bounded(Watts::ZERO, inverter.rated);
            permitted.inverters.insert(inverter.id.clone(), (most, reason));
        }
    }
    for node in &site.computes {
        if let Some((cap, reason)) = wishes.computes.remove(&node.id)
            && cap.get().is_finite()
        {
            permitted.computes.insert(node.id.clone(), (cap.bounded(node.min, node.max), reason));
        }
    }
    for relay in &site.guard.relays {
        if let Some(told) = wishes.relays.remove(&relay.id) {
            permitted.relays.insert(relay.id.clone(), told);
        }
    }
    stop(site, hazards, &mut permitted);
    Permitted(permitted)
}

/// Takes everything out of zones in danger.
fn stop(site: &Site, hazards: &BTreeMap<Id, Hazard>, permitted: &mut Setpoints) {
    for zone in &site.zones {
        let hazard = hazards.get(&zone.id);
        if let (Some(id), true) = (&zone.battery, hazard.is_some_and(|h| h.battery_rests)) {
            let rest = (Watts::ZERO, Reason::BmsSilent { zone: zone.id.clone() });
            permitted.batteries.insert(id.clone(), rest);
        }
        if let Some(burning) = burning_zone(site, &zone.id, hazards) {
            let tripped = hazards.get(&burning).is_some_and(|h| h.level == Level::Trip);
            let why = || match tripped {
                true => Reason::Tripped { zone: burning.clone() },
                false => Reason::FireAlarm { zone: burning.clone() },
            };
            for id in &zone.chargers {
                permitted.chargers.insert(id.clone(), (ChargerSetpoint::Pause, why()));
            }
            if let Some(id) = &zone.battery {
                permitted.batteries.insert(id.clone(), (Watts::ZERO, why()));
            }
        }
        if hazard.is_some_and(|h| h.isolate) {
            let contactors = site.guard.relays.iter().filter(|relay| {
                relay.kind == RelayKind::Contactor && relay.zones.contains(&zone.id)
            });
            for relay in contactors {
                let open = (RelaySetpoint::Act, Reason::Tripped { zone: zone.id.clone() });
                permitted.relays.insert(relay.id.clone(), open);
            }
        }
    }
}

/// The zone in danger that stops `zone`: itself, or one that names it as a neighbour or is named by it.
#[must_use]
pub fn burning_zone(site: &Site, zone: &Id, hazards: &BTreeMap<Id, Hazard>) -> Option<Id> {
    let burns = |id: &Id| hazards.get(id).is_some_and(|hazard| hazard.stops);
    let near = |other: &&crate::logic::site::Zone| {
        other.id == *zone
            || other.neighbours.contains(zone)
            || site.zones.iter().any(|z| z.id == *zone && z.neighbours.contains(&other.id))
    };
    site.zones.iter().filter(near).find(|other| burns(&other.id)).map(|other| other.id.clone())
}

fn bounded(charger: &Charger, amps: Amps) -> ChargerSetpoint {
    if amps.get().is_nan() {
        at_failsafe(charger)
    } else if amps < charger.min {
        ChargerSetpoint::Pause
    } else {
        ChargerSetpoint::Current(amps.min(charger.max))
    }
}
