//! `[vision]`: the big net's budget, where a remote one is, and what CPU time draws here.

use toml_edit::Item;

use super::super::walk::{Faults, Walk};
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
