//! Sensors, relays, limits and roles: references, contradictions, and whether a battery that is to be
//! isolated can be isolated at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::file::{At, GridTable, SiteFile};
use super::super::guarding::{LimitsTable, RelayTable, SensorTable};
use super::super::walk::{Faults, error, nearest};
use super::super::{Address, Profile, RelayOutput};
use super::devices::{Devices, reference, unique_id};
use super::places::Places;
use super::{one_of, warning};
use crate::logic::site::{
    DimContact, Guard, Id, Limits, Relay, RelayKind, Roles, Sensor, SensorKind,
};
use crate::units::Watts;

const DAY_S: f64 = 86_400.0;
/// Which state of a contact means something: whether it is the low one.
const ACTIVE: [(bool, &str); 2] = [(false, "high"), (true, "low")];

/// What guards the site; outputs of relays go to their devices.
pub fn check(
    file: &SiteFile,
    devices: &mut Devices,
    places: &Places,
    faults: &mut Faults,
) -> Guard {
    let zones: Vec<Id> = places.zones.iter().map(|zone| zone.id.clone()).collect();
    let inputs = devices.inputs.clone();
    let known = Known { zones: &zones, inputs: &inputs };
    let mut ids = BTreeSet::new();
    let mut guard = Guard {
        roles: Roles { operators: file.roles.operators.clone(), safety: file.roles.safety.clone() },
        lines: lines(devices),
        dimming: known.dimming(&file.grid, faults),
        ..Guard::default()
    };
    for table in &file.zones {
        if let (Some(id), Some(limits)) = (&table.id, &table.limits) {
            in_order(limits, faults);
            if let Some(zone) = zones.iter().find(|zone| zone.as_str() == id.value) {
                guard.limits.insert(zone.clone(), limits.limits.clone());
            }
        }
    }
    for table in &file.sensors {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults));
        guard.sensors.extend(known.sensor(table, id, faults));
    }
    for table in &file.relays {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults));
        if let Some((relay, output)) = known.relay(table, id, faults) {
            for device in devices.configs.iter_mut().filter(|d| d.id == relay.device) {
                device.relays.push(output.clone());
            }
            can_isolate(file, &guard, (&relay, table.at), faults);
            guard.relays.push(relay);
        }
    }
    guard
}

/// Devices behind one address, where there are two or more.
fn lines(devices: &Devices) -> Vec<Vec<Id>> {
    let mut lines: BTreeMap<&Address, Vec<Id>> = BTreeMap::new();
    for device in &devices.configs {
        lines.entry(&device.address).or_default().push(device.id.clone());
    }
    lines.into_values().filter(|line| line.len() > 1).collect()
}

/// Stages that are not in order would make a later one unreachable.
fn in_order(table: &LimitsTable, faults: &mut Faults) {
    let limits = &table.limits;
    let pairs = [
        ("cell_watch_c", limits.cell_watch_c, "cell_alarm_c", limits.cell_alarm_c),
        ("cell_alarm_c", limits.cell_alarm_c, "cell_trip_c", limits.cell_trip_c),
        ("rise_alarm_k_s", limits.rise_alarm_k_s, "rise_trip_k_s", limits.rise_trip_k_s),
        ("gas_stage1", limits.gas_stage1, "gas_stage2", limits.gas_stage2),
        ("board_watch_c", limits.board_watch_c, "board_alarm_c", limits.board_alarm_c),
    ];
    for (low, a, high, b) in pairs {
        if a >= b {
            let values = vec![
                ("low", low.to_owned()),
                ("a", a.to_string()),
                ("high", high.to_owned()),
                ("b", b.to_string()),
            ];
            faults.push(error("WG0110", table.at, values));
        }
    }
    if let (Some(_), Some(key)) = (&limits.confirmed_by, table.not_given) {
        faults.push(error("WG0111", table.at, vec![("key", key.to_owned())]));
    }
}

/// A contactor that no vote can open protects nobody: its zone needs confirmed limits and a second voice, or
/// a hard input.
fn can_isolate(
    file: &SiteFile,
    guard: &Guard,
    (relay, at): (&Relay, Option<usize>),
    faults: &mut Faults,
) {
    if relay.kind != RelayKind::Contactor {
        return;
    }
    if relay.feedback.is_none() {
        faults.push(error("WG0112", at, vec![("id", relay.id.to_string())]));
    }
    for zone in &relay.zones {
        let voices = || {
            let mine = guard.sensors.iter().filter(|sensor| sensor.zones.contains(zone));
            mine.filter(|sensor| sensor.kind != SensorKind::BatteryCurrent)
        };
        let hard = voices().any(|sensor| sensor.kind.is_hard() || sensor.certified);
        let confirmed = guard.limits.get(zone).is_some_and(|l: &Limits| l.confirmed_by.is_some());
        let values = || vec![("id", relay.id.to_string()), ("zone", zone.to_string())];
        if !hard && voices().count() < 2 {
            faults.push(error("WG0113", at, values()));
        } else if !confirmed {
            faults.push(warning("WG0114", at, values()));
        }
        let has_battery = |table: &&super::super::file::ZoneTable| {
            table.id.as_ref().is_some_and(|id| id.value == zone.as_str())
        };
        let without = file.zones.iter().find(has_battery).is_some_and(|t| t.battery.is_none());
        if without {
            faults.push(error("WG0115", at, values()));
        }
    }
}

struct Known<'k> {
    zones: &'k [Id],
    inputs: &'k BTreeMap<Id, Profile>,
}

impl Known<'_> {
    /// The grid operator's contact, where `[grid]` names a device and a value of it.
    fn dimming(&self, grid: &GridTable, faults: &mut Faults) -> Option<DimContact> {
        if grid.dim_device.is_some() != grid.dim_point.is_some() {
            let missing = if grid.dim_device.is_some() { "dim_point" } else { "dim_device" };
            let values = vec![("key", missing.to_owned()), ("table", "grid".to_owned())];
            faults.push(error("WG0003", grid.at, values));
        }
        let device = self.device(grid.dim_device.as_ref(), faults)?;
        let point = self.point(device, grid.dim_point.as_ref()?, faults)?;
        let active_low = match &grid.dim_active {
            Some(text) => named(Some(text), &ACTIVE, faults)?,
            None => false,
        };
        let limit = Watts(grid.dim_limit_w.unwrap_or(0.0));
        Some(DimContact { device: device.clone(), point, active_low, limit })
    }

    fn sensor(&self, table: &SensorTable, id: Option<Id>, faults: &mut Faults) -> Option<Sensor> {
        let kinds = SensorKind::ALL.map(|kind| (kind, kind.name()));
        let kind = named(table.kind.as_ref(), &kinds, faults);
        let zones =
            self.zones(&table.zones, (kind.is_some_and(SensorKind::is_hard), table.at), faults);
        let device = self.device(table.device.as_ref(), faults);
        let mut points = Vec::new();
        for (point, at) in &table.points {
            let text = At { value: point.clone(), at: *at };
            points.extend(device.and_then(|device| self.point(device, &text, faults)));
        }
        let contact = kind.is_some_and(SensorKind::is_contact);
        if contact && table.loop_full.is_some() {
            let id = id.as_ref().map(Id::to_string).unwrap_or_default();
            faults.push(error("WG0116", table.at, vec![("id", id)]));
        }
        let active_low = match &table.active {
            Some(text) => named(Some(text), &ACTIVE, faults)?,
            None => false,
        };
        let (id, kind, device) = (id?, kind?, device?.clone());
        (!zones.is_empty() && !points.is_empty()).then(|| Sensor {
            name: table.name.clone().unwrap_or_else(|| id.to_string()),
            id,
            kind,
            zones,
            device,
            points,
            active_low,
            loop_full: table.loop_full,
            certified: table.certified,
            stuck_after: table.stuck_after_s.map(Duration::from_secs_f64),
            proof_every: table.proof_days.map(|days| Duration::from_secs_f64(days * DAY_S)),
        })
    }

    fn relay(
        &self,
        table: &RelayTable,
        id: Option<Id>,
        faults: &mut Faults,
    ) -> Option<(Relay, RelayOutput)> {
        let kinds = RelayKind::ALL.map(|kind| (kind, kind.name()));
        let kind = named(table.kind.as_ref(), &kinds, faults);
        let sounds = matches!(kind, Some(RelayKind::Siren | RelayKind::Fan));
        let zones = self.zones(&table.zones, (sounds, table.at), faults);
        let device = self.device(table.device.as_ref(), faults);
        let states = [(true, "energised"), (false, "released")];
        let acts_energised = match &table.acts {
            Some(text) => named(Some(text), &states, faults)?,
            None => true,
        };
        let from = match &table.feedback_device {
            Some(text) => self.device(Some(text), faults),
            None => device,
        };
        let feedback = table.feedback.as_ref().zip(from).and_then(|(text, from)| {
            self.point(from, text, faults).map(|point| (from.clone(), point))
        });
        let device = device?;
        let profile = self.inputs.get(device)?;
        let text = table.output.as_ref()?;
        let output = profile.outputs.iter().find(|output| output.name == text.value);
        if output.is_none() {
            let values = vec![("output", text.value.clone()), ("profile", profile.id.clone())];
            let mut fault = error("WG0117", text.at, values);
            fault.nearest = nearest(&text.value, profile.outputs.iter().map(|o| o.name.as_str()));
            faults.push(fault);
        }
        let (id, kind, output) = (id?, kind?, output?.clone());
        if zones.is_empty() {
            return None;
        }
        let driven = RelayOutput { relay: id.clone(), output, acts_energised };
        let relay = Relay {
            name: table.name.clone().unwrap_or_else(|| id.to_string()),
            id,
            kind,
            zones,
            device: device.clone(),
            feedback,
            proof_every: table.proof_days.map(|days| Duration::from_secs_f64(days * DAY_S)),
        };
        Some((relay, driven))
    }

    /// The named zones; all of them where `all` stands for none named.
    fn zones(
        &self,
        texts: &[(String, Option<usize>)],
        (all, at): (bool, Option<usize>),
        faults: &mut Faults,
    ) -> Vec<Id> {
        if texts.is_empty() && all {
            return self.zones.to_vec();
        }
        if texts.is_empty() {
            let values = vec![("key", "zones".to_owned()), ("table", "sensor or relay".to_owned())];
            faults.push(error("WG0003", at, values));
        }
        let text = |(value, at): &(String, Option<usize>)| At { value: value.clone(), at: *at };
        texts.iter().filter_map(|t| reference(&text(t), self.zones, "zone", faults)).collect()
    }

    fn device(&self, text: Option<&At<String>>, faults: &mut Faults) -> Option<&Id> {
        let text = text?;
        let known: Vec<Id> = self.inputs.keys().cloned().collect();
        let found = reference(text, &known, "device", faults)?;
        self.inputs.keys().find(|id| **id == found)
    }

    /// A value that the profile of a device delivers.
    fn point(&self, device: &Id, text: &At<String>, faults: &mut Faults) -> Option<String> {
        let profile = self.inputs.get(device)?;
        if profile.point(&text.value).is_some() {
            return Some(text.value.clone());
        }
        let values = vec![("point", text.value.clone()), ("profile", profile.id.clone())];
        let mut fault = error("WG0118", text.at, values);
        fault.nearest = nearest(&text.value, profile.points.iter().map(|p| p.quantity.as_str()));
        faults.push(fault);
        None
    }
}

/// The one of `all` that a text names.
fn named<T: Copy>(
    text: Option<&At<String>>,
    all: &[(T, &'static str)],
    faults: &mut Faults,
) -> Option<T> {
    let text = text?;
    let found = all.iter().find(|(_, name)| *name == text.value).map(|(value, _)| *value);
    if found.is_none() {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        one_of(text, "value", &names, faults);
    }
    found
}
