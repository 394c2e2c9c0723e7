//! Jobs in the plan of the day: those that can be put off and interrupted are solved with everything
//! else; one that must run in one go gets its cheapest window beforehand and is load from then on.
//!
//! What a stranger gets wrong: a job that is due after the horizon is planned within it all the same.
//! What is cheap today is taken today; tomorrow the sun may not shine.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::planning::{SLOT_HOURS, STEP_S, STEPS};
use crate::logic::compute::Task;
use crate::logic::decision::{PlanLane, PlanTarget, PlanView};
use crate::logic::energy::plan::{Group, Job, Member, Plan, Problem};
use crate::logic::site::{Id, Site};
use crate::units::Watts;

/// The jobs of one plan.
pub(super) struct Tasks {
    told: Vec<Task>,
    /// Which of `told` the solver places, in the order of the problem's jobs.
    free: Vec<usize>,
    /// Powers of those that are placed already, kW.
    fixed: BTreeMap<Id, Vec<f64>>,
}

impl Tasks {
    /// Puts jobs into a problem: free ones as jobs with the limits of their nodes and of the budget, the
    /// others as load.
    pub fn put(
        problem: &mut Problem,
        tasks: &[Task],
        (site, start): (&Site, DateTime<Utc>),
    ) -> Tasks {
        let mut put = Tasks { told: tasks.to_vec(), free: Vec::new(), fixed: BTreeMap::new() };
        for (i, task) in tasks.iter().enumerate() {
            if task.in_one_go {
                let powers = in_one_go(problem, task, start);
                for (base, kw) in problem.base_kw.iter_mut().zip(&powers) {
                    *base += kw;
                }
                put.fixed.insert(task.job.clone(), powers);
            } else {
                put.free.push(i);
                problem.jobs.push(job(task, site, start));
            }
        }
        let node_of = |member: usize| put.told[put.free[member]].node.as_ref();
        for node in &site.computes {
            let mine = (0..put.free.len()).filter(|i| node_of(*i) == Some(&node.id));
            let members: Vec<Member> = mine.map(Member::Job).collect();
            let limit_kw = (node.max - node.min).get() / 1000.0;
            problem.groups.extend((!members.is_empty()).then_some(Group { limit_kw, members }));
        }
        if let (Some(wh), false) = (site.work.per_hour, put.free.is_empty()) {
            let members = (0..put.free.len()).map(Member::Job).collect();
            problem.groups.push(Group { limit_kw: wh.get() / 1000.0, members });
        }
        put
    }

    /// What was put in.
    pub fn told(&self) -> &[Task] {
        &self.told
    }

    /// kW of each job in each slot.
    pub fn powers(&self, solved: &Plan) -> BTreeMap<Id, Vec<f64>> {
        let free = self.free.iter().zip(&solved.job_kw);
        let free = free.map(|(i, kw)| (self.told[*i].job.clone(), kw.clone()));
        self.fixed.clone().into_iter().chain(free).collect()
    }
}

/// Slots from the start of the plan to a deadline; the running one counts whole.
fn slots_until(deadline: DateTime<Utc>, start: DateTime<Utc>) -> i64 {
    ((deadline - start).num_seconds() / STEP_S).max(1)
}

fn kw(power: Watts) -> f64 {
    power.get() / 1000.0
}

fn job(task: &Task, site: &Site, start: DateTime<Utc>) -> Job {
    let node = task.node.as_ref();
    let node = node.and_then(|id| site.computes.iter().find(|node| node.id == *id));
    let mut phases = [node.is_none(); 3];
    for phase in node.into_iter().flat_map(|node| &node.phases) {
        phases[*phase as usize] = true;
    }
    let (min_kw, max_kw) = (kw(task.min), kw(task.max));
    Job {
        release: 0,
        deadline: slots_until(task.deadline, start),
        // Less than a slot at the least power cannot be planned; the job ends by itself.
        need_kwh: (task.left.get() / 1000.0).max(min_kw * SLOT_HOURS * 1.001),
        min_kw,
        max_kw,
        phases,
    }
}

/// The cheapest window in which a job at full power is done in time; at once where it has begun.
fn in_one_go(problem: &Problem, task: &Task, start: DateTime<Utc>) -> Vec<f64> {
    let power = kw(task.max).max(1e-9);
    let slots = task.left.get() / 1000.0 / power / SLOT_HOURS;
    let length = (slots.ceil() as usize).clamp(1, STEPS);
    let due = (slots_until(task.deadline, start) as usize).min(STEPS);
    let cost = |from: usize| -> f64 {
        (from..from + length).map(|step| price_of(problem, step, power)).sum()
    };
    let latest = if task.begun { 0 } else { due.saturating_sub(length) };
    let from = (0..=latest).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(0);
    let in_window = |step: &usize| (from..from + length).contains(step);
    (0..STEPS).map(|step| if in_window(&step) { power } else { 0.0 }).collect()
}

/// What a load costs in one slot: what would have been exported at its price, the rest as imported; far
/// too much where the connection is full.
fn price_of(problem: &Problem, step: usize, power: f64) -> f64 {
    let of = |series: &[f64]| series.get(step).copied().unwrap_or(0.0);
    let surplus = (of(&problem.pv_kw) - of(&problem.base_kw)).max(0.0);
    let own = power.min(surplus);
    let import = of(&problem.base_kw) - of(&problem.pv_kw) + power;
    let full = if import > of(&problem.import_limit_kw) { 1e6 } else { 0.0 };
    own * of(&problem.export_price) + (power - own) * of(&problem.import_price) + full
}

/// Shows the jobs in the plan.
pub(super) fn lanes(view: &mut PlanView, tasks: &[Task], powers: &BTreeMap<Id, Vec<f64>>) {
    for (step, slot) in view.slots.iter_mut().enumerate() {
        let all = powers.values().map(|kw| kw.get(step).copied().unwrap_or(0.0));
        slot.jobs_w = (all.sum::<f64>() * 1000.0).round();
    }
    let lane = |task: &Task| PlanLane {
        id: task.job.clone(),
        name: task.job.to_string(),
        kind: "job".to_owned(),
        target: Some(PlanTarget { energy_wh: task.left.get().round(), by: task.deadline }),
        power_w: powers
            .get(&task.job)
            .into_iter()
            .flatten()
            .map(|kw| (kw * 1000.0).round())
            .collect(),
    };
    view.lanes.extend(tasks.iter().map(lane));
}
