//! The shape of what guards the site in its file: `[[sensor]]`, `[[relay]]`, `[zone.limits]` and `[roles]`,
//! with the place of each value, not yet checked against each other.

use toml_edit::Item;

use super::file::{At, needed_at, number_at, text_at};
use super::walk::{Faults, Walk};
use crate::logic::site::Limits;

/// `[[sensor]]`.
#[derive(Clone, Debug)]
pub struct SensorTable {
    pub at: Option<usize>,
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub kind: Option<At<String>>,
    pub zones: Vec<(String, Option<usize>)>,
    pub device: Option<At<String>>,
    pub points: Vec<(String, Option<usize>)>,
    pub active: Option<At<String>>,
    pub loop_full: Option<f64>,
    pub certified: bool,
    pub stuck_after_s: Option<f64>,
    pub proof_days: Option<f64>,
}

/// `[[relay]]`.
#[derive(Clone, Debug)]
pub struct RelayTable {
    pub at: Option<usize>,
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub kind: Option<At<String>>,
    pub zones: Vec<(String, Option<usize>)>,
    pub device: Option<At<String>>,
    pub output: Option<At<String>>,
    pub acts: Option<At<String>>,
    pub feedback: Option<At<String>>,
    pub feedback_device: Option<At<String>>,
    pub proof_days: Option<f64>,
}

/// `[zone.limits]`: the limits, and whether the battery's own were given.
#[derive(Clone, Debug)]
pub struct LimitsTable {
    pub at: Option<usize>,
    pub limits: Limits,
    /// The first of the cell limits that the file does not give.
    pub not_given: Option<&'static str>,
}

/// `[roles]`.
#[derive(Clone, Debug, Default)]
pub struct RolesTable {
    pub operators: Vec<String>,
    pub safety: Vec<String>,
}

pub fn sensor(mut walk: Walk<'_>, faults: &mut Faults) -> SensorTable {
    walk.needed("points", faults);
    let table = SensorTable {
        at: walk.at(),
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        kind: needed_at(&mut walk, "kind", faults),
        zones: walk.texts("zones", faults),
        device: needed_at(&mut walk, "device", faults),
        points: walk.texts("points", faults),
        active: text_at(&mut walk, "active", faults),
        loop_full: walk.number("loop_full", 0.001..=1e6, faults),
        certified: walk.flag("certified", faults).unwrap_or(false),
        stuck_after_s: walk.number("stuck_after_s", 2.0..=86_400.0, faults),
        proof_days: walk.number("proof_days", 1.0..=3650.0, faults),
    };
    walk.finish(faults);
    table
}

pub fn relay(mut walk: Walk<'_>, faults: &mut Faults) -> RelayTable {
    let table = RelayTable {
        at: walk.at(),
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        kind: needed_at(&mut walk, "kind", faults),
        zones: walk.texts("zones", faults),
        device: needed_at(&mut walk, "device", faults),
        output: needed_at(&mut walk, "output", faults),
        acts: text_at(&mut walk, "acts", faults),
        feedback: text_at(&mut walk, "feedback", faults),
        feedback_device: text_at(&mut walk, "feedback_device", faults),
        proof_days: walk.number("proof_days", 1.0..=3650.0, faults),
    };
    walk.finish(faults);
    table
}

pub fn roles(item: &Item, faults: &mut Faults) -> Option<RolesTable> {
    let mut walk = Walk::table(item, "roles", faults)?;
    let plain = |texts: Vec<(String, Option<usize>)>| texts.into_iter().map(|(t, _)| t).collect();
    let table = RolesTable {
        operators: plain(walk.texts("operators", faults)),
        safety: plain(walk.texts("safety", faults)),
    };
    walk.finish(faults);
    Some(table)
}

pub fn limits(item: &Item, faults: &mut Faults) -> Option<LimitsTable> {
    let mut walk = Walk::table(item, "zone.limits", faults)?;
    let at = walk.at();
    let mut limits = Limits::default();
    let mut not_given = None;
    let cells: [(&'static str, &mut f64, f64); 8] = [
        ("cell_watch_c", &mut limits.cell_watch_c, 200.0),
        ("cell_alarm_c", &mut limits.cell_alarm_c, 200.0),
        ("cell_trip_c", &mut limits.cell_trip_c, 200.0),
        ("cell_spread_k", &mut limits.cell_spread_k, 100.0),
        ("rise_watch_k_min", &mut limits.rise_watch_k_min, 60.0),
        ("rise_alarm_k_s", &mut limits.rise_alarm_k_s, 10.0),
        ("rise_trip_k_s", &mut limits.rise_trip_k_s, 100.0),
        ("voltage_drop", &mut limits.voltage_drop, 0.9),
    ];
    for (key, value, most) in cells {
        match number_at(&mut walk, key, 0.01..=most, faults) {
            Some(given) => *value = given.value,
            None => not_given = not_given.or(Some(key)),
        }
    }
    let others: [(&'static str, &mut f64, f64); 6] = [
        ("cell_off_v", &mut limits.cell_off_v, 5.0),
        ("rest_a", &mut limits.rest_a, 1000.0),
        ("gas_stage1", &mut limits.gas_stage1, 1e6),
        ("gas_stage2", &mut limits.gas_stage2, 1e6),
        ("board_watch_c", &mut limits.board_watch_c, 200.0),
        ("board_alarm_c", &mut limits.board_alarm_c, 200.0),
    ];
    for (key, value, most) in others {
        if let Some(given) = walk.number(key, 0.001..=most, faults) {
            *value = given;
        }
    }
    limits.confirmed_by = walk.text("confirmed_by", faults).filter(|text| !text.trim().is_empty());
    limits.isolate_on_bms_loss = walk.flag("isolate_on_bms_loss", faults).unwrap_or(false);
    walk.finish(faults);
    Some(LimitsTable { at, limits, not_given })
}
