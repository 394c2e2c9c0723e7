//! The controller's thread: takes in what has come, decides once a second, and leaves the newest decision
//! where whoever needs it can look.
//!
//! What a stranger gets wrong: it waits for nobody. Latch, book of jobs and trace get what they need when
//! they have room for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use tokio::sync::watch;

use super::aside::Looks;
use super::jobs::Books;
use super::life::Life;
use crate::io::clock::Clock;
use crate::io::store::{Line, TraceRing, digest};
use crate::logic::compute::KEPT_EVERY;
use crate::logic::controller::Controller;
use crate::logic::decision::{Decision, Duty, Latched, Overview};
use crate::logic::observation::Observation;
use crate::units::Moment;

/// The controller decides this often, of site time.
const PERIOD: Duration = Duration::from_secs(1);
/// Observations that may wait for the controller; it drains at most these between two decisions.
pub(super) const OBSERVATIONS: usize = 256;
/// The daybook is kept this often: more would wear the disk, and a crash costs no more than that.
const WRITES_DAYS_EVERY: Duration = Duration::from_secs(600);

/// The controller's thread.
pub(super) struct Mind {
    pub controller: Controller,
    pub clock: Clock,
    pub inbox: Receiver<Observation>,
    pub decisions: watch::Sender<Option<Arc<Decision>>>,
    pub overviews: watch::Sender<Option<Arc<Overview>>>,
    pub duties: watch::Sender<Duty>,
    pub to_latch: SyncSender<Latched>,
    /// What the latch's thread was given last.
    pub handed: Option<Latched>,
    /// What `replay` needs, where it can be written.
    pub trace: Option<TraceRing>,
    pub life: Life,
    pub looks: Looks,
    /// The last decision.
    pub told: Option<Arc<Decision>>,
    /// The way to whoever keeps the books.
    pub books: SyncSender<Books>,
    /// The book of jobs that was given there last: its number of changes, and when.
    pub kept: Option<(u64, Moment)>,
    /// When the daybook was given there last.
    pub days_kept: Moment,
}

impl Mind {
    /// Until the end; whoever keeps the books gets the last ones then.
    pub fn think(mut self, ends: &AtomicBool) {
        self.decide_until(ends);
        let (jobs, days) = (Some(self.controller.jobs().closed()), Some(self.controller.days()));
        let _ = self.books.send(Books { jobs, days });
    }

    fn decide_until(&mut self, ends: &AtomicBool) {
        let mut next = self.clock.now();
        while !ends.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let wait = self.clock.wall_time(next.uptime.saturating_sub(now.uptime));
            let urgent = match self.inbox.recv_timeout(wait) {
                Ok(first) => self.take_in(first),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = self.clock.now();
            if !urgent && now.uptime < next.uptime {
                continue;
            }
            if now.uptime >= next.uptime {
                // Missed ticks are skipped, not queued.
                next =
                    if next.age_at(now) > PERIOD { now.after(PERIOD) } else { next.after(PERIOD) };
            }
            self.decide();
        }
    }

    /// Takes in what has come, one channel-full at most. Whether any of it is urgent.
    fn take_in(&mut self, first: Observation) -> bool {
        let mut urgent = self.hear(first);
        for _ in 1..OBSERVATIONS {
            match self.inbox.try_recv() {
                Ok(observation) => urgent |= self.hear(observation),
                Err(_) => break,
            }
        }
        urgent
    }

    fn hear(&mut self, observation: Observation) -> bool {
        let world = (&self.controller.site().meter, self.told.as_deref());
        let Some(observation) = self.looks.pass(observation, world, self.clock) else {
            return false;
        };
        if let Some(trace) = &mut self.trace {
            trace.append(Line::Heard(observation.clone()));
        }
        self.controller.observe(observation)
    }

    fn decide(&mut self) {
        let decision = Arc::new(self.controller.decide(self.clock.now()));
        // First of all: a stop waits for nothing of what follows.
        self.decisions.send_replace(Some(Arc::clone(&decision)));
        self.told = Some(Arc::clone(&decision));
        if let Some(trace) = &mut self.trace {
            trace.append(Line::Ticked { at: decision.at, digest: digest(&decision) });
        }
        let overview = self.controller.overview(&decision);
        let writing = decision.writing;
        self.duties.send_if_modified(|duty| {
            let changed = *duty != decision.duty;
            duty.clone_from(&decision.duty);
            changed
        });
        let latched = self.controller.latched();
        // A thread that is busy writing gets it with the next decision.
        if self.handed.as_ref() != Some(&latched) && self.to_latch.try_send(latched.clone()).is_ok()
        {
            self.handed = Some(latched);
        }
        self.keep_books(decision.at);
        self.overviews.send_replace(Some(Arc::new(overview)));
        self.life.completed_cycle(writing);
    }

    fn keep_books(&mut self, now: Moment) {
        let jobs = self.controller.jobs();
        let changes = jobs.changes();
        let due = self.kept.is_none_or(|(known, at)| {
            changes != known || (at.age_at(now) >= KEPT_EVERY && !jobs.jobs().is_empty())
        });
        let days_due = self.days_kept.age_at(now) >= WRITES_DAYS_EVERY;
        if !due && !days_due {
            return;
        }
        let days = days_due.then(|| self.controller.days());
        let books = Books { jobs: due.then(|| jobs.clone()), days };
        if self.books.try_send(books).is_ok() {
            self.kept = if due { Some((changes, now)) } else { self.kept };
            self.days_kept = if days_due { now } else { self.days_kept };
        }
    }
}
