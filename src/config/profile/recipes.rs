//! The recipes of a profile file: how a setpoint, a failsafe, a number of phases and a battery's power are written.
//!
//! What a stranger gets wrong: writing, the scale is turned round. The file always says what one raw step is
//! worth, a recipe holds what an amount is multiplied with.

use toml_edit::Item;

use super::super::walk::{Faults, Walk, error};
use super::read::{House, MOST_MS, address, each, scale};
use super::{
    BatteryRecipe, BatteryWrite, FailsafeRecipe, FedBy, Fixed, PhaseRecipe, Register,
    SetpointRecipe, ValueType, rules,
};

impl SetpointRecipe {
    /// Time that a register in flash rests after each write before it is raised, s; 0 where it is not flash.
    #[must_use]
    pub fn spacing_s(&self) -> f64 {
        spacing_s(self.flash_writes_per_day)
    }
}

impl BatteryRecipe {
    /// Time that its registers rest after each write before more power is asked for, s; 0 where they are not flash.
    #[must_use]
    pub fn spacing_s(&self) -> f64 {
        spacing_s(self.flash_writes_per_day)
    }
}

/// Seconds between writes of so many a day; 0 where they are not counted.
fn spacing_s(writes_per_day: Option<u32>) -> f64 {
    writes_per_day.map_or(0.0, |writes| 86_400.0 / f64::from(writes.max(1)))
}

pub(super) fn function(walk: &mut Walk<'_>, faults: &mut Faults) -> Option<u8> {
    walk.needed("function", faults);
    let function = walk.whole("function", 6.0..=16.0, faults)?;
    if function != 6.0 && function != 16.0 {
        let values = vec![
            ("key", "function".to_owned()),
            ("value", function.to_string()),
            ("allowed", "6, 16".to_owned()),
        ];
        faults.push(error("WG0009", walk.at_key("function"), values));
        return None;
    }
    Some(function as u8)
}

/// A register that takes an amount of `quantity`: its scale turned round.
fn register(
    walk: &mut Walk<'_>,
    (quantity, house): (&str, House),
    faults: &mut Faults,
) -> Option<Register> {
    let address = address(walk, "address", house, faults);
    let named = walk.choice("type", &ValueType::NUMBERS, faults);
    if named.is_none() && walk.item("type").is_none() {
        walk.needed("type", faults);
    }
    let scale = scale(walk, Some(quantity), faults)?;
    Some(Register { address: address?, value_type: named?, scale: 1.0 / scale })
}

pub(super) fn setpoint(item: &Item, house: House, faults: &mut Faults) -> Option<SetpointRecipe> {
    let mut walk = Walk::table(item, "setpoint", faults)?;
    let recipe = recipe(&mut walk, house, faults);
    walk.finish(faults);
    recipe
}

fn recipe(walk: &mut Walk<'_>, house: House, faults: &mut Faults) -> Option<SetpointRecipe> {
    let quantity = rules::setpoint_quantity(house.kind);
    let register = register(walk, (quantity, house), faults);
    let function = function(walk, faults);
    let pause_a = walk.number("pause_a", 0.0..=1000.0, faults).unwrap_or(0.0);
    walk.needed("step_a", faults);
    let step_a = walk.number("step_a", 0.001..=1e6, faults);
    let expires_s = walk.number("expires_s", 1.0..=86_400.0, faults);
    let fed_by = walk.choice("fed_by", &FedBy::ALL, faults).unwrap_or_default();
    let mut list = |key| {
        each(walk.item(key), key, faults, |walk, faults| fixed(walk, (house, function), faults))
    };
    let (before, pause) = (list("before"), list("pause"));
    let settle_ms = walk.whole("settle_ms", 0.0..=MOST_MS, faults).unwrap_or(0.0) as u64;
    let flash = walk.whole("flash_writes_per_day", 1.0..=86_400.0, faults);
    let at = walk.at();
    let register = register?;
    let recipe = SetpointRecipe {
        address: register.address,
        value_type: register.value_type,
        scale: register.scale,
        function: function?,
        pause_a,
        step_a: step_a?,
        expires_s,
        fed_by,
        before,
        pause,
        settle_ms,
        flash_writes_per_day: flash.map(|writes| writes as u32),
    };
    rules::setpoint(&recipe, at, faults);
    Some(recipe)
}

/// One register that always gets the same value, with the function code of the recipe unless said.
fn fixed(
    walk: &mut Walk<'_>,
    (house, usual): (House, Option<u8>),
    faults: &mut Faults,
) -> Option<Fixed> {
    let address = address(walk, "address", house, faults);
    walk.needed("value", faults);
    let value = walk.whole("value", 0.0..=65_535.0, faults);
    let function = if walk.item("function").is_some() { function(walk, faults) } else { usual };
    Some(Fixed { address: address?, value: value? as u16, function: function? })
}

pub(super) fn failsafe(item: &Item, house: House, faults: &mut Faults) -> Option<FailsafeRecipe> {
    let mut walk = Walk::table(item, "failsafe", faults)?;
    let mut inner = |key: &'static str, quantity, faults: &mut Faults| {
        walk.needed(key, faults);
        let mut walk = walk.item(key).and_then(|item| Walk::table(item, key, faults))?;
        let register = register(&mut walk, (quantity, house), faults);
        walk.finish(faults);
        register
    };
    let current = inner("current", "failsafe_a", faults);
    let timeout = inner("timeout", "failsafe_s", faults);
    walk.needed("after_s", faults);
    let after_s = walk.number("after_s", 1.0..=86_400.0, faults);
    let restarts_a = walk.number("restarts_a", 6.0..=1_000.0, faults);
    walk.finish(faults);
    Some(FailsafeRecipe { current: current?, timeout: timeout?, after_s: after_s?, restarts_a })
}

/// Cars are left alone for a minute after a switch, as evcc does, where the file says nothing.
const USUAL_SETTLE_S: f64 = 60.0;

pub(super) fn phase_switch(item: &Item, house: House, faults: &mut Faults) -> Option<PhaseRecipe> {
    let mut walk = Walk::table(item, "phase_switch", faults)?;
    let address = address(&mut walk, "address", house, faults);
    let function = function(&mut walk, faults);
    let mut word = |key: &'static str, faults: &mut Faults| {
        walk.whole(key, 0.0..=65_535.0, faults).map(|word| word as u16)
    };
    let (one, three) = (word("one", faults), word("three", faults));
    let (shows_one, shows_three) = (word("shows_one", faults), word("shows_three", faults));
    walk.needed("one", faults);
    walk.needed("three", faults);
    let settle_s = walk.whole("settle_s", 0.0..=600.0, faults).unwrap_or(USUAL_SETTLE_S) as u32;
    let at = walk.at();
    walk.finish(faults);
    let (one, three) = (one?, three?);
    let recipe = PhaseRecipe {
        address: address?,
        function: function?,
        one,
        three,
        shows_one: shows_one.unwrap_or(one),
        shows_three: shows_three.unwrap_or(three),
        settle_s,
    };
    rules::phase_switch(&recipe, at, faults);
    Some(recipe)
}

pub(super) fn battery(item: &Item, house: House, faults: &mut Faults) -> Option<BatteryRecipe> {
    let mut walk = Walk::table(item, "battery", faults)?;
    let before = faults.len();
    let function = function(&mut walk, faults);
    let mut writes = |key: &'static str, faults: &mut Faults| {
        walk.needed(key, faults);
        let read = |walk: &mut Walk<'_>, faults: &mut Faults| {
            battery_write(walk, (house, function), faults)
        };
        each(walk.item(key), key, faults, read)
    };
    let charge = writes("charge", faults);
    let discharge = writes("discharge", faults);
    let rest = writes("rest", faults);
    let expires_s = walk.number("expires_s", 1.0..=86_400.0, faults);
    let settle_ms = walk.whole("settle_ms", 0.0..=MOST_MS, faults).unwrap_or(0.0) as u64;
    let flash = walk.whole("flash_writes_per_day", 1.0..=86_400.0, faults);
    let at = walk.at();
    walk.finish(faults);
    let (function, flash_writes_per_day) = (function?, flash.map(|writes| writes as u32));
    let recipe = BatteryRecipe {
        function,
        charge,
        discharge,
        rest,
        expires_s,
        settle_ms,
        flash_writes_per_day,
    };
    rules::battery(&recipe, at, faults);
    (faults.len() == before).then_some(recipe)
}

/// `{address, value}` or `{address, type, scale?, unit?}`: the latter takes the power.
fn battery_write(
    walk: &mut Walk<'_>,
    (house, usual): (House, Option<u8>),
    faults: &mut Faults,
) -> Option<BatteryWrite> {
    if walk.item("value").is_some() {
        let address = address(walk, "address", house, faults);
        let value = walk.whole("value", 0.0..=65_535.0, faults);
        let (value, function) = (value? as u16, usual?);
        return Some(BatteryWrite::Fixed(Fixed { address: address?, value, function }));
    }
    let invert = walk.flag("invert", faults).unwrap_or(false);
    let register = register(walk, ("battery_w", house), faults)?;
    let scale = if invert { -register.scale } else { register.scale };
    Some(BatteryWrite::Power(Register { scale, ..register }))
}
