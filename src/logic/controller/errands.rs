//! Jobs in the second: what they wish of their nodes, what comes of it, and how people see them.

use super::Controller;
use super::daybook::round_wh;
use super::overview::round;
use crate::logic::compute::{Errand, Job, Share};
use crate::logic::decision::{JobBudgetView, JobView};
use crate::logic::safety::interlock::Permitted;
use crate::logic::site::{Id, Reading};
use crate::units::{Moment, Watts};

impl Controller {
    /// What a node draws beyond its idle power its jobs have taken.
    pub(super) fn meter_jobs(&mut self, device: &Id, at: Moment, reading: &Reading) {
        let node = self.site.computes.iter().find(|node| node.id == *device);
        if let (Reading::Compute(reading), Some(node)) = (reading, node) {
            self.jobs.meter(&node.id, reading.power - node.min, &self.site.work, at);
        }
    }

    /// What each job wishes to draw, by the plan and where that does not look.
    pub(super) fn wish_jobs(&mut self, now: Moment) {
        let (planning, plans) = (&self.planning, self.planning.plans(now));
        // While the fire watch looks closely, the gateway's own processor is its.
        let shed = !self.duty(now).eager.is_empty();
        let share = |job: &Id| Share { power: planning.job_share(job, now), plans, shed };
        self.jobs.wish(&self.site.work, share, now);
    }

    /// What jobs are told: no more than their node was permitted, and nothing while it does not answer or
    /// its cap is not written.
    pub(super) fn errands(&mut self, permitted: &Permitted, now: Moment) -> Vec<Errand> {
        let left = |id: &Id| -> Option<Watts> {
            let node = self.site.computes.iter().find(|node| node.id == *id)?;
            self.compute(id, now).usable()?;
            if !self.armed {
                return Some(Watts::ZERO);
            }
            let (cap, _) = permitted.compute(id)?;
            Some((*cap - node.min).max(Watts::ZERO))
        };
        let nodes = self.site.computes.iter().map(|node| (node.id.clone(), left(&node.id)));
        let nodes: std::collections::BTreeMap<Id, Option<Watts>> = nodes.collect();
        self.jobs.settle(&self.site.work, |id| nodes.get(id).copied().flatten())
    }
}

/// Every job for people.
pub(super) fn views(c: &Controller, now: Moment) -> Vec<JobView> {
    let view = |job: &Job| {
        let mut lately = job.lately;
        lately.turn(now.utc);
        let workload = c.site.work.workload(job.ask.workload.as_str());
        JobView {
            id: job.ask.job.clone(),
            workload: job.ask.workload.clone(),
            name: workload.map_or_else(|| job.ask.workload.to_string(), |w| w.name.clone()),
            node: workload.and_then(|w| w.node.clone()),
            state: job.state,
            why: job.why.code().to_owned(),
            parameters: job.ask.parameters.clone(),
            submitted: job.submitted,
            deadline: job.ask.deadline,
            due: job.due,
            priority: job.ask.priority,
            power_w: round(job.granted.get()),
            need_wh: round_wh(job.need.get()),
            energy_wh: round_wh(job.used().get()),
            joules: round(job.used().get() * 3600.0),
            method: job.method,
            hour_wh: round_wh(lately.hour_wh),
            day_wh: round_wh(lately.day_wh),
            held_by: job.held_by,
            cpu_s: round(job.cpu_s),
            ended: job.ended,
            trouble: job.trouble.clone(),
        }
    };
    c.jobs.jobs().iter().map(view).collect()
}

/// What jobs have spent; nothing where none can be asked for.
pub(super) fn budget(c: &Controller) -> Option<JobBudgetView> {
    let work = &c.site.work;
    let spent = c.jobs.spent();
    (!work.workloads.is_empty()).then(|| JobBudgetView {
        hour_wh: round_wh(spent.hour_wh),
        day_wh: round_wh(spent.day_wh),
        per_hour_wh: work.per_hour.map(|wh| wh.get()),
        per_day_wh: work.per_day.map(|wh| wh.get()),
        accounts: c.jobs.accounts().clone(),
    })
}
