//! The plan as MQTT and the page show it: what is drawn and given in each slot, and a lane for each actuator.
//!
//! What a stranger gets wrong: the state of charge of a slot is that of its start, and it is what the plan makes of
//! it, not a forecast of what will be measured.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Car, EFFICIENCY, SLOT_HOURS, STEP_S, STEPS};
use crate::logic::decision::{PlanLane, PlanSlot, PlanTarget, PlanView};
use crate::logic::energy::Forecast;
use crate::logic::site::{Id, Site, Tariff};
use crate::units::Soc;

/// What a plan was made for.
pub(super) struct Told<'a> {
    pub site: &'a Site,
    pub tariff: &'a Tariff,
    pub now: DateTime<Utc>,
    pub start: DateTime<Utc>,
    pub cars: &'a [Car<'a>],
    pub forecast: &'a Forecast,
    pub soc: Option<Soc>,
}

/// What chargers and the battery draw and give in each slot, and what is imported, kW.
type Powers<'a> = (&'a BTreeMap<Id, Vec<f64>>, Option<&'a (Id, Vec<f64>)>, &'a [f64]);

/// The plan's slots and lanes.
pub(super) fn view(told: &Told<'_>, (chargers, battery, grid): Powers<'_>) -> PlanView {
    let watts = |kw: f64| (kw * 1000.0).round();
    let battery_kw = |step: usize| battery.map_or(0.0, |(_, powers)| powers[step]);
    let capacity = told.site.batteries.iter().find_map(|b| b.capacity).map(|wh| wh.get() / 1000.0);
    let mut soc = told.soc.filter(|_| battery.is_some()).map(Soc::percent);
    let mut slots = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        let ts = told.start + chrono::Duration::seconds(STEP_S * step as i64);
        let power = battery_kw(step);
        slots.push(PlanSlot {
            ts,
            price: told.tariff.import_at(ts),
            pv_w: told.forecast.pv[step].get().round(),
            other_w: told.forecast.load[step].get().round(),
            battery_w: watts(power),
            chargers_w: watts(chargers.values().map(|powers| powers[step]).sum()),
            jobs_w: 0.0,
            grid_w: watts(grid[step]),
            soc_pct: soc.map(|soc| (soc * 10.0).round() / 10.0),
        });
        let hours = SLOT_HOURS;
        let moved = if power > 0.0 { -power / EFFICIENCY } else { -power * EFFICIENCY };
        soc = soc.zip(capacity).map(|(soc, kwh)| soc + moved * hours / kwh * 100.0);
    }
    let mut lanes: Vec<PlanLane> = told.cars.iter().map(|car| lane(car, chargers)).collect();
    lanes.extend(battery.map(|(id, powers)| {
        PlanLane {
            id: id.clone(),
            name: told
                .site
                .batteries
                .iter()
                .find(|b| b.id == *id)
                .map_or_else(String::new, |b| b.name.clone()),
            kind: "battery".to_owned(),
            target: None,
            power_w: powers.iter().map(|kw| watts(*kw)).collect(),
        }
    }));
    let limit = &told.site.limits;
    let limit_w: f64 = limit.limit.iter().map(|(_, amps)| amps.get()).sum();
    PlanView {
        made: told.now,
        step_s: STEP_S as u32,
        currency: told.tariff.currency.clone(),
        limit_w: (limit_w * limit.nominal_voltage.get()).round(),
        slots,
        lanes,
    }
}

fn lane(car: &Car<'_>, chargers: &BTreeMap<Id, Vec<f64>>) -> PlanLane {
    let powers = chargers.get(&car.charger.id);
    PlanLane {
        id: car.charger.id.clone(),
        name: car.charger.name.clone(),
        kind: "charger".to_owned(),
        target: Some(PlanTarget {
            energy_wh: car.wanted.need.get().round(),
            by: car.wanted.leaves,
        }),
        power_w: powers.into_iter().flatten().map(|kw| (kw * 1000.0).round()).collect(),
    }
}
