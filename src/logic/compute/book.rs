//! The book of jobs: takes orders and news, and says every second which job may draw how much.
//!
//! What a stranger gets wrong: the book does not decide when it is cheap; the plan does, and the book
//! keeps to its share. It has the last word where the plan does not look: a deadline that is near, a
//! budget that is spent, a node that the chargers leave too little.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::budget::{Purse, Spent};
use super::job::{Account, Errand, Job, JobNews, JobReason, JobState, Method, Task, TooLong, need};
use crate::logic::site::{Id, Order, Submission, Tally, Work, Workload};
use crate::units::{Moment, WattHours, Watts};

/// Jobs that may wait or run at a time.
pub const MOST_LIVE: usize = 64;
/// Jobs that are over and still shown.
const MOST_OVER: usize = 32;
/// A job whose deadline leaves this much more than it needs at full power does not wait any longer:
/// chargers come before nodes, and may leave them nothing for an hour.
const SLACK_H: f64 = 1.0;
/// A plan has a job done this much before its deadline, where its time allows.
const READY_BEFORE_H: f64 = 2.0;
/// A plan reckons with runs that take this much more than is thought.
const MORE: f64 = 1.1;
/// Weight of a new run in what a run is thought to take.
const LEARNS: f64 = 0.3;
/// Letters of what a program says about its failure that are kept.
const MOST_TROUBLE: usize = 200;
/// Jobs that run on the gateway itself at a time: control and fire watch share the machine with them.
pub const MOST_RUNNING: usize = 4;
/// While jobs are there the book is kept at least this often; what was spent since may be lost in a crash.
pub const KEPT_EVERY: Duration = Duration::from_secs(30);
/// A reading that is this old says nothing about what was drawn since.
const METER_GAP: Duration = Duration::from_secs(15);

/// All jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobBook {
    jobs: Vec<Job>,
    spent: Purse,
    accounts: BTreeMap<Id, Account>,
    /// What each workload has taken by the hour and the day.
    #[serde(default)]
    tallies: BTreeMap<Id, Tally>,
    /// Little has been spent since it was kept: the gateway ended, and its jobs with it.
    #[serde(default)]
    closed: bool,
    /// Counts up when something has changed that a plan depends on, or that must be kept.
    changes: u64,
    /// When each node's meter was last read; not kept.
    #[serde(skip)]
    metered: BTreeMap<Id, Moment>,
}

/// What jobs can have now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// What the plan has for a job in the running slot; nothing where it does not know the job.
    pub power: Option<Watts>,
    /// Whether there is a plan on this site at all.
    pub plans: bool,
    /// Jobs on the gateway itself are shed: it saves its energy.
    pub shed: bool,
}

impl JobBook {
    /// All jobs, in the order in which they were submitted.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// What each workload has taken since ever.
    #[must_use]
    pub fn accounts(&self) -> &BTreeMap<Id, Account> {
        &self.accounts
    }

    /// What each workload has taken by the hour and the day.
    #[must_use]
    pub fn tallies(&self) -> &BTreeMap<Id, Tally> {
        &self.tallies
    }

    /// What was spent in the running hour and day.
    #[must_use]
    pub fn spent(&self) -> Spent {
        self.spent.spent()
    }

    /// Changes whenever a plan should be made anew, or the book be kept.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// As it is kept last, when all jobs were ended with the gateway.
    #[must_use]
    pub fn closed(&self) -> JobBook {
        JobBook { closed: true, ..self.clone() }
    }

    /// Who comes first: by priority, deadline, submission.
    fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.jobs.len()).collect();
        order.sort_by_key(|i| {
            let job = &self.jobs[*i];
            (std::cmp::Reverse(job.ask.priority), job.due(), *i)
        });
        order
    }

    /// Takes an order; one that is not allowed is ignored, as whoever gave it was told.
    pub fn order(&mut self, order: Order, work: &Work, now: DateTime<Utc>) {
        match order {
            Order::Submit(ask) => self.submit(ask, work, now),
            Order::Pause(id) => self.live(&id, |job| job.held = true),
            Order::Resume(id) => self.live(&id, |job| job.held = false),
            Order::Cancel(id) => self.end(&id, JobState::Cancelled, now),
        }
    }

    fn submit(&mut self, ask: Submission, work: &Work, now: DateTime<Utc>) {
        let live = self.jobs.iter().filter(|job| !job.state.is_over()).count();
        let known = self.jobs.iter().any(|job| job.ask.job == ask.job);
        let Some(workload) = work.workload(ask.workload.as_str()) else { return };
        if known || live >= MOST_LIVE || !work.allows(&ask) {
            return;
        }
        let need = need(workload, self.accounts.get(&ask.workload));
        let due = TooLong::told(workload, need, (now, ask.deadline)).map(|too_long| too_long.due);
        self.changes += 1;
        self.jobs.push(Job {
            ask,
            submitted: now,
            state: JobState::Waiting,
            told: false,
            held: false,
            due,
            need,
            spent: WattHours(0.0),
            lost: WattHours(0.0),
            cpu_s: 0.0,
            method: None,
            lately: Spent::default(),
            held_by: None,
            failures: 0,
            not_before: None,
            late_since: None,
            ended: None,
            trouble: None,
            granted: Watts::ZERO,
            why: JobReason::PlanWaits,
        });
    }

    fn live(&mut self, id: &Id, change: impl FnOnce(&mut Job)) {
        let mut found = self.jobs.iter_mut().filter(|job| !job.state.is_over());
        if let Some(job) = found.find(|job| job.ask.job == *id) {
            change(job);
            self.changes += 1;
        }
    }

    fn end(&mut self, id: &Id, state: JobState, now: DateTime<Utc>) {
        let mut ended = None;
        self.live(id, |job| {
            job.state = state;
            job.ended = Some(now);
            (job.granted, job.why) = (Watts::ZERO, JobReason::Over);
            ended = Some((job.ask.workload.clone(), job.used(), job.spent));
        });
        let Some((workload, used, run)) = ended else { return };
        let account = self.accounts.entry(workload).or_default();
        account.energy_wh += used.get();
        if state == JobState::Done {
            account.done += 1;
            let known = account.typical_wh.unwrap_or(run.get());
            account.typical_wh = Some(known + (run.get() - known) * LEARNS);
        } else {
            account.not_done += 1;
        }
        let over = self.jobs.iter().filter(|job| job.state.is_over()).count();
        let ended = |i: &usize| self.jobs[*i].ended;
        let all = (0..self.jobs.len()).filter(|i| self.jobs[*i].state.is_over());
        if let Some(oldest) = all.min_by_key(ended).filter(|_| over > MOST_OVER) {
            self.jobs.remove(oldest);
        }
    }

    /// Takes in what whoever runs a job tells of it.
    pub fn hear(&mut self, id: &Id, news: JobNews, work: &Work, now: DateTime<Utc>) {
        match news {
            JobNews::Started => self.live(id, |job| {
                (job.state, job.told) = (JobState::Running, false);
                job.trouble = None;
            }),
            JobNews::HeldBy(means) => {
                // Nothing that a plan depends on: no change.
                let job = self.jobs.iter_mut().find(|job| job.ask.job == *id);
                job.into_iter().for_each(|job| job.held_by = Some(means));
            }
            JobNews::Spent { energy, cpu_s, method } => {
                let job = self.jobs.iter_mut().find(|job| job.ask.job == *id);
                let Some(job) = job else { return };
                let more = WattHours((energy.get() - job.spent.get()).max(0.0));
                job.spent = WattHours(job.spent.get() + more.get());
                (job.cpu_s, job.method) = (cpu_s.max(job.cpu_s), Some(method));
                // What a job takes until it has really ended counts as well.
                if job.state.is_over() {
                    let account = self.accounts.entry(job.ask.workload.clone()).or_default();
                    account.energy_wh += more.get();
                }
                job.lately.add(more, now);
                self.tallies.entry(job.ask.workload.clone()).or_default().add(more, now);
                self.spent.add(more);
            }
            JobNews::Done => self.end(id, JobState::Done, now),
            JobNews::Failed(why) => {
                let Some(job) = self.jobs.iter().find(|job| job.ask.job == *id) else { return };
                let retries = work.workload(job.ask.workload.as_str()).map_or(0, |w| w.retries);
                let last = job.failures >= retries;
                self.live(id, |job| {
                    job.failures = job.failures.saturating_add(1);
                    let plain = why.chars().filter(|letter| !letter.is_control());
                    job.trouble = Some(plain.take(MOST_TROUBLE).collect());
                    if !last {
                        job.lost = job.used();
                        (job.spent, job.cpu_s) = (WattHours(0.0), 0.0);
                        (job.state, job.told) = (JobState::Waiting, false);
                        job.not_before = Some(now + job.pause());
                    }
                });
                if last {
                    self.end(id, JobState::Failed, now);
                }
            }
        }
    }

    /// A node was read: what it draws beyond its idle power the jobs that have begun there have taken, also
    /// where they were told to wait and it does not.
    pub fn meter(&mut self, node: &Id, beyond_idle: Watts, work: &Work, at: Moment) {
        let before = self.metered.insert(node.clone(), at);
        let Some(gap) = before.map(|b| b.age_at(at)).filter(|gap| *gap < METER_GAP) else { return };
        let begun = |job: &&mut Job| job.has_begun() && runs_on(job, node, work);
        let mut here: Vec<&mut Job> = self.jobs.iter_mut().filter(begun).collect();
        if here.is_empty() {
            return;
        }
        let all: f64 = here.iter().map(|job| job.granted.get()).sum();
        let alike = 1.0 / here.len() as f64;
        let energy = beyond_idle.get().max(0.0) * gap.as_secs_f64() / 3600.0;
        for job in &mut here {
            let share = if all > 0.0 { job.granted.get() / all } else { alike };
            let more = WattHours(energy * share);
            job.spent = WattHours(job.spent.get() + more.get());
            job.method = Some(Method::NodeMeter);
            job.lately.add(more, at.utc);
            self.tallies.entry(job.ask.workload.clone()).or_default().add(more, at.utc);
        }
        self.spent.add(WattHours(energy));
    }

    /// Jobs that are to be planned.
    #[must_use]
    pub fn tasks(&self, work: &Work, now: DateTime<Utc>) -> Vec<Task> {
        let open = self.jobs.iter().filter(|job| !job.state.is_over() && !job.held);
        let task = |job: &Job| {
            let workload = work.workload(job.ask.workload.as_str())?;
            let left = job.need.get() * MORE - job.spent.get();
            let left = left.max(job.need.get() * 0.1);
            let needs_h = left / workload.max.get().max(1e-9) + READY_BEFORE_H;
            let early = chrono::Duration::minutes((READY_BEFORE_H * 60.0) as i64);
            let has_time = (job.due() - now).num_seconds() as f64 / 3600.0 > needs_h;
            let by = job.due() - if has_time { early } else { chrono::Duration::zero() };
            // What has taken more than the plan reckoned with is nearly done: nobody knows how nearly, so
            // that it goes on at once and not in the cheapest hour before its deadline.
            let longer = job.has_begun() && job.spent.get() >= job.need.get() * MORE;
            let at_once =
                chrono::Duration::seconds((left / workload.max.get().max(1e-9) * 3600.0) as i64);
            Some(Task {
                job: job.ask.job.clone(),
                node: workload.node.clone(),
                left: WattHours(left),
                deadline: if longer { by.min(now + at_once) } else { by },
                min: workload.min,
                max: workload.max,
                in_one_go: !workload.preemptible,
                begun: job.has_begun(),
            })
        };
        open.filter_map(task).collect()
    }

    /// What each job wishes to draw now, and why: its share of the plan, all it can take where its
    /// deadline is near. The budget and the places on the gateway itself bound them in the order of
    /// priority, deadline, submission.
    pub fn wish(&mut self, work: &Work, share: impl Fn(&Id) -> Share, now: Moment) {
        self.spent.turn(now);
        self.end_hung(work, now);
        let (mut room, window) = self.spent.room(work);
        let sitting = self.jobs.iter().filter(|job| sits(job, work)).count();
        let mut places = MOST_RUNNING.saturating_sub(sitting);
        for i in self.in_order() {
            let job = &mut self.jobs[i];
            let Some(workload) = work.workload(job.ask.workload.as_str()) else { continue };
            if job.state.is_over() {
                continue;
            }
            let sits = sits(job, work);
            let (wished, why) = wish(job, workload, share(&job.ask.job), now.utc);
            let within = wished.min(room);
            let local = wished > Watts::ZERO && workload.node.is_none() && !sits;
            (job.granted, job.why) = match window {
                _ if local && places == 0 => (Watts::ZERO, JobReason::Crowded),
                Some(window)
                    if wished > Watts::ZERO && (within < workload.min || within <= Watts::ZERO) =>
                {
                    (Watts::ZERO, window.into())
                }
                _ => (within, why),
            };
            if local && job.granted > Watts::ZERO {
                places -= 1;
            }
            room = room - job.granted;
        }
    }

    /// What the jobs of each node wish together, for nodes that some workload names.
    #[must_use]
    pub fn wished_of(&self, work: &Work, node: &Id) -> Option<Watts> {
        let names = |w: &&Workload| w.node.as_ref() == Some(node);
        work.workloads.iter().find(names)?;
        Some(self.jobs.iter().filter(|job| runs_on(job, node, work)).map(|job| job.granted).sum())
    }

    /// Cuts the wishes to what each node may draw beyond its idle power: `left` says it, nothing where a
    /// node is lost. What comes of it is what the jobs are told.
    pub fn settle(&mut self, work: &Work, left: impl Fn(&Id) -> Option<Watts>) -> Vec<Errand> {
        let mut rooms: BTreeMap<Id, Option<Watts>> = BTreeMap::new();
        for i in self.in_order() {
            let job = &mut self.jobs[i];
            let workload = work.workload(job.ask.workload.as_str());
            let Some((workload, node)) = workload.and_then(|w| Some((w, w.node.as_ref()?))) else {
                continue;
            };
            if job.granted <= Watts::ZERO {
                continue;
            }
            let room = rooms.entry(node.clone()).or_insert_with(|| left(node));
            match room {
                None => (job.granted, job.why) = (Watts::ZERO, JobReason::NodeLost),
                Some(room) if *room < workload.min || *room <= Watts::ZERO => {
                    (job.granted, job.why) = (Watts::ZERO, JobReason::NodeLimit);
                }
                Some(room) => {
                    job.granted = job.granted.min(*room);
                    *room = *room - job.granted;
                }
            }
        }
        for job in &mut self.jobs {
            let runs = job.granted > Watts::ZERO;
            if job.has_begun() {
                job.state = if runs { JobState::Running } else { JobState::Paused };
            } else if runs && !job.told {
                job.told = true;
                self.changes += 1;
            }
        }
        self.jobs.iter().filter_map(errand).collect()
    }
}

fn runs_on(job: &Job, node: &Id, work: &Work) -> bool {
    let workload = work.workload(job.ask.workload.as_str());
    workload.is_some_and(|workload| workload.node.as_ref() == Some(node))
}

/// Whether a job has a place on the gateway itself that nobody can take from it.
fn sits(job: &Job, work: &Work) -> bool {
    let workload = work.workload(job.ask.workload.as_str());
    let stays = workload.is_some_and(|w| w.node.is_none() && !w.preemptible);
    stays && job.has_begun() && !job.held
}

/// What a job that is not over wishes by itself.
fn wish(job: &Job, workload: &Workload, share: Share, now: DateTime<Utc>) -> (Watts, JobReason) {
    let hours = (job.due() - now).num_seconds() as f64 / 3600.0;
    let needs_h = job.left().get() / workload.max.get().max(1e-9);
    if job.held {
        (Watts::ZERO, JobReason::Held)
    } else if share.shed && workload.node.is_none() {
        (Watts::ZERO, JobReason::Shed)
    } else if job.rests(now) {
        (Watts::ZERO, JobReason::RetryWaits)
    } else if job.has_begun() && !workload.preemptible {
        (workload.max, JobReason::MustNotStop)
    } else if hours <= needs_h * 1.1 + SLACK_H {
        (workload.max, JobReason::DeadlineNear)
    } else {
        match share.power {
            Some(power) if power >= workload.min * 0.5 && power > Watts::ZERO => {
                (power.bounded(workload.min, workload.max), JobReason::Planned)
            }
            Some(_) => (Watts::ZERO, JobReason::PlanWaits),
            None if share.plans => (Watts::ZERO, JobReason::PlanWaits),
            None => (workload.max, JobReason::NoPlan),
        }
    }
}

/// Nothing for a job that was not told to begin. One that was may have begun before it is heard, also where it is to wait
/// meanwhile.
fn errand(job: &Job) -> Option<Errand> {
    let begin = job.state == JobState::Waiting && job.told;
    (begin || job.has_begun()).then(|| Errand {
        job: job.ask.job.clone(),
        workload: job.ask.workload.clone(),
        parameters: job.ask.parameters.clone(),
        power: job.granted,
        begin,
        attempt: job.failures.saturating_add(1),
    })
}

mod strays;

#[cfg(test)]
mod tests;
