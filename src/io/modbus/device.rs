//! One device behind a link: how it is polled, and how its setpoint is written, read back, renewed and
//! given up.
//!
//! What a stranger gets wrong: a write counts only when the value was read back. A device that shows
//! another value than the last one written (it rebooted, somebody else writes) is written again.

use std::time::Duration;

use super::blocks::{self, Block};
use super::bus::{Bus, BusError, Pace};
use super::codec::{self, Raw};
use super::decoder::{self, Decoder};
use super::readings::{self, Unusable, Values};
use super::sunspec::{self, Hybrid, Models};
use crate::config::{DeviceConfig, FedBy, Fixed, ProfileKind, Register, SetpointRecipe, Table};
use crate::io::clock::Clock;
use crate::logic::observation::{Observation, Silence};
use crate::logic::safety::interlock::Permitted;
use crate::units::Moment;

/// A setpoint is renewed at least this often (decisions: min(device time-out / 3, 5 s)).
const RENEW_MOST: Duration = Duration::from_secs(5);
/// This many identical answers of a meter in a row mean that it is frozen (decisions).
const FROZEN_AFTER: u32 = 20;

/// One device.
pub struct Device {
    pub(super) config: DeviceConfig,
    pub(super) pace: Pace,
    blocks: Vec<Block>,
    decoder: Decoder,
    pub(super) models: Option<Models>,
    pub(super) hybrid: Option<Hybrid>,
    pub(super) written: Option<Written>,
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

#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) value: f64,
    pub(super) at: Moment,
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
        let decoder = Decoder::new(profile);
        Device {
            config,
            pace,
            blocks,
            decoder,
            models: None,
            hybrid: None,
            written: None,
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
            ProfileKind::SunspecMeter => self.poll_sunspec_meter(bus).await,
            _ => self.poll_points(bus, clock).await,
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
        clock: &Clock,
    ) -> Result<Result<crate::logic::site::Reading, Unusable>, BusError> {
        let mut values = Values::new();
        let mut all_words = Vec::new();
        for block in &self.blocks {
            let span = (block.first, block.count);
            let words = bus.read(self.config.unit, block.table, span, self.pace).await?;
            let answer = (block, words.as_slice());
            let profile = &self.config.profile;
            if let Err(unusable) = self.decoder.take(profile, answer, clock.now(), &mut values) {
                return Ok(Err(unusable));
            }
            all_words.extend(words);
        }
        if self.is_frozen(all_words) {
            return Ok(Err(Unusable::Frozen(self.same_words)));
        }
        self.notice_foreign_value(&values);
        self.notice_failsafe(&values);
        Ok(readings::reading(&self.config.profile, &values))
    }

    /// A live meter is never still: no bit changed in twenty answers means frozen (fault FB2).
    fn is_frozen(&mut self, words: Vec<u16>) -> bool {
        let kind = self.config.profile.kind;
        let is_meter = matches!(kind, ProfileKind::Meter | ProfileKind::SunspecMeter);
        let same = is_meter && words == self.last_words;
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
        // A switch that pauses leaves the setpoint as it was.
        let switched = written.value == 0.0 && !recipe.pause.is_empty();
        if let Some(Raw::Number(held)) = values.get(self.setpoint_quantity())
            && !switched
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
            ProfileKind::Meter | ProfileKind::SunspecMeter => return None,
            ProfileKind::Charger => {
                let (setpoint, _) = permitted.charger(&self.config.id)?;
                let recipe = self.config.profile.setpoint.clone()?;
                let amps = setpoint.amps().get();
                let amps = if amps > 0.0 { amps } else { recipe.pause_a };
                let failsafe = self.failsafe_due();
                if self.flash_waits(&recipe, amps, now) {
                    return None;
                }
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
            ProfileKind::Battery => {
                let (power, _) = permitted.battery(&self.config.id)?;
                let recipe = self.config.profile.battery.clone()?;
                if !self.is_due(power.get(), 1.0, recipe.expires_s, now) {
                    return None;
                }
                self.write_vendor_battery(bus, clock, &recipe, *power).await
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

    /// A register in flash wears out: the same value is never written again, and a higher one only when
    /// its daily budget allows. A lower one is always written.
    fn flash_waits(&self, recipe: &SetpointRecipe, amps: f64, now: Moment) -> bool {
        let (spacing, step) = (recipe.spacing_s(), recipe.step_a / 2.0);
        spacing > 0.0
            && self.written.is_some_and(|written| {
                let same = (amps - written.value).abs() < step;
                let raises = amps > written.value;
                same || (raises && written.at.age_at(now).as_secs_f64() < spacing)
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
        if amps == 0.0 && !recipe.pause.is_empty() {
            return self.pause(bus, clock, recipe).await;
        }
        self.write_fixed(bus, &recipe.before).await?;
        let order = self.config.profile.order;
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

    async fn write_fixed(&self, bus: &mut Bus, all: &[Fixed]) -> Result<(), BusError> {
        for fixed in all {
            let words = [fixed.value];
            let span = (fixed.address, words.as_slice());
            bus.write(self.config.unit, fixed.function, span, self.pace).await?;
        }
        Ok(())
    }

    /// Pauses a device that has a switch for it; the switch is read back.
    async fn pause(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        recipe: &SetpointRecipe,
    ) -> Result<bool, BusError> {
        self.write_fixed(bus, &recipe.pause).await?;
        clock.sleep(Duration::from_millis(recipe.settle_ms)).await;
        for fixed in &recipe.pause {
            let span = (fixed.address, 1);
            let held = bus.read(self.config.unit, Table::Holding, span, self.pace).await?;
            if held != [fixed.value] {
                return Ok(false);
            }
        }
        self.written = Some(Written { value: 0.0, at: clock.now() });
        Ok(true)
    }

    /// One number, read anew; nothing if the profile has no such value or it makes no sense.
    async fn read_back(&self, bus: &mut Bus, quantity: &str) -> Result<Option<f64>, BusError> {
        let Some(point) = self.config.profile.point(quantity) else {
            return Ok(None);
        };
        let span = point.span();
        let words = bus.read(self.config.unit, point.table, span, self.pace).await?;
        Ok(match decoder::value(point, span.0, &words) {
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
        let order = self.config.profile.order;
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

    async fn poll_sunspec_meter(
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
        let meter = models.meter()?;
        let words = bus.read(self.config.unit, Table::Holding, meter, self.pace).await?;
        let reading = sunspec::meter_reading(&words);
        if self.is_frozen(words) {
            return Ok(Err(Unusable::Frozen(self.same_words)));
        }
        Ok(reading)
    }
}
