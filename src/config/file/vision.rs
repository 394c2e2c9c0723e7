//! `[vision]`: the big net's budget, where a remote one is, and what CPU time draws here. And polygons: of bays,
//! and of what is not to be seen of a camera's picture.

use toml_edit::{Array, Item, Value};

use super::super::walk::{Faults, Walk, error};
use super::{At, text_at};

/// `[vision]`.
#[derive(Clone, Debug, Default)]
pub struct VisionTable {
    pub budget_wh_per_h: Option<f64>,
    pub watt_per_core: Option<f64>,
    pub remote: Option<At<String>>,
    pub remote_model: Option<At<String>>,
    pub remote_timeout_ms: Option<f64>,
    pub remote_j: Option<f64>,
    pub evidence: Option<bool>,
}

/// Reads the table.
pub fn read(item: &Item, faults: &mut Faults) -> Option<VisionTable> {
    let mut walk = Walk::table(item, "vision", faults)?;
    let table = VisionTable {
        budget_wh_per_h: walk.number("budget_wh_per_h", 0.0..=10_000.0, faults),
        watt_per_core: walk.number("watt_per_core", 0.1..=100.0, faults),
        remote: text_at(&mut walk, "remote", faults),
        remote_model: text_at(&mut walk, "remote_model", faults),
        remote_timeout_ms: walk.whole("remote_timeout_ms", 50.0..=10_000.0, faults),
        remote_j: walk.number("remote_j", 0.0..=100_000.0, faults),
        evidence: walk.flag("evidence", faults),
    };
    walk.finish(faults);
    Some(table)
}

/// The points of a polygon, where each is two numbers.
pub fn points(array: &Array) -> Option<Vec<[f64; 2]>> {
    let number = |v: &Value| v.as_float().or_else(|| v.as_integer().map(|n| n as f64));
    let point = |value: &Value| -> Option<[f64; 2]> {
        let pair = value.as_array()?;
        let numbers: Vec<f64> = pair.iter().filter_map(number).collect();
        <[f64; 2]>::try_from(numbers).ok().filter(|_| pair.len() == 2)
    };
    array.iter().map(point).collect()
}

/// `masks` of a camera: a list of polygons.
pub fn masks(walk: &mut Walk<'_>, faults: &mut Faults) -> At<Vec<Vec<[f64; 2]>>> {
    let at = walk.at_key("masks");
    let item = walk.item("masks");
    let polygon = |value: &Value| value.as_array().and_then(points);
    let all: Option<Vec<_>> =
        item.and_then(Item::as_array).and_then(|array| array.iter().map(polygon).collect());
    if item.is_some() && all.is_none() {
        let wanted = "list of polygons [[[x, y], ...], ...]".to_owned();
        faults.push(error("WG0004", at, vec![("key", "masks".to_owned()), ("wanted", wanted)]));
    }
    At { value: all.unwrap_or_default(), at }
}
