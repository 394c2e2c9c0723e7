//! Workloads: each runs in one way, its parameters are bounded, its node is there.

use std::collections::{BTreeMap, BTreeSet};

use super::super::file::{At, ParameterTable, WorkTables, WorkloadTable};
use super::super::walk::{Faults, error};
use super::super::{BuiltIn, Computing, Runner};
use super::devices::{Devices, reference, unique_id};
use crate::logic::site::{Allowed, Id, Work, Workload};
use crate::units::{WattHours, Watts};

/// A busy core of a small computer, where nobody has calibrated it (facts/inference, section 7: an
/// assumption, ±50 %).
const WATTS_PER_CORE: f64 = 4.0;
/// Where Linux shows energy counters.
const POWERCAP: &str = "/sys/class/powercap";

/// What may be asked for, and how it is done.
pub fn check(tables: &WorkTables, devices: &Devices, faults: &mut Faults) -> (Work, Computing) {
    let table = &tables.compute;
    let mut work = Work {
        workloads: Vec::new(),
        per_hour: table.budget_wh_per_hour.map(WattHours),
        per_day: table.budget_wh_per_day.map(WattHours),
    };
    let mut computing = Computing {
        watts_per_core: table.watts_per_core.unwrap_or(WATTS_PER_CORE),
        idle_w: table.idle_w.unwrap_or(0.0),
        cgroup: table.cgroup.clone().map(Into::into),
        powercap: table.powercap.clone().unwrap_or_else(|| POWERCAP.to_owned()).into(),
        runners: BTreeMap::new(),
    };
    let mut ids = BTreeSet::new();
    for table in &tables.workloads {
        let id = table.id.as_ref().and_then(|id| unique_id(id, &mut ids, faults));
        let runner = runner(table, faults);
        let nodes: Vec<Id> = devices.computes.iter().map(|node| node.id.clone()).collect();
        let node = table.node.as_ref().map(|text| reference(text, &nodes, "compute node", faults));
        let max = power(table, node.as_ref().and_then(Option::as_ref), devices, faults);
        let parameters = parameters(table, faults);
        let (Some(id), Some(runner), Some(max), Some(energy)) = (id, runner, max, table.energy_wh)
        else {
            continue;
        };
        computing.runners.insert(id.clone(), runner);
        work.workloads.push(Workload {
            name: table.name.clone().unwrap_or_else(|| id.to_string()),
            id,
            node: node.flatten(),
            energy: WattHours(energy),
            min: Watts(table.min_w.unwrap_or(0.0)),
            max: Watts(max),
            within_h: table.within_h.unwrap_or(24.0),
            priority: table.priority.unwrap_or(0.0) as u8,
            preemptible: table.preemptible.unwrap_or(true),
            retries: table.retries.unwrap_or(0.0) as u8,
            parameters,
        });
    }
    (work, computing)
}

/// Something built in, a program of the gateway itself with its arguments, or the endpoint of a node.
fn runner(table: &WorkloadTable, faults: &mut Faults) -> Option<Runner> {
    if let Some(name) = &table.builtin {
        return built_in(table, name, faults);
    }
    let id = || vec![("id", table.id.as_ref().map_or_else(String::new, |id| id.value.clone()))];
    if table.url.is_some() != table.node.is_some() {
        // Neither the gateway's processor nor a node's meter would count what it takes.
        let at =
            table.url.as_ref().and_then(|url| url.at).or(table.node.as_ref().and_then(|n| n.at));
        faults.push(error("WG0125", at, id()));
        return None;
    }
    match (table.command.as_slice(), &table.url) {
        ([], Some(url)) if url.value.starts_with("http://") => {
            Some(Runner::Endpoint(url.value.trim_end_matches('/').to_owned()))
        }
        ([(program, at), arguments @ ..], None) => {
            if !program.starts_with('/') {
                faults.push(error("WG0121", *at, vec![("program", program.clone())]));
                return None;
            }
            let known: Vec<&str> = table
                .parameters
                .iter()
                .filter_map(|p| Some(p.name.as_ref()?.value.as_str()))
                .collect();
            for (argument, at) in arguments {
                let inner = argument.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                let part = known.iter().find(|name| argument.contains(&format!("{{{name}}}")));
                match (inner.filter(|name| !name.contains(['{', '}'])), part) {
                    (Some(name), None) => {
                        faults.push(error("WG0122", *at, vec![("parameter", name.to_owned())]));
                    }
                    (None, Some(name)) => {
                        let values =
                            vec![("argument", argument.clone()), ("parameter", (*name).to_owned())];
                        faults.push(error("WG0126", *at, values));
                    }
                    _ => {}
                }
            }
            let arguments = arguments.iter().map(|(argument, _)| argument.clone()).collect();
            Some(Runner::Command { program: program.into(), arguments })
        }
        _ => {
            faults.push(error("WG0120", table.at, id()));
            None
        }
    }
}

/// One that there is, in no other way besides, with no parameters but those that it has.
fn built_in(table: &WorkloadTable, name: &At<String>, faults: &mut Faults) -> Option<Runner> {
    let Some(known) = BuiltIn::named(&name.value) else {
        let all = BuiltIn::ALL.map(BuiltIn::name).join(", ");
        faults.push(error("WG0127", name.at, vec![("name", name.value.clone()), ("all", all)]));
        return None;
    };
    if !table.command.is_empty() || table.url.is_some() || table.node.is_some() {
        let id = table.id.as_ref().map_or_else(String::new, |id| id.value.clone());
        faults.push(error("WG0120", table.at, vec![("id", id)]));
        return None;
    }
    for parameter in table.parameters.iter().filter_map(|table| table.name.as_ref()) {
        if !known.parameters().contains(&parameter.value.as_str()) {
            let all = known.parameters().join(", ");
            let values = vec![("parameter", parameter.value.clone()), ("all", all)];
            faults.push(error("WG0128", parameter.at, values));
        }
    }
    Some(Runner::BuiltIn(known))
}

/// The most power, which is no less than the least and no more than the node has beyond its idle power.
fn power(
    table: &WorkloadTable,
    node: Option<&Id>,
    devices: &Devices,
    faults: &mut Faults,
) -> Option<f64> {
    let max = table.max_w.as_ref()?;
    let min = table.min_w.unwrap_or(0.0);
    let node = node.and_then(|id| devices.computes.iter().find(|node| node.id == *id));
    let most = node.map_or(f64::MAX, |node| (node.max - node.min).get());
    if min <= max.value && max.value <= most {
        return Some(max.value);
    }
    let most = if most == f64::MAX { "-".to_owned() } else { most.to_string() };
    let values = vec![("min", min.to_string()), ("max", max.value.to_string()), ("most", most)];
    faults.push(error("WG0123", max.at, values));
    None
}

fn parameters(table: &WorkloadTable, faults: &mut Faults) -> BTreeMap<String, Allowed> {
    let mut parameters = BTreeMap::new();
    for table in &table.parameters {
        let Some(name) = table.name.as_ref() else { continue };
        match allowed(table) {
            Some(allowed) if Id::try_from(name.value.as_str()).is_ok() => {
                parameters.insert(name.value.clone(), allowed);
            }
            _ => {
                let values = vec![("parameter", name.value.clone())];
                faults.push(error("WG0124", table.at, values));
            }
        }
    }
    parameters
}

/// A list of words, or both bounds of a number.
fn allowed(table: &ParameterTable) -> Option<Allowed> {
    // What begins with a dash would be taken for an option by the program.
    let harmless = |word: &String| !word.starts_with('-') && !word.is_empty() && word.len() <= 64;
    let words: Vec<String> = table.values.iter().map(|(word, _)| word.clone()).collect();
    match (words.is_empty(), table.min, table.max) {
        (false, None, None) if words.iter().all(harmless) => Some(Allowed::Words(words)),
        (true, Some(min), Some(max)) if min <= max => Some(Allowed::Number { min, max }),
        _ => None,
    }
}
