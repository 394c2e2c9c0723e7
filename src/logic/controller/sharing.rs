//! Who of the chargers may draw how much this second: the rooms of the tree of circuits from what is
//! measured, the claims in order of right, and from each share to a setpoint with its reason.
//!
//! What a stranger gets wrong: a share counts in full from the moment it is granted, drawn or not; and
//! what somebody still draws beyond a share that was lowered keeps others from being raised on it.

mod jobs;
mod phases;

use std::cmp::Reverse;
use std::time::Duration;

pub(super) use phases::{believed, switches};

use super::batteries::Left;
use super::{Controller, FRESH_SAMPLES, MARGIN, Rule, guarding};
use crate::logic::energy::{self, Claim, PhaseSwitch, Ramp, Room, Share};
use crate::logic::safety::interlock;
use crate::logic::site::{
    Charger, ChargerReading, ChargerSetpoint, Id, Known, MeterReading, PhaseCount, Reason,
    Setpoints, Vehicle,
};
use crate::units::{Amps, Moment, PerPhase, Phase, Volts, Watts};

/// A car that is seen to draw more than it was told for so long is paused: fault FB10 has fifteen seconds from the
/// telling, and one of them passes before the first sample.
pub(super) const PAUSED_AFTER: Duration = Duration::from_secs(14);
/// Draws beyond shares that are not worth waiting for.
const WORTH_WAITING: Amps = Amps(0.5);

/// One charger with what is known of it this second.
struct Plug<'a> {
    charger: &'a Charger,
    chain: &'a [usize],
    reading: Known<&'a ChargerReading>,
    last: Option<ChargerSetpoint>,
    /// What it had when it was lost.
    held: Option<Amps>,
    disobeyed_for: Duration,
    draws_too_much: bool,
    /// Whether its wiring counts.
    mapped: bool,
    sated: bool,
}

impl Plug<'_> {
    /// Whether a lost one may still hold what it had. Who ignored what it was told has proven nothing.
    fn may_hold(&self) -> bool {
        let within = self.charger.falls_back_within;
        matches!(self.reading, Known::Lost { age } if self.draws_too_much || age < within)
    }

    /// The phases that it loads.
    fn phases(&self) -> &[Phase] {
        if self.mapped { &self.charger.phases } else { &Phase::ALL[..self.charger.phases.len()] }
    }

    /// What it draws on each phase of the grid; nothing where it does not answer.
    fn drawn(&self) -> PerPhase<Amps> {
        let mut drawn = PerPhase::all(Amps::ZERO);
        if let Some(reading) = self.reading.usable() {
            for (own, &phase) in self.phases().iter().enumerate() {
                drawn.set(phase, reading.current.0[own]);
            }
        }
        drawn
    }

    /// What it draws on each phase beyond `amps`.
    fn beyond(&self, amps: Amps) -> PerPhase<Amps> {
        let drawn = self.drawn();
        PerPhase::from_fn(|phase| (drawn.on(phase) - amps).max(Amps::ZERO))
    }
}

impl Controller {
    /// What every charger gets while no meter is to be trusted.
    fn wish_safe_shares(&mut self, (starting, now): (bool, Moment), wishes: &mut Setpoints) {
        self.wish_phases(&phases::Wanted::new(), now, wishes);
        for charger in &self.site.chargers {
            let reason = if starting { Reason::Starting } else { Reason::MeterLost };
            let last = self.ramps.get(&charger.id).and_then(Ramp::last);
            let off = self.off_without_meter(charger).map(|why| (ChargerSetpoint::Pause, why));
            let (safe, reason) = off.unwrap_or_else(|| (safe_share(charger, last), reason));
            wishes.chargers.insert(charger.id.clone(), (safe, reason));
        }
    }

    /// Whether the grid connection was at its limit or over it. Who goes blind there does not wait for ten
    /// seconds: the load may have grown since.
    fn at_its_limit(&self, meter: &MeterReading) -> bool {
        let full = |phase| self.site.limits.limit.on(phase) - MARGIN * 0.5;
        meter.current.iter().any(|(phase, amps)| amps > full(phase))
    }

    /// Shares the headroom, or falls to the safe share when there is no meter to trust. What is left, where
    /// that is known.
    pub(super) fn wish_chargers(&mut self, now: Moment, wishes: &mut Setpoints) -> Option<Left> {
        let meter = self.meter(now);
        let trusted =
            |usable: &&MeterReading| meter.fresh().is_some() || !self.at_its_limit(usable);
        let Some(usable) = meter.usable().copied().filter(trusted) else {
            self.wish_safe_shares((matches!(meter, Known::Never), now), wishes);
            return None;
        };
        let meter_fresh = meter.fresh().is_some() && self.meter_is_sure();
        let nominal = self.site.limits.nominal_voltage;
        let known = self.in_order_of_right(now);
        let mut claims: Vec<Claim<'_>> =
            known.iter().map(|known| self.claim(known, None, now)).collect();
        let all_rooms = self.rooms(usable, (&known, &claims), now);
        let rooms = self.beside_jobs(&all_rooms, nominal, (&claims, now));
        let others = self.others(usable, &known, now);
        let surplus = PerPhase::from_fn(|p| (others.on(p) * -1.0).max(Amps::ZERO) * nominal);
        let shares = allocate_measured(&rooms, nominal, (&known, &mut claims));
        let shared = (known.as_slice(), claims.as_slice(), shares.as_slice());
        let (rooms_left, waits) = left_over(&all_rooms, nominal, shared);
        let left = Left { rooms: rooms_left, surplus };
        let wanted = self.better_phases(&rooms, shared, meter_fresh, now);
        let waits = waits && self.holds(Rule::InFlight);
        let told_now = waits.then(|| kept_and_raised(&rooms, nominal, shared));
        let may_raise = meter_fresh && self.nodes_known(now) && self.armed;
        let mut told = Vec::with_capacity(known.len());
        for (place, known) in known.iter().enumerate() {
            let charger = known.charger;
            let share = told_now.as_ref().map_or(shares[place].setpoint, |told| told[place]);
            let waits = share.amps() < shares[place].setpoint.amps();
            let fresh = known.reading.fresh().is_some()
                && self.snapshot.in_row(&charger.id) >= FRESH_SAMPLES;
            let why = self.why(known, &shares[place], (meter_fresh, waits), now);
            let end = End::of(known);
            let last = known.last.unwrap_or(ChargerSetpoint::Pause);
            let share = self.with_rules_off(share, (charger, last), claims[place].most);
            told.push((charger.id.clone(), share, may_raise && fresh, why, end));
        }
        self.settle(now, told, wishes);
        self.wish_phases(&wanted, now, wishes);
        Some(left)
    }

    /// From shares to setpoints, through each charger's ramp.
    fn settle(&mut self, now: Moment, told: Vec<Told>, wishes: &mut Setpoints) {
        let (two, slow) = (self.holds(Rule::TwoSamples), self.holds(Rule::SlowRaise));
        let admitted = self.holds(Rule::Admission);
        for (id, share, may_raise, why, end) in told {
            let Some(charger) = self.site.chargers.iter().find(|c| c.id == id) else { continue };
            let ramp = self.ramps.entry(id.clone()).or_default();
            let (setpoint, reason) = match end {
                End::Lost => {
                    let safe = safe_share(charger, ramp.last());
                    ramp.lose(now, safe);
                    (safe, Reason::DeviceLost)
                }
                End::Idle => {
                    ramp.force(now, ChargerSetpoint::Pause);
                    (ChargerSetpoint::Pause, why)
                }
                End::Share => {
                    if !two {
                        ramp.allow(share);
                    }
                    let started = ramp.last().is_none_or(|last| last == ChargerSetpoint::Pause);
                    if !slow || (started && !admitted) {
                        ramp.force(now, share);
                    }
                    let (setpoint, bound) = ramp.step(now, charger, share, may_raise);
                    (setpoint, bound.filter(|_| may_raise).unwrap_or(why))
                }
            };
            wishes.chargers.insert(id, (setpoint, reason));
        }
    }

    /// Who may have a minimum current first: by priority, then those that charge, then the others, as in
    /// the file; last those whose cars have shown that they want nothing.
    fn in_order_of_right(&self, now: Moment) -> Vec<Plug<'_>> {
        let mut order: Vec<Plug<'_>> =
            self.site.chargers.iter().map(|charger| self.plug(charger, now)).collect();
        order.sort_by_key(|known| {
            let charges = matches!(known.last, Some(ChargerSetpoint::Current(_)));
            let charges = charges == self.holds(Rule::WhoCharges);
            (known.sated, Reverse(known.charger.right.priority), !charges)
        });
        order
    }

    fn plug<'s>(&'s self, charger: &'s Charger, now: Moment) -> Plug<'s> {
        let id = &charger.id;
        let ramp = self.ramps.get(id);
        Plug {
            charger,
            chain: self.feeders.chain(id),
            reading: self.charger(id, now),
            last: ramp.and_then(Ramp::last),
            held: ramp.and_then(Ramp::held),
            disobeyed_for: ramp.map_or(Duration::ZERO, |ramp| self.disobeyed_for(ramp, now)),
            draws_too_much: ramp.is_some_and(Ramp::draws_too_much) && self.holds(Rule::Measured),
            mapped: self.holds(Rule::PhaseMap),
            sated: self.planning.visits.is_sated(id),
        }
    }

    /// What everybody below each node of the tree may draw together.
    fn rooms(
        &self,
        meter: &MeterReading,
        chargers: (&[Plug<'_>], &[Claim<'_>]),
        now: Moment,
    ) -> Vec<Room> {
        let nominal = self.site.limits.nominal_voltage;
        let mut rooms = vec![self.grid_room(meter, chargers, now)];
        let amperes = self.holds(Rule::Amperes);
        let margin = MARGIN * nominal * 3.0;
        rooms.extend(self.site.circuits.iter().map(|circuit| {
            let limit = circuit.limit.filter(|_| amperes || circuit.power.is_none());
            let amps = limit.map_or(Room::UNBOUND.amps, |limit| {
                PerPhase::from_fn(|phase| limit.on(phase) - MARGIN - circuit.base_load)
            });
            let base = circuit.base_load * nominal * 3.0;
            let power = circuit.power.map_or(Room::UNBOUND.power, |most| most - margin - base);
            Room { amps, power, ..Room::UNBOUND }
        }));
        rooms.push(self.controlled_room(now));
        for (node, taken) in self.nodes_take(now) {
            for &at in self.feeders.chain(&node.id).iter().filter(|at| **at > 0) {
                rooms[at].take(taken, nominal, node.phases.len() < 3);
            }
        }
        rooms
    }

    /// What everything but the chargers draws of each phase, without what nodes and batteries would give up.
    fn others(&self, meter: &MeterReading, known: &[Plug<'_>], now: Moment) -> PerPhase<Amps> {
        let mut others = meter.current;
        for drawn in known.iter().map(Plug::drawn) {
            others = PerPhase::from_fn(|phase| others.on(phase) - drawn.on(phase));
        }
        let nominal = self.site.limits.nominal_voltage;
        let (given_up, reserved) = (self.given_up(now), self.reserved_for_nodes(now));
        PerPhase::from_fn(|p| others.on(p) + (reserved.on(p) - given_up.on(p)) / nominal)
    }

    /// What nodes and batteries draw and would give up at once.
    fn given_up(&self, now: Moment) -> PerPhase<Watts> {
        let (shed, lent) = (self.sheddable(now), self.lent_by_batteries(now));
        PerPhase::from_fn(|p| shed.on(p) + lent.on(p))
    }

    /// The limit of the grid connection less everything else that is measured.
    fn grid_room(
        &self,
        meter: &MeterReading,
        (known, claims): (&[Plug<'_>], &[Claim<'_>]),
        now: Moment,
    ) -> Room {
        let limits = &self.site.limits;
        let nominal = limits.nominal_voltage;
        let others = self.others(meter, known, now);
        let mut partial = PerPhase::all(Amps::ZERO);
        let mut power = meter.power;
        for (known, claim) in known.iter().zip(claims) {
            let drawn = known.drawn();
            // By the phases that the car uses, as its share is counted.
            if claim.is_unbalanced() {
                partial = PerPhase::from_fn(|phase| partial.on(phase) + drawn.on(phase));
            }
            power = power - known.reading.usable().map_or(Watts::ZERO, |reading| reading.power);
        }
        let (given_up, reserved) = (self.given_up(now), self.reserved_for_nodes(now));
        let power = (power + reserved.total() - given_up.total()).max(Watts::ZERO);
        // Export of PV and battery is not lent to chargers: a cloud would overdraw the next second.
        let left = |p: Phase| limits.limit.on(p) - MARGIN - others.on(p).max(Amps::ZERO);
        let amps = |p: Phase| left(p).min(limits.beside_a_step());
        let least = meter.current.0.into_iter().fold(Amps(f64::INFINITY), Amps::min);
        let unbalanced = limits.unbalance.map_or(Room::UNBOUND.unbalanced, |most| {
            let alike = |p: Phase| meter.current.on(p) - partial.on(p);
            PerPhase::from_fn(|p| most - MARGIN + least - alike(p))
        });
        let margin = MARGIN * nominal * 3.0;
        Room {
            amps: PerPhase::from_fn(amps),
            power: self
                .import_limit(now)
                .0
                .map_or(Room::UNBOUND.power, |most| most - margin - power),
            unbalanced,
        }
    }

    /// What it claims, or would claim if it were on so many phases and were not changing them.
    fn claim<'a>(&self, known: &Plug<'a>, on: Option<PhaseCount>, now: Moment) -> Claim<'a> {
        let (charger, rooms, none) = (known.charger, known.chain, Amps::ZERO);
        let Some(reading) = known.reading.usable() else {
            let last = known.last.map_or(Amps::ZERO, ChargerSetpoint::amps);
            // Until its own time is over it holds what it had; no circuit has a meter that would show it.
            let held = known.held.filter(|_| known.may_hold()).unwrap_or(Amps::ZERO);
            let reserved = charger.unheard().max(last).max(held);
            let phases = &charger.phases;
            return Claim { charger, phases, rooms, most: none, reserved, promised: none };
        };
        let switches = self.switches.get(&charger.id).is_some_and(PhaseSwitch::pauses);
        let used = self.planning.visits.phases(charger);
        let used = on.map_or(used, |on| usize::from(on.number()).min(charger.phases.len()));
        let most = match reading.vehicle {
            Vehicle::Absent | Vehicle::Fault => Amps::ZERO,
            _ if known.disobeyed_for >= PAUSED_AFTER => Amps::ZERO,
            _ if guarding::holds_back(self, &charger.id, now).is_some() => Amps::ZERO,
            _ if switches && on.is_none() => Amps::ZERO,
            _ => self.most_in_zone(charger, known.last),
        };
        let worth = self.planning.visits.worth_granting(charger).unwrap_or(charger.max);
        let planned = self.planned_on(charger, used, now);
        let most = most.min(worth).min(planned.map_or(charger.max, |planned| planned.most));
        let promised = planned.map_or(Amps::ZERO, |planned| planned.promised);
        let phases: &'a [Phase] =
            if known.mapped { &charger.phases[..used] } else { &Phase::ALL[..used] };
        Claim { charger, phases, rooms, most, reserved: none, promised }
    }

    fn why(
        &self,
        known: &Plug<'_>,
        share: &Share,
        (meter_fresh, waits): (bool, bool),
        now: Moment,
    ) -> Reason {
        let charger = known.charger;
        if !self.armed {
            return Reason::Starting;
        }
        if known.reading.usable().is_some_and(|reading| reading.vehicle == Vehicle::Absent) {
            return Reason::NoVehicle;
        }
        if !meter_fresh {
            return Reason::MeterStale;
        }
        if known.disobeyed_for >= PAUSED_AFTER {
            return Reason::Disobeys;
        }
        if let Some(reason) = guarding::holds_back(self, &charger.id, now) {
            return reason;
        }
        if self.switches.get(&charger.id).is_some_and(PhaseSwitch::pauses) {
            return Reason::SwitchesPhases;
        }
        if waits {
            return Reason::AwaitsOthers;
        }
        let bound = share.bound.map(|bound| self.bound_why(share.setpoint, bound, now));
        bound
            .or_else(|| self.one_phase_why(charger))
            .or_else(|| self.planned_why(charger, now))
            .or_else(|| self.vehicle_why(charger, share.setpoint))
            .or_else(|| self.derating(&charger.id).or_else(|| self.held_blind(&charger.id)))
            .unwrap_or(Reason::DeviceMaximum)
    }
}

/// Failsafe current, but never more than it had: losing meter or device raises nothing.
fn safe_share(charger: &Charger, last: Option<ChargerSetpoint>) -> ChargerSetpoint {
    let failsafe = interlock::at_failsafe(charger);
    last.filter(|last| last.amps() < failsafe.amps()).unwrap_or(failsafe)
}

/// A charger, its share, whether it may be raised, why, and what becomes of it.
type Told = (Id, ChargerSetpoint, bool, Reason, End);

/// What becomes of a share.
enum End {
    /// The device does not answer.
    Lost,
    /// There is nothing to charge.
    Idle,
    /// It goes through the ramp.
    Share,
}

impl End {
    fn of(known: &Plug<'_>) -> End {
        match known.reading.usable().map(|reading| reading.vehicle) {
            None => End::Lost,
            Some(Vehicle::Absent | Vehicle::Fault) => End::Idle,
            Some(Vehicle::Connected | Vehicle::Charging) => End::Share,
        }
    }
}

/// Shares by what everybody draws: who draws more than told keeps its fair share as its setpoint, and the
/// others share what it leaves of the rooms. Its claim becomes what it draws.
fn allocate_measured(
    rooms: &[Room],
    nominal: Volts,
    (known, claims): (&[Plug<'_>], &mut [Claim<'_>]),
) -> Vec<Share> {
    let mut shares = energy::allocate(rooms, nominal, claims);
    let mut excess = Vec::new();
    for (place, known) in known.iter().enumerate() {
        let drawn = known.reading.usable().map_or(Amps::ZERO, |reading| reading.most_drawn());
        if known.draws_too_much && drawn > shares[place].setpoint.amps() {
            claims[place].reserved = drawn;
            excess.push(place);
        }
    }
    if !excess.is_empty() {
        let mut measured = energy::allocate(rooms, nominal, claims);
        excess.into_iter().for_each(|place| measured[place] = shares[place].clone());
        shares = measured;
    }
    shares
}

type Shared<'s, 'a> = (&'s [Plug<'a>], &'s [Claim<'a>], &'s [Share]);

/// Takes a charger's current, and what it still draws beyond it, out of every room that feeds it. What it
/// draws beyond.
fn take(
    left: &mut [Room],
    nominal: Volts,
    (known, claim): (&Plug<'_>, &Claim<'_>),
    amps: Amps,
) -> PerPhase<Amps> {
    let (own, beyond) = (claim.on_grid(amps), known.beyond(amps));
    let taken = PerPhase::from_fn(|phase| own.on(phase) + beyond.on(phase));
    for &at in known.chain {
        left[at].take(taken, nominal, claim.is_unbalanced());
    }
    beyond
}

/// What the shares leave of each room, less what is still drawn beyond them; and whether that is worth
/// waiting for.
fn left_over(
    rooms: &[Room],
    nominal: Volts,
    (known, claims, shares): Shared<'_, '_>,
) -> (Vec<Room>, bool) {
    let (mut left, mut waits) = (rooms.to_vec(), false);
    for ((known, claim), share) in known.iter().zip(claims).zip(shares) {
        let granted = share.setpoint.amps().max(claim.reserved);
        let beyond = take(&mut left, nominal, (known, claim), granted);
        waits |= beyond.iter().any(|(_, amps)| amps > WORTH_WAITING);
    }
    (left, waits)
}

/// Setpoints while somebody still draws what is to be given up: what each has and still may have it keeps;
/// raises come one after another out of what nobody draws and nobody keeps.
fn kept_and_raised(
    rooms: &[Room],
    nominal: Volts,
    (known, claims, shares): Shared<'_, '_>,
) -> Vec<ChargerSetpoint> {
    let mut left = rooms.to_vec();
    let kept = |known: &Plug<'_>, share: &Share| {
        let last = known.last.map_or(Amps::ZERO, ChargerSetpoint::amps);
        last.min(share.setpoint.amps())
    };
    for ((known, claim), share) in known.iter().zip(claims).zip(shares) {
        let kept = kept(known, share).max(claim.reserved);
        take(&mut left, nominal, (known, claim), kept);
    }
    let mut told = Vec::with_capacity(shares.len());
    for ((known, claim), share) in known.iter().zip(claims).zip(shares) {
        let kept = kept(known, share);
        let free = known.chain.iter().map(|&at| left[at].left_on(claim.phases, nominal));
        let free = free.fold(Amps(f64::INFINITY), Amps::min).max(Amps::ZERO);
        let wanted = share.setpoint.amps() - kept;
        let to = if free >= wanted { share.setpoint.amps() } else { kept + free };
        if to < claim.charger.min {
            // Then it has nothing to keep: that is zero or at least the minimum.
            told.push(ChargerSetpoint::Pause);
            continue;
        }
        let to = energy::round_down(to, claim.charger).max(kept).min(share.setpoint.amps());
        for &at in known.chain {
            left[at].take(claim.on_grid(to - kept), nominal, claim.is_unbalanced());
        }
        told.push(ChargerSetpoint::Current(to));
    }
    told
}
