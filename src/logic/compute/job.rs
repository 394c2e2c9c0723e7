//! One job: what was asked, how far it is, and what it is told.
//!
//! ```text
//!   waiting ──▶ running ⇄ paused ──▶ done
//!      ▲           │          └────▶ cancelled
//!      └─ retry ───┴───────────────▶ failed
//! ```
//! What a stranger gets wrong: joules are a measurement or a model, and a job says which (`Method`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Spent, Window};
use crate::logic::site::{Id, Submission, Workload};
use crate::units::{Moment, WattHours, Watts};

/// Pause before a job that failed is tried again, s, times its failures.
const RETRY_S: i64 = 60;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Not begun, or to begin anew.
    Waiting,
    /// It runs.
    Running,
    /// Begun, and told to wait.
    Paused,
    /// It has done what it was asked.
    Done,
    /// It has failed as often as it may.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl JobState {
    /// Whether there is nothing more to come.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

/// Where the figure of a job's energy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The processor's energy counter, shared by CPU time.
    Counter,
    /// The meter of the compute node, beyond its idle power.
    NodeMeter,
    /// CPU time times the watts of one busy core, as calibrated in the site file.
    CpuTime,
}

/// By what a job is held to its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// A control group of its own (cgroup v2, `cpu.max`).
    Cgroup,
    /// Stopping and continuing it, a tenth of a second at a time, at the lowest priority.
    Turns,
    /// The service of its node.
    Node,
}

/// Why a job does what it does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobReason {
    /// The plan has it in this quarter of an hour.
    Planned,
    /// The plan has it later.
    PlanWaits,
    /// Nothing is planned on this site: it runs when there is room.
    NoPlan,
    /// Its deadline leaves no more time to wait.
    DeadlineNear,
    /// It may not be interrupted.
    MustNotStop,
    /// The energy of the hour is spent.
    BudgetHour,
    /// The energy of the day is spent.
    BudgetDay,
    /// A person has paused it.
    Held,
    /// Grid and chargers leave its node too little.
    NodeLimit,
    /// Its node does not answer.
    NodeLost,
    /// It has failed, and waits for its next try.
    RetryWaits,
    /// The gateway saves its energy for the fire watch.
    Shed,
    /// As many jobs run on the gateway itself as may.
    Crowded,
    /// It is over.
    Over,
}

impl JobReason {
    /// Stable code: the key of its text (`job.<code>`).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            JobReason::Planned => "planned",
            JobReason::PlanWaits => "plan_waits",
            JobReason::NoPlan => "no_plan",
            JobReason::DeadlineNear => "deadline_near",
            JobReason::MustNotStop => "must_not_stop",
            JobReason::BudgetHour => "budget_hour",
            JobReason::BudgetDay => "budget_day",
            JobReason::Held => "held",
            JobReason::NodeLimit => "node_limit",
            JobReason::NodeLost => "node_lost",
            JobReason::RetryWaits => "retry_waits",
            JobReason::Shed => "shed",
            JobReason::Crowded => "crowded",
            JobReason::Over => "over",
        }
    }
}

impl From<Window> for JobReason {
    fn from(window: Window) -> JobReason {
        match window {
            Window::Hour => JobReason::BudgetHour,
            Window::Day => JobReason::BudgetDay,
        }
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What was asked.
    pub ask: Submission,
    /// When.
    pub submitted: DateTime<Utc>,
    /// How far it is.
    pub state: JobState,
    /// It was told to begin, and nobody has heard yet whether it has.
    #[serde(default)]
    pub told: bool,
    /// A person has paused it.
    pub held: bool,
    /// When it is to be done where its deadline could not be kept from the first: see [`TooLong`].
    #[serde(default)]
    pub due: Option<DateTime<Utc>>,
    /// What a run is thought to take.
    pub need: WattHours,
    /// What this try has taken.
    pub spent: WattHours,
    /// What earlier tries took.
    pub lost: WattHours,
    /// CPU time of this try, s; nothing where it runs on a node.
    pub cpu_s: f64,
    /// Where `spent` comes from; nothing before it ran.
    pub method: Option<Method>,
    /// What all its tries took in the running hour and day.
    #[serde(default)]
    pub lately: Spent,
    /// By what this try is held to its power; nothing before it ran.
    #[serde(default)]
    pub held_by: Option<HeldBy>,
    /// Tries that failed.
    pub failures: u8,
    /// No new try before.
    pub not_before: Option<DateTime<Utc>>,
    /// Since when it goes on beyond its time, on the clock of this start of the gateway; not kept.
    #[serde(skip)]
    pub late_since: Option<Moment>,
    /// When it was over.
    pub ended: Option<DateTime<Utc>>,
    /// What was wrong, in the words of whoever ran it.
    pub trouble: Option<String>,
    /// What it may draw now.
    pub granted: Watts,
    /// Why.
    pub why: JobReason,
}

impl Job {
    /// When it is to be done, as it is planned.
    #[must_use]
    pub fn due(&self) -> DateTime<Utc> {
        self.due.unwrap_or(self.ask.deadline)
    }

    /// What is still missing. Where more was taken than was thought, a tenth.
    #[must_use]
    pub fn left(&self) -> WattHours {
        let missing = self.need.get() - self.spent.get();
        WattHours(missing.max(self.need.get() * 0.1))
    }

    /// All that it took.
    #[must_use]
    pub fn used(&self) -> WattHours {
        WattHours(self.spent.get() + self.lost.get())
    }

    /// Pause before a job that has failed is tried again.
    #[must_use]
    pub fn pause(&self) -> chrono::Duration {
        chrono::Duration::seconds(RETRY_S * i64::from(self.failures))
    }

    /// Whether that pause goes on. One that would last longer than it can was told by another clock.
    #[must_use]
    pub fn rests(&self, now: DateTime<Utc>) -> bool {
        self.not_before.is_some_and(|at| now < at && at - now <= self.pause())
    }

    /// Whether it has begun and is not over.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(self.state, JobState::Running | JobState::Paused)
    }
}

/// A job that takes longer, even alone and at its full power, than it has until its deadline.
///
/// It is taken all the same, and whoever asks is told by how much it will be late. No price buys what is lost: it is
/// not started at once, but planned as one that is due when its workload's own `within_h` is over, or when twice its
/// running time is, whichever is later. So it has at least as many hours to choose from as it takes. A deadline that
/// could be kept when it was given, and that something else endangers (a node that is lost, chargers, a failed try), is
/// another thing: there every minute counts, and the job runs as soon as it can.
///
/// Budgets are not looked at: what they leave in which hour is known when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TooLong {
    /// Least running time, h.
    pub takes_h: f64,
    /// So much of that is left when the deadline is there, h.
    pub late_h: f64,
    /// By when it is planned to be done.
    pub due: DateTime<Utc>,
}

/// Less than this is not late: nobody knows to the minute what a run takes.
const LATE_H: f64 = 1.0 / 60.0;
/// Nothing is planned further ahead, h: a year.
const FURTHEST_H: f64 = 8784.0;

impl TooLong {
    /// Nothing where a job that is asked for `now` can be done by its deadline.
    #[must_use]
    pub fn told(
        workload: &Workload,
        need: WattHours,
        (now, deadline): (DateTime<Utc>, DateTime<Utc>),
    ) -> Option<TooLong> {
        let takes_h = need.get() / workload.max.get().max(1e-9);
        let late_h = takes_h - (deadline - now).num_milliseconds() as f64 / 3_600_000.0;
        let hours = workload.within_h.max(2.0 * takes_h).min(FURTHEST_H);
        let due = now.checked_add_signed(chrono::Duration::seconds((hours * 3600.0) as i64))?;
        (late_h > LATE_H).then_some(TooLong { takes_h, late_h, due })
    }
}

/// What a run of a workload is thought to take: as runs before it, or as the site file says.
#[must_use]
pub fn need(workload: &Workload, account: Option<&Account>) -> WattHours {
    let learned = account.and_then(|account| account.typical_wh);
    WattHours(learned.unwrap_or(workload.energy.get()).max(1e-6))
}

/// What whoever asks for something about a job is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// The job that it is about.
    pub job: Id,
    /// A new one that cannot be done in time.
    #[serde(flatten)]
    pub too_long: Option<TooLong>,
}

/// What whoever runs a job tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobNews {
    /// It has begun.
    Started,
    /// By what it is held to its power.
    HeldBy(HeldBy),
    /// What this try has taken so far.
    Spent {
        /// Energy since it was started.
        energy: WattHours,
        /// CPU time since it was started, s.
        cpu_s: f64,
        /// How that is known.
        method: Method,
    },
    /// It is done.
    Done,
    /// It has failed; a short text says how.
    Failed(String),
}

/// What the one who runs jobs is told of one; a job of which nothing is told must not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Errand {
    /// The job.
    pub job: Id,
    /// Its workload.
    pub workload: Id,
    /// Values of its parameters, all allowed.
    pub parameters: BTreeMap<String, String>,
    /// What it may draw; 0: it waits.
    pub power: Watts,
    /// Nobody has heard yet that it has begun: start it, unless it runs or has no power.
    pub begin: bool,
    /// Which try it is: the first, after a failure the second.
    #[serde(default)]
    pub attempt: u8,
}

/// A job as the plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The job.
    pub job: Id,
    /// Where it runs; nothing: the gateway itself.
    pub node: Option<Id>,
    /// Energy still missing.
    pub left: WattHours,
    /// When it must be done.
    pub deadline: DateTime<Utc>,
    /// Least power while it runs.
    pub min: Watts,
    /// Most power.
    pub max: Watts,
    /// Once begun it is not interrupted.
    pub in_one_go: bool,
    /// It has begun.
    pub begun: bool,
}

/// What a workload has taken since ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Jobs that were done.
    pub done: u64,
    /// Jobs that failed or were cancelled.
    pub not_done: u64,
    /// Energy of all of them, Wh.
    pub energy_wh: f64,
    /// What a run takes, learned, Wh; nothing before one was done.
    pub typical_wh: Option<f64>,
}
