//! How a battery is told its power: by the recipe of its profile, or by SunSpec's storage control; both
//! are read back.
//!
//! What a stranger gets wrong: discharge is positive here. A recipe knows only magnitudes and three lists
//! of writes, one for each direction and one for rest.

use std::time::Duration;

use super::bus::{Bus, BusError};
use super::codec;
use super::device::Device;
use super::order::Verdict;
use super::sunspec::Hybrid;
use crate::config::{BatteryRecipe, BatteryWrite, Order, Table};
use crate::io::clock::Clock;
use crate::units::Watts;

/// Below this a power is rest: no inverter holds less. Our own figure.
const REST_W: f64 = 50.0;

/// What is written, in this order, for `power` (discharge positive).
#[must_use]
pub fn writes(recipe: &BatteryRecipe, order: Order, power: Watts) -> Vec<(u16, Vec<u16>)> {
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

impl Device {
    /// Writes the recipe of a battery and reads every register of it back.
    pub(super) async fn tell_by_recipe(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Option<Verdict>, BusError> {
        let Some(recipe) = self.config.profile.battery.clone() else {
            return Ok(None);
        };
        let writes = writes(&recipe, self.config.profile.order, Watts(watts));
        for (address, words) in &writes {
            let span = (*address, words.as_slice());
            bus.write(self.config.unit, recipe.function, span, self.pace).await?;
        }
        self.order.sent(watts, clock.now(), Duration::ZERO);
        clock.sleep(Duration::from_millis(recipe.settle_ms)).await;
        let mut held = Some(watts);
        for (address, words) in &writes {
            let span = (*address, words.len() as u16);
            if bus.read(self.config.unit, Table::Holding, span, self.pace).await? != *words {
                held = None;
            }
        }
        let verdict = self.order.read_back(held, 1.0, (clock.now(), bus.made()));
        Ok(Some(verdict))
    }

    /// Writes the control of a battery and reads it back. Nothing where its percentages cannot be told.
    pub(super) async fn tell_battery(
        &mut self,
        bus: &mut Bus,
        clock: &Clock,
        watts: f64,
    ) -> Result<Option<Verdict>, BusError> {
        let Some(writes) = self.hybrid.as_ref().and_then(|hybrid| hybrid.pin(Watts(watts)).ok())
        else {
            self.order.failed(watts, clock.now());
            return Ok(None);
        };
        for (address, words) in &writes {
            bus.write(self.config.unit, 16, (*address, words), self.pace).await?;
        }
        self.order.sent(watts, clock.now(), Duration::ZERO);
        let Some(models) = &self.models else {
            self.order.failed(watts, clock.now());
            return Ok(Some(Verdict::Disobeyed));
        };
        let hybrid = Hybrid::read(bus, self.config.unit, models, self.pace).await?;
        let held = hybrid.shows(&writes).then_some(watts);
        self.hybrid = Some(hybrid);
        let verdict = self.order.read_back(held, 1.0, (clock.now(), bus.made()));
        Ok(Some(verdict))
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
