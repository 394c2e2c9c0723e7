//! How each charger charges by its mode, and what the sun leaves over for those that go by it.
//!
//! What a stranger gets wrong: what the sun leaves over is not what is exported. It is what would be exported
//! with the cars that go by it at rest, and with no battery giving or taking: what a battery gives is no sun,
//! and what it takes in the cars may have first, unless it is meant to be filled before them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::planned::Planned;
use super::{Controller, Rule};
use crate::logic::energy::{self, PhaseSwitch, Ramp, SunClaim, SunSecond, SunSwitch};
use crate::logic::site::{
    Battery, Charger, ChargerSetpoint, ChargingMode, Id, Known, MeterReading, Reading, Reason,
    Vehicle,
};
use crate::units::{Amps, Moment, Watts};

/// So much is left over for the meter's noise and for loads that come. Our own figure.
const KEPT: Watts = Watts(100.0);
/// What is measured is smoothed over so long, s: meter, charger and car do not answer at the same time.
const SMOOTHED_S: f64 = 10.0;
/// Less than this below what it charges with a car does not lack. Our own figure.
const NOT_LACKING: Watts = Watts(300.0);
/// So near to the limit of export whatever is more is curtailed. Our own figure.
const AT_LIMIT: Watts = Watts(250.0);
/// A battery that gives more than this holds the meter at zero by itself.
const GIVES: Watts = Watts(200.0);
/// Where sun may be hidden, cars take so much more each time. Our own figure: an ampere on three phases
/// and what is kept.
const FELT_FOR: Watts = Watts(900.0);
/// An inverter that is limited has followed within so long, s. Our own figure.
const INVERTER_FOLLOWS_S: u64 = 15;
/// After that has brought import that stays, it is not done again for so long, s. Our own figure.
const FELT_AGAIN_AFTER_S: u64 = 120;
/// More current than this is charging.
const DRAWS: Amps = Amps(4.0);

/// What the sun leaves over, and who has what of it.
#[derive(Debug, Default)]
pub(super) struct Sun {
    /// Left over now; nothing while that is not known.
    available: Option<Watts>,
    smoothed: Option<Moment>,
    /// The cars that are at rest in it. With others nothing is smoothed: the share of one that falls silent would be
    /// nobody's for some seconds, and a shortage over.
    at_rest: Vec<Id>,
    switches: BTreeMap<Id, SunSwitch>,
    shares: BTreeMap<Id, Watts>,
    /// Since when some car that charges lacks sun.
    short_since: Option<Moment>,
    /// When more was taken than the meter showed, and when that brought import.
    felt: Option<Moment>,
    import_came: Option<Moment>,
}

/// One car that goes by the sun.
struct Car<'s> {
    charger: &'s Charger,
    mode: ChargingMode,
    /// On the phases that it uses now; on the fewest that it could use.
    least: Watts,
    fewest: Watts,
    most: Watts,
    charges: bool,
    draws: bool,
}

impl Controller {
    /// How a charger charges.
    pub(super) fn mode(&self, charger: &Charger) -> ChargingMode {
        if self.holds(Rule::Modes) { self.modes.of(charger) } else { ChargingMode::Departure }
    }

    /// A person chooses a mode. Whether there is such a charger.
    pub(super) fn choose_mode(&mut self, id: &Id, mode: ChargingMode) -> bool {
        let Some(charger) = self.site.chargers.iter().find(|charger| charger.id == *id) else {
            return false;
        };
        if self.modes.choose(charger, mode) {
            self.sun.switches.remove(id);
            self.planning.visits.note_change();
        }
        true
    }

    /// Measures what the sun leaves over and shares it among those that go by it.
    pub(super) fn follow_sun(&mut self, now: Moment) {
        let mut sun = std::mem::take(&mut self.sun);
        let cars = self.sun_cars(&sun, now);
        let meter = self.meter(now);
        let sure = meter.fresh().filter(|_| self.meter_is_sure() && self.batteries_are_fresh(now));
        let hidden = sure.is_some_and(|meter| self.may_be_hidden(meter, now));
        match sure {
            Some(meter) => {
                let heard = self.heard_followers(now);
                let at_rest = || heard.iter().map(|(charger, _)| &charger.id);
                if !sun.at_rest.iter().eq(at_rest()) {
                    (sun.smoothed, sun.at_rest) = (None, at_rest().cloned().collect());
                }
                let drawn = heard.iter().map(|(_, drawn)| *drawn).sum();
                sun.smooth(self.left_by_sun(meter, drawn, now), now);
            }
            _ if matches!(meter, Known::Lost { .. } | Known::Never) => sun.available = None,
            // Whether the sun or a battery feeds the cars nobody can say.
            _ if self.misses_a_battery(now) => sun.available = None,
            _ => {}
        }
        let silent = |id: &Id| self.charger(id, now).usable().is_none();
        // One that falls silent is the same car on the same sun, but nobody can tell what its trial finds.
        let goes_on = |id: &Id, switch: &SunSwitch| silent(id) && !switch.tries();
        for (id, switch) in &mut sun.switches {
            if !cars.iter().any(|car| car.charger.id == *id) && !goes_on(id, switch) {
                switch.unplug();
            }
        }
        sun.share((&cars, hidden), now, |what| self.holds(what));
        self.sun = sun;
    }

    /// Chargers that go by the sun and tell what they draw, and what that is.
    fn heard_followers(&self, now: Moment) -> Vec<(&Charger, Watts)> {
        let followers = self.site.chargers.iter().filter(|c| self.mode(c).follows_sun());
        followers.filter_map(|c| Some((c, self.charger(&c.id, now).usable()?.power))).collect()
    }

    /// What would be exported with the cars that draw this much at rest and batteries neither giving nor taking.
    fn left_by_sun(&self, meter: &MeterReading, drawn: Watts, now: Moment) -> Watts {
        let battery = |battery: &Battery| {
            let (power, soc) = self.battery_reading(&battery.id, now)?;
            let first = power < Watts::ZERO && soc < battery.strategy.before_cars;
            Some(if first { Watts::ZERO } else { power })
        };
        let given: Watts = self.site.batteries.iter().filter_map(battery).sum();
        drawn - meter.power - given
    }

    fn batteries_are_fresh(&self, now: Moment) -> bool {
        let fresh = |battery: &Battery| self.battery_reading(&battery.id, now).is_some();
        self.site.batteries.iter().all(fresh)
    }

    fn misses_a_battery(&self, now: Moment) -> bool {
        let lost = |battery: &Battery| self.snapshot.at(&battery.id, now).usable().is_none();
        self.site.batteries.iter().any(lost)
    }

    /// Whether there may be more sun than the meter shows: as much is exported as may be, and no battery takes
    /// more or holds the meter where it is.
    fn may_be_hidden(&self, meter: &MeterReading, now: Moment) -> bool {
        let Some(most) = self.site.limits.export.filter(|_| self.holds(Rule::SunTried)) else {
            return false;
        };
        let mut batteries = self.site.batteries.iter();
        let shows = |(power, soc): (Watts, crate::units::Soc)| {
            power > GIVES || (power < -GIVES && !energy::is_full(soc))
        };
        let shown = batteries.any(|b| self.battery_reading(&b.id, now).is_some_and(shows));
        let shines = self.site.pvs.iter().any(|pv| match self.snapshot.at(pv, now).fresh() {
            Some(Reading::Pv(pv) | Reading::Hybrid { pv, .. }) => pv.power > KEPT,
            _ => false,
        });
        -meter.power > most - AT_LIMIT && !shown && shines
    }

    /// Cars that go by the sun, in order of right.
    fn sun_cars(&self, sun: &Sun, now: Moment) -> Vec<Car<'_>> {
        let mut cars: Vec<Car<'_>> =
            self.site.chargers.iter().filter_map(|charger| self.sun_car(charger, now)).collect();
        let on = |car: &Car<'_>| sun.switches.get(&car.charger.id).is_some_and(SunSwitch::is_on);
        cars.sort_by_key(|car| (Reverse(car.charger.right.priority), !on(car)));
        cars
    }

    fn sun_car<'s>(&'s self, charger: &'s Charger, now: Moment) -> Option<Car<'s>> {
        let mode = Some(self.mode(charger)).filter(|mode| mode.follows_sun())?;
        let known = self.charger(&charger.id, now);
        let reading = known.usable()?;
        let plugged = matches!(reading.vehicle, Vehicle::Connected | Vehicle::Charging);
        if !plugged || self.planning.visits.is_sated(&charger.id) {
            return None;
        }
        let used = self.planning.visits.phases(charger);
        let may_switch = charger.switching.zip(self.switches.get(&charger.id));
        let one =
            may_switch.is_some_and(|(allowed, switch)| !PhaseSwitch::is_spent(switch, &allowed));
        let watts =
            |amps: Amps, phases: usize| amps * self.site.limits.nominal_voltage * phases as f64;
        let told = self.ramps.get(&charger.id).and_then(Ramp::last);
        let most = if one { charger.phases.len() } else { used };
        Some(Car {
            charger,
            mode,
            least: watts(charger.min, used),
            fewest: watts(charger.min, if one { 1 } else { used }),
            most: watts(charger.max, most),
            charges: told.is_some_and(|told| told != ChargerSetpoint::Pause),
            draws: reading.most_drawn() >= DRAWS,
        })
    }

    /// What its mode has for a charger, on so many phases; nothing where that is the plan's affair.
    pub(super) fn given_by_mode(&self, charger: &Charger, phases: usize) -> Option<Planned> {
        let sunny = || {
            let watts = self.sun.shares.get(&charger.id).copied().unwrap_or(Watts::ZERO);
            let volts = self.site.limits.nominal_voltage.get() * phases.max(1) as f64;
            // The last thousandth is rounding.
            let amps = Amps(watts.get() / volts * 1.001).min(charger.max);
            if amps < charger.min { Amps::ZERO } else { amps }
        };
        let (promised, most) = match self.mode(charger) {
            ChargingMode::Departure => return None,
            ChargingMode::Off => (Amps::ZERO, Amps::ZERO),
            ChargingMode::Fast => (charger.max, charger.max),
            ChargingMode::PvOnly => (Amps::ZERO, sunny()),
            ChargingMode::MinPv => (charger.min, sunny().max(charger.min)),
        };
        Some(Planned { promised, most })
    }

    /// Why a mode gives a charger what it gives.
    pub(super) fn mode_why(&self, charger: &Charger, most: Amps) -> Option<Reason> {
        let tries = self.sun.switches.get(&charger.id).is_some_and(SunSwitch::tries);
        match self.mode(charger) {
            ChargingMode::Off => Some(Reason::ModeOff),
            ChargingMode::PvOnly if tries => Some(Reason::SunTried),
            ChargingMode::PvOnly if most < charger.min => Some(Reason::SunWaits),
            ChargingMode::PvOnly | ChargingMode::MinPv => {
                (most < charger.max).then_some(Reason::Sun)
            }
            ChargingMode::Fast | ChargingMode::Departure => None,
        }
    }

    /// Whether what a charger has now is what was meant for it, and no lack.
    pub(super) fn is_meant(&self, charger: &Charger, now: Moment) -> bool {
        match self.mode(charger) {
            ChargingMode::Departure => self.planned(charger, now).is_some(),
            ChargingMode::Off => true,
            ChargingMode::PvOnly | ChargingMode::MinPv | ChargingMode::Fast => false,
        }
    }

    /// What a charger gets without a meter, where its mode leaves it nothing.
    pub(super) fn off_without_meter(&self, charger: &Charger) -> Option<Reason> {
        let on = || self.sun.switches.get(&charger.id).is_some_and(SunSwitch::is_on);
        match self.mode(charger) {
            ChargingMode::Off => Some(Reason::ModeOff),
            ChargingMode::PvOnly if !on() => Some(Reason::SunWaits),
            _ => None,
        }
    }
}

impl Sun {
    fn smooth(&mut self, measured: Watts, now: Moment) {
        let passed = self.smoothed.map_or(f64::MAX, |at| at.age_at(now).as_secs_f64());
        let weight = (passed / SMOOTHED_S).min(1.0);
        let before = self.available.unwrap_or(measured);
        self.available = Some(before + (measured - before) * weight);
        self.smoothed = Some(now);
    }

    /// Steps every switch and shares what there is.
    fn share(
        &mut self,
        (cars, hidden): (&[Car<'_>], bool),
        now: Moment,
        holds: impl Fn(Rule) -> bool,
    ) {
        self.shares.clear();
        let known = self.available.map(|watts| watts - KEPT);
        let available = known.unwrap_or(Watts::ZERO);
        let must = cars.iter().filter(|car| car.mode == ChargingMode::MinPv).map(|car| car.least);
        let mut left = available - must.sum::<Watts>();
        let mut trying = self.switches.values().any(SunSwitch::tries);
        let short_for = self.short_since.map_or(Duration::ZERO, |since| since.age_at(now));
        let mut short = false;
        let (mut on, mut claims) = (Vec::new(), Vec::new());
        for car in cars {
            let mut least = car.least;
            if car.mode == ChargingMode::PvOnly {
                let begins = !self.switches.contains_key(&car.charger.id);
                let switch = self.switches.entry(car.charger.id.clone()).or_default();
                if begins && car.charges && known.is_some() && left >= car.least {
                    switch.take_over();
                }
                let now_least =
                    if car.charges && !switch.is_small() { car.least } else { car.fewest };
                let second = SunSecond {
                    enough: known.is_some()
                        && left >= car.fewest - if car.charges { NOT_LACKING } else { Watts::ZERO },
                    lacking: known.is_none() || left < now_least - NOT_LACKING,
                    short_for,
                    // One at a time, or nobody could tell who found what.
                    hidden: hidden && !trying,
                    draws: car.draws,
                    patient: holds(Rule::SunPatience),
                };
                switch.step(now, second);
                trying |= switch.tries();
                short |= second.lacking && switch.is_on();
                if !switch.is_on() {
                    continue;
                }
                least = if car.charges && !switch.is_small() { car.least } else { car.fewest };
                left = left - least;
            }
            on.push(car.charger.id.clone());
            claims.push(SunClaim { least, most: car.most });
        }
        self.short_since = short.then(|| self.short_since.unwrap_or(now));
        let felt = self.feel(hidden && !trying, !on.is_empty(), now);
        self.shares = on.into_iter().zip(energy::share_sun(available + felt, &claims)).collect();
    }

    /// How much more than the meter shows is taken, to see whether it is there.
    fn feel(&mut self, hidden: bool, anybody: bool, now: Moment) -> Watts {
        let since = |at: Option<Moment>| at.map(|at| at.age_at(now).as_secs());
        if !hidden {
            // Import comes first, whether the inverter follows or not.
            if since(self.felt).is_some_and(|s| s < INVERTER_FOLLOWS_S) {
                return FELT_FOR;
            }
            // What was taken was not there.
            self.import_came = self.felt.take().map(|_| now).or(self.import_came);
            return Watts::ZERO;
        }
        if !anybody || since(self.import_came).is_some_and(|s| s < FELT_AGAIN_AFTER_S) {
            return Watts::ZERO;
        }
        self.felt = Some(now);
        FELT_FOR
    }
}
