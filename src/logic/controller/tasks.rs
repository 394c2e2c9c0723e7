//! Jobs in the plan of the day: those that can be put off and interrupted are solved with everything
//! else; one that must run in one go gets its cheapest window beforehand and is load from then on.
//!
//! What a stranger gets wrong: a job that is due after the horizon is planned within it all the same.
//! What is cheap today is taken today; tomorrow the sun may not shine. Only one that would take more than half of the
//! horizon leaves the rest of itself to the days after, as far as they will do.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::planning::{SLOT_HOURS, STEP_S, STEPS};
use crate::logic::compute::{MOST_RUNNING, Task};
use crate::logic::decision::{PlanLane, PlanTarget, PlanView};
use crate::logic::energy::plan::{Group, Job, Member, Plan, Problem};
use crate::logic::site::{Id, Site};
use crate::units::Watts;

/// Price of a slot in which there is no room: more than any that has some.
const FULL: f64 = 1e6;

/// The jobs of one plan.
pub(super) struct Tasks {
    told: Vec<Task>,
    /// Which of `told` the solver places, in the order of the problem's jobs.
    free: Vec<usize>,
    /// Powers of those that are placed already, kW.
    fixed: BTreeMap<Id, Vec<f64>>,
    /// How many of these are programs on the gateway itself, in each slot.
    taken: Vec<usize>,
}

impl Tasks {
    /// Puts jobs into a problem: free ones as jobs with the limits of their nodes and of the budget, the
    /// others as load.
    pub fn put(
        problem: &mut Problem,
        tasks: &[Task],
        (site, start): (&Site, DateTime<Utc>),
    ) -> Tasks {
        let taken = vec![0; STEPS];
        let (told, free, fixed) = (tasks.to_vec(), Vec::new(), BTreeMap::new());
        let mut put = Tasks { told, free, fixed, taken };
        let mut order: Vec<usize> = (0..tasks.len()).collect();
        // What has begun keeps its place.
        order.sort_by_key(|i| !tasks[*i].begun);
        for i in order {
            let task = &tasks[i];
            if task.in_one_go {
                let powers = in_one_go(problem, task, start, &put.taken);
                for (base, kw) in problem.base_kw.iter_mut().zip(&powers) {
                    *base += kw;
                }
                let local = task.node.is_none();
                let on = powers.iter().map(|kw| usize::from(local && *kw > 0.0));
                put.taken.iter_mut().zip(on).for_each(|(taken, on)| *taken += on);
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

    /// Moves programs on the gateway itself to other slots where more of them are planned at a time than
    /// may run; those that are due last give way.
    pub fn keep_places(&self, problem: &Problem, solved: &mut Plan) {
        let local = |k: &usize| self.told[self.free[*k]].node.is_none();
        let mut order: Vec<usize> = (0..self.free.len()).filter(local).collect();
        order.sort_by_key(|k| self.told[self.free[*k]].deadline);
        spread(problem, &order, self.taken.clone(), &mut solved.job_kw);
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
    let slots = slots_until(task.deadline, start);
    Job {
        release: 0,
        deadline: slots,
        // Less than a slot at the least power cannot be planned; the job ends by itself.
        need_kwh: today(task, slots).max(min_kw * SLOT_HOURS * 1.001),
        min_kw,
        max_kw,
        phases,
    }
}

/// What is planned of a job within the horizon, kWh: all of it, but no more than its full power gives in half of that
/// time, and no less than an even pace until its deadline asks for.
fn today(task: &Task, slots: i64) -> f64 {
    let left = task.left.get() / 1000.0;
    let half = kw(task.max) * SLOT_HOURS * STEPS as f64 / 2.0;
    let pace = left * (STEPS as f64 / slots as f64).min(1.0);
    left.min(half.max(pace))
}

/// Jobs take their places one after another, in the order given; what finds none moves to the cheapest
/// slot before its deadline that has one, and within the limits of its circuits. What fits nowhere is not
/// planned. `taken`: places taken already, in each slot.
fn spread(problem: &Problem, order: &[usize], mut taken: Vec<usize>, job_kw: &mut [Vec<f64>]) {
    for &k in order {
        let mut without = Vec::new();
        for (kw, taken) in job_kw[k].iter_mut().zip(&mut taken).filter(|(kw, _)| **kw > 0.0) {
            if *taken < MOST_RUNNING {
                *taken += 1;
            } else {
                without.push(std::mem::replace(kw, 0.0));
            }
        }
        let job = &problem.jobs[k];
        let due = usize::try_from(job.deadline).unwrap_or(0).min(taken.len());
        let mut slots: Vec<usize> = (0..due).collect();
        let price = |step: &usize| price_of(problem, *step, job.max_kw);
        slots.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.cmp(b)));
        for step in slots {
            let Some(&power) = without.last() else { break };
            let free = taken[step] < MOST_RUNNING && job_kw[k][step] <= 0.0;
            if free && fits(problem, job_kw, (k, step), power) {
                job_kw[k][step] = power;
                taken[step] += 1;
                without.pop();
            }
        }
    }
}

/// Whether the circuits of a job bear `power` more in a slot, beside other jobs.
fn fits(problem: &Problem, job_kw: &[Vec<f64>], (k, step): (usize, usize), power: f64) -> bool {
    let drawn = |member: &Member| match member {
        Member::Job(i) => job_kw[*i][step],
        Member::Session(_) => 0.0,
    };
    let mine = problem.groups.iter().filter(|group| group.members.contains(&Member::Job(k)));
    let sum = |group: &Group| group.members.iter().map(drawn).sum::<f64>();
    mine.into_iter().all(|group| sum(group) + power <= group.limit_kw + 1e-9)
}

/// The cheapest window in which a job at full power is done in time; at once where it has begun.
/// `taken`: programs on the gateway itself in each slot.
fn in_one_go(problem: &Problem, task: &Task, start: DateTime<Utc>, taken: &[usize]) -> Vec<f64> {
    let crowded = |step: usize| {
        task.node.is_none() && taken.get(step).is_some_and(|taken| *taken >= MOST_RUNNING)
    };
    let power = kw(task.max).max(1e-9);
    let price =
        |step: usize| price_of(problem, step, power) + if crowded(step) { FULL } else { 0.0 };
    let slots = task.left.get() / 1000.0 / power / SLOT_HOURS;
    let length = (slots.ceil() as usize).clamp(1, STEPS);
    let due = (slots_until(task.deadline, start) as usize).min(STEPS);
    let cost = |from: usize| -> f64 { (from..from + length).map(price).sum() };
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
    let full = if import > of(&problem.import_limit_kw) { FULL } else { 0.0 };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_longer_than_half_a_day_leaves_its_rest_to_the_next_days() {
        // (left kWh, days until it is due, kWh planned of today): a kilowatt gives 12 kWh in half a day.
        let table = [
            (3.0, 0.5, 3.0),
            (3.0, 2.0, 3.0),
            (12.0, 7.0, 12.0),
            (20.0, 7.0, 12.0),
            (20.0, 1.0, 20.0),
            (30.0, 2.0, 15.0),
            (30.0, 1.0, 30.0),
        ];
        for (left, days, wanted) in table {
            let task = Task {
                job: Id::try_from("a").unwrap(),
                node: None,
                left: crate::units::WattHours(left * 1000.0),
                deadline: DateTime::UNIX_EPOCH,
                min: Watts(100.0),
                max: Watts(1000.0),
                in_one_go: false,
                begun: false,
            };
            let planned = today(&task, (days * STEPS as f64) as i64);
            assert!((planned - wanted).abs() < 1e-9, "{left} kWh in {days} days: {planned}");
        }
    }

    #[test]
    fn no_more_programs_are_planned_at_a_time_than_may_run() {
        let job = |deadline| Job {
            deadline,
            need_kwh: 0.001,
            max_kw: 0.004,
            phases: [true; 3],
            ..Job::default()
        };
        let mut problem = Problem {
            steps: 4,
            step_hours: SLOT_HOURS,
            pv_kw: vec![0.0; 4],
            base_kw: vec![1.0; 4],
            import_price: vec![0.3, 0.1, 0.2, 0.05],
            export_price: vec![0.0; 4],
            import_limit_kw: vec![9.0; 4],
            jobs: vec![job(2), job(3), job(3), job(3), job(3), job(3), job(4)],
            ..Problem::default()
        };
        let all: Vec<usize> = (0..7).collect();
        let planned = vec![vec![0.0, 0.004, 0.0, 0.0]; 7];
        let slots = |kw: &[Vec<f64>]| -> Vec<Vec<usize>> {
            let on = |step: usize| (0..7).filter(|k| kw[*k][step] > 0.0).collect();
            (0..4).map(on).collect()
        };
        let mut kw = planned.clone();
        spread(&problem, &all, vec![0; 4], &mut kw);
        assert_eq!(slots(&kw), [vec![], vec![0, 1, 2, 3], vec![4, 5], vec![6]]);
        // One of the places is not free, and the budget bears one program in a slot beside what is there.
        let members = vec![Member::Job(4), Member::Job(5)];
        problem.groups = vec![Group { limit_kw: 0.004, members }];
        let mut kw = planned;
        spread(&problem, &all, vec![0, 1, 0, 0], &mut kw);
        assert_eq!(slots(&kw), [vec![5], vec![0, 1, 2], vec![3, 4], vec![6]]);
    }
}
