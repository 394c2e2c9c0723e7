//! The write test: one setpoint of one device is changed, read back, watched at the meter, and put back.
//! A person types the device's name before anything is written.
//!
//! ```text
//!   lock the state folder ─▶ read the old value ─▶ interlock ─▶ confirm ─▶ write, read back
//!      ─▶ hold, renewing, while the meter is watched ─▶ put back ─▶ count
//! ```
//! What a stranger gets wrong: the value that is written is the interlock's, not the person's. A running
//! gateway holds the lock: there is never a second writer. Whatever happens after the first write, the old
//! value is written again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::control;
use super::latch;
use crate::config::{Config, DeviceConfig, ProfileKind, SetpointRecipe};
use crate::io::clock::Clock;
use crate::io::modbus::{self, BusError, Inspector, Raw, Told};
use crate::io::store::{Latch, load_writes, save_writes};
use crate::logic::safety::fire::Hazard;
use crate::logic::safety::interlock::{self, Permitted};
use crate::logic::site::{ChargerSetpoint, Id, Reason, Setpoints};
use crate::units::{Amps, Watts};

/// Renewed at least this often while it is held (decisions: min(device time-out / 3, 5 s)).
const RENEW_MOST_S: f64 = 5.0;

/// What would be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The device.
    pub device: String,
    /// Register of its setpoint.
    pub address: u16,
    /// Function code.
    pub function: u8,
    /// What it holds.
    pub old: f64,
    /// What it would get.
    pub new: f64,
    /// A or W.
    pub unit: &'static str,
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// Its register is in flash and wears out.
    Flash,
    /// Its profile has no setpoint.
    NoSetpoint,
    /// A gateway runs and is the only writer, or the state folder cannot be used.
    Running(String),
    /// A zone is latched, and the device with it.
    Latched,
    /// The device does not tell what it holds.
    Unreadable,
    /// It holds its least already: another value must be named.
    NothingLower,
    /// The name was not typed.
    NotConfirmed,
    /// No answer.
    OutOfReach(String),
}

impl Refused {
    /// Key of its text (`cli.write.<code>`).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Flash => "flash",
            Refused::NoSetpoint => "no_setpoint",
            Refused::Running(_) => "running",
            Refused::Latched => "latched",
            Refused::Unreadable => "unreadable",
            Refused::NothingLower => "nothing_lower",
            Refused::NotConfirmed => "not_confirmed",
            Refused::OutOfReach(_) => "out_of_reach",
        }
    }

    /// What the machine said.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Refused::Running(cause) | Refused::OutOfReach(cause) => cause.clone(),
            _ => String::new(),
        }
    }
}

impl From<BusError> for Refused {
    fn from(error: BusError) -> Refused {
        Refused::OutOfReach(error.to_string())
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether the new value was read back.
    pub obeyed: bool,
    /// Whether the old value was read back at the end.
    pub restored: bool,
    /// From the write to its read back, wall time.
    pub took: Duration,
    /// Currents at the grid meter before, A.
    pub meter_before: Option<[f64; 3]>,
    /// And with the new value.
    pub meter_after: Option<[f64; 3]>,
    /// Writes of this register by write tests since ever.
    pub writes: u64,
}

/// What is tested, and what it may hold.
struct Bench<'a> {
    config: &'a Config,
    device: &'a DeviceConfig,
    recipe: SetpointRecipe,
    hazards: BTreeMap<Id, Hazard>,
    clock: Clock,
}

/// Runs the test.
///
/// # Errors
/// Why nothing was written.
pub async fn run(
    config: &Config,
    device: &DeviceConfig,
    (value, hold): (Option<f64>, Duration),
    confirm: impl FnOnce(&Plan) -> bool,
) -> Result<Report, Refused> {
    let recipe = device.profile.setpoint.clone().ok_or(Refused::NoSetpoint)?;
    if recipe.flash_writes_per_day.is_some() {
        return Err(Refused::Flash);
    }
    let lock = control::lock(&config.state).map_err(|error| Refused::Running(error.to_string()))?;
    let clock = Clock::real();
    let bench = Bench { config, device, recipe, hazards: hazards(config, &clock), clock };
    let old = bench.holds().await?;
    let wanted = value.or_else(|| bench.least(old)).ok_or(Refused::NothingLower)?;
    let (permitted, new) = bench.permit(wanted);
    if new == 0.0 && wanted > 0.0 {
        return Err(Refused::Latched);
    }
    let plan = Plan {
        device: device.id.to_string(),
        address: bench.recipe.address,
        function: bench.recipe.function,
        old,
        new,
        unit: if device.profile.kind == ProfileKind::Compute { "W" } else { "A" },
    };
    if !confirm(&plan) {
        return Err(Refused::NotConfirmed);
    }
    let report = bench.carry_out(&permitted, (old, hold)).await;
    drop(lock);
    Ok(report)
}

/// Zones that were latched when the gateway stopped still stop their chargers.
fn hazards(config: &Config, clock: &Clock) -> BTreeMap<Id, Hazard> {
    let now = clock.now();
    let (_, remembered) = Latch::open(&config.state);
    let (latched, _) = latch::at_start(remembered, &config.site, now);
    let hazard = |(id, zone): (Id, crate::logic::safety::fire::LatchedZone)| {
        let hazard = Hazard {
            level: zone.level,
            stops: true,
            fault: false,
            since: now,
            causes: Vec::new(),
            battery_rests: false,
            told_otherwise: false,
            isolate: zone.isolate,
        };
        (id, hazard)
    };
    latched.zones.into_iter().map(hazard).collect()
}

impl Bench<'_> {
    fn quantity(&self) -> &'static str {
        if self.device.profile.kind == ProfileKind::Compute { "setpoint_w" } else { "setpoint_a" }
    }

    /// What the device holds now.
    async fn holds(&self) -> Result<f64, Refused> {
        let DeviceConfig { address, profile, unit, .. } = self.device;
        let mut inspector = Inspector::new(address.clone(), profile.clone(), *unit)
            .known_by(self.config.fieldbus.identity.as_ref());
        let seen = inspector.look().await?;
        let own = seen.iter().find(|seen| seen.quantity == self.quantity());
        match own.map(|seen| &seen.value) {
            Some(Ok(Some(Raw::Number(number)))) => Ok(*number),
            _ => Err(Refused::Unreadable),
        }
    }

    /// The least that it may have, where it has more.
    fn least(&self, old: f64) -> Option<f64> {
        let site = &self.config.site;
        let charger = site.chargers.iter().find(|c| c.id == self.device.id);
        let node = site.computes.iter().find(|c| c.id == self.device.id);
        let least = charger.map(|c| c.min.get()).or_else(|| node.map(|c| c.failsafe.get()))?;
        (old > least + self.recipe.step_a / 2.0).then_some(least)
    }

    /// What the interlock makes of a value for this device.
    fn permit(&self, value: f64) -> (Permitted, f64) {
        let id = &self.device.id;
        let mut wishes = Setpoints::default();
        if self.device.profile.kind == ProfileKind::Compute {
            wishes.computes.insert(id.clone(), (Watts(value), Reason::DeviceMaximum));
        } else {
            let setpoint = match value > 0.0 {
                true => ChargerSetpoint::Current(Amps(value)),
                false => ChargerSetpoint::Pause,
            };
            wishes.chargers.insert(id.clone(), (setpoint, Reason::DeviceMaximum));
        }
        let permitted = interlock::permit(&self.config.site, wishes, &self.hazards);
        let amps = permitted.charger(id).map(|(setpoint, _)| setpoint.amps().get());
        let value = amps.or_else(|| permitted.compute(id).map(|(cap, _)| cap.get()));
        (permitted, value.unwrap_or(0.0))
    }

    async fn carry_out(&self, permitted: &Permitted, (old, hold): (f64, Duration)) -> Report {
        let meter_before = self.meter().await;
        let writes = modbus::Counter::default();
        let device = (self.device, self.config.fieldbus.identity.as_ref());
        let first = modbus::tell(device, &self.clock, permitted, &writes).await;
        let until = self.clock.now().after(hold);
        let third = self.recipe.expires_s.map_or(RENEW_MOST_S, |s| s / 3.0).min(RENEW_MOST_S);
        let mut stopped = first.is_err();
        while !stopped && self.clock.now().uptime < until.uptime {
            let rest = until.uptime.saturating_sub(self.clock.now().uptime);
            tokio::select! {
                () = self.clock.sleep(rest.min(Duration::from_secs_f64(third))) => {}
                _ = tokio::signal::ctrl_c() => stopped = true,
            }
            if !stopped && self.clock.now().uptime < until.uptime {
                stopped = modbus::tell(device, &self.clock, permitted, &writes).await.is_err();
            }
        }
        let meter_after = self.meter().await;
        let (back, _) = self.permit(old);
        let restored = modbus::tell(device, &self.clock, &back, &writes).await;
        let obeyed = |told: &Result<Told, BusError>| matches!(told, Ok(Told { obeyed: true, .. }));
        Report {
            obeyed: obeyed(&first),
            restored: obeyed(&restored),
            took: first.map_or(Duration::ZERO, |told| told.took),
            meter_before,
            meter_after,
            writes: self.counted(&writes.borrow()),
        }
    }

    /// Adds what was written to the counts in the state folder; that of the setpoint's register.
    fn counted(&self, writes: &BTreeMap<String, u64>) -> u64 {
        let mut counts = load_writes(&self.config.state);
        for (register, more) in writes {
            *counts.entry(register.clone()).or_insert(0) += more;
        }
        if let Err(error) = save_writes(&self.config.state, &counts) {
            tracing::warn!(%error, "the count of writes could not be kept");
        }
        let own = format!("{}/{}", self.device.id, self.recipe.address);
        counts.get(&own).copied().unwrap_or(0)
    }

    /// Currents at the grid meter, if it answers.
    async fn meter(&self) -> Option<[f64; 3]> {
        let meter = self.config.devices.iter().find(|d| d.id == self.config.site.meter)?;
        let mut inspector =
            Inspector::new(meter.address.clone(), meter.profile.clone(), meter.unit)
                .known_by(self.config.fieldbus.identity.as_ref());
        let seen = inspector.look().await.ok()?;
        let amps = |name: &str| {
            let own = seen.iter().find(|seen| seen.quantity == name)?;
            match &own.value {
                Ok(Some(Raw::Number(number))) => Some(*number),
                _ => None,
            }
        };
        Some([amps("current_l1_a")?, amps("current_l2_a")?, amps("current_l3_a")?])
    }
}
