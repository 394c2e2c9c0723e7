//! The big net at work: a thread of its own sees what the small net doubts, riskiest first, as far as
//! the budget goes, and leaves its answers for whoever judges.
//!
//! ```text
//!   judge ── doubts ──▶ [ waiting ] ──granted──▶ big net (remote in time, else local) ──▶ answers ──▶ judge
//! ```
//! What a stranger gets wrong: nobody waits for this thread. A remote net that hangs, a budget that is
//! spent or a net that fails leaves doubts as they are, and the next look comes at its time. A panic in it is
//! a net that fails: it is told, and the thread goes on with the next doubt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::eyes::{PARTS, Sight};
use crate::io::camera::{Frame, Masks};
use crate::io::clock::Clock;
use crate::io::inference::{BigNet, Crop};
use crate::logic::decision::Effort;
use crate::logic::site::Id;
use crate::logic::vision::{Answer, BigLedger, BigTrouble, Doubt, Escalation, FireCuts};

/// How often the thread looks whether the budget has room again.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Joules of a watt-hour.
const JOULES: f64 = 3600.0;

/// An answer on its way back.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What was asked.
    pub doubt: Doubt,
    /// What came of it, the rules of release applied.
    pub answer: Answer,
    /// CPU time here, ms.
    pub cpu_ms: f64,
    /// Energy, J.
    pub joules: f64,
}

struct Desk {
    escalation: Escalation<Crop>,
    answers: Vec<Answered>,
    account: BigLedger,
    joules_per_cpu_s: f64,
    effort: Effort,
}

/// The queue before the big net, and its thread.
pub struct Cascade {
    desk: Arc<(Mutex<Desk>, Condvar)>,
    /// Pixels of a side of what the net takes.
    side: usize,
    /// Whether it shows pictures to another machine.
    is_remote: bool,
    cuts: FireCuts,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cascade {
    /// Starts the thread. `cuts` are the small net's; `ring` is called after each answer.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        mut net: BigNet,
        cuts: FireCuts,
        budget_wh: f64,
        (clock, pace): (Clock, f64),
        ring: impl Fn() + Send + 'static,
    ) -> std::io::Result<Cascade> {
        let desk = Desk {
            escalation: Escalation::new(budget_wh * JOULES),
            answers: Vec::new(),
            account: BigLedger { budget_wh, ..BigLedger::default() },
            joules_per_cpu_s: 0.0,
            effort: Effort::Full,
        };
        let desk = Arc::new((Mutex::new(desk), Condvar::new()));
        let (side, is_remote) = (net.side(), net.is_remote());
        let theirs = Arc::clone(&desk);
        let now = move || clock.now().uptime.div_f64(pace);
        std::thread::Builder::new().name("big net".to_owned()).spawn(move || {
            loop {
                let work = AssertUnwindSafe(|| work(&mut net, &theirs, &now, &ring));
                if catch_unwind(work).is_err() {
                    tracing::error!("the big net's thread panicked and begins again");
                    let mut held = lock(&theirs.0);
                    held.account.trouble = Some(BigTrouble::Failed);
                    drop(theirs.1.wait_timeout(held, LOOK_UP));
                }
            }
        })?;
        Ok(Cascade { desk, side, is_remote, cuts })
    }

    /// Puts what a look doubts before the big net; what another machine is shown of it has the masks painted.
    /// `eager`: there is another reason to look.
    pub fn ask(
        &self,
        camera: &Id,
        sight: &Sight,
        (frame, masks): (&Frame, &mut Masks),
        eager: bool,
    ) {
        let mut painted = None;
        let about = |look| Doubt::about((camera, sight.at), look, self.cuts, eager);
        for doubt in sight.parts.iter().filter_map(about) {
            if !lock(&self.desk.0).escalation.is_worth(&doubt) {
                continue;
            }
            let part = PARTS[doubt.part];
            let Some(mut crop) = Crop::of(frame, part, self.side) else { continue };
            if self.is_remote && masks.touch(part) {
                let painted = painted.get_or_insert_with(|| {
                    let mut painted = frame.clone();
                    masks.paint(&mut painted);
                    painted
                });
                let Some(shown) = Crop::of(painted, part, self.side) else { continue };
                crop = crop.shown_as(shown);
            }
            lock(&self.desk.0).escalation.ask(doubt, crop);
            self.desk.1.notify_one();
        }
    }

    /// Answers that came since the last time.
    pub fn answers(&self) -> Vec<Answered> {
        std::mem::take(&mut lock(&self.desk.0).answers)
    }

    /// What CPU time costs now, and how much may be spent.
    pub fn tell(&self, joules_per_cpu_s: f64, effort: Effort) {
        let mut desk = lock(&self.desk.0);
        desk.joules_per_cpu_s = joules_per_cpu_s;
        desk.effort = effort;
    }

    /// Its account.
    #[must_use]
    pub fn account(&self) -> BigLedger {
        lock(&self.desk.0).account.clone()
    }
}

/// Answers doubt after doubt for as long as the process lives.
fn work(
    net: &mut BigNet,
    (desk, bell): &(Mutex<Desk>, Condvar),
    now: &impl Fn() -> Duration,
    ring: &impl Fn(),
) {
    loop {
        let mut held = lock(desk);
        let granted = match held.effort {
            Effort::Full => held.escalation.next(now()),
            Effort::Eco | Effort::Survival => None,
        };
        held.account.dropped = held.escalation.dropped();
        held.account.spent_wh = held.escalation.budget().spent(now()) / JOULES;
        let Some((doubt, crop)) = granted else {
            drop(bell.wait_timeout(held, LOOK_UP).unwrap_or_else(PoisonError::into_inner));
            continue;
        };
        drop(held);
        let opinion = net.ask(&crop);
        let mut held = lock(desk);
        held.account.trouble = net.remote_trouble().map(|_| BigTrouble::RemoteLost);
        match opinion {
            Ok(opinion) => {
                let answer = settle(&mut held, &doubt, opinion.answer, now());
                let (cpu_ms, remote) = (opinion.cpu_ms, opinion.joules);
                let joules = remote + cpu_ms / 1000.0 * held.joules_per_cpu_s;
                held.escalation.budget().book(now(), joules);
                held.account.remote += u64::from(opinion.is_remote);
                held.account.local += u64::from(opinion.is_local);
                held.answers.push(Answered { doubt, answer, cpu_ms, joules });
            }
            Err(error) => {
                if held.account.trouble != Some(BigTrouble::Failed) {
                    tracing::warn!(%error, "the big net fails");
                }
                held.account.trouble = Some(BigTrouble::Failed);
            }
        }
        drop(held);
        ring();
    }
}

/// Applies the rules of release, and counts.
fn settle(desk: &mut Desk, doubt: &Doubt, answer: Answer, now: Duration) -> Answer {
    match answer {
        Answer::Released if desk.escalation.release(doubt, now) => {
            desk.account.released += 1;
            Answer::Released
        }
        Answer::Released | Answer::Doubtful => Answer::Doubtful,
        Answer::Confirmed { .. } => {
            desk.account.confirmed += 1;
            answer
        }
    }
}

#[cfg(test)]
mod tests;
