//! How a battery is told its power: by the recipe of its profile, or by SunSpec's storage control; both
//! are read back. Each write and each read back is a request of its own, so that whatever is more urgent
//! on the line goes in between.
//!
//! What a stranger gets wrong: discharge is positive here. A recipe knows only magnitudes and three lists
//! of writes, one for each direction and one for rest.

use std::collections::VecDeque;
use std::time::Duration;

use super::bus::{Bus, BusError};
use super::codec;
use super::device::Device;
use super::order::Verdict;
use crate::config::{BatteryRecipe, BatteryWrite, Order, ProfileKind, Table};
use crate::io::clock::Clock;
use crate::units::Watts;

/// Below this a power is rest: no inverter holds less. Our own figure.
const REST_W: f64 = 50.0;

/// First register and words of one write.
pub type Write = (u16, Vec<u16>);

/// What is written, in this order, for `power` (discharge positive).
#[must_use]
pub fn writes(recipe: &BatteryRecipe, order: Order, power: Watts) -> Vec<Write> {
    let watts = power.get();
    let list = if watts.abs() < REST_W || watts.is_nan() {
        &recipe.rest
    } else if watts > 0.0 {
        &recipe.discharge
    } else {
        &recipe.charge
    };
    let words = |write: &BatteryWrite| match write {
        BatteryWrite::Fixed(fixed) => (fixed.address, vec![fixed.value]),
        BatteryWrite::Power(register) => {
            let amount = watts.abs() * register.scale;
            (register.address, codec::encode(amount, register.value_type, order))
        }
    };
    list.iter().map(words).collect()
}

/// What is still to be written, and then to be read back, of what a battery was told.
#[derive(Clone, Debug, Default)]
pub struct Script {
    watts: f64,
    /// All of it.
    told: Vec<Write>,
    writes: VecDeque<Write>,
    checks: VecDeque<Write>,
    /// Whether all that was read back stands as it was written.
    holds: bool,
}

impl Script {
    fn of(watts: f64, writes: Vec<Write>) -> Script {
        let (told, checks) = (writes.clone(), writes.clone().into());
        Script { watts, told, checks, writes: writes.into(), holds: true }
    }

    /// What was told and read back last; nothing while that is under way.
    pub fn told(&self) -> &[Write] {
        let over = self.writes.is_empty() && self.checks.is_empty();
        if over { &self.told } else { &[] }
    }
}

impl Device {
    /// What tells the battery its power; nothing where its percentages cannot be told.
    fn battery_writes(&self, watts: f64) -> Option<Vec<Write>> {
        if let Some(recipe) = &self.config.profile.battery {
            return Some(writes(recipe, self.config.profile.order, Watts(watts)));
        }
        self.hybrid.as_ref()?.pin(Watts(watts)).ok()
    }

    /// The next write of what the battery is told.
    pub(super) async fn write_battery(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Option<Verdict>, BusError> {
        if self.script.writes.is_empty() || self.script.watts != watts {
            let Some(writes) = self.battery_writes(watts) else {
                self.order.failed(watts, clock.now());
                return Ok(Some(Verdict::Disobeyed));
            };
            self.script = Script::of(watts, writes);
        }
        let recipe = self.config.profile.battery.as_ref();
        let (function, settle_ms) =
            recipe.map_or((16, 0), |recipe| (recipe.function, recipe.settle_ms));
        if let Some((address, words)) = self.script.writes.pop_front() {
            self.put(bus, function, (address, &words)).await?;
        }
        if self.script.writes.is_empty() {
            self.order.sent(watts, clock.now(), Duration::from_millis(settle_ms));
        }
        Ok(None)
    }

    /// The next read back of what the battery was told; the verdict after the last.
    pub(super) async fn check_battery(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Option<Verdict>, BusError> {
        let unit = self.config.unit;
        if self.config.profile.kind == ProfileKind::SunspecHybrid {
            let Some(hybrid) = &mut self.hybrid else {
                self.order.failed(watts, clock.now());
                return Ok(Some(Verdict::Disobeyed));
            };
            hybrid.read_storage(bus, unit, self.pace).await?;
            self.script.holds = hybrid.shows(self.script.checks.make_contiguous());
            self.script.checks.clear();
        } else if let Some((address, words)) = self.script.checks.pop_front() {
            let span = (address, words.len() as u16);
            let held = bus.read(unit, Table::Holding, span, self.pace).await?;
            self.script.holds &= held == words;
        }
        if !self.script.checks.is_empty() {
            return Ok(None);
        }
        let held = self.script.holds.then_some(self.script.watts);
        Ok(Some(self.order.read_back(held, 1.0, (clock.now(), bus.made()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Fixed, Register, ValueType};

    #[test]
    fn each_direction_has_its_own_list() {
        let mode = |value| BatteryWrite::Fixed(Fixed { address: 10, value, function: 16 });
        let power = |scale| {
            let value_type = ValueType::I32;
            BatteryWrite::Power(Register { address: 20, value_type, scale })
        };
        let recipe = BatteryRecipe {
            function: 16,
            charge: vec![mode(1), power(-1.0)],
            discharge: vec![mode(2), power(0.1)],
            rest: vec![mode(0)],
            expires_s: None,
            settle_ms: 0,
        };
        let told = |watts| writes(&recipe, Order::Cdab, Watts(watts));
        assert_eq!(told(-3000.0), [(10, vec![1]), (20, vec![(-3000i16) as u16, 0xFFFF])]);
        assert_eq!(told(3000.0), [(10, vec![2]), (20, vec![300, 0])]);
        assert_eq!(told(20.0), [(10, vec![0])]);
        assert_eq!(told(f64::NAN), [(10, vec![0])]);
    }
}
