//! Circuits: a tree with one feeder for each device, and on every phase of it the sum of all failsafe
//! currents.

use std::collections::BTreeSet;

use super::super::file::{CircuitTable, DeviceTable};
use super::super::walk::{Faults, error};
use super::devices::{Devices, reference, unique_id};
use super::warning;
use crate::logic::site::{Charger, Circuit, GridLimits, Id, Mode, Overload, overloads};
use crate::units::{Amps, PerPhase, Watts};

/// All valid circuits.
pub fn check(tables: &[CircuitTable], devices: &Devices, faults: &mut Faults) -> Vec<Circuit> {
    let mut ids = BTreeSet::new();
    let mut known = Vec::new();
    for table in tables {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults));
        known.extend(id.map(|id| (id, table)));
    }
    let names: Vec<Id> = known.iter().map(|(id, _)| id.clone()).collect();
    let chargers = devices.chargers.iter().map(|charger| charger.id.clone());
    let loads: Vec<Id> =
        chargers.chain(devices.computes.iter().map(|node| node.id.clone())).collect();
    let mut fed = BTreeSet::new();
    let mut circuits: Vec<Circuit> = Vec::new();
    for (id, table) in known {
        let parent = table.parent.as_ref();
        let parent = parent.and_then(|parent| reference(parent, &names, "circuit", faults));
        if table.limit_a.is_none() && table.limit_w.is_none() {
            faults.push(error("WG0051", table.at, vec![("id", id.to_string())]));
        }
        let mut members = Vec::new();
        for (text, at) in &table.members {
            let text = super::At { value: text.clone(), at: *at };
            let Some(member) = reference(&text, &loads, "load", faults) else { continue };
            if !fed.insert(member.clone()) {
                faults.push(error("WG0050", *at, vec![("id", member.to_string())]));
            }
            members.push(member);
        }
        circuits.push(Circuit {
            name: table.name.clone().unwrap_or_else(|| id.to_string()),
            id,
            parent,
            limit: table.limit_a.as_ref().map(|limit| PerPhase(limit.value.map(Amps))),
            power: table.limit_w.map(Watts),
            base_load: Amps(table.base_load_a.unwrap_or(0.0)),
            members,
        });
    }
    for circuit in &circuits {
        if feeds_itself(circuit, &circuits) {
            let named = |table: &&CircuitTable| {
                table.id.as_ref().is_some_and(|id| id.value == circuit.id.as_str())
            };
            let at = tables.iter().find(named).and_then(|table| table.parent.as_ref()?.at);
            faults.push(error("WG0052", at, vec![("id", circuit.id.to_string())]));
        }
    }
    circuits
}

fn feeds_itself(circuit: &Circuit, circuits: &[Circuit]) -> bool {
    let mut at = circuit.parent.as_ref();
    for _ in 0..circuits.len() {
        let Some(above) = at else { return false };
        if *above == circuit.id {
            return true;
        }
        at = circuits.iter().find(|c| c.id == *above).and_then(|c| c.parent.as_ref());
    }
    false
}

/// For every phase of the site and of each circuit: all chargers and compute nodes at their failsafe, the
/// largest base load and the battery at rest must stay within the breaker. In observe mode it is a warning,
/// since nothing is written.
pub fn failsafe_sums(
    devices: &Devices,
    (limits, circuits): (&GridLimits, &[Circuit]),
    (mode, (grid, tables)): (Mode, (Option<usize>, &[CircuitTable])),
    faults: &mut Faults,
) {
    for over in overloads(limits, circuits, (&devices.chargers, &devices.computes)) {
        let named = |table: &&CircuitTable| {
            let id = table.id.as_ref().map(|id| id.value.as_str());
            over.circuit.as_ref().is_some_and(|circuit| id == Some(circuit.as_str()))
        };
        let mut values = vec![
            ("phase", over.phase.to_string()),
            ("chargers", over.devices.get().to_string()),
            ("base", over.base.get().to_string()),
            ("breaker", over.most.get().to_string()),
        ];
        let (code, at) = match &over.circuit {
            None => ("WG0024", grid),
            Some(circuit) => {
                values.push(("circuit", circuit.to_string()));
                ("WG0053", tables.iter().find(named).and_then(|table| table.at))
            }
        };
        faults.push(match mode {
            Mode::Auto => error(code, at, values),
            Mode::Observe => warning(code, at, values),
        });
    }
}

/// A charger that forgets its failsafe at a restart allows its rated current until it is written again: where
/// that alone is too much for a circuit, with all others at their failsafe, people are told. The gateway writes
/// within seconds, but nobody is faster than the charger's own start.
pub fn restarts(
    devices: &Devices,
    (limits, circuits): (&GridLimits, &[Circuit]),
    tables: &[DeviceTable],
    faults: &mut Faults,
) {
    let sums = |chargers: &[Charger]| overloads(limits, circuits, (chargers, &devices.computes));
    let before = sums(&devices.chargers);
    let same = |over: &Overload, other: &Overload| {
        (&over.circuit, over.phase) == (&other.circuit, other.phase)
    };
    for (place, charger) in devices.chargers.iter().enumerate() {
        let config = devices.configs.iter().find(|config| config.id == charger.id);
        let failsafe = config.and_then(|config| config.profile.failsafe.as_ref());
        let Some(restarts_a) = failsafe.and_then(|failsafe| failsafe.restarts_a) else { continue };
        let mut restarted = devices.chargers.clone();
        restarted[place].failsafe = Amps(restarts_a);
        let mut told = BTreeSet::new();
        for over in sums(&restarted) {
            if before.iter().any(|known| same(known, &over)) || !told.insert(over.circuit.clone()) {
                continue;
            }
            let named = |table: &&DeviceTable| {
                table.id.as_ref().is_some_and(|id| id.value == charger.id.as_str())
            };
            let at = tables.iter().find(named).and_then(|table| table.profile.as_ref()?.at);
            let values = vec![
                ("id", charger.id.to_string()),
                ("restarts", restarts_a.to_string()),
                ("sum", (over.devices + over.base).get().to_string()),
                ("phase", over.phase.to_string()),
                ("limit", over.most.get().to_string()),
            ];
            let (code, circuit) = match &over.circuit {
                None => ("WG0141", String::new()),
                Some(circuit) => ("WG0142", circuit.to_string()),
            };
            let values = [values, vec![("circuit", circuit)]].concat();
            faults.push(warning(code, at, values));
        }
    }
}
