//! One device behind a link: how it is polled, and how its setpoint is written, read back, renewed and
//! given up.
//!
//! What a stranger gets wrong: a write counts only when the value was read back. A device that shows
//! another value than the last one written (it rebooted, somebody else writes) is written again.

use std::time::Duration;

use super::blocks::{self, Block};
use super::bus::{Bus, BusError, Pace};
use super::codec::{self, Raw};
use super::outputs::{Module, Outputs};
use super::readings::{self, Unusable, Values};
use super::sunspec::{self, Hybrid, Models};
use crate::config::{DeviceConfig, FedBy, Point, ProfileKind, Register, SetpointRecipe};
use crate::io::clock::Clock;
use crate::logic::observation::{Observation, Silence};
use crate::logic::safety::interlock::Permitted;
use crate::units::{Moment, Watts};

/// A setpoint is renewed at least this often (decisions: min(device time-out / 3, 5 s)).
const RENEW_MOST: Duration = Duration::from_secs(5);
/// This many identical answers of a meter in a row mean that it is frozen (decisions).
const FROZEN_AFTER: u32 = 20;

/// One device.
pub struct Device {
    config: DeviceConfig,
    pace: Pace,
    blocks: Vec<Block>,
    models: Option<Models>,
    hybrid: Option<Hybrid>,
    written: Option<Written>,
    outputs: Outputs,
    last_words: Vec<u16>,
    same_words: u32,
    trouble: Option<String>,
    /// What the device said of its failsafe last: A and s.
    failsafe: (Option<f64>, Option<f64>),
    /// No request before this: the device must run into its failsafe.
    silent_until: Option<Moment>,
}

/// Registers and words that make a device hold its failsafe: current, then time-out.
type FailsafeWrites = [(u16, Vec<u16>); 2];

/// The device as a module with outputs.
fn module(config: &DeviceConfig, pace: Pace) -> Module<'_> {
    Module { unit: config.unit, pace, profile: &config.profile, relays: &config.relays }
}

/// The bits of a raw number that a point means.
fn select(raw: f64, point: &Point) -> f64 {
    if point.shift == 0 && point.mask.is_none() {
        return raw;
    }
    let bits = (raw.max(0.0) as u64) >> point.shift.min(63);
    (bits & u64::from(point.mask.unwrap_or(u32::MAX))) as f64
}

#[derive(Clone, Copy, Debug)]
struct Written {
    value: f64,
    at: Moment,
}

impl Device {
    /// Prepared from its configuration; nothing is asked yet.
    #[must_use]
    pub fn new(config: DeviceConfig) -> Device {
        let profile = &config.profile;
        let pace = Pace {
            connect: Duration::from_millis(profile.connect_ms),
            call: Duration::from_millis(profile.call_ms),
            gap: Duration::from_millis(profile.pace_ms),
        };
        let blocks = blocks::compile(profile);
        Device {
            config,
            pace,
            blocks,
            models: None,
            hybrid: None,
            written: None,
            outputs: Outputs::default(),
            last_words: Vec::new(),
            same_words: 0,
            trouble: None,
            failsafe: (None, None),
            silent_until: None,
        }
    }

    /// Asks for everything once and tells what came.
    pub async fn poll(&mut self, bus: &mut Bus, clock: &Clock) -> Observation {
        let device = self.config.id.clone();
        let asked = match self.config.profile.kind {
            ProfileKind::SunspecHybrid => self.poll_hybrid(bus).await,
            _ => self.poll_points(bus).await,
        };
        let at = clock.now();
        match asked {
            Ok(Ok(reading)) => {
                self.tell_trouble(None);
                Observation::Answered { device, at, reading }
            }
            Ok(Err(unusable)) => {
                self.tell_trouble(Some(unusable.to_string()));
                Observation::Silent { device, at, why: Silence::Implausible }
            }
            Err(error) => {
                self.models = None;
                self.tell_trouble(Some(error.to_string()));
                Observation::Silent { device, at, why: error.silence() }
            }
        }
    }

    /// Logs a trouble when it begins, changes and ends; not every second.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        if trouble == self.trouble {
            return;
        }
        let device = self.config.id.as_str();
        match (&trouble, &self.trouble) {
            (Some(why), _) => tracing::warn!(device, %why, "device gives no usable answer"),
            (None, Some(_)) => tracing::info!(device, "device answers again"),
            (None, None) => {}
        }
        self.trouble = trouble;
    }

    async fn poll_hybrid(
        &mut self,
        bus: &mut Bus,
    ) -> Result<Result<crate::logic::site::Reading, Unusable>, BusError> {
        let models = match &self.models {
            Some(models) => models.clone(),
            None => {
                let models = sunspec::walk(bus, self.config.unit, self.pace).await?;
                self.models.insert(models).clone()
            }
        };
        let hybrid = Hybrid::read(bus, self.config.unit, &models, self.pace).await?;
        let reading = hybrid.reading();
        self.hybrid = Some(hybrid);
        Ok(reading)
    }

    async fn poll_points(
        &mut self,
        bus: &mut Bus,
    ) -> Result<Result<crate::logic::site::Reading, Unusable>, BusError> {
        let mut values = Values::new();
        let mut all_words = Vec::new();
        for block in &self.blocks {
            let span = (block.first, block.count);
            let words = bus.read(self.config.unit, block.table, span, self.pace).await?;
            for &i in &block.points {
                let point = &self.config.profile.points[i];
                match self.value(point, &words[usize::from(point.address - block.first)..]) {
                    Ok(Some(value)) => {
                        values.insert(point.quantity.clone(), value);
                    }
                    Ok(None) => {}
                    Err(unusable) => return Ok(Err(unusable)),
                }
            }
            all_words.extend(words);
        }
        if self.is_frozen(all_words) {
            return Ok(Err(Unusable::Frozen(self.same_words)));
        }
        self.notice_foreign_value(&values);
        self.notice_failsafe(&values);
        self.outputs.notice(&module(&self.config, self.pace), &values);
        Ok(readings::reading(&self.config.profile, &values))
    }

    fn value(&self, point: &Point, words: &[u16]) -> Result<Option<Raw>, Unusable> {
        let raw = codec::decode(words, point.value_type, self.config.profile.word_order);
        let Some(Raw::Number(number)) = raw else {
            return Ok(raw);
        };
        let value = select(number, point) * point.scale;
        let (min, max) = (point.min.unwrap_or(f64::MIN), point.max.unwrap_or(f64::MAX));
        if (min..=max).contains(&value) {
            Ok(Some(Raw::Number(value)))
        } else {
            let quantity = point.quantity.clone();
            Err(Unusable::Implausible { quantity, value, min, max })
        }
    }

    /// A live meter is never still: no bit changed in twenty answers means frozen (fault FB2).
    fn is_frozen(&mut self, words: Vec<u16>) -> bool {
        let same = self.config.profile.kind == ProfileKind::Meter && words == self.last_words;
        self.same_words = if same { self.same_words.saturating_add(1) } else { 0 };
        self.last_words = words;
        self.same_words >= FROZEN_AFTER
    }

    /// The value that shows the setpoint.
    fn setpoint_quantity(&self) -> &'static str {
        if self.config.profile.kind == ProfileKind::Compute { "setpoint_w" } else { "setpoint_a" }
    }

    /// The device holds another setpoint than the last one written: it is written again (FB11, FB14).
    fn notice_foreign_value(&mut self, values: &Values) {
        let (Some(recipe), Some(written)) = (&self.config.profile.setpoint, self.written) else {
            return;
        };
        if let Some(Raw::Number(held)) = values.get(self.setpoint_quantity())
            && (held - written.value).abs() > recipe.step_a / 2.0
        {
            let device = self.config.id.as_str();
            tracing::warn!(
                device,
                held,
                told = written.value,
                "setpoint was changed behind our back"
            );
            self.written = None;
        }
    }

    /// A device that any request keeps alive, and that did not take the fallback, must hear nothing until
    /// it has fallen back by itself (decisions, "Setpoints and watchdogs").
    #[must_use]
    pub fn keeps_silent(&self, now: Moment) -> bool {
        self.silent_until.is_some_and(|until| now.uptime < until.uptime)
    }

    /// Hears that decisions come again.
    pub fn may_speak(&mut self) {
        self.silent_until = None;
    }

    /// Writes the fallback; what any request keeps alive is left alone where that fails.
    pub async fn fall_back(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        fallback: &Permitted,
    ) -> Option<Observation> {
        if self.keeps_silent(clock.now()) {
            return None;
        }
        let observation = self.obey(bus, clock, fallback).await;
        if let Some(Observation::Obeyed { matches: false, .. }) = observation
            && let Some(recipe) = &self.config.profile.setpoint
            && recipe.fed_by == FedBy::Any
        {
            let falls_back_in = recipe.expires_s.unwrap_or(60.0) * 1.5;
            let until = clock.now().after(Duration::from_secs_f64(falls_back_in));
            self.silent_until = Some(until);
        }
        observation
    }

    /// Writes what is permitted if it differs from what was written or must be renewed. Nothing is
    /// returned where nothing had to be written.
    pub async fn obey(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        permitted: &Permitted,
    ) -> Option<Observation> {
        let now = clock.now();
        let outcome = match self.config.profile.kind {
            ProfileKind::Meter => return None,
            ProfileKind::Inputs => {
                let module = module(&self.config, self.pace);
                self.outputs.obey(bus, &module, (permitted, now)).await?
            }
            ProfileKind::Charger => {
                let (setpoint, _) = permitted.charger(&self.config.id)?;
                let recipe = self.config.profile.setpoint.clone()?;
                let amps = setpoint.amps().get();
                let amps = if amps > 0.0 { amps } else { recipe.pause_a };
                let failsafe = self.failsafe_due();
                if failsafe.is_none()
                    && !self.is_due(amps, recipe.step_a / 2.0, recipe.expires_s, now)
                {
                    return None;
                }
                self.write_setpoint(bus, clock, (&recipe, failsafe), amps).await
            }
            ProfileKind::Compute => {
                let (cap, _) = permitted.compute(&self.config.id)?;
                let recipe = self.config.profile.setpoint.clone()?;
                let step = recipe.step_a.max(0.01);
                let watts = (cap.get() / step + 1e-6).floor() * step;
                if !self.is_due(watts, recipe.step_a / 2.0, recipe.expires_s, now) {
                    return None;
                }
                self.write_setpoint(bus, clock, (&recipe, None), watts).await
            }
            ProfileKind::SunspecHybrid => {
                let (power, _) = permitted.battery(&self.config.id)?;
                let expires = f64::from(sunspec::REVERT_S);
                if !self.is_due(power.get(), 1.0, Some(expires), now) {
                    return None;
                }
                self.write_battery(bus, clock, *power).await?
            }
        };
        let at = clock.now();
        let matches = match outcome {
            Ok(matches) => matches,
            Err(error) => {
                let device = self.config.id.as_str();
                tracing::warn!(device, %error, "setpoint could not be written");
                self.models = None;
                false
            }
        };
        if !matches {
            self.written = None;
        }
        Some(Observation::Obeyed { device: self.config.id.clone(), at, matches })
    }

    fn is_due(&self, value: f64, resolution: f64, expires_s: Option<f64>, now: Moment) -> bool {
        let third = expires_s.map_or(RENEW_MOST, |s| Duration::from_secs_f64(s.max(0.3) / 3.0));
        let renew = third.min(RENEW_MOST);
        self.written.is_none_or(|written| {
            (written.value - value).abs() >= resolution || written.at.age_at(now) >= renew
        })
    }

    /// Writes, waits for the device to settle, reads back; once more if the value is not there.
    async fn write_setpoint(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        (recipe, failsafe): (&SetpointRecipe, Option<FailsafeWrites>),
        amps: f64,
    ) -> Result<bool, BusError> {
        for (address, words) in failsafe.iter().flatten() {
            bus.write(self.config.unit, recipe.function, (*address, words), self.pace).await?;
        }
        let order = self.config.profile.word_order;
        let words = codec::encode(amps * recipe.scale, recipe.value_type, order);
        let unit = self.config.unit;
        let changed = self.written.is_none_or(|written| written.value != amps);
        for _ in 0..2 {
            let span = (recipe.address, words.as_slice());
            bus.write(unit, recipe.function, span, self.pace).await?;
            if changed && recipe.settle_ms > 0 {
                // The device's own time, not the link's: it runs with the site.
                clock.sleep(Duration::from_millis(recipe.settle_ms)).await;
            }
            if let Some(held) = self.read_back(bus, self.setpoint_quantity()).await?
                && (held - amps).abs() <= recipe.step_a / 2.0
            {
                self.written = Some(Written { value: amps, at: clock.now() });
                return Ok(true);
            }
        }
        let device = self.config.id.as_str();
        tracing::warn!(device, amps, "the device does not hold the setpoint");
        Ok(false)
    }

    /// One number, read anew; nothing if the profile has no such value or it makes no sense.
    async fn read_back(&self, bus: &mut Bus, quantity: &str) -> Result<Option<f64>, BusError> {
        let Some(point) = self.config.profile.point(quantity) else {
            return Ok(None);
        };
        let span = (point.address, point.value_type.words());
        let words = bus.read(self.config.unit, point.table, span, self.pace).await?;
        Ok(match self.value(point, &words) {
            Ok(Some(Raw::Number(number))) => Some(number),
            _ => None,
        })
    }

    /// What must be written for the device to hold the failsafe of the site file, if it does not.
    fn failsafe_due(&self) -> Option<FailsafeWrites> {
        let recipe = self.config.profile.failsafe.as_ref()?;
        let wanted = self.config.failsafe_a?;
        let differs =
            |held: Option<f64>, wanted: f64| held.is_some_and(|held| (held - wanted).abs() > 0.05);
        if !differs(self.failsafe.0, wanted) && !differs(self.failsafe.1, recipe.after_s) {
            return None;
        }
        let order = self.config.profile.word_order;
        let write = |register: &Register, amount: f64| {
            let words = codec::encode(amount * register.scale, register.value_type, order);
            (register.address, words)
        };
        Some([write(&recipe.current, wanted), write(&recipe.timeout, recipe.after_s)])
    }

    /// Keeps what the device says it falls back to; says it when that is not what the site file says and
    /// cannot be written.
    fn notice_failsafe(&mut self, values: &Values) {
        let number = |quantity: &str| match values.get(quantity) {
            Some(Raw::Number(number)) => Some(*number),
            _ => None,
        };
        let before = self.failsafe.0;
        self.failsafe = (number("failsafe_a"), number("failsafe_s"));
        let (Some(held), Some(wanted)) = (self.failsafe.0, self.config.failsafe_a) else {
            return;
        };
        let writable = self.config.profile.failsafe.is_some();
        if !writable && before != Some(held) && held > wanted + 0.05 {
            let device = self.config.id.as_str();
            tracing::warn!(
                device,
                held,
                wanted,
                "the device falls back to more than failsafe_a: set it at the device, or raise failsafe_a"
            );
        }
    }

    /// Nothing before the first poll, which the percentages need.
    async fn write_battery(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        power: Watts,
    ) -> Option<Result<bool, BusError>> {
        let writes = self.hybrid.as_ref()?.pin(power).ok()?;
        Some(self.write_and_check(bus, clock, power, &writes).await)
    }

    async fn write_and_check(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        power: Watts,
        writes: &[(u16, Vec<u16>)],
    ) -> Result<bool, BusError> {
        for (address, words) in writes {
            bus.write(self.config.unit, 16, (*address, words), self.pace).await?;
        }
        let Some(models) = &self.models else {
            return Ok(false);
        };
        let hybrid = Hybrid::read(bus, self.config.unit, models, self.pace).await?;
        let matches = hybrid.shows(writes);
        self.hybrid = Some(hybrid);
        if matches {
            self.written = Some(Written { value: power.get(), at: clock.now() });
        }
        Ok(matches)
    }
}
