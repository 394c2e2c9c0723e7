//! From the text of a profile file to a [`Profile`], with every fault of the file at its place.
//!
//! What a stranger gets wrong: three things of the file do not reach the profile. Addresses counted from
//! 1 are taken back to 0, units and `invert` are multiplied into the scale, and what the file says once
//! for all points (`table`, `type`, `order`) stands at each point. What is written is read in `recipes`.

use std::collections::BTreeMap;

use toml_edit::Item;

use super::super::walk::{Faults, Walk, document, error, nearest};
use super::quantity::{self, plausible, unit_of};
use super::recipes::{battery, failsafe, function, phase_switch, setpoint};
use super::{Order, Output, Point, Profile, ProfileKind, Table, ValueType, rules};
use crate::logic::site::Vehicle;

const TABLES: [(&str, Table); 2] = [("holding", Table::Holding), ("input", Table::Input)];
const CONFIDENCE: [(&str, &str); 2] = [("documented", "documented"), ("unverified", "unverified")];
const VEHICLES: [(&str, Vehicle); 4] = [
    ("absent", Vehicle::Absent),
    ("connected", Vehicle::Connected),
    ("charging", Vehicle::Charging),
    ("fault", Vehicle::Fault),
];
/// No value of the house is wider (a text of 32 registers is a name plate).
const MOST_TEXT_WORDS: f64 = 32.0;
/// Registers that Modbus allows in one read.
const MOST_REGISTERS: f64 = 125.0;
pub(super) const MOST_MS: f64 = 120_000.0;
/// Shortest and longest period, s. Nothing on a site is quicker than a fifth of a second over Modbus.
pub(super) const PERIODS: std::ops::RangeInclusive<f64> = 0.2..=3600.0;
/// Period of what is acted on, and of what is not, s, unless the file says another.
const USUAL_PERIODS: (f64, f64) = (1.0, 10.0);

/// What the file says once for everything in it.
#[derive(Clone, Copy)]
pub(super) struct House {
    pub(super) kind: ProfileKind,
    base: u16,
    table: Table,
    value_type: Option<ValueType>,
    order: Order,
    /// How often values are read that are acted on, and those that are not, s.
    periods: (f64, f64),
}

/// Reads a profile; nothing where a fault forbids using it.
pub fn read(text: &str, faults: &mut Faults) -> Option<Profile> {
    let document = document(text, faults)?;
    let before = faults.len();
    let mut walk = Walk::table(document.as_item(), "the profile", faults)?;
    let profile = whole(&mut walk, faults);
    walk.finish(faults);
    let profile = profile?;
    // What is missing because its line is broken was told with the line.
    if faults.len() == before {
        rules::check(&profile, faults);
    }
    (faults.len() == before).then_some(profile)
}

fn whole(walk: &mut Walk<'_>, faults: &mut Faults) -> Option<Profile> {
    let id = walk.needed_text("id", faults);
    walk.needed("kind", faults);
    let kind = walk.choice("kind", &ProfileKind::ALL, faults);
    let name = walk.needed_text("name", faults);
    let source = walk.needed_text("source", faults);
    walk.needed("confidence", faults);
    let confidence = walk.choice("confidence", &CONFIDENCE, faults);
    let house = House {
        kind: kind.unwrap_or(ProfileKind::Meter),
        base: walk.whole("address_base", 0.0..=1.0, faults).unwrap_or(0.0) as u16,
        table: walk.choice("table", &TABLES, faults).unwrap_or_default(),
        value_type: walk.choice("type", &ValueType::NUMBERS, faults),
        order: walk.choice("order", &Order::ALL, faults).unwrap_or_default(),
        periods: (
            walk.number("period_s", PERIODS, faults).unwrap_or(USUAL_PERIODS.0),
            walk.number("slow_period_s", PERIODS, faults).unwrap_or(USUAL_PERIODS.1),
        ),
    };
    let mut whole = |key, range, usual: f64| walk.whole(key, range, faults).unwrap_or(usual);
    let (unit, phases) = (whole("unit_id", 0.0..=255.0, 1.0), whole("phases", 1.0..=3.0, 3.0));
    let max_registers = whole("max_registers", 1.0..=MOST_REGISTERS, 100.0);
    let max_gap = whole("max_gap", 0.0..=MOST_REGISTERS, 0.0);
    let pace_ms = whole("pace_ms", 0.0..=MOST_MS, 0.0);
    let connect_ms = whole("connect_ms", 1.0..=MOST_MS, 3000.0);
    let call_ms = whole("call_ms", 1.0..=MOST_MS, 1000.0);
    let points = points(walk.item("points"), house, faults);
    let models = models(walk.item("models"), house, faults);
    let states = walk.item("states").map(|item| states(item, faults)).unwrap_or_default();
    let setpoint = walk.item("setpoint").map(|item| setpoint(item, house, faults));
    let failsafe = walk.item("failsafe").map(|item| failsafe(item, house, faults));
    let phase_switch = walk.item("phase_switch").map(|item| phase_switch(item, house, faults));
    let battery = walk.item("battery").map(|item| battery(item, house, faults));
    let outputs = each(walk.item("outputs"), "outputs", faults, |walk, f| output(walk, house, f));
    Some(Profile {
        id: id?,
        kind: kind?,
        name: name?,
        source: source?,
        confidence: confidence?.to_owned(),
        unit: unit as u8,
        order: house.order,
        phases: phases as u8,
        max_registers: max_registers as u16,
        max_gap: max_gap as u16,
        pace_ms: pace_ms as u64,
        connect_ms: connect_ms as u64,
        call_ms: call_ms as u64,
        points,
        models,
        states,
        // A recipe that is there but broken was told already: without it the profile is refused.
        setpoint: setpoint.map_or(Some(None), |recipe| recipe.map(Some))?,
        failsafe: failsafe.map_or(Some(None), |recipe| recipe.map(Some))?,
        phase_switch: phase_switch.map_or(Some(None), |recipe| recipe.map(Some))?,
        battery: battery.map_or(Some(None), |recipe| recipe.map(Some))?,
        outputs,
    })
}

/// Every table of a list, written as `[[name]]` or as `name = [{...}]`.
pub(super) fn each<T>(
    item: Option<&Item>,
    name: &str,
    faults: &mut Faults,
    read: impl Fn(&mut Walk<'_>, &mut Faults) -> Option<T>,
) -> Vec<T> {
    let tables: Vec<Item> = match item {
        None => return Vec::new(),
        Some(item) if item.is_array_of_tables() => {
            let tables = item.as_array_of_tables().into_iter().flatten();
            tables.map(|table| Item::Table(table.clone())).collect()
        }
        Some(item) if item.is_array() => {
            let values = item.as_array().into_iter().flatten();
            values.map(|value| Item::Value(value.clone())).collect()
        }
        Some(item) => {
            let values = vec![("key", name.to_owned()), ("wanted", "list of tables".to_owned())];
            faults.push(error("WG0004", item.span().map(|span| span.start), values));
            return Vec::new();
        }
    };
    let mut all = Vec::new();
    for table in &tables {
        if let Some(mut walk) = Walk::table(table, name, faults) {
            all.extend(read(&mut walk, faults));
            walk.finish(faults);
        }
    }
    all
}

/// One output; function 6 and 1 or 0 unless said.
fn output(walk: &mut Walk<'_>, house: House, faults: &mut Faults) -> Option<Output> {
    let name = walk.needed_text("name", faults);
    let address = address(walk, "address", house, faults);
    let said = walk.item("function").is_some();
    let function = if said { function(walk, faults) } else { Some(6) };
    let on = walk.whole("on", 0.0..=65_535.0, faults).unwrap_or(1.0) as u16;
    let off = walk.whole("off", 0.0..=65_535.0, faults).unwrap_or(0.0) as u16;
    Some(Output { name: name?, address: address?, function: function?, on, off })
}

fn points(item: Option<&Item>, house: House, faults: &mut Faults) -> Vec<Point> {
    each(item, "points", faults, |walk, faults| point(walk, house, faults))
}

fn point(walk: &mut Walk<'_>, house: House, faults: &mut Faults) -> Option<Point> {
    let quantity = walk.needed_text("quantity", faults);
    let table = walk.choice("table", &TABLES, faults).unwrap_or(house.table);
    let address = address(walk, "address", house, faults);
    let value_type = value_type(walk, house, faults);
    let order = walk.choice("order", &Order::ALL, faults).unwrap_or(house.order);
    let shift = walk.whole("shift", 0.0..=63.0, faults).unwrap_or(0.0) as u8;
    let mask = walk.whole("mask", 1.0..=f64::from(u32::MAX), faults).map(|mask| mask as u32);
    let scale = scale(walk, quantity.as_deref(), faults);
    let invert = walk.flag("invert", faults).unwrap_or(false);
    let scaled = walk.item("scale_at").is_some();
    let scale_at = scaled.then(|| self::address(walk, "scale_at", house, faults));
    let none = numbers(walk, "none", faults);
    let bound =
        |walk: &mut Walk<'_>, key, faults: &mut Faults| walk.number(key, -1e15..=1e15, faults);
    let (min, max) = (bound(walk, "min", faults), bound(walk, "max", faults));
    let rate = walk.number("rate", 1e-9..=1e15, faults);
    let own_period = walk.number("period_s", PERIODS, faults);
    let quantity = quantity?;
    let free = (house.kind == ProfileKind::Inputs).then_some(&quantity::FREE);
    let Some(known) = free.or_else(|| plausible(&quantity)) else {
        let allowed = quantity::quantities().collect::<Vec<_>>().join(", ");
        let values = vec![("quantity", quantity.clone()), ("allowed", allowed)];
        let mut fault = error("WG0070", walk.at_key("quantity"), values);
        fault.nearest = nearest(&quantity, quantity::quantities());
        faults.push(fault);
        return None;
    };
    let (min, max) = (min.unwrap_or(known.min), max.unwrap_or(known.max));
    if min > max {
        let values = vec![("key", "min".to_owned()), ("other", "max".to_owned())];
        faults.push(error("WG0071", walk.at_key("min"), values));
    }
    let slow = house.kind != ProfileKind::Inputs && quantity::may_be_slow(&quantity);
    let period_s = own_period.unwrap_or(if slow { house.periods.1 } else { house.periods.0 });
    if period_s > 1.0 && !slow {
        let values = vec![("quantity", quantity.clone()), ("period", period_s.to_string())];
        faults.push(error("WG0085", walk.at_key("period_s"), values));
    }
    let scale = if invert { -scale? } else { scale? };
    let (min, max) = (Some(min), Some(max));
    let (address, value_type) = (address?, value_type?);
    let scale_at = scale_at.map_or(Some(None), |at| at.map(Some))?;
    let point = Point {
        quantity,
        table,
        address,
        value_type,
        order,
        shift,
        mask,
        scale,
        scale_at,
        none,
        min,
        max,
        rate,
        period_s,
    };
    rules::place(&point, walk.at(), faults);
    Some(point)
}

/// A register, as sent on the wire.
pub(super) fn address(
    walk: &mut Walk<'_>,
    key: &'static str,
    house: House,
    faults: &mut Faults,
) -> Option<u16> {
    walk.needed(key, faults);
    let written = walk.whole(key, f64::from(house.base)..=65_535.0, faults)?;
    Some(written as u16 - house.base)
}

/// The type of a point; a text says how many registers it takes.
fn value_type(walk: &mut Walk<'_>, house: House, faults: &mut Faults) -> Option<ValueType> {
    let names = [ValueType::NUMBERS.as_slice(), &[("text", ValueType::Text(0))]].concat();
    let words = walk.whole("words", 1.0..=MOST_TEXT_WORDS, faults);
    let named = walk.choice("type", &names, faults);
    match (named, words) {
        (Some(ValueType::Text(_)), Some(words)) => return Some(ValueType::Text(words as u16)),
        (Some(ValueType::Text(_)), None) => {
            walk.needed("words", faults);
            return None;
        }
        (_, Some(_)) => {
            faults.push(error("WG0072", walk.at_key("words"), vec![("key", "words".to_owned())]));
        }
        (_, None) => {}
    }
    if walk.item("type").is_some() {
        return named;
    }
    if house.value_type.is_none() {
        walk.needed("type", faults);
    }
    house.value_type
}

/// What one raw step is worth in the house's unit.
pub(super) fn scale(
    walk: &mut Walk<'_>,
    quantity: Option<&str>,
    faults: &mut Faults,
) -> Option<f64> {
    let scale = walk.number("scale", 1e-12..=1e12, faults).unwrap_or(1.0);
    let Some(name) = walk.text("unit", faults) else {
        return Some(scale);
    };
    let Some(unit) = unit_of(&name) else {
        let names = quantity::units().collect::<Vec<_>>().join(", ");
        let values = vec![("key", "unit".to_owned()), ("value", name), ("allowed", names)];
        faults.push(error("WG0009", walk.at_key("unit"), values));
        return None;
    };
    let known = quantity.and_then(plausible)?;
    if known.unit != unit.house {
        let values = vec![
            ("quantity", known.quantity.to_owned()),
            ("unit", name),
            ("wanted_unit", known.unit.to_owned()),
        ];
        faults.push(error("WG0073", walk.at_key("unit"), values));
        return None;
    }
    Some(unit.to_house(scale))
}

fn numbers(walk: &mut Walk<'_>, key: &'static str, faults: &mut Faults) -> Vec<f64> {
    let Some(item) = walk.item(key) else {
        return Vec::new();
    };
    let number = |v: &toml_edit::Value| v.as_float().or_else(|| v.as_integer().map(|n| n as f64));
    let all: Option<Vec<f64>> = item.as_array().and_then(|list| list.iter().map(number).collect());
    if all.is_none() {
        let values = vec![("key", key.to_owned()), ("wanted", "list of numbers".to_owned())];
        faults.push(error("WG0004", walk.at_key(key), values));
    }
    all.unwrap_or_default()
}

fn states(item: &Item, faults: &mut Faults) -> BTreeMap<String, Vehicle> {
    let Some(walk) = Walk::table(item, "states", faults) else {
        return BTreeMap::new();
    };
    let mut states = BTreeMap::new();
    for (key, item, at) in walk.entries() {
        let text = item.as_str().unwrap_or_default();
        match VEHICLES.iter().find(|(name, _)| *name == text) {
            Some((_, vehicle)) => _ = states.insert(key.to_owned(), *vehicle),
            None => {
                let allowed = VEHICLES.map(|(name, _)| name).join(", ");
                let values =
                    vec![("key", key.to_owned()), ("value", text.to_owned()), ("allowed", allowed)];
                faults.push(error("WG0009", at, values));
            }
        }
    }
    states
}

/// How often each model of a walked device is read, where the file says.
fn models(item: Option<&Item>, house: House, faults: &mut Faults) -> BTreeMap<u16, f64> {
    let kind = house.kind;
    let read = |walk: &mut Walk<'_>, faults: &mut Faults| {
        walk.needed("id", faults);
        walk.needed("period_s", faults);
        let id = walk.whole("id", 1.0..=65_534.0, faults);
        let period_s = walk.number("period_s", PERIODS, faults);
        let (id, period_s) = (id? as u16, period_s?);
        rules::model((kind, id, period_s), walk.at_key("id"), faults);
        Some((id, period_s))
    };
    each(item, "models", faults, read).into_iter().collect()
}
