//! `[[device]]`: one device on the field bus, whatever it is.
//!
//! What a stranger gets wrong: all kinds share this table. Which keys mean anything for a device its profile's
//! kind decides (`check::devices`).

use super::super::walk::{Faults, Walk};
use super::{At, amps, needed_at, number_at, text_at};

/// `[[device]]`.
#[derive(Clone, Debug)]
pub struct DeviceTable {
    pub at: Option<usize>,
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub profile: Option<At<String>>,
    pub address: Option<At<String>>,
    pub unit: Option<f64>,
    pub phases: Vec<(String, Option<usize>)>,
    pub min_a: Option<At<f64>>,
    pub max_a: Option<At<f64>>,
    pub failsafe_a: Option<At<f64>>,
    pub max_charge_w: Option<f64>,
    pub max_discharge_w: Option<f64>,
    pub min_soc_pct: Option<f64>,
    pub capacity_wh: Option<f64>,
    pub rated_w: Option<At<f64>>,
    pub min_w: Option<At<f64>>,
    pub max_w: Option<At<f64>>,
    pub failsafe_w: Option<At<f64>>,
    pub need_kwh: Option<At<f64>>,
    pub leave_by: Option<At<String>>,
    pub stay_h: Option<At<f64>>,
    pub serve_as: Option<f64>,
    pub priority: Option<f64>,
    pub weight: Option<f64>,
    pub phase_switching: Option<bool>,
    pub switches_per_stay: Option<f64>,
    pub switch_lockout_s: Option<f64>,
    pub mode: Option<At<String>>,
    pub strategy: Option<At<String>>,
    pub peak_w: Option<At<f64>>,
    pub reserve_soc_pct: Option<f64>,
    pub before_cars_soc_pct: Option<f64>,
    pub grid_charging: Option<bool>,
}

pub(super) fn read(mut walk: Walk<'_>, faults: &mut Faults) -> DeviceTable {
    let table = DeviceTable {
        at: walk.at(),
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        profile: needed_at(&mut walk, "profile", faults),
        address: needed_at(&mut walk, "address", faults),
        unit: walk.whole("unit", 0.0..=255.0, faults),
        phases: walk.texts("phases", faults),
        min_a: amps(&mut walk, "min_a", faults),
        max_a: amps(&mut walk, "max_a", faults),
        failsafe_a: amps(&mut walk, "failsafe_a", faults),
        max_charge_w: walk.number("max_charge_w", 0.0..=1e8, faults),
        max_discharge_w: walk.number("max_discharge_w", 0.0..=1e8, faults),
        min_soc_pct: walk.number("min_soc_pct", 0.0..=100.0, faults),
        capacity_wh: walk.number("capacity_wh", 1.0..=1e10, faults),
        rated_w: number_at(&mut walk, "rated_w", 100.0..=1e8, faults),
        min_w: number_at(&mut walk, "min_w", 0.0..=1e6, faults),
        max_w: number_at(&mut walk, "max_w", 0.0..=1e6, faults),
        failsafe_w: number_at(&mut walk, "failsafe_w", 0.0..=1e6, faults),
        need_kwh: number_at(&mut walk, "need_kwh", 0.1..=2000.0, faults),
        leave_by: text_at(&mut walk, "leave_by", faults),
        stay_h: number_at(&mut walk, "stay_h", 0.1..=168.0, faults),
        serve_as: walk.whole("serve_as", 1.0..=247.0, faults),
        priority: walk.whole("priority", 0.0..=9.0, faults),
        weight: walk.number("weight", 0.1..=10.0, faults),
        phase_switching: walk.flag("phase_switching", faults),
        switches_per_stay: walk.whole("switches_per_stay", 1.0..=100.0, faults),
        switch_lockout_s: walk.number("switch_lockout_s", 60.0..=86_400.0, faults),
        mode: text_at(&mut walk, "mode", faults),
        strategy: text_at(&mut walk, "strategy", faults),
        peak_w: number_at(&mut walk, "peak_w", 0.0..=1e8, faults),
        reserve_soc_pct: walk.number("reserve_soc_pct", 0.0..=100.0, faults),
        before_cars_soc_pct: walk.number("before_cars_soc_pct", 0.0..=100.0, faults),
        grid_charging: walk.flag("grid_charging", faults),
    };
    walk.finish(faults);
    table
}
