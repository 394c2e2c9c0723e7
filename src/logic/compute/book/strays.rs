//! Jobs that nobody has ended: those that ran when the gateway ended, and those that hang.
//!
//! What a stranger gets wrong: a restart is a failure of what ran, though nobody knows whether it was its fault. It waits
//! as after any other failure, and what is there each time the gateway ends is not begun for ever.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{JobBook, KEPT_EVERY};
use crate::logic::compute::job::{Job, JobState};
use crate::logic::site::{Id, Work};
use crate::units::{Moment, WattHours, Watts};

/// So often more than it may fail by itself a job may have run when the gateway ended.
const MORE_RESTARTS: u8 = 2;
/// A job that goes on for so long beyond its time hangs, h; and no less than so many times as long as its workload has.
/// Our own figures.
const HANGS_AFTER_H: f64 = 24.0;
const HANGS_AFTER_TIMES: f64 = 2.0;
/// Where jobs were ended with the gateway they take something until they have, which nobody is told: so long at most.
const ENDS_IN: Duration = Duration::from_secs(10);

impl JobBook {
    /// As it is after the gateway was started again: whatever ran was ended with it and begins anew. That
    /// counts as a failure, as it may have been what ended the gateway: it waits as after any other, and what fails so
    /// again and again is not tried for ever. What may have been spent after the book was kept is taken off the budget, as
    /// a bound that a crash lifts is none.
    #[must_use]
    pub fn after_restart(mut self, work: &Work, now: Moment) -> JobBook {
        self.spent.resume(now);
        let unknown = if self.closed { ENDS_IN } else { KEPT_EVERY };
        let unknown_h = unknown.as_secs_f64() / 3600.0;
        self.closed = false;
        for job in self.jobs.iter_mut().filter(|job| !job.state.is_over()) {
            // Its share may have risen since the book was kept: that is no change for which it is kept anew.
            let most = work.workload(job.ask.workload.as_str()).map_or(job.granted, |w| w.max);
            if job.has_begun() || job.granted > Watts::ZERO {
                self.spent.add(WattHours(most.get() * unknown_h));
            }
            if job.has_begun() || job.told {
                job.failures = job.failures.saturating_add(1);
                job.not_before = Some(now.utc + job.pause());
            }
            (job.told, job.late_since) = (false, None);
            job.granted = Watts::ZERO;
            job.lost = job.used();
            (job.spent, job.cpu_s, job.held_by) = (WattHours(0.0), 0.0, None);
            job.state = JobState::Waiting;
        }
        let live = self.jobs.iter().filter(|job| !job.state.is_over());
        let why_not = |job: &Job| {
            let retries = work.workload(job.ask.workload.as_str()).map_or(0, |w| w.retries);
            // What the site file no longer knows or no longer allows is not done.
            if !work.allows(&job.ask) {
                Some("the site file no longer allows it")
            } else if job.failures > retries.saturating_add(MORE_RESTARTS) {
                Some("the gateway has ended again and again while it ran")
            } else {
                None
            }
        };
        let gone = live.filter_map(|job| Some((job.ask.job.clone(), why_not(job)?)));
        for (id, why) in gone.collect::<Vec<_>>() {
            self.fail(&id, why, now.utc);
        }
        self
    }

    fn fail(&mut self, id: &Id, why: &str, now: DateTime<Utc>) {
        self.live(id, |job| job.trouble = Some(why.to_owned()));
        self.end(id, JobState::Failed, now);
    }

    /// Ends what hangs: it would keep its place for ever. By a clock that nobody sets.
    pub(super) fn end_hung(&mut self, work: &Work, now: Moment) {
        let mut hung = Vec::new();
        for job in &mut self.jobs {
            let late = job.has_begun() && !job.held && job.due() < now.utc;
            job.late_since = late.then(|| job.late_since.unwrap_or(now));
            let within_h = work.workload(job.ask.workload.as_str()).map_or(0.0, |w| w.within_h);
            let most_h = (within_h * HANGS_AFTER_TIMES).max(HANGS_AFTER_H);
            let hangs = |since: Moment| since.age_at(now).as_secs_f64() >= most_h * 3600.0;
            hung.extend(job.late_since.is_some_and(hangs).then(|| job.ask.job.clone()));
        }
        for id in hung {
            self.fail(&id, "it went on long after it should have ended", now.utc);
        }
    }
}
