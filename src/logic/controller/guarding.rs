//! What the controller does for sensors, relays and people: which proofs are overdue, what the plant shows
//! of a stop, who releases a zone, and what all of that must remember across a restart.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::calendar::Calendar;
use super::{Controller, Rule};
use crate::logic::decision::Latched;
use crate::logic::observation::{Observation, Trouble};
use crate::logic::safety::alarms::Severity;
use crate::logic::safety::fire::Level;
use crate::logic::safety::linkage::{Linkage, Seen};
use crate::logic::site::{Id, Mode, Reading, Reason, RelaySetpoint, Zone};
use crate::units::{Amps, Moment};

/// A charger below this current has stopped (design/safety).
const STOPPED: Amps = Amps(1.0);

/// Its memory.
#[derive(Clone, Debug)]
pub(super) struct Guarding {
    pub(super) linkage: Linkage,
    /// When each sensor and relay was last seen to react.
    proofs: BTreeMap<Id, DateTime<Utc>>,
    calendar: Calendar,
}

impl Guarding {
    /// Nothing is known of any proof.
    pub fn new(now: Moment) -> Guarding {
        let (linkage, proofs) = (Linkage::default(), BTreeMap::new());
        Guarding { linkage, proofs, calendar: Calendar::new(now) }
    }
}

/// Takes up what was latched before the gateway started.
pub(super) fn remember(c: &mut Controller, latched: &Latched, now: Moment) {
    c.fire.restore(&latched.zones, now);
    c.alarms.restore(&latched.alarms);
    c.guarding.proofs.clone_from(&latched.proofs);
    c.modes = latched.modes.on(c.site.chargers.iter());
    for (zone, held) in &latched.zones {
        c.guarding.linkage.restore(zone, held.feeder);
    }
    c.guarding.linkage.restore_deaf(&latched.deaf);
}

/// What must survive a restart.
pub(super) fn latched(c: &Controller) -> Latched {
    let mut alarms = c.alarms.list();
    alarms.retain(|alarm| alarm.severity >= Severity::Alarm);
    alarms.sort_by(|a, b| a.id.cmp(&b.id));
    let mut zones = c.fire.latched();
    for (zone, held) in &mut zones {
        held.feeder = c.guarding.linkage.is_feeder_open(zone);
    }
    let (proofs, modes) = (c.guarding.proofs.clone(), c.modes.clone());
    Latched { zones, alarms, proofs, deaf: c.guarding.linkage.deaf(), modes }
}

/// What a person at the device or the page says of alarms, zones and tests.
pub(super) fn hear(c: &mut Controller, said: Observation) {
    match said {
        Observation::Acknowledged { alarm, signature, .. } => {
            c.alarms.acknowledge(&alarm, &signature);
        }
        Observation::Shelved { alarm, signature, span, at } => {
            c.alarms.shelve(&alarm, &signature, (span, at));
        }
        Observation::ResetAsked { zone, by, inspected, at } => {
            reset(c, &zone, (&by, inspected), at);
        }
        Observation::Proven { id, at, .. } => prove(c, &id, at),
        _ => {}
    }
}

/// One of the two steps of a reset, by a person whose role allows it: of a zone in alarm, or of a feeder that a
/// deaf charger has opened.
fn reset(c: &mut Controller, zone: &Id, (by, inspected): (&str, bool), at: Moment) {
    let tripped = c.hazards.get(zone).is_some_and(|hazard| hazard.level == Level::Trip);
    if !c.site.guard.roles.may_release(by, tripped) {
        return;
    }
    let calm = c.hazards.get(zone).is_none_or(|hazard| hazard.level < Level::Alarm);
    if calm && !c.guarding.linkage.is_feeder_open(zone) {
        return;
    }
    if !inspected {
        c.fire.begin_reset(zone, by, at);
    } else if c.fire.reset(zone, by, at) || (calm && c.fire.end_reset(zone, by, at)) {
        c.guarding.linkage.release(zone);
        if c.fire.latched().is_empty() {
            c.troubles.remove(&Trouble::LatchUnreadable);
        }
        c.reset_by.insert(zone.clone(), by.to_owned());
    }
}

/// A person says that a sensor or relay was tested; it counts only if it was seen to react.
fn prove(c: &mut Controller, id: &Id, at: Moment) {
    if has_reacted(c, id, at) {
        let date = c.guarding.calendar.date(at);
        c.guarding.proofs.insert(id.clone(), date);
    }
}

/// Whether a sensor or relay was lately seen to do what it is there for.
pub(super) fn has_reacted(c: &Controller, id: &Id, now: Moment) -> bool {
    c.fire.sensing().has_reacted(id, now) || c.guarding.linkage.has_acted(id, now)
}

/// When a sensor or relay was last proven.
pub(super) fn proven(c: &Controller, id: &Id) -> Option<DateTime<Utc>> {
    c.guarding.proofs.get(id).copied()
}

/// What must be told of the wall clock; nothing acts on it.
pub(super) fn clock_trouble(c: &Controller, now: Moment) -> Option<&'static str> {
    if Calendar::is_unknown(now) {
        return Some("clock_unknown");
    }
    c.guarding.calendar.was_set(now).then_some("clock_set")
}

/// Zone and id of every sensor and relay whose proof is overdue, by a date that no set clock changes.
pub(super) fn overdue(c: &mut Controller, now: Moment) -> Vec<(Id, Id)> {
    c.guarding.calendar.look(now);
    let date = c.guarding.calendar.date(now);
    let guard = &c.site.guard;
    let sensors = guard.sensors.iter().map(|s| (&s.id, &s.zones, s.proof_every));
    let relays = guard.relays.iter().map(|r| (&r.id, &r.zones, r.proof_every));
    let mut late = Vec::new();
    for (id, zones, every) in sensors.chain(relays) {
        let Some(every) = every else { continue };
        let since = c.guarding.proofs.get(id).map(|at| date.signed_duration_since(*at));
        // One of a time to come (its clock was ahead) is not overdue.
        if since.is_none_or(|since| since.to_std().is_ok_and(|since| since > every)) {
            late.extend(zones.iter().map(|zone| (zone.clone(), id.clone())));
        }
    }
    late
}

/// Whether a danger must be answered although meter and devices have not all proven themselves yet.
pub(super) fn must_act(c: &Controller) -> bool {
    c.site.mode == Mode::Auto && c.hazards.values().any(|hazard| hazard.stops)
}

/// What every relay is told.
pub(super) fn relays(c: &mut Controller, now: Moment) -> BTreeMap<Id, (RelaySetpoint, Reason)> {
    let writing = c.armed || must_act(c);
    let drawing = c.site.zones.iter().filter(|zone| writing && draws(c, zone, now));
    let obeyed = c.armed && c.holds(Rule::FeederOpens);
    let deaf = c.site.zones.iter().filter(|zone| obeyed && is_deaf(c, zone, now));
    let idle = c.site.zones.iter().filter(|zone| c.fire.sensing().is_at_rest(&zone.id, now));
    let relays = c.site.guard.relays.iter();
    let open = relays.filter(|relay| {
        let feedback = relay.feedback.as_ref();
        feedback.is_some_and(|(device, point)| is_open(c, device, point, now))
    });
    let seen = Seen {
        drawing: drawing.map(|zone| zone.id.clone()).collect(),
        deaf: deaf.map(|zone| zone.id.clone()).collect(),
        open: open.map(|relay| relay.id.clone()).collect(),
        idle: idle.map(|zone| zone.id.clone()).collect(),
    };
    c.guarding.linkage.step(&c.site, &c.hazards, &seen, now)
}

/// Whether a charger of the zone draws current, or may do so for all that is known.
fn draws(c: &Controller, zone: &Zone, now: Moment) -> bool {
    zone.chargers.iter().any(|id| match c.charger(id, now).usable() {
        Some(reading) => reading.current.iter().any(|(_, amps)| amps >= STOPPED),
        None => true,
    })
}

/// Whether a charger of the zone is heard to go on whatever it is told (fault FB10).
fn is_deaf(c: &Controller, zone: &Zone, now: Moment) -> bool {
    zone.chargers.iter().any(|id| {
        let deaf = c.ramps.get(id).is_some_and(|ramp| ramp.is_deaf(now));
        deaf && c.charger(id, now).fresh().is_some()
    })
}

/// Why a charger stays paused, if it does: its feeder is open, or the grid is not as it should be.
pub(super) fn holds_back(c: &Controller, charger: &Id, now: Moment) -> Option<Reason> {
    let mine = |zone: &&Zone| zone.chargers.contains(charger);
    let open = |zone: &&Zone| c.guarding.linkage.is_feeder_open(&zone.id);
    let zone = c.site.zones.iter().filter(mine).find(open);
    let why = zone.map(|zone| Reason::NotObeyed { zone: zone.id.clone() });
    why.or_else(|| c.grid.holds_back(charger, now))
}

/// Whether a feedback contact is known to be open now.
fn is_open(c: &Controller, device: &Id, point: &str, now: Moment) -> bool {
    match c.snapshot.at(device, now).fresh() {
        Some(Reading::Inputs(inputs)) => inputs.values.get(point).is_some_and(|v| *v == 0.0),
        _ => false,
    }
}
