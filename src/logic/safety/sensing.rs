//! What the sensors of the zones say: from the values of their channels to signs, and how the voices
//! add up to a vote on the battery.
//!
//! What a stranger gets wrong: one sensor is one voice, however many values it has. Charging stops on
//! one voice; the battery is isolated on two, on one whose fellow has failed, or on one hard input.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cells;
use super::channel::{Channel, SILENT_AFTER};
use super::fire::Level;
use super::signs::{Cause, Sign};
use crate::logic::site::{Id, LOST_AFTER, Limits, Reading, Sensor, SensorKind, Site};
use crate::units::Moment;

/// Who never delivered, a sensor or any device, has this long after the start before it counts as lost.
pub const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// Samples in a row that an alarm or a trip needs where one input alone is not enough (EN2 leaves 3 s). The
/// stop does not wait for the second one (EN1 leaves 1.5 s, and modules are read once a second).
const CONFIRMED: u32 = 2;
/// What comes again within this time is confirmed too: a contact that chatters. Our own figure.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);
/// A battery that moves less than this share of its power is at rest. Our own figure.
const REST_SHARE: f64 = 0.02;
/// A sensor that was seen at its first stage this long ago counts as tested. Our own figure.
pub const TESTED_WITHIN: Duration = Duration::from_secs(900);

/// One sensor and its channels.
#[derive(Clone, Debug)]
pub struct Member {
    /// The sensor.
    pub sensor: Sensor,
    limits: Limits,
    channels: Vec<Channel>,
    cells: Vec<cells::Cell>,
    /// When it last stood at its first stage.
    reacted: Option<Moment>,
    /// When it last stood at its alarm stage, and the time before that.
    alarmed: [Option<Moment>; 2],
    /// Values that stood there in their last good sample: whatever comes of them now, but a good one, confirms it.
    pending: Vec<bool>,
}

/// All sensors.
#[derive(Clone, Debug)]
pub struct Sensing {
    members: Vec<Member>,
    /// Batteries by their zones, and whether each is at rest by its own device.
    batteries: BTreeMap<Id, (Id, f64)>,
    rests: BTreeMap<Id, (Moment, bool)>,
    /// When each battery's own device answered last.
    answered: BTreeMap<Id, Moment>,
    started: Moment,
    silent_after: Duration,
}

/// What the voices of a zone add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// Sensors at alarm or worse.
    pub voices: usize,
    /// Sensors that cannot speak.
    pub failed: usize,
    /// A hard input, or a certified sensor at its highest stage.
    pub hard: bool,
    /// A sensor that is not a hard one asks for a trip, or what several say does.
    pub soft: bool,
}

impl Vote {
    /// Two of three, or one of the two that are left; a hard input alone. `confirmed`: the battery's maker
    /// confirmed the limits that the soft voices go by.
    #[must_use]
    pub fn isolates(self, confirmed: bool) -> bool {
        let two = self.voices >= 2 || (self.voices >= 1 && self.failed >= 1);
        self.hard || (confirmed && self.soft && two)
    }
}

fn stages(sensor: &Sensor, limits: &Limits) -> [f64; 3] {
    let never = f64::INFINITY;
    match sensor.kind {
        SensorKind::Gas => [limits.gas_stage1 * 0.25, limits.gas_stage1, limits.gas_stage2],
        SensorKind::CellTemperature => {
            [limits.cell_watch_c.next_up(), limits.cell_alarm_c, limits.cell_trip_c]
        }
        SensorKind::BoardTemperature => [limits.board_watch_c, limits.board_alarm_c, never],
        SensorKind::BmsLevel => [1.0, 2.0, never],
        SensorKind::Smoke | SensorKind::Heat => [never, 1.0, never],
        SensorKind::Insulation => [1.0, never, never],
        SensorKind::EmergencyStop | SensorKind::FirePanel => [never, never, 1.0],
        SensorKind::CellVoltage | SensorKind::BatteryCurrent => [never; 3],
    }
}

impl Member {
    fn new(sensor: &Sensor, limits: Limits) -> Member {
        let stages = stages(sensor, &limits);
        Member {
            channels: vec![Channel::new(stages); sensor.points.len()],
            cells: vec![cells::Cell::default(); sensor.points.len()],
            limits,
            sensor: sensor.clone(),
            reacted: None,
            alarmed: [None; 2],
            pending: vec![false; sensor.points.len()],
        }
    }

    fn take(&mut self, values: &BTreeMap<String, f64>, at: Moment, at_rest: bool) {
        for (point, channel) in self.sensor.points.iter().zip(&mut self.channels) {
            channel.take(&self.sensor, values.get(point).copied(), at);
        }
        let held = self.held(at);
        if held.iter().any(|held| *held > 0) {
            self.reacted = Some(at);
        }
        let stands = |channel: &Channel| channel.held(at)[1] > 0;
        // A jump that is held back is no second sample of what stood before it.
        let believed = |channel: &Channel| channel.age(at) == Some(Duration::ZERO);
        if self.channels.iter().any(|channel| stands(channel) && believed(channel)) {
            self.alarmed = [Some(at), self.alarmed[0]];
        }
        for (pending, channel) in self.pending.iter_mut().zip(&self.channels) {
            if channel.is_good(at) {
                *pending = stands(channel);
            }
        }
        match self.sensor.kind {
            SensorKind::CellTemperature => {
                cells::judge_temperatures(&mut self.cells, &self.channels, &self.limits, at);
            }
            SensorKind::CellVoltage => {
                cells::judge_voltages(&mut self.cells, &self.channels, (&self.limits, at_rest), at);
            }
            _ => {}
        }
    }

    /// The most samples in a row that any of its values stands at watch, alarm and trip.
    fn held(&self, now: Moment) -> [u32; 3] {
        let all = self.channels.iter().map(|channel| channel.held(now));
        all.fold([0; 3], |most, held| std::array::from_fn(|i| most[i].max(held[i])))
    }

    fn is_fault(&self, now: Moment) -> bool {
        !self.channels.iter().all(|channel| channel.is_sound(now))
    }

    /// One of its values has not come for so long that it counts as lost.
    fn has_lost(&self, now: Moment) -> bool {
        self.channels.iter().any(|c| c.age(now).is_none_or(|age| age >= LOST_AFTER))
    }

    /// Nothing at all has come from it for so long.
    fn is_silent(&self, now: Moment, limit: Duration) -> bool {
        self.channels.iter().all(|c| c.age(now).is_none_or(|age| age >= limit))
    }

    /// The signs that it gives alone.
    fn signs(&self, now: Moment, signs: &mut Vec<Sign>) {
        use SensorKind as Kind;
        let [watch, alarm, trip] = self.held(now);
        let of = match self.sensor.kind {
            Kind::Gas => [Sign::GasTrace, Sign::Gas, Sign::GasHigh],
            Kind::CellTemperature => [Sign::CellWarm, Sign::CellHot, Sign::CellBurns],
            Kind::BoardTemperature => [Sign::BoardWarm, Sign::BoardHot, Sign::BoardHot],
            Kind::BmsLevel => [Sign::BmsWarns, Sign::BmsAlarm, Sign::BmsAlarm],
            Kind::Smoke => [Sign::Smoke; 3],
            Kind::Heat => [Sign::Heat; 3],
            Kind::Insulation => [Sign::Insulation; 3],
            Kind::EmergencyStop => [Sign::EmergencyStop; 3],
            Kind::FirePanel => [Sign::FirePanel; 3],
            Kind::CellVoltage | Kind::BatteryCurrent => return self.cell_signs(now, signs),
        };
        let enough = if self.sensor.kind.is_hard() { 1 } else { CONFIRMED };
        if trip >= enough {
            signs.push(of[2]);
        } else if alarm >= CONFIRMED || self.is_confirmed_otherwise(now) {
            signs.push(of[1]);
        } else if alarm > 0 {
            signs.push(Sign::Unconfirmed);
        } else if watch > 0 {
            signs.push(of[0]);
        }
        self.cell_signs(now, signs);
    }

    /// Whether a value stands at its alarm stage and one did a moment before, or it has failed since. A value
    /// that failed earlier confirms nothing of the others.
    fn is_confirmed_otherwise(&self, now: Moment) -> bool {
        let before = self.alarmed[1].is_some_and(|before| before.age_at(now) < AGAIN_WITHIN);
        let mut pending = self.channels.iter().zip(&self.pending).filter(|(_, pending)| **pending);
        pending.any(|(channel, _)| before || !channel.is_good(now))
    }

    fn cell_signs(&self, now: Moment, signs: &mut Vec<Sign>) {
        if self.sensor.kind == SensorKind::CellTemperature {
            let values = self.channels.iter().filter_map(|channel| channel.value(now));
            let (low, high) = values
                .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
            if high - low > self.limits.cell_spread_k {
                signs.push(Sign::CellSpread);
            }
        }
        for (cell, channel) in self.cells.iter().zip(&self.channels) {
            if channel.is_good(now) {
                signs.extend(cell.signs());
            }
        }
    }
}

impl Sensing {
    /// All sensors of a site; none has spoken.
    #[must_use]
    pub fn new(site: &Site, now: Moment) -> Sensing {
        let limits = |sensor: &Sensor| {
            sensor.zones.first().map_or_else(Limits::default, |zone| site.guard.limits(zone))
        };
        let largest = |id: &Id| {
            let battery = site.batteries.iter().find(|battery| battery.id == *id);
            battery.map_or(0.0, |b| b.max_charge.max(b.max_discharge).get())
        };
        let batteries = site.zones.iter().filter_map(|zone| {
            let battery = zone.battery.clone()?;
            let largest = largest(&battery);
            Some((zone.id.clone(), (battery, largest)))
        });
        Sensing {
            members: site.guard.sensors.iter().map(|s| Member::new(s, limits(s))).collect(),
            batteries: batteries.collect(),
            rests: BTreeMap::new(),
            answered: BTreeMap::new(),
            started: now,
            silent_after: SILENT_AFTER,
        }
    }

    /// Stretches the limit of the management's silence, for simulated sites whose time runs faster than
    /// field buses.
    pub fn stretch(&mut self, pace: f64) {
        self.silent_after = SILENT_AFTER.mul_f64(pace.clamp(1.0, 1000.0));
    }

    /// Takes in what a device said. Whether a sensor of it stands higher than before.
    pub fn take(&mut self, device: &Id, at: Moment, reading: &Reading) -> bool {
        if let Reading::Battery(battery) | Reading::Hybrid { battery, .. } = reading {
            self.answered.insert(device.clone(), at);
            for (zone, (id, largest)) in &self.batteries {
                if id == device {
                    let rests = battery.power.abs().get() <= largest * REST_SHARE;
                    self.rests.insert(zone.clone(), (at, rests));
                }
            }
        }
        let Reading::Inputs(inputs) = reading else {
            return false;
        };
        let mut rises = false;
        for i in 0..self.members.len() {
            if self.members[i].sensor.device != *device {
                continue;
            }
            let at_rest = self.members[i].sensor.kind == SensorKind::CellVoltage
                && self.members[i].sensor.zones.iter().all(|zone| self.is_at_rest(zone, at));
            let member = &mut self.members[i];
            let before = member.held(at);
            member.take(&inputs.values, at, at_rest);
            let after = member.held(at);
            rises |= (1..3).any(|stage| after[stage] > before[stage] && before[stage] < CONFIRMED);
        }
        rises
    }

    /// Whether the battery of a zone is known to carry next to nothing now: by its current sensor, else by
    /// its device.
    #[must_use]
    pub fn is_at_rest(&self, zone: &Id, now: Moment) -> bool {
        match self.current(zone, now) {
            Some((amps, rest)) => amps <= rest,
            None => self
                .rests
                .get(zone)
                .is_some_and(|(at, rests)| *rests && at.age_at(now) < SILENT_AFTER),
        }
    }

    /// The largest current of the zone's battery and the limit of rest, A.
    fn current(&self, zone: &Id, now: Moment) -> Option<(f64, f64)> {
        let mine = self.of(zone).filter(|m| m.sensor.kind == SensorKind::BatteryCurrent);
        let amps = |member: &Member| {
            let all = member.channels.iter().filter_map(|c| c.value(now).map(f64::abs));
            all.reduce(f64::max).map(|amps| (amps, member.limits.rest_a))
        };
        mine.filter_map(amps).reduce(|a, b| if a.0 >= b.0 { a } else { b })
    }

    fn of<'s>(&'s self, zone: &'s Id) -> impl Iterator<Item = &'s Member> {
        self.members.iter().filter(move |member| member.sensor.zones.contains(zone))
    }

    /// Sensors of the zone that are at fault.
    pub fn faults<'s>(&'s self, zone: &'s Id, now: Moment) -> impl Iterator<Item = &'s Id> {
        self.of(zone).filter(move |member| member.is_fault(now)).map(|member| &member.sensor.id)
    }

    /// Every sensor that is at fault, and whether its device delivers at all.
    pub fn all_faults(&self, now: Moment) -> impl Iterator<Item = &Sensor> {
        self.members.iter().filter(move |member| member.is_fault(now)).map(|member| &member.sensor)
    }

    /// Every sign of the zone, with who gives it.
    #[must_use]
    pub fn causes(&self, zone: &Id, now: Moment) -> Vec<Cause> {
        let mut causes = Vec::new();
        let mut signs = Vec::new();
        for member in self.of(zone) {
            signs.clear();
            member.signs(now, &mut signs);
            signs.sort_unstable();
            signs.dedup();
            let by = &member.sensor.id;
            causes.extend(signs.iter().map(|&sign| Cause { sign, by: by.clone() }));
            if self.is_lost(member, now) {
                causes.push(Cause { sign: Sign::SensorLost, by: by.clone() });
            }
        }
        self.add_together(zone, now, &mut causes);
        causes
    }

    fn is_lost(&self, member: &Member, now: Moment) -> bool {
        member.has_lost(now) && self.started.age_at(now) >= FIRST_ANSWER
    }

    /// What several voices say together.
    fn add_together(&self, zone: &Id, now: Moment, causes: &mut Vec<Cause>) {
        let at_stage1 = |kind| {
            let mine = self.of(zone).filter(move |member| member.sensor.kind == kind);
            mine.filter(|member| member.held(now)[1] >= CONFIRMED).count()
        };
        let mut together = |sign| causes.push(Cause { sign, by: zone.clone() });
        if at_stage1(SensorKind::Gas) >= 2 {
            together(Sign::GasHigh);
        }
        if at_stage1(SensorKind::Smoke) > 0 && at_stage1(SensorKind::Heat) > 0 {
            together(Sign::SmokeAndHeat);
        }
        let warm = causes.iter().any(|cause| cause.sign.is_of_temperature());
        if !warm {
            causes.retain(|cause| cause.sign != Sign::CellCollapses);
        }
        if self.bms_is_silent(zone, now) {
            causes.push(Cause { sign: Sign::BmsSilent, by: zone.clone() });
        }
    }

    /// Whether the battery of a zone, or a unit that watches its cells, has been silent for 5 s (EN4).
    #[must_use]
    pub fn bms_is_silent(&self, zone: &Id, now: Moment) -> bool {
        let mut units = self.of(zone).filter(|member| member.sensor.kind.is_bms());
        let silent = units.any(|member| member.is_silent(now, self.silent_after));
        let device = self.batteries.get(zone).is_some_and(|(battery, _)| {
            self.answered.get(battery).is_none_or(|at| at.age_at(now) >= self.silent_after)
        });
        (silent || device) && self.started.age_at(now) >= FIRST_ANSWER
    }

    /// How the voices of a zone stand on its battery.
    #[must_use]
    pub fn vote(&self, zone: &Id, causes: &[Cause], now: Moment) -> Vote {
        let mut vote = Vote::default();
        for member in self.of(zone) {
            let mine = causes.iter().filter(|cause| cause.by == member.sensor.id);
            let worst = mine.map(|cause| cause.sign.level()).max().unwrap_or_default();
            let speaks = !matches!(member.sensor.kind, SensorKind::BatteryCurrent);
            if worst >= Level::Alarm {
                vote.voices += 1;
            } else if speaks && member.is_silent(now, SILENT_AFTER) {
                vote.failed += 1;
            }
            let hard = member.sensor.kind.is_hard() || member.sensor.certified;
            vote.hard |= hard && worst == Level::Trip;
            vote.soft |= !hard && worst == Level::Trip;
        }
        vote.soft |= causes.iter().any(|c| c.by == *zone && c.sign.level() == Level::Trip);
        vote
    }

    /// Whether a sensor was seen to react lately.
    #[must_use]
    pub fn has_reacted(&self, sensor: &Id, now: Moment) -> bool {
        let member = self.members.iter().find(|member| member.sensor.id == *sensor);
        member.and_then(|m| m.reacted).is_some_and(|at| at.age_at(now) < TESTED_WITHIN)
    }
}
