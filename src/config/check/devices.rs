//! Devices: profiles, addresses, currents, and the sum of all failsafe currents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::file::{At, DeviceTable};
use super::super::walk::{Faults, error, nearest};
use super::super::{DeviceConfig, Profile, ProfileKind};
use super::{address, strategies, valid_id, warning};
use crate::logic::site::{
    Battery, Charger, Compute, FALLS_BACK_WITHIN, Id, Inverter, Right, Switching,
};
use crate::units::{Amps, Phase, Soc, WattHours, Watts};

/// IEC 61851: there is no charging below this current.
const LEAST_CURRENT_A: f64 = 6.0;
/// A car follows its pilot within this, the slow ones too (design/safety: chain of delays, and as much again).
const FOLLOWS_IN: Duration = Duration::from_secs(15);

/// All valid devices.
#[derive(Debug, Default)]
pub struct Devices {
    pub configs: Vec<DeviceConfig>,
    pub meters: Vec<Id>,
    pub chargers: Vec<Charger>,
    pub batteries: Vec<Battery>,
    pub computes: Vec<Compute>,
    pub pvs: Vec<Id>,
    pub inverters: Vec<Inverter>,
    /// Input/output modules and the like, with their profiles.
    pub inputs: BTreeMap<Id, Profile>,
}

pub fn check(
    tables: &[DeviceTable],
    profiles: &BTreeMap<String, Profile>,
    faults: &mut Faults,
) -> Devices {
    let mut devices = Devices::default();
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for table in tables {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults));
        let profile = table.profile.as_ref().and_then(|name| profile(name, profiles, faults));
        let address = table.address.as_ref().and_then(|text| address::parse(text, faults));
        let unit = table.unit.map_or(profile.map_or(1, |profile| profile.unit), |unit| unit as u8);
        if let Some(place) = &address {
            let at = table.address.as_ref().and_then(|text| text.at);
            let part = profile.map_or("", |profile| profile.kind.name());
            address::overlap(place, (unit, part), &mut places, (at, faults));
        }
        let (Some(id), Some(profile)) = (id, profile) else {
            continue;
        };
        let name = table.name.clone().unwrap_or_else(|| id.to_string());
        match profile.kind {
            ProfileKind::Meter | ProfileKind::SunspecMeter => devices.meters.push(id.clone()),
            ProfileKind::Charger => {
                devices.chargers.extend(charger(table, (&id, name), profile, faults));
            }
            ProfileKind::Compute => {
                devices.computes.extend(compute(table, (&id, name), profile, faults));
            }
            ProfileKind::Inputs => {
                devices.inputs.insert(id.clone(), profile.clone());
            }
            ProfileKind::SunspecHybrid | ProfileKind::Battery => {
                devices.batteries.extend(battery(table, (&id, name), profile, faults));
                devices.inverters.extend(inverter(table, &id, profile, faults));
                if profile.kind == ProfileKind::SunspecHybrid || profile.point("pv_w").is_some() {
                    devices.pvs.push(id.clone());
                }
            }
        }
        if let Some(address) = address {
            let charger = devices.chargers.iter().find(|charger| charger.id == id);
            let failsafe_a = charger.map(|charger| charger.failsafe.get());
            let mut profile = profile.clone();
            if charger.is_none_or(|charger| charger.switching.is_none()) {
                // Not every model of a family can be asked.
                profile.phase_switch = None;
                profile.points.retain(|point| point.quantity != "phases");
            }
            let serve_as = table.serve_as.map(|unit| unit as u8);
            let relays = Vec::new();
            let config = DeviceConfig { id, profile, address, unit, failsafe_a, serve_as, relays };
            devices.configs.push(config);
        }
    }
    devices
}

pub fn unique_id(text: &At<String>, ids: &mut BTreeSet<Id>, faults: &mut Faults) -> Option<Id> {
    let id = valid_id(text, faults)?;
    if ids.insert(id.clone()) {
        return Some(id);
    }
    faults.push(error("WG0007", text.at, vec![("id", text.value.clone())]));
    None
}

/// The id that a text refers to, if it is one of `known`.
pub fn reference(text: &At<String>, known: &[Id], what: &str, faults: &mut Faults) -> Option<Id> {
    let found = known.iter().find(|id| id.as_str() == text.value);
    if found.is_none() {
        let values = vec![("what", what.to_owned()), ("id", text.value.clone())];
        let mut fault = error("WG0008", text.at, values);
        fault.nearest = nearest(&text.value, known.iter().map(Id::as_str));
        faults.push(fault);
    }
    found.cloned()
}

/// A device that is in the file but faulty is told once, not again at everything that refers to it.
pub fn forget_followers(tables: &[DeviceTable], devices: &Devices, faults: &mut Faults) {
    let usable = |id: &str| {
        let mut ids = devices.meters.iter().chain(&devices.pvs);
        ids.any(|known| known.as_str() == id)
            || devices.chargers.iter().any(|c| c.id.as_str() == id)
            || devices.computes.iter().any(|c| c.id.as_str() == id)
            || devices.inputs.keys().any(|known| known.as_str() == id)
    };
    let faulty = |id: &String| {
        let named = |table: &DeviceTable| table.id.as_ref().is_some_and(|t| t.value == *id);
        tables.iter().any(named) && !usable(id)
    };
    faults.retain(|fault| {
        fault.code != "WG0008" || !fault.values.iter().any(|(key, id)| *key == "id" && faulty(id))
    });
}

fn profile<'p>(
    name: &At<String>,
    profiles: &'p BTreeMap<String, Profile>,
    faults: &mut Faults,
) -> Option<&'p Profile> {
    let found = profiles.get(&name.value);
    if found.is_none() {
        let mut fault = error("WG0012", name.at, vec![("profile", name.value.clone())]);
        fault.nearest = nearest(&name.value, profiles.keys().map(String::as_str));
        faults.push(fault);
    }
    found
}

fn charger(
    table: &DeviceTable,
    (id, name): (&Id, String),
    profile: &Profile,
    faults: &mut Faults,
) -> Option<Charger> {
    let plain = |value: &Option<At<f64>>, default: f64| value.as_ref().map_or(default, |v| v.value);
    let at = |value: &Option<At<f64>>| value.as_ref().and_then(|v| v.at).or(table.at);
    let min = plain(&table.min_a, LEAST_CURRENT_A);
    let Some(max) = &table.max_a else {
        let values = vec![("key", "max_a".to_owned()), ("table", "device".to_owned())];
        faults.push(error("WG0003", table.at, values));
        return None;
    };
    let expires = expires(profile);
    let failsafe = plain(&table.failsafe_a, min);
    if let (Some(given), None) = (&table.failsafe_a, expires) {
        let values = vec![("id", id.to_string()), ("profile", profile.id.clone())];
        faults.push(warning("WG0143", given.at.or(table.at), values));
    }
    let values = || {
        vec![
            ("id", id.to_string()),
            ("min", min.to_string()),
            ("max", max.value.to_string()),
            ("failsafe", failsafe.to_string()),
        ]
    };
    let before = faults.len();
    if min < LEAST_CURRENT_A {
        faults.push(error("WG0021", at(&table.min_a), values()));
    }
    if max.value < min {
        faults.push(error("WG0022", max.at, values()));
    }
    if failsafe > max.value || (failsafe > 0.0 && failsafe < min) {
        faults.push(error("WG0023", at(&table.failsafe_a), values()));
    }
    let Some(recipe) = &profile.setpoint else {
        faults.push(error("WG0016", table.at, vec![("profile", profile.id.clone())]));
        return None;
    };
    let phases = phases(table, faults);
    let stay = super::tariff::stay(table, faults);
    let switching = switching(table, (id, phases.len()), profile, faults);
    let mode = strategies::mode(table, faults);
    (faults.len() == before).then(|| Charger {
        id: id.clone(),
        name,
        phases,
        min: Amps(min),
        max: Amps(max.value),
        failsafe: Amps(failsafe),
        step: Amps(recipe.step_a),
        stay,
        right: Right {
            priority: table.priority.unwrap_or(0.0) as u8,
            weight: table.weight.unwrap_or(1.0),
        },
        switching,
        mode,
        // Where nothing is known to make it fall back, it is taken to go on for ever.
        falls_back_within: match (expires, &table.failsafe_a) {
            (None, None) => Duration::MAX,
            _ => falls_back_within(expires),
        },
    })
}

/// A device's own time-out, the longest that it has, s; nothing where its profile knows none.
fn expires(profile: &Profile) -> Option<f64> {
    let expires = profile.setpoint.as_ref().and_then(|setpoint| setpoint.expires_s);
    let after = profile.failsafe.as_ref().map(|failsafe| failsafe.after_s);
    expires.into_iter().chain(after).reduce(f64::max)
}

/// By its own time-out, and the time that its car takes to follow.
fn falls_back_within(expires: Option<f64>) -> Duration {
    let after = |s: f64| Duration::from_secs_f64(s.clamp(0.0, 3600.0)) + FOLLOWS_IN;
    expires.map_or(FALLS_BACK_WITHIN, after)
}

/// Off unless the installer has allowed it: not every car takes it well (evcc #33658).
fn switching(
    table: &DeviceTable,
    (id, phases): (&Id, usize),
    profile: &Profile,
    faults: &mut Faults,
) -> Option<Switching> {
    if !table.phase_switching.unwrap_or(false) {
        return None;
    }
    let values = || vec![("id", id.to_string()), ("profile", profile.id.clone())];
    let Some(recipe) = &profile.phase_switch else {
        faults.push(error("WG0133", table.at, values()));
        return None;
    };
    if phases != 3 {
        faults.push(error("WG0134", table.at, values()));
        return None;
    }
    Some(Switching {
        most: table.switches_per_stay.map_or(Switching::MOST, |most| most as u32),
        lockout: table.switch_lockout_s.map_or(Switching::LOCKOUT, Duration::from_secs_f64),
        settle: Duration::from_secs(u64::from(recipe.settle_s)),
    })
}

/// A node: idle power 0 unless said, and no failsafe at all (its largest power) unless said.
fn compute(
    table: &DeviceTable,
    (id, name): (&Id, String),
    profile: &Profile,
    faults: &mut Faults,
) -> Option<Compute> {
    let plain = |value: &Option<At<f64>>, default: f64| value.as_ref().map_or(default, |v| v.value);
    let Some(max) = &table.max_w else {
        let values = vec![("key", "max_w".to_owned()), ("table", "device".to_owned())];
        faults.push(error("WG0003", table.at, values));
        return None;
    };
    let min = plain(&table.min_w, 0.0);
    let failsafe = plain(&table.failsafe_w, max.value);
    if !(min <= failsafe && failsafe <= max.value) {
        let values = vec![
            ("id", id.to_string()),
            ("min", min.to_string()),
            ("max", max.value.to_string()),
            ("failsafe", failsafe.to_string()),
        ];
        faults.push(error("WG0047", max.at, values));
        return None;
    }
    let Some(recipe) = &profile.setpoint else {
        faults.push(error("WG0016", table.at, vec![("profile", profile.id.clone())]));
        return None;
    };
    let phases = phases(table, faults);
    let (min, max, failsafe) = (Watts(min), Watts(max.value), Watts(failsafe));
    let step = Watts(recipe.step_a);
    Some(Compute { id: id.clone(), name, phases, min, max, failsafe, step })
}

/// All three where the file says nothing.
fn phases(table: &DeviceTable, faults: &mut Faults) -> Vec<Phase> {
    let mut phases = Vec::new();
    for (text, at) in &table.phases {
        match Phase::ALL.into_iter().find(|phase| phase.to_string() == *text) {
            Some(phase) if !phases.contains(&phase) => phases.push(phase),
            _ => {
                let values = vec![
                    ("key", "phases".to_owned()),
                    ("value", text.clone()),
                    ("allowed", "L1, L2, L3".to_owned()),
                ];
                faults.push(error("WG0009", *at, values));
            }
        }
    }
    if phases.is_empty() { Phase::ALL.to_vec() } else { phases }
}

/// An inverter whose output can be limited: the site file says what it is rated at, and its kind how it is told.
fn inverter(
    table: &DeviceTable,
    id: &Id,
    profile: &Profile,
    faults: &mut Faults,
) -> Option<Inverter> {
    let rated = table.rated_w.as_ref()?;
    if profile.kind != ProfileKind::SunspecHybrid {
        let values = vec![("profile", profile.id.clone()), ("id", id.to_string())];
        faults.push(error("WG0140", rated.at, values));
        return None;
    }
    Some(Inverter { id: id.clone(), rated: Watts(rated.value) })
}

/// A battery whose map has no way to tell it a power is only read: its powers stay 0.
fn battery(
    table: &DeviceTable,
    (id, name): (&Id, String),
    profile: &Profile,
    faults: &mut Faults,
) -> Option<Battery> {
    let asked =
        table.max_charge_w.unwrap_or(0.0) > 0.0 || table.max_discharge_w.unwrap_or(0.0) > 0.0;
    if profile.kind == ProfileKind::Battery && profile.battery.is_none() && asked {
        faults.push(error("WG0016", table.at, vec![("profile", profile.id.clone())]));
        return None;
    }
    Some(Battery {
        id: id.clone(),
        name,
        max_charge: Watts(table.max_charge_w.unwrap_or(0.0)),
        max_discharge: Watts(table.max_discharge_w.unwrap_or(0.0)),
        min_soc: Soc::from_ratio(table.min_soc_pct.unwrap_or(10.0) / 100.0).unwrap_or_default(),
        capacity: table.capacity_wh.map(WattHours),
        strategy: strategies::strategy(table, faults)?,
    })
}
