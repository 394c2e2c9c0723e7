//! `[compute]` and `[[workload]]`: what may be computed, and how it is run.

use toml_edit::Item;

use super::super::walk::{Faults, Walk};
use super::{At, each, needed_at, number_at, text_at};

/// `[compute]`.
#[derive(Clone, Debug, Default)]
pub struct ComputeTable {
    pub budget_wh_per_hour: Option<f64>,
    pub budget_wh_per_day: Option<f64>,
    pub watts_per_core: Option<f64>,
    pub idle_w: Option<f64>,
    pub powercap: Option<String>,
    pub cgroup: Option<String>,
}

/// `[[workload]]`.
#[derive(Clone, Debug)]
pub struct WorkloadTable {
    pub at: Option<usize>,
    pub id: Option<At<String>>,
    pub name: Option<String>,
    pub node: Option<At<String>>,
    pub command: Vec<(String, Option<usize>)>,
    pub url: Option<At<String>>,
    pub builtin: Option<At<String>>,
    pub energy_wh: Option<f64>,
    pub min_w: Option<f64>,
    pub max_w: Option<At<f64>>,
    pub within_h: Option<f64>,
    pub priority: Option<f64>,
    pub preemptible: Option<bool>,
    pub retries: Option<f64>,
    pub parameters: Vec<ParameterTable>,
}

/// `[[workload.parameter]]`.
#[derive(Clone, Debug)]
pub struct ParameterTable {
    pub at: Option<usize>,
    pub name: Option<At<String>>,
    pub values: Vec<(String, Option<usize>)>,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// All that concerns computing.
#[derive(Clone, Debug, Default)]
pub struct WorkTables {
    pub compute: ComputeTable,
    pub workloads: Vec<WorkloadTable>,
}

/// Reads both.
pub fn read(walk: &mut Walk<'_>, faults: &mut Faults) -> WorkTables {
    let compute = walk.item("compute").and_then(|item| compute(item, faults));
    let workloads = each(walk.item("workload"), "workload", faults, workload);
    WorkTables { compute: compute.unwrap_or_default(), workloads }
}

fn compute(item: &Item, faults: &mut Faults) -> Option<ComputeTable> {
    let mut walk = Walk::table(item, "compute", faults)?;
    let table = ComputeTable {
        budget_wh_per_hour: walk.number("budget_wh_per_hour", 0.0..=1e6, faults),
        budget_wh_per_day: walk.number("budget_wh_per_day", 0.0..=1e7, faults),
        watts_per_core: walk.number("watts_per_core", 0.1..=500.0, faults),
        idle_w: walk.number("idle_w", 0.0..=10_000.0, faults),
        powercap: walk.text("powercap", faults),
        cgroup: walk.text("cgroup", faults),
    };
    walk.finish(faults);
    Some(table)
}

fn workload(mut walk: Walk<'_>, faults: &mut Faults) -> WorkloadTable {
    walk.needed("energy_wh", faults);
    walk.needed("max_w", faults);
    let table = WorkloadTable {
        at: walk.at(),
        id: needed_at(&mut walk, "id", faults),
        name: walk.text("name", faults),
        node: text_at(&mut walk, "node", faults),
        command: walk.texts("command", faults),
        url: text_at(&mut walk, "url", faults),
        builtin: text_at(&mut walk, "builtin", faults),
        energy_wh: walk.number("energy_wh", 0.001..=1e7, faults),
        min_w: walk.number("min_w", 0.0..=1e5, faults),
        max_w: number_at(&mut walk, "max_w", 0.1..=1e5, faults),
        within_h: walk.number("within_h", 0.01..=168.0, faults),
        priority: walk.whole("priority", 0.0..=9.0, faults),
        preemptible: walk.flag("preemptible", faults),
        retries: walk.whole("retries", 0.0..=9.0, faults),
        parameters: each(walk.item("parameter"), "workload.parameter", faults, parameter),
    };
    walk.finish(faults);
    table
}

fn parameter(mut walk: Walk<'_>, faults: &mut Faults) -> ParameterTable {
    let table = ParameterTable {
        at: walk.at(),
        name: needed_at(&mut walk, "name", faults),
        values: walk.texts("values", faults),
        min: walk.number("min", -1e12..=1e12, faults),
        max: walk.number("max", -1e12..=1e12, faults),
    };
    walk.finish(faults);
    table
}
