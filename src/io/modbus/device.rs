//! One device behind a link: how it is polled, and how its setpoint is written, read back, renewed and
//! given up.
//!
//! What a stranger gets wrong: a write counts only when the value was read back. A device that shows
//! another value than the last one written (it rebooted, somebody else writes) is written again.

use std::time::Duration;

use super::blocks::{self, Block};
use super::bus::{Bus, BusError, Pace};
use super::codec::{self, Raw};
use super::readings::{self, Unusable, Values};
use super::sunspec::{self, Hybrid, Models};
use crate::config::{DeviceConfig, Point, ProfileKind, SetpointRecipe};
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
    last_words: Vec<u16>,
    same_words: u32,
    trouble: Option<String>,
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
            last_words: Vec::new(),
            same_words: 0,
            trouble: None,
        }
    }

    /// Asks for everything once and tells what came.
    pub async fn poll(&mut self, bus: &mut Bus, clock: &Clock) -> Observation {
        let device = self.config.id.clone();
        let asked = match self.config.profile.kind {
            ProfileKind::SunspecHybrid => self.poll_hybrid(bus).await,
            ProfileKind::Meter | ProfileKind::Charger => self.poll_points(bus).await,
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
        Ok(readings::reading(&self.config.profile, &values))
    }

    fn value(&self, point: &Point, words: &[u16]) -> Result<Option<Raw>, Unusable> {
        let raw = codec::decode(words, point.value_type, self.config.profile.word_order);
        let Some(Raw::Number(number)) = raw else {
            return Ok(raw);
        };
        let value = number * point.scale;
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

    /// The device holds another setpoint than the last one written: it is written again (FB11, FB14).
    fn notice_foreign_value(&mut self, values: &Values) {
        let (Some(recipe), Some(written)) = (&self.config.profile.setpoint, self.written) else {
            return;
        };
        if let Some(Raw::Number(held)) = values.get("setpoint_a")
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
            ProfileKind::Charger => {
                let (setpoint, _) = permitted.charger(&self.config.id)?;
                let recipe = self.config.profile.setpoint.clone()?;
                let amps = setpoint.amps().get();
                let amps = if amps > 0.0 { amps } else { recipe.pause_a };
                if !self.is_due(amps, recipe.step_a / 2.0, recipe.expires_s, now) {
                    return None;
                }
                self.write_charger(bus, clock, &recipe, amps).await
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
    async fn write_charger(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        recipe: &SetpointRecipe,
        amps: f64,
    ) -> Result<bool, BusError> {
        let order = self.config.profile.word_order;
        let words = codec::encode(amps * recipe.scale, recipe.value_type, order);
        let unit = self.config.unit;
        let changed = self.written.is_none_or(|written| written.value != amps);
        for _ in 0..2 {
            let span = (recipe.address, words.as_slice());
            bus.write(unit, recipe.function, span, self.pace).await?;
            if changed && recipe.settle_ms > 0 {
                tokio::time::sleep(Duration::from_millis(recipe.settle_ms)).await;
            }
            let span = (recipe.address, recipe.value_type.words());
            let back = bus.read(unit, crate::config::Table::Holding, span, self.pace).await?;
            if let Some(Raw::Number(held)) = codec::decode(&back, recipe.value_type, order)
                && (held / recipe.scale - amps).abs() <= recipe.step_a / 2.0
            {
                self.written = Some(Written { value: amps, at: clock.now() });
                return Ok(true);
            }
        }
        let device = self.config.id.as_str();
        tracing::warn!(device, amps, "the device does not hold the setpoint");
        Ok(false)
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
