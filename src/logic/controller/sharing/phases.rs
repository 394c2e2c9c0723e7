//! On how many phases each charger had better charge, where that can be changed: throttled first, then on one
//! phase, and only then paused.
//!
//! What a stranger gets wrong: what is compared is the whole allocation with and without the change, since
//! what one gives up on two phases others take. Nobody is switched to make room for somebody else.

use std::collections::BTreeMap;

use super::{Controller, Plug, Shared};
use crate::logic::controller::{FRESH_SAMPLES, Rule};
use crate::logic::energy::{self, Better, Claim, PhaseSwitch, Ramp, Room, Second, Share};
use crate::logic::site::{
    Charger, ChargerReading, ChargerSetpoint, Id, PhaseCount, Reason, Setpoints, Site, Vehicle,
};
use crate::units::{Amps, Moment};

/// Chargers that are thought through in one cycle, in order of right: each is an allocation of its own.
const MOST_TRIES: usize = 4;
/// So much above the minimum there must be for three phases, or it would fall back to one. Our own figure.
const ABOVE_LEAST: Amps = Amps(1.0);
/// Three phases must give so much more than one does. Our own figure.
const WORTH_IT: f64 = 1.2;

/// What each charger had better do.
pub(super) type Wanted = BTreeMap<Id, Better>;

/// A switch for each charger that may change phases.
pub(in super::super) fn switches(site: &Site) -> BTreeMap<Id, PhaseSwitch> {
    let able = site.chargers.iter().filter(|c| c.switching.is_some() && c.phases.len() == 3);
    able.map(|charger| (charger.id.clone(), PhaseSwitch::default())).collect()
}

/// What a charger says, with the phases that it can be believed to have connected.
pub(in super::super) fn believed(
    switches: &mut BTreeMap<Id, PhaseSwitch>,
    charger: &Charger,
    (at, reading): (Moment, &ChargerReading),
) -> ChargerReading {
    let counted = switches.get_mut(&charger.id).map(|switch| {
        switch.see(at, reading);
        switch.counted()
    });
    ChargerReading { phases: counted, ..reading.clone() }
}

impl Controller {
    /// Who had better change phases: who is paused on three and would not be on one, and who would get more
    /// on three without costing anybody their minimum.
    pub(super) fn better_phases(
        &self,
        rooms: &[Room],
        (known, claims, shares): Shared<'_, '_>,
        meter_fresh: bool,
        now: Moment,
    ) -> Wanted {
        let mut wanted = Wanted::new();
        if self.switches.is_empty() || !meter_fresh || !self.armed {
            return wanted;
        }
        let mut able = Vec::new();
        for (place, known) in known.iter().enumerate() {
            let Some(to) = self.may_change(known, &shares[place], now) else { continue };
            if known.reading.usable().is_some_and(|r| r.vehicle == Vehicle::Absent) {
                wanted.insert(known.charger.id.clone(), Better::Three);
                continue;
            }
            let claim = self.claim(known, Some(to), now);
            // Who would not get there what it takes need not be compared.
            if claim.most >= least(known.charger, to) {
                able.push((place, to, claim));
            }
        }
        able.truncate(MOST_TRIES);
        if !able.is_empty() {
            self.compare(rooms, (known, claims, shares), (able, now), &mut wanted);
        }
        wanted
    }

    /// Compares the whole allocation with and without each change.
    fn compare<'a>(
        &self,
        rooms: &[Room],
        (known, claims, shares): Shared<'_, 'a>,
        (able, now): (Vec<(usize, PhaseCount, Claim<'a>)>, Moment),
        wanted: &mut Wanted,
    ) {
        let nominal = self.site.limits.nominal_voltage;
        let mut trial = claims.to_vec();
        for (place, known) in known.iter().enumerate() {
            // Who is changing will come back with a claim of its own.
            if let Some(switch) = self.switches.get(&known.charger.id).filter(|s| s.pauses()) {
                trial[place] = self.claim(known, Some(switch.heading()), now);
            }
        }
        let mut before = energy::allocate(rooms, nominal, &trial);
        for (place, to, claim) in able {
            let charger = known[place].charger;
            let mut other: Vec<Claim<'_>> = trial.clone();
            other[place] = claim;
            let after = energy::allocate(rooms, nominal, &other);
            let (has, gets) = (before[place].setpoint.amps(), after[place].setpoint.amps());
            let better = match to {
                PhaseCount::One => (gets > Amps::ZERO).then(|| Better::One(shares[place].bound)),
                PhaseCount::Three => {
                    let enough = gets >= least(charger, to);
                    let kept = |i: usize| after[i].setpoint.amps() > Amps::ZERO;
                    let all_kept = (0..after.len())
                        .all(|i| kept(i) || before[i].setpoint == ChargerSetpoint::Pause);
                    let more = gets * 3.0 >= has * WORTH_IT;
                    (enough && more && all_kept).then_some(Better::Three)
                }
            };
            if let Some(better) = better {
                wanted.insert(charger.id.clone(), better);
                (trial, before) = (other, after);
            }
        }
    }

    /// To which count a charger may change at all, with what it has now.
    fn may_change(&self, known: &Plug<'_>, has: &Share, now: Moment) -> Option<PhaseCount> {
        let id = &known.charger.id;
        let switch = self.switches.get(id).filter(|switch| !switch.pauses())?;
        // A pause on the way would last: nothing starts in a zone that nobody sees.
        if self.held_blind(id).is_some() {
            return None;
        }
        let reading = known.reading.fresh()?;
        let heard = self.snapshot.in_row(id) >= FRESH_SAMPLES;
        let able = reading.vehicle != Vehicle::Fault && !known.sated && heard;
        let one_phase = self.planning.visits.is_one_phase(id);
        match switch.counted() {
            PhaseCount::Three => (able
                && has.setpoint == ChargerSetpoint::Pause
                // What was meant to be so is no lack.
                && (has.bound.is_some() || !self.is_meant(known.charger, now))
                && reading.vehicle != Vehicle::Absent
                && !one_phase
                && self.holds(Rule::OnePhase))
            .then_some(PhaseCount::One),
            PhaseCount::One => (able && !one_phase).then_some(PhaseCount::Three),
        }
    }

    /// Moves every switch on by a second; what the chargers are told.
    pub(super) fn wish_phases(&mut self, wanted: &Wanted, now: Moment, wishes: &mut Setpoints) {
        let (patient, empty_first) = (self.holds(Rule::SwitchSeldom), self.holds(Rule::EmptyFirst));
        for charger in &self.site.chargers {
            let (Some(allowed), Some(switch)) =
                (charger.switching, self.switches.get_mut(&charger.id))
            else {
                continue;
            };
            let better = wanted.get(&charger.id).copied().unwrap_or(Better::Stay);
            let fresh = self.snapshot.at(&charger.id, now).fresh().is_some();
            let may_pause = self.ramps.get(&charger.id).is_none_or(|ramp| {
                ramp.last() == Some(ChargerSetpoint::Pause) || Ramp::may_pause(ramp, now)
            });
            let second = Second { better, fresh, may_pause, patient, empty_first };
            switch.step(now, &allowed, second);
            if let Some(count) = switch.told().filter(|_| self.armed) {
                wishes.phases.insert(charger.id.clone(), count);
            }
        }
    }

    /// Why a charger is on one phase.
    pub(super) fn one_phase_why(&self, charger: &Charger) -> Option<Reason> {
        let (room, line) = self.switches.get(&charger.id)?.because()?;
        let circuit = room.checked_sub(1).and_then(|i| self.site.circuits.get(i));
        Some(Reason::OnePhase { circuit: circuit.map(|circuit| circuit.id.clone()), line })
    }
}

/// What a charger must get on so many phases for a change to be worth it.
fn least(charger: &Charger, to: PhaseCount) -> Amps {
    match to {
        PhaseCount::One => charger.min,
        PhaseCount::Three => charger.min + ABOVE_LEAST,
    }
}
