//! What relays do about a hazard: contactors, the breaker above them, feeders, sirens and fans.
//!
//! ```text
//!   zone stopped, a charger still draws after 15 s ─▶ its feeder opens, until the zone is reset
//!   a charger ignores its setpoint (FB10) ─▶ its feeder opens, until a person has been there
//!   vote isolates ─▶ contactor opens ─▶ feedback open, current near zero ─▶ "isolated"
//!                          └─ feedback not open after 2 s ─▶ breaker above it, siren: "welded"
//! ```
//! What a stranger gets wrong: "isolated" is never said because it was asked for. It needs the feedback
//! contact and a current that is known to be near zero; what is not known is not so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fire::{Hazard, Level};
use super::interlock::burning_zone;
use super::sensing::TESTED_WITHIN;
use crate::logic::site::{Id, Reason, Relay, RelayKind, RelaySetpoint, Site};
use crate::units::Moment;

/// A charger must have stopped this long after the stop (design/safety).
const OBEYED_WITHIN: Duration = Duration::from_secs(15);
/// A contactor must be open this long after it was asked (fault EN3).
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// How far the isolation of a zone's battery has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Not asked for.
    #[default]
    None,
    /// Asked for; nothing is proven yet.
    Requested,
    /// The feedback says open, but the current is not known to be near zero.
    Open,
    /// Feedback open and current near zero.
    Isolated,
    /// The contactor did not open in time: the breaker above it was tripped.
    Welded,
}

/// What was last seen of the plant.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Zones in which a charger draws current, or may do so for all that is known.
    pub drawing: BTreeSet<Id>,
    /// Zones in which a charger goes on drawing whatever it is told.
    pub deaf: BTreeSet<Id>,
    /// Relays whose feedback says open.
    pub open: BTreeSet<Id>,
    /// Zones whose battery is known to carry next to nothing.
    pub idle: BTreeSet<Id>,
}

#[derive(Clone, Debug, Default)]
struct ZoneLink {
    stopped_since: Option<Moment>,
    feeder: bool,
    /// A charger ignored its setpoint; the feeder stays open until a person releases it.
    deaf: bool,
    isolate_since: Option<Moment>,
    welded: bool,
    isolation: Isolation,
}

impl ZoneLink {
    fn is_feeder_open(&self) -> bool {
        self.feeder || self.deaf
    }
}

/// All relays.
#[derive(Clone, Debug, Default)]
pub struct Linkage {
    zones: BTreeMap<Id, ZoneLink>,
    /// When each relay was last seen to do its work.
    acted: BTreeMap<Id, Moment>,
}

impl Linkage {
    /// Takes up feeders that were open before the gateway started.
    pub fn restore(&mut self, zone: &Id, feeder: bool) {
        self.zones.entry(zone.clone()).or_default().feeder = feeder;
    }

    /// Takes up feeders that were open before the gateway started because a charger ignored its setpoint.
    pub fn restore_deaf(&mut self, zones: &BTreeSet<Id>) {
        for zone in zones {
            self.zones.entry(zone.clone()).or_default().deaf = true;
        }
    }

    /// Zones whose feeder stays open until a person releases it: a charger ignored its setpoint.
    #[must_use]
    pub fn deaf(&self) -> BTreeSet<Id> {
        self.zones.iter().filter(|(_, link)| link.deaf).map(|(id, _)| id.clone()).collect()
    }

    /// A person has been at the chargers of the zone: its feeder may close.
    pub fn release(&mut self, zone: &Id) {
        self.zones.entry(zone.clone()).or_default().deaf = false;
    }

    /// Whether the feeder of a zone was opened.
    #[must_use]
    pub fn is_feeder_open(&self, zone: &Id) -> bool {
        self.zones.get(zone).is_some_and(ZoneLink::is_feeder_open)
    }

    /// How far the isolation of a zone's battery has come.
    #[must_use]
    pub fn isolation(&self, zone: &Id) -> Isolation {
        self.zones.get(zone).map_or(Isolation::None, |link| link.isolation)
    }

    /// Whether a relay was lately seen to do its work.
    #[must_use]
    pub fn has_acted(&self, relay: &Id, now: Moment) -> bool {
        self.acted.get(relay).is_some_and(|at| at.age_at(now) < TESTED_WITHIN)
    }

    /// What every relay is told.
    pub fn step(
        &mut self,
        site: &Site,
        hazards: &BTreeMap<Id, Hazard>,
        seen: &Seen,
        now: Moment,
    ) -> BTreeMap<Id, (RelaySetpoint, Reason)> {
        for zone in &site.zones {
            let link = self.zones.entry(zone.id.clone()).or_default();
            let stopped = burning_zone(site, &zone.id, hazards).is_some();
            link.stopped_since = stopped.then(|| link.stopped_since.unwrap_or(now));
            let late = link.stopped_since.is_some_and(|s| s.age_at(now) >= OBEYED_WITHIN);
            link.feeder = stopped && (link.feeder || (late && seen.drawing.contains(&zone.id)));
            // Without a relay there is nothing to hold open.
            link.deaf |= seen.deaf.contains(&zone.id) && has_feeder(site, &zone.id);
            let isolate = hazards.get(&zone.id).is_some_and(|hazard| hazard.isolate);
            link.isolate_since = isolate.then(|| link.isolate_since.unwrap_or(now));
            link.isolation = isolation(site, (&zone.id, link), seen, now);
            link.welded = isolate && (link.welded || link.isolation == Isolation::Welded);
        }
        let mut told = BTreeMap::new();
        for relay in &site.guard.relays {
            let reason = self.why(relay, hazards);
            let setpoint = if reason.is_some() { RelaySetpoint::Act } else { RelaySetpoint::Rest };
            let works = match relay.feedback {
                Some(_) => seen.open.contains(&relay.id),
                None => true,
            };
            if setpoint == RelaySetpoint::Act && works {
                self.acted.insert(relay.id.clone(), now);
            }
            told.insert(relay.id.clone(), (setpoint, reason.unwrap_or(Reason::NoDanger)));
        }
        told
    }

    /// Why a relay acts, if it does.
    fn why(&self, relay: &Relay, hazards: &BTreeMap<Id, Hazard>) -> Option<Reason> {
        let link = |zone: &&Id| self.zones.get(*zone);
        let hazard = |zone: &&Id| hazards.get(*zone);
        let find = |holds: &dyn Fn(&&Id) -> bool| relay.zones.iter().find(holds).cloned();
        let in_alarm = |zone: &&Id| hazard(zone).is_some_and(|h| h.level >= Level::Alarm);
        let welded = |zone: &&Id| link(zone).is_some_and(|l| l.welded);
        match relay.kind {
            RelayKind::Contactor => find(&|zone| hazard(zone).is_some_and(|h| h.isolate))
                .map(|zone| Reason::Tripped { zone }),
            RelayKind::ShuntTrip => find(&welded).map(|zone| Reason::Welded { zone }),
            RelayKind::Feeder => find(&|zone| link(zone).is_some_and(ZoneLink::is_feeder_open))
                .map(|zone| Reason::NotObeyed { zone }),
            RelayKind::Siren | RelayKind::Fan => {
                find(&in_alarm).map(|zone| Reason::FireAlarm { zone })
            }
        }
    }
}

fn has_feeder(site: &Site, zone: &Id) -> bool {
    let opens = |relay: &Relay| relay.kind == RelayKind::Feeder && relay.zones.contains(zone);
    site.guard.relays.iter().any(opens)
}

fn isolation(site: &Site, (zone, link): (&Id, &ZoneLink), seen: &Seen, now: Moment) -> Isolation {
    let Some(since) = link.isolate_since else {
        return Isolation::None;
    };
    let is_mine = |relay: &&Relay| relay.kind == RelayKind::Contactor && relay.zones.contains(zone);
    let mut contactors = site.guard.relays.iter().filter(is_mine).peekable();
    if contactors.peek().is_none() {
        return Isolation::Requested;
    }
    let open = contactors.all(|relay| seen.open.contains(&relay.id));
    match (open, seen.idle.contains(zone)) {
        (true, true) => Isolation::Isolated,
        (true, false) => Isolation::Open,
        (false, _) if link.welded || since.age_at(now) >= OPEN_WITHIN => Isolation::Welded,
        (false, _) => Isolation::Requested,
    }
}
