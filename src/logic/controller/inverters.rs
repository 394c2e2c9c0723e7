//! How much the inverters may give, so that no more is exported than may be: first batteries and cars take
//! what is left over; only what they cannot take is curtailed.
//!
//! What a stranger gets wrong: the limit holds at the inverter's AC side, for sun and battery together, and
//! follows from what the site takes now, not from how much too much is exported: it needs no time to settle
//! and does not swing with devices that answer late. Old values raise nothing here either.

use std::collections::BTreeMap;
use std::time::Duration;

use super::batteries::OTHERS_FOLLOW_IN;
use super::{Controller, Rule};
use crate::logic::energy;
use crate::logic::safety::interlock;
use crate::logic::site::{
    Battery, Id, Inverter, Known, LOST_AFTER, MeterReading, Reading, Reason, Setpoints,
};
use crate::units::{Moment, Watts};

/// Batteries that have not taken what was left over within this cannot (warm, nearly full, slow); for so long only
/// the inverter keeps the limit then, and they are not asked for more. Our own figures.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Closer to its largest charging power than this a battery takes nothing more. Our own figure.
const NEARLY_ALL: Watts = Watts(100.0);

/// What one inverter was told, and what the sample before allowed.
#[derive(Clone, Copy, Debug)]
struct Told {
    most: Watts,
    allowed_before: Watts,
}

/// Memory of inverters, and of batteries that did not take what was left over.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    told: BTreeMap<Id, Told>,
    too_much_since: Option<Duration>,
    refused: Option<Duration>,
}

impl Outputs {
    /// Whether the batteries are to be counted on; `too_much` says that more is exported than may be.
    fn counts_on_batteries(&mut self, too_much: bool, now: Moment) -> bool {
        let since = |at: Duration| now.uptime.saturating_sub(at);
        self.too_much_since = too_much.then(|| self.too_much_since.unwrap_or(now.uptime));
        if self.too_much_since.is_some_and(|at| since(at) >= TAKEN_WITHIN) {
            self.refused = Some(now.uptime);
        }
        self.refused.is_none_or(|at| since(at) >= ASKED_AGAIN_AFTER)
    }

    /// Down at once, up by what two samples allow.
    fn step(&mut self, inverter: &Inverter, allowed: Watts) -> Watts {
        let allowed = allowed.bounded(Watts::ZERO, inverter.rated);
        let start = Told { most: allowed, allowed_before: allowed };
        let told = self.told.entry(inverter.id.clone()).or_insert(start);
        told.most = allowed.min(told.most.max(told.allowed_before));
        told.allowed_before = allowed;
        told.most
    }

    /// Without a new sample nothing is raised.
    fn hold(&mut self, inverter: &Inverter, most: Watts) -> Watts {
        let start = Told { most, allowed_before: Watts::ZERO };
        let told = self.told.entry(inverter.id.clone()).or_insert(start);
        told.most = told.most.min(most);
        told.allowed_before = Watts::ZERO;
        told.most
    }
}

impl Controller {
    /// Limits for all inverters.
    pub(super) fn wish_inverters(&mut self, now: Moment, wishes: &mut Setpoints) {
        // Where export is not limited nothing is said: a limit that stands in an inverter is somebody else's.
        let Some(export) = self.site.limits.export else { return };
        if !self.holds(Rule::ExportLimit) {
            return self.leave_inverters(wishes);
        }
        let meter = self.meter(now);
        let spare =
            meter.fresh().filter(|_| self.meter_is_sure()).map(|meter| meter.power + export);
        // A battery goes on giving until the others have followed: the inverter that carries it is not cut before.
        let lost = matches!(meter, Known::Lost { age } if age >= LOST_AFTER + OTHERS_FOLLOW_IN);
        let why = lost_or_stale(&meter);
        let counted = self.outputs.counts_on_batteries(self.exports_too_much(now), now);
        let takes = counted && self.site.batteries.iter().any(|b| self.takes_more(b, now));
        let given: Vec<Option<Watts>> =
            self.site.inverters.iter().map(|inverter| self.output(&inverter.id, now)).collect();
        let (all, rated) = (sum(given.iter().flatten()), self.rated());
        for (inverter, given) in self.site.inverters.iter().zip(given) {
            let blind = interlock::blind_output(&self.site, inverter);
            let wish = match (given, spare) {
                // A danger is answered before all is proven: what is written then frees nobody.
                _ if !self.armed => (blind, Reason::Starting),
                (None, _) => (self.outputs.hold(inverter, blind), Reason::DeviceLost),
                (Some(_), None) if lost => (self.outputs.hold(inverter, blind), why.clone()),
                (Some(_), None) => (self.outputs.hold(inverter, inverter.rated), why.clone()),
                (Some(given), Some(spare)) => {
                    let part = inverter.rated.get() / rated.get().max(1.0);
                    let part = if spare < Watts::ZERO && all > Watts::ZERO {
                        given.max(Watts::ZERO).get() / all.get()
                    } else {
                        part
                    };
                    let allowed = if takes { inverter.rated } else { given + spare * part };
                    let most = self.outputs.step(inverter, allowed);
                    let bound = most < inverter.rated;
                    (most, if bound { Reason::ExportLimit } else { Reason::DeviceMaximum })
                }
            };
            wishes.inverters.insert(inverter.id.clone(), wish);
        }
    }

    /// Free, but only where a test has switched the rule off.
    fn leave_inverters(&self, wishes: &mut Setpoints) {
        let free =
            |inverter: &Inverter| (inverter.id.clone(), (inverter.rated, Reason::DeviceMaximum));
        wishes.inverters = self.site.inverters.iter().map(free).collect();
    }

    fn rated(&self) -> Watts {
        self.site.inverters.iter().map(|inverter| inverter.rated).sum()
    }

    /// What an inverter gives at its AC side, where that is fresh.
    fn output(&self, inverter: &Id, now: Moment) -> Option<Watts> {
        match self.snapshot.at(inverter, now).fresh()? {
            Reading::Pv(pv) => Some(pv.power),
            Reading::Hybrid { battery, pv } => Some(pv.power + battery.power),
            _ => None,
        }
    }

    /// Whether a battery can take more than it does.
    fn takes_more(&self, battery: &Battery, now: Moment) -> bool {
        let half = if self.derated(&battery.id) { 0.5 } else { 1.0 };
        let least = -battery.max_charge * half + NEARLY_ALL;
        let can = |(power, soc)| !energy::is_full(soc) && power > least;
        let free = !self.must_rest(battery) && self.held_blind(&battery.id).is_none();
        self.battery_reading(&battery.id, now).is_some_and(can) && free
    }

    /// Whether the interlock keeps a battery at rest, whatever is wished.
    fn must_rest(&self, battery: &Battery) -> bool {
        let mut zones =
            self.site.zones.iter().filter(|zone| zone.battery.as_ref() == Some(&battery.id));
        zones.any(|zone| {
            self.hazards.get(&zone.id).is_some_and(|hazard| hazard.battery_rests)
                || interlock::burning_zone(&self.site, &zone.id, &self.hazards).is_some()
        })
    }
}

fn sum<'w>(all: impl Iterator<Item = &'w Watts>) -> Watts {
    all.map(|watts| watts.max(Watts::ZERO)).sum()
}

fn lost_or_stale(meter: &Known<&MeterReading>) -> Reason {
    match meter {
        Known::Never => Reason::Starting,
        Known::Lost { .. } => Reason::MeterLost,
        Known::Fresh(_) | Known::Stale { .. } => Reason::MeterStale,
    }
}
