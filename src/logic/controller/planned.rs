//! Where the plan meets the second: what it is fed with, and what it leaves a charger of its maximum.

use super::{Controller, Rule};
use crate::logic::site::{Charger, ChargerReading, ChargerSetpoint, Circuit, Id, Reading, Reason};
use crate::units::{Amps, Moment, PerPhase, Volts, Watts};

impl Controller {
    /// Feeds the forecast and keeps the plan up to date.
    pub(super) fn plan(&mut self, now: Moment) {
        let site = &self.site;
        let battery = |id: &Id| match self.snapshot.at(id, now).usable() {
            Some(Reading::Battery(b) | Reading::Hybrid { battery: b, .. }) => {
                Some((b.power, b.soc))
            }
            _ => None,
        };
        let pv = |id: &Id| match self.snapshot.at(id, now).usable() {
            Some(Reading::Pv(pv) | Reading::Hybrid { pv, .. }) => Some(pv.power),
            _ => None,
        };
        let planned = site.batteries.iter().find(|battery| battery.capacity.is_some());
        let soc = planned.and_then(|known| battery(&known.id)).map(|(_, soc)| soc);
        // All or nothing: a total with a part missing would be taken for a change of the load.
        let all_pv: Option<Vec<Watts>> = site.pvs.iter().map(pv).collect();
        let given: Option<Vec<Watts>> =
            site.batteries.iter().map(|b| battery(&b.id).map(|(power, _)| power)).collect();
        let drawn: Option<Vec<PerPhase<Watts>>> = site
            .chargers
            .iter()
            .map(|c| {
                let known = self.charger(&c.id, now);
                known.usable().map(|reading| on_grid(c, reading, site.limits.nominal_voltage))
            })
            .collect();
        let grid = self.meter(now).usable().map(|meter| meter.phase_power);
        if let (Some(pv), Some(given), Some(drawn), Some(grid)) = (all_pv, given, drawn, grid) {
            let sum = |parts: Vec<Watts>| parts.into_iter().sum::<Watts>();
            let pv = sum(pv);
            // A node's idle power is other load; the rest is sheddable.
            let nodes = self.sheddable(now);
            // Inverters of this size feed three phases alike.
            let fed = (pv + sum(given)) * (1.0 / 3.0);
            let load = PerPhase::from_fn(|phase| {
                let cars: Watts = drawn.iter().map(|car| car.on(phase)).sum();
                grid.on(phase) + fed - cars - nodes.on(phase)
            });
            self.planning.sample(now, pv, load);
        }
        let circuits: &[Circuit] =
            if self.holds(Rule::CircuitsPlanned) { &self.site.circuits } else { &[] };
        self.planning.renew((&self.site, &self.modes, circuits), now, soc, &self.jobs);
    }

    /// What its mode or the plan has for a charger now; nothing where it is not planned. A share below half the
    /// minimum current is none: there is nothing between zero and the minimum.
    pub(super) fn planned(&self, charger: &Charger, now: Moment) -> Option<Planned> {
        self.planned_on(charger, self.planning.visits.phases(charger), now)
    }

    /// The same, charging on so many phases.
    pub(super) fn planned_on(
        &self,
        charger: &Charger,
        phases: usize,
        now: Moment,
    ) -> Option<Planned> {
        let first = self.site.chargers.first().is_some_and(|first| first.id == charger.id);
        if first && !self.holds(Rule::FairShare) {
            return Some(Planned { promised: charger.max, most: charger.max });
        }
        if let Some(given) = self.given_by_mode(charger, phases) {
            return Some(given);
        }
        let share = self.planning.share(&charger.id, now)?;
        let volts = self.site.limits.nominal_voltage.get() * phases.max(1) as f64;
        let amps = Amps(share.get() / volts);
        let none = amps < charger.min * 0.5;
        let promised = if none { Amps::ZERO } else { amps.max(charger.min) };
        let least = Watts((charger.min - amps).get() * volts);
        let beyond = Amps(self.planning.beyond_share(&charger.id, least, now).get() / volts);
        let most = (amps + beyond).min(charger.max);
        let none = most < charger.min * 0.5;
        let most = if none { Amps::ZERO } else { most.max(charger.min) };
        Some(Planned { promised, most: most.max(promised) })
    }

    /// Whether a share is all that the car has shown to want.
    pub(super) fn vehicle_why(&self, charger: &Charger, share: ChargerSetpoint) -> Option<Reason> {
        let worth = self.planning.visits.worth_granting(charger)?;
        (worth < charger.max && share.amps() + charger.step >= worth)
            .then_some(Reason::VehicleMaximum)
    }

    pub(super) fn planned_why(&self, charger: &Charger, now: Moment) -> Option<Reason> {
        let planned = self.planned(charger, now)?;
        if let Some(why) = self.mode_why(charger, planned.most) {
            return Some(why);
        }
        let waits = planned.most < charger.min;
        if waits {
            Some(Reason::PlanWaits)
        } else {
            (planned.most < charger.max).then_some(Reason::Plan)
        }
    }
}

/// What the plan or its mode has for a charger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// Comes before what nobody was promised.
    pub promised: Amps,
    /// What it may take beyond, where waiting would bring nothing.
    pub most: Amps,
}

/// What a charger draws on each phase of the grid.
fn on_grid(charger: &Charger, reading: &ChargerReading, nominal: Volts) -> PerPhase<Watts> {
    let mut drawn = PerPhase::default();
    for (own, phase) in charger.phases.iter().enumerate() {
        drawn.set(*phase, Watts(reading.current.0[own].get() * nominal.get()));
    }
    drawn
}
