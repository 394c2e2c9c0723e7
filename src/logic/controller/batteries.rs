//! Batteries in the same limits as chargers and nodes: what they take in comes last, of what all others
//! leave; what they give is taken back only when the others have had time to follow.
//!
//! What a stranger gets wrong: without a meter a battery does not simply go to rest. Who charges stops at
//! once, but who gives goes on until the chargers have come down to their safe shares: it was lent to them.

use std::time::Duration;

use super::{BatteryWatch, Controller, FRESH_SAMPLES, Rule};
use crate::logic::energy::{self, BatteryState, Room};
use crate::logic::site::{
    Aim, Battery, ChargerSetpoint, Id, Known, LOST_AFTER, Line, MeterReading, Reading, Reason,
    Setpoints,
};
use crate::units::{Amps, Moment, PerPhase, Phase, Soc, Watts};

/// After the meter is lost, chargers and cars have come down to their safe shares within this (design/safety:
/// chain of delays).
pub(super) const OTHERS_FOLLOW_IN: Duration = Duration::from_secs(12);
/// A battery that takes in more than it was told for longer than this lends nothing of it to others. Our own
/// figure: inverters follow within it.
const FOLLOWS_IN: Duration = Duration::from_secs(5);
/// Export beyond its limit that is metering and the battery's own regulation. Our own figure.
const EXPORT_NOISE: Watts = Watts(200.0);

/// What the chargers leave.
pub(super) struct Left {
    /// Of each room.
    pub rooms: Vec<Room>,
    /// What is exported of each phase with every charger and battery at rest: nobody but a battery may have it,
    /// a cloud takes it back.
    pub surplus: PerPhase<Watts>,
}

impl Controller {
    /// Powers for all batteries; `left` is what chargers and nodes leave, nothing where no meter can be
    /// trusted.
    pub(super) fn wish_batteries(
        &self,
        now: Moment,
        mut left: Option<Left>,
        wishes: &mut Setpoints,
    ) {
        let meter = self.meter(now);
        let mut grid = meter.fresh().map_or(Watts::ZERO, |meter| meter.power);
        // What is bought for a battery is no load that others serve: energy only goes round.
        let buys = |battery: &Battery| self.buys(battery, now);
        let mut bought: Watts = self.site.batteries.iter().map(buys).sum();
        for battery in &self.site.batteries {
            let wish = match self.battery_reading(&battery.id, now) {
                None => (Watts::ZERO, Reason::DeviceLost),
                Some(_) if !self.armed => (Watts::ZERO, Reason::Starting),
                Some((power, soc)) => match (meter.fresh(), &mut left) {
                    (Some(_), Some(left)) if self.meter_is_sure() => {
                        let floor = self.floor(battery);
                        let own = self.buys(battery, now);
                        // Who shaves peaks goes by all that is imported, whoever buys it.
                        let for_others = match self.aim(battery) {
                            Aim::PeakShaving(_) => Watts::ZERO,
                            _ => (bought - own).min(grid.max(Watts::ZERO)),
                        };
                        let state = BatteryState { power, soc, grid: grid - for_others, floor };
                        let told = self.with_meter(battery, state, left, now);
                        if self.may_buy(battery, now) {
                            bought = bought - own + (-told.0).max(Watts::ZERO);
                        }
                        // The next one corrects what this one leaves, and not each of them all of it.
                        if self.follows(&battery.id, now) && self.holds(Rule::EachItsPart) {
                            grid = grid + power - told.0;
                        }
                        told
                    }
                    _ => self.without_meter(battery, soc, &meter),
                },
            };
            wishes.batteries.insert(battery.id.clone(), wish);
        }
    }

    fn aim(&self, battery: &Battery) -> Aim {
        if self.holds(Rule::Strategy) { battery.strategy.aim } else { Aim::default() }
    }

    /// Whether a battery may take in what is imported: by the plan, or to be full for the next peak.
    fn may_buy(&self, battery: &Battery, now: Moment) -> bool {
        match self.aim(battery) {
            Aim::PeakShaving(_) => true,
            Aim::Arbitrage => self.planning.battery(&battery.id, now).is_some(),
            Aim::SelfConsumption => false,
        }
    }

    /// What such a battery takes in.
    fn buys(&self, battery: &Battery, now: Moment) -> Watts {
        let reading = self.battery_reading(&battery.id, now).filter(|_| self.may_buy(battery, now));
        reading.map_or(Watts::ZERO, |(power, _)| (-power).max(Watts::ZERO))
    }

    /// Not discharged below this: what is kept for an outage is there for the outage.
    fn floor(&self, battery: &Battery) -> Soc {
        let kept = self.holds(Rule::Strategy) && !self.grid.is_gone();
        battery.floor(!kept)
    }

    /// Whether the meter has answered often enough in a row for anything to be raised on it.
    pub(super) fn meter_is_sure(&self) -> bool {
        self.snapshot.in_row(&self.site.meter) >= FRESH_SAMPLES
    }

    /// Power and state of charge, where they are fresh.
    pub(super) fn battery_reading(&self, battery: &Id, now: Moment) -> Option<(Watts, Soc)> {
        match self.snapshot.at(battery, now).fresh()? {
            Reading::Battery(b) | Reading::Hybrid { battery: b, .. } => Some((b.power, b.soc)),
            _ => None,
        }
    }

    fn with_meter(
        &self,
        battery: &Battery,
        state: BatteryState,
        left: &mut Left,
        now: Moment,
    ) -> (Watts, Reason) {
        let strategy =
            if self.holds(Rule::Strategy) { battery.strategy } else { Default::default() };
        let planned = self.planning.battery(&battery.id, now);
        let wish = match (strategy.aim, planned) {
            (Aim::PeakShaving(peak), _) => energy::peak_shaving(battery, state, peak),
            (Aim::Arbitrage, Some(target)) => energy::planned(battery, state, target),
            (Aim::Arbitrage | Aim::SelfConsumption, _) => energy::self_consumption(battery, state),
        };
        let (power, reason) =
            if strategy.no_grid_charging { energy::from_sun_only(state, wish) } else { wish };
        let (power, reason) = match self.site.limits.export {
            Some(most) => energy::without_export(battery, state, (power, reason), most),
            None => (power, reason),
        };
        let (power, reason) = match self.derating(&battery.id) {
            Some(derating) => {
                let half = power.bounded(-battery.max_charge * 0.5, battery.max_discharge * 0.5);
                (half, if half == power { reason } else { derating })
            }
            None => (power, reason),
        };
        let (power, reason) = match self.held_blind(&battery.id) {
            Some(blind) => {
                let told = self.batteries.get(&battery.id).map_or(Watts::ZERO, BatteryWatch::told);
                let held = power.bounded(told.min(Watts::ZERO), told.max(Watts::ZERO));
                (held, if held == power { reason } else { blind })
            }
            None => (power, reason),
        };
        let (most, bound) = self.room_for(&battery.id, left);
        let bounded = power.max(-most);
        let taken = (-bounded).max(Watts::ZERO);
        let nominal = self.site.limits.nominal_voltage;
        let alike = PerPhase::all(taken / nominal * (1.0 / 3.0));
        for &at in self.feeders.chain(&battery.id) {
            left.rooms[at].take(alike, nominal, false);
        }
        let why = |bound| self.bound_why(ChargerSetpoint::Current(Amps::ZERO), bound, now);
        (bounded, if bounded == power { reason } else { why(bound) })
    }

    /// Nothing is raised on an old value; on none, charging ends at once and giving when the others have
    /// followed.
    fn without_meter(
        &self,
        battery: &Battery,
        soc: Soc,
        meter: &Known<&MeterReading>,
    ) -> (Watts, Reason) {
        let told = self.batteries.get(&battery.id).map_or(Watts::ZERO, |watch| watch.told());
        let told = if soc <= self.floor(battery) { told.min(Watts::ZERO) } else { told };
        match meter {
            Known::Never => (Watts::ZERO, Reason::Starting),
            Known::Lost { age } if *age < LOST_AFTER + OTHERS_FOLLOW_IN => {
                (told.max(Watts::ZERO), Reason::MeterLost)
            }
            Known::Lost { .. } => (Watts::ZERO, Reason::MeterLost),
            Known::Fresh(_) | Known::Stale { .. } => (told, Reason::MeterStale),
        }
    }

    /// The most that a battery may take in, and which line of which room bounds it.
    fn room_for(&self, battery: &Id, left: &Left) -> (Watts, (usize, Line)) {
        let nominal = self.site.limits.nominal_voltage;
        let mut least = (Watts(f64::INFINITY), (0, Line::Power));
        for &at in self.feeders.chain(battery) {
            let room = &left.rooms[at];
            let by_power = room.power + left.surplus.total();
            let of_phase = |p: Phase| (room.amps.on(p) * nominal + left.surplus.on(p)) * 3.0;
            let lines = Phase::ALL.map(|p| (of_phase(p), Line::Phase(p)));
            for (most, line) in lines.into_iter().chain([(by_power, Line::Power)]) {
                if most < least.0 {
                    least = (most, (at, line));
                }
            }
        }
        (least.0.max(Watts::ZERO), least.1)
    }

    /// Whether it does what it is told, or has not had the time yet.
    fn follows(&self, battery: &Id, now: Moment) -> bool {
        let watch = self.batteries.get(battery);
        watch.is_none_or(|watch| watch.differs_for(now) < FOLLOWS_IN)
    }

    /// What batteries take in and do not give up, though they were told to: it counts as controlled.
    pub(super) fn kept_by_batteries(&self, now: Moment) -> PerPhase<Amps> {
        let deaf = self.site.batteries.iter().filter(|battery| !self.follows(&battery.id, now));
        let taken =
            deaf.filter_map(|battery| match self.snapshot.at(&battery.id, now).usable()? {
                Reading::Battery(b) | Reading::Hybrid { battery: b, .. } => Some(-b.power),
                _ => None,
            });
        let taken: Watts = taken.map(|power| power.max(Watts::ZERO)).sum();
        PerPhase::all(taken / self.site.limits.nominal_voltage * (1.0 / 3.0))
    }

    /// What batteries take in and would give up at once, by phase.
    pub(super) fn lent_by_batteries(&self, now: Moment) -> PerPhase<Watts> {
        let obeys = |battery: &&Battery| {
            self.armed && self.batteries.contains_key(&battery.id) && self.follows(&battery.id, now)
        };
        let batteries = self.site.batteries.iter().filter(obeys);
        let reading = batteries.filter_map(|battery| self.battery_reading(&battery.id, now));
        let taken: Watts = reading.map(|(power, _)| (-power).max(Watts::ZERO)).sum();
        PerPhase::all(taken * (1.0 / 3.0))
    }

    /// Whether more is exported than may be, beyond noise.
    pub(super) fn exports_too_much(&self, now: Moment) -> bool {
        let exported = self.meter(now).fresh().map_or(Watts::ZERO, |meter| -meter.power);
        self.site.limits.export.is_some_and(|most| exported > most + EXPORT_NOISE.max(most * 0.02))
    }
}
