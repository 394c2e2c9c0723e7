//! How a device is told what it should hold: the steps of its order on the wire, its failsafe, and the
//! silence that lets a device fall back by itself.
//!
//! What a stranger gets wrong: a write counts only when the value was read back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::bus::{Bus, BusError};
use super::codec::{self, Raw};
use super::decoder;
use super::device::{self, Device, Rank};
use super::health;
use super::lookout;
use super::order::{Step, Verdict, Want};
use super::readings::Values;
use super::storage::Script;
use super::sunspec;
use crate::config::{FedBy, Fixed, ProfileKind, Register, SetpointRecipe, Table};
use crate::io::clock::Clock;
use crate::logic::observation::Observation;
use crate::logic::safety::interlock::Permitted;
use crate::units::{Moment, Watts};

/// Registers and words that make a device hold its failsafe: current, then time-out.
type FailsafeWrites = [(u16, Vec<u16>); 2];

/// A device that shows another failsafe after so many writes will not hold it: that is said, and not written
/// again, since these registers wear out. Our own figure.
const FAILSAFE_TRIES: u32 = 3;

/// A battery's power; rest stops it.
fn battery_want(watts: Watts, expires_s: Option<f64>) -> Want {
    let value = watts.get();
    let (stop, spacing_s) = (value == 0.0, 0.0);
    Want { value, resolution: 1.0, expires_s, stop, failsafe: false, spacing_s }
}

/// Writes of each register, `device/address`.
pub type Counter = watch::Sender<BTreeMap<String, u64>>;

impl Device {
    /// With a place where its writes are counted.
    #[must_use]
    pub fn counting(mut self, writes: Counter) -> Device {
        self.writes = Some(writes);
        self
    }

    /// Writes registers and counts it. Whatever the device may have heard counts: it may have stored it.
    pub(super) async fn put(
        &self,
        bus: &mut Bus,
        function: u8,
        (first, words): (u16, &[u16]),
    ) -> Result<(), BusError> {
        let told = bus.write(self.config.unit, function, (first, words), self.pace).await;
        let heard = matches!(&told, Ok(()) | Err(BusError::Timeout(_) | BusError::Broken(_)));
        if let Some(writes) = self.writes.as_ref().filter(|_| heard) {
            writes.send_modify(|counts| {
                *counts.entry(format!("{}/{first}", self.config.id)).or_insert(0) += 1;
            });
        }
        told
    }

    /// A device that any request keeps alive, and that did not take the fallback, must hear nothing until
    /// it has fallen back by itself (decisions, "Setpoints and watchdogs").
    #[must_use]
    pub fn keeps_silent(&self, now: Moment) -> bool {
        self.silent_until.is_some_and(|until| now.uptime < until.uptime)
    }

    /// Hears a decision: it may be told again, and who is told other phases is told anew.
    pub fn hear(&mut self, permitted: &Permitted) {
        self.silent_until = None;
        self.phases.follow(permitted.phases(&self.config.id));
    }

    /// When the device must be told something, and how urgent that is. An absent unit is told nothing but
    /// to stop: at once, a few times more, and then when a probe has found it.
    #[must_use]
    pub fn next_write(&self, permitted: &Permitted, now: Moment) -> Option<(Moment, Rank)> {
        if self.keeps_silent(now) {
            return None;
        }
        if self.config.profile.kind == ProfileKind::Inputs {
            return self.next_switch(permitted, now);
        }
        let (curb, power) = (self.next_curb(permitted, now), self.next_power(permitted, now));
        let sooner = |(at, rank): &(Moment, Rank)| (at.uptime.max(now.uptime), *rank);
        // Of equals the first: power before its limit.
        [power, curb].into_iter().flatten().min_by_key(sooner)
    }

    /// The same as its line sees it: nothing is read back before the unit's late answer must have come, since the
    /// line would be held until then.
    #[must_use]
    pub fn next_told(
        &self,
        permitted: &Permitted,
        (bus, clock): (&Bus, &Clock),
        now: Moment,
    ) -> Option<(Moment, Rank)> {
        let (at, rank) = self.next_write(permitted, now)?;
        let reads = matches!(rank, Rank::ReadBack | Rank::Look);
        let late = self.late_until(bus, clock, now).filter(|_| reads);
        Some((health::due_after(at, [late, None, None]), rank))
    }

    /// Until when a late answer of the unit may still come.
    pub(super) fn late_until(&self, bus: &Bus, clock: &Clock, now: Moment) -> Option<Moment> {
        let rests = bus.rests(self.config.unit).mul_f64(clock.speed());
        (!rests.is_zero()).then(|| now.after(rests))
    }

    fn next_power(&self, permitted: &Permitted, now: Moment) -> Option<(Moment, Rank)> {
        let want = self.wanted_now(permitted, now)?;
        if self.next_change(permitted, now).is_some() {
            return Some((now, Rank::Setpoint));
        }
        if self.health.reads_first(now) && !self.order.is_new_stop(&want) {
            return None;
        }
        let (at, rank, step) = self.next_step(&want, now);
        if !self.health.is_absent() {
            // Of who is doubted nobody knows: what can wait is said in a pause of the others.
            let waits = self.health.is_doubted() && rank == Rank::Renewal;
            return Some((at, if waits { Rank::Probe } else { rank }));
        }
        let (is_new, checks) = (self.order.is_new_stop(&want), step == Step::ReadBack);
        let told = (is_new, self.order.is_held());
        let rank = if checks { rank } else { self.health.rank_of_stop(rank, told) };
        let due = want.stop && at.uptime <= now.uptime;
        (due && (checks || is_new || self.health.may_be_told(now))).then_some((at, rank))
    }

    /// Whether the limit of the output comes before the power.
    fn curb_is_next(&self, permitted: &Permitted, now: Moment) -> bool {
        let key = |(at, rank): (Moment, Rank)| (at.uptime.max(now.uptime), rank);
        match (self.next_curb(permitted, now), self.next_power(permitted, now)) {
            (Some(curb), Some(power)) => key(curb) < key(power),
            (curb, _) => curb.is_some(),
        }
    }

    /// What it is told now of that: what a rival leaves, and what a register that rests may be asked.
    fn wanted_now(&self, permitted: &Permitted, now: Moment) -> Option<Want> {
        let want = self.order.settle(self.want(permitted)?);
        Some(self.order.within_rest(&want, now))
    }

    /// What the device should hold; nothing for meters, or before a battery was read for the first time.
    fn want(&self, permitted: &Permitted) -> Option<Want> {
        let id = &self.config.id;
        match self.config.profile.kind {
            ProfileKind::Meter | ProfileKind::SunspecMeter | ProfileKind::Inputs => None,
            ProfileKind::Charger => {
                let recipe = self.config.profile.setpoint.as_ref()?;
                let amps = permitted.charger(id)?.0.amps().get();
                Some(Want {
                    value: if amps > 0.0 { amps } else { recipe.pause_a },
                    resolution: recipe.step_a / 2.0,
                    expires_s: recipe.expires_s,
                    stop: amps <= 0.0,
                    failsafe: self.failsafe_due().is_some(),
                    spacing_s: recipe.spacing_s(),
                })
            }
            ProfileKind::Compute => {
                let recipe = self.config.profile.setpoint.as_ref()?;
                let step = recipe.step_a.max(0.01);
                let watts = (permitted.compute(id)?.0.get() / step + 1e-6).floor() * step;
                let (resolution, expires_s) = (recipe.step_a / 2.0, recipe.expires_s);
                let spacing_s = recipe.spacing_s();
                let stop = false;
                Some(Want { value: watts, resolution, expires_s, stop, failsafe: false, spacing_s })
            }
            ProfileKind::Battery => {
                let recipe = self.config.profile.battery.as_ref()?;
                let want = battery_want(permitted.battery(id)?.0, recipe.expires_s);
                Some(Want { spacing_s: recipe.spacing_s(), ..want })
            }
            ProfileKind::SunspecHybrid => {
                self.hybrid.as_ref()?;
                Some(battery_want(permitted.battery(id)?.0, Some(f64::from(sunspec::REVERT_S))))
            }
        }
    }

    /// Takes the next step of what is permitted: a write, or its read back.
    pub async fn obey(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        permitted: &Permitted,
        told: &mut Vec<Observation>,
    ) {
        if self.config.profile.kind == ProfileKind::Inputs {
            return self.switch(bus, clock, permitted, told).await;
        }
        if let Some((word, count)) = self.next_change(permitted, clock.now()) {
            return self.change_phases(bus, clock, (word, count)).await;
        }
        if self.curb_is_next(permitted, clock.now()) {
            return self.curtail(bus, clock, permitted).await;
        }
        let Some(want) = self.wanted_now(permitted, clock.now()) else {
            return;
        };
        let (_, _, step) = self.next_step(&want, clock.now());
        let outcome = match (self.config.profile.kind, step) {
            (ProfileKind::SunspecHybrid | ProfileKind::Battery, Step::Write) => {
                self.write_battery(bus, clock, want.value).await
            }
            (ProfileKind::SunspecHybrid | ProfileKind::Battery, Step::ReadBack) => {
                self.check_battery(bus, clock, want.value).await
            }
            (_, Step::Look) => return self.look(bus, clock).await,
            (_, Step::Write) => self.write(bus, clock, &want).await,
            (_, Step::ReadBack) => self.check(bus, clock, &want).await,
        };
        let now = clock.now();
        self.refuses_writes =
            matches!(&outcome, Err(BusError::Exception(code)) if device::is_refusal(*code));
        let matches = match outcome {
            Ok(None | Some(Verdict::Again)) => return,
            Ok(Some(verdict)) => verdict == Verdict::Obeyed,
            Err(error) => {
                let device = self.config.id.as_str();
                tracing::warn!(device, %error, "setpoint could not be written");
                self.forget_models();
                self.script = Script::default();
                self.order.failed(want.value, now);
                self.health.not_told(&error, now);
                false
            }
        };
        let device = self.config.id.clone();
        told.push(Observation::Obeyed { device, at: now, matches });
    }

    /// Takes the next step of the fallback; what any request keeps alive is left alone where that fails.
    pub async fn fall_back(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        fallback: &Permitted,
        told: &mut Vec<Observation>,
    ) {
        let before = told.len();
        self.obey(bus, clock, fallback, told).await;
        let refused = |observation: &Observation| {
            matches!(observation, Observation::Obeyed { matches: false, .. })
        };
        if told[before..].iter().any(refused)
            && let Some(recipe) = &self.config.profile.setpoint
            && recipe.fed_by == FedBy::Any
        {
            let falls_back_in = recipe.expires_s.unwrap_or(60.0) * 1.5;
            let until = clock.now().after(Duration::from_secs_f64(falls_back_in));
            self.silent_until = Some(until);
        }
    }

    /// A read back that is still due is of what was told before: it says nothing of what the device is left at.
    pub fn forget_read_back(&mut self) {
        if self.order.pending().is_some() {
            self.order.forget();
        }
    }

    /// Takes the next step towards what is permitted. Whether there is more to do: until the device holds it, or
    /// has shown that it does not.
    pub async fn leave_at(&mut self, bus: &mut Bus, clock: &Clock, permitted: &Permitted) -> bool {
        let now = clock.now();
        // Nothing is read any more.
        self.health.tried_to_read();
        let Some((at, rank)) = self.next_write(permitted, now) else {
            return false;
        };
        // What can wait stands already: a renewal, which to who is only doubted is a probe.
        let stands = match rank {
            Rank::Renewal | Rank::Look => true,
            Rank::Probe => !self.health.is_absent(),
            _ => false,
        };
        if stands && !self.limit_is_open(permitted, now) {
            return false;
        }
        clock.sleep(at.uptime.saturating_sub(now.uptime)).await;
        let mut told = Vec::new();
        self.obey(bus, clock, permitted, &mut told).await;
        told.is_empty() || self.limit_is_open(permitted, clock.now())
    }

    /// Whether an inverter has still to be told the limit of its output, or to show it.
    fn limit_is_open(&self, permitted: &Permitted, now: Moment) -> bool {
        self.next_curb(permitted, now).is_some_and(|(_, rank)| rank != Rank::Renewal)
    }

    async fn write(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        want: &Want,
    ) -> Result<Option<Verdict>, BusError> {
        let Some(recipe) = self.config.profile.setpoint.clone() else {
            return Ok(None);
        };
        // A stop does not wait for the failsafe registers.
        if !want.stop {
            self.tell_failsafe(bus, recipe.function).await?;
        }
        if want.value == 0.0 && !recipe.pause.is_empty() {
            self.write_fixed(bus, &recipe.pause).await?;
        } else {
            self.write_fixed(bus, &recipe.before).await?;
            let words = self.encode(&recipe, want.value);
            self.put(bus, recipe.function, (recipe.address, &words)).await?;
        }
        if want.stop {
            self.tell_failsafe(bus, recipe.function).await?;
        }
        // The device's own time, not the link's: it runs with the site.
        self.order.sent(want.value, clock.now(), Duration::from_millis(recipe.settle_ms));
        if want.spacing_s > 0.0 {
            self.order.wears(want.spacing_s, clock.now());
        }
        Ok(None)
    }

    /// Writes the failsafe where the device holds another. Who refuses it is told its setpoint all the same.
    async fn tell_failsafe(&mut self, bus: &mut Bus, function: u8) -> Result<(), BusError> {
        let Some(writes) = self.failsafe_due() else {
            return Ok(());
        };
        for (address, words) in &writes {
            match self.put(bus, function, (*address, words)).await {
                Err(BusError::Exception(code)) if device::is_refusal(code) => {
                    let device = self.config.id.as_str();
                    tracing::warn!(device, address, %code, "the failsafe was refused");
                }
                told => told?,
            }
        }
        // Read anew with the next round; until then it counts as told.
        self.failsafe = (None, None);
        self.failsafe_tries = self.failsafe_tries.saturating_add(1);
        Ok(())
    }

    fn encode(&self, recipe: &SetpointRecipe, value: f64) -> Vec<u16> {
        codec::encode(value * recipe.scale, recipe.value_type, self.config.profile.order)
    }

    async fn check(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        want: &Want,
    ) -> Result<Option<Verdict>, BusError> {
        let told = self.order.pending();
        let held = match &self.config.profile.setpoint {
            Some(recipe) if told == Some(0.0) && !recipe.pause.is_empty() => {
                let switches: Vec<Fixed> = lookout::switches(recipe).copied().collect();
                self.holds(bus, &switches).await?.then_some(0.0)
            }
            _ => self.read_back(bus, self.setpoint_quantity()).await?,
        };
        let at = (clock.now(), bus.made());
        let verdict = self.order.read_back(held, want.resolution, at);
        if verdict == Verdict::Disobeyed {
            let device = self.config.id.as_str();
            tracing::warn!(device, ?told, ?held, "the device does not hold the setpoint");
        }
        Ok(Some(verdict))
    }

    async fn write_fixed(&self, bus: &mut Bus, all: &[Fixed]) -> Result<(), BusError> {
        for fixed in all {
            let words = [fixed.value];
            self.put(bus, fixed.function, (fixed.address, &words)).await?;
        }
        Ok(())
    }

    /// Whether the switches of a pause stand as they were set.
    async fn holds(&self, bus: &mut Bus, all: &[Fixed]) -> Result<bool, BusError> {
        for fixed in all {
            let span = (fixed.address, 1);
            let held = bus.read(self.config.unit, Table::Holding, span, self.pace).await?;
            if held != [fixed.value] {
                return Ok(false);
            }
        }
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

    /// Whether the device shows another failsafe than the site file asks for, as far as it can be written.
    fn failsafe_differs(&self) -> bool {
        let (Some(recipe), Some(wanted)) = (&self.config.profile.failsafe, self.config.failsafe_a)
        else {
            return false;
        };
        let differs =
            |held: Option<f64>, wanted: f64| held.is_some_and(|held| (held - wanted).abs() > 0.05);
        differs(self.failsafe.0, wanted) || differs(self.failsafe.1, recipe.after_s)
    }

    /// Whether the device does not hold the failsafe that it is told.
    pub(super) fn failsafe_is_stubborn(&self) -> bool {
        self.failsafe_tries >= FAILSAFE_TRIES
    }

    /// What must be written for the device to hold the failsafe of the site file, if it does not.
    fn failsafe_due(&self) -> Option<FailsafeWrites> {
        let recipe = self.config.profile.failsafe.as_ref()?;
        let wanted = self.config.failsafe_a?;
        if !self.failsafe_differs() || self.failsafe_is_stubborn() {
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
    pub(super) fn notice_failsafe(&mut self, values: &Values) {
        let number = |quantity: &str| match values.get(quantity) {
            Some(Raw::Number(number)) => Some(*number),
            _ => None,
        };
        let before = self.failsafe.0;
        self.failsafe = (number("failsafe_a"), number("failsafe_s"));
        if self.failsafe != (None, None) && !self.failsafe_differs() {
            self.failsafe_tries = 0;
        }
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
}
