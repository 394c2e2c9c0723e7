//! What one device is told, and when: a setpoint is written, read back once the device has settled,
//! renewed before it expires, and defended against others who write.
//!
//! ```text
//!             target differs, >= 1 s since the last write (a stop: at once)
//!   held ─────────────────────────────▶ written ── settled ──▶ read back ── equal ──▶ held
//!    ▲ │ expires / 3, at most 5 s          ▲                      │ different, first time: once more
//!    └─┘                                   └──────────────────────┴─ second time: not obeyed
//! ```
//! What a stranger gets wrong: between two decisions only the newest counts, so a storm of decisions is
//! one write a second for a register (FB15). Who shares a register with another master writes again and
//! says so; from the fourth time in a minute on the lower of the two values stands (FB14). A register in flash
//! has a budget: each write of it, whatever for, makes it rest longer, and only what lowers or stops is written
//! before the rest is over. What it already holds is never written, not after a restart either.

use std::collections::VecDeque;
use std::time::Duration;

use super::device::Rank;
use crate::units::Moment;

/// A setpoint is renewed at least this often (decisions: min(device time-out / 3, 5 s)).
const RENEW_MOST: Duration = Duration::from_secs(5);
/// Least time between two writes of one register (FB15); a stop does not wait for it.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// Longer than any gateway runs.
const NEVER_S: f64 = 1e9;
/// A register in flash rests no longer than this: then the budget is a new day's.
const LONGEST_REST: Duration = Duration::from_secs(86_400);
/// A stop that a register in flash does not hold is told again after 2, 4, 8 ... s up to this. Our own figure.
const LONGEST_DEAF_REST: Duration = Duration::from_secs(600);
/// So long a foreign write counts (FB14).
const RIVAL_COUNTS: Duration = Duration::from_secs(60);
/// From this many foreign writes in that time on, the lower value stands (FB14).
const RIVAL_WINS: usize = 4;

/// What a device should hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    /// In the unit of its register map: A or W.
    pub value: f64,
    /// Values closer than this are the same.
    pub resolution: f64,
    /// The device forgets it after this long, s.
    pub expires_s: Option<f64>,
    /// Whether it stops the device: it waits for nothing.
    pub stop: bool,
    /// Whether the failsafe must be written as well.
    pub failsafe: bool,
    /// The register wears out: each write makes it rest this much longer, s. A higher value waits for the end
    /// of the rest, an equal one is never written again. 0 for registers that do not wear out.
    pub spacing_s: f64,
}

impl Want {
    fn differs(&self, from: f64) -> bool {
        (self.value - from).abs() >= self.resolution
    }

    /// Whether it asks for less of the same than `from`, or for nothing: a battery goes both ways.
    fn eases(&self, from: f64) -> bool {
        self.stop || (self.value.abs() < from.abs() && self.value * from >= 0.0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Written {
    value: f64,
    at: Moment,
    /// Connections made when it was written.
    made: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    value: f64,
    read_at: Moment,
}

/// The next step of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write it.
    Write,
    /// Read it back.
    ReadBack,
    /// Look whether it still stands.
    Look,
}

/// How a read back ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device holds the value.
    Obeyed,
    /// It does not; it is told once more.
    Again,
    /// It does not, twice.
    Disobeyed,
}

/// One device's order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    written: Option<Written>,
    pending: Option<Pending>,
    /// The last value that went out, and when, whatever became of it.
    tried: Option<(f64, Moment)>,
    /// Whether the value that is out has been told twice already.
    repeated: bool,
    /// Times in a row that it was told twice and did not hold it.
    ignored: u32,
    rivals: VecDeque<Moment>,
    /// What the rival wants, once it has won.
    yielded: Option<f64>,
    /// Until when a register in flash rests.
    rests_until: Option<Moment>,
    /// No reading shows what it holds.
    unshown: bool,
}

impl Order {
    /// The want with a rival's lower value in its place, once the rival has won.
    #[must_use]
    pub fn settle(&self, want: Want) -> Want {
        let value = self.yielded.map_or(want.value, |rival| want.value.min(rival));
        Want { value, ..want }
    }

    /// When the next step is due, how urgent it is, and which.
    #[must_use]
    pub fn next(&self, want: &Want, now: Moment) -> (Moment, Rank, Step) {
        let stop_is_new = self.is_new_stop(want);
        if let Some(pending) = &self.pending
            && !(stop_is_new && want.differs(pending.value))
        {
            return (pending.read_at, Rank::ReadBack, Step::ReadBack);
        }
        let free = self.tried.map_or(now, |(_, at)| at.after(BETWEEN_WRITES));
        if want.spacing_s > 0.0
            && let Some(at) = self.flash_waits_until(want, now)
        {
            return (at, Rank::Renewal, Step::Write);
        }
        match &self.written {
            Some(written) if !want.differs(written.value) && !want.failsafe => {
                let third = want
                    .expires_s
                    .map_or(RENEW_MOST, |s| Duration::from_secs_f64(s.max(0.3) / 3.0));
                (written.at.after(third.min(RENEW_MOST)), Rank::Renewal, Step::Write)
            }
            _ => (if stop_is_new { now } else { free }, Rank::Setpoint, Step::Write),
        }
    }

    /// Whether a stop is wanted that was not tried yet.
    #[must_use]
    pub fn is_new_stop(&self, want: &Want) -> bool {
        want.stop && self.tried.is_none_or(|(value, _)| want.differs(value))
    }

    /// What of a wish a register in flash is asked while it rests: the other direction is first of all no more of
    /// this one.
    #[must_use]
    pub fn within_rest(&self, want: &Want, now: Moment) -> Want {
        let rests = self.rests_until.is_some_and(|until| until.uptime > now.uptime);
        let turns = |written: &Written| want.value * written.value < 0.0;
        if want.spacing_s > 0.0 && rests && self.written.as_ref().is_some_and(turns) {
            return Want { value: 0.0, stop: true, ..*want };
        }
        *want
    }

    /// When a register in flash may be written; nothing where that waits for no rest.
    fn flash_waits_until(&self, want: &Want, now: Moment) -> Option<Moment> {
        let never = now.after(Duration::from_secs_f64(NEVER_S));
        match &self.written {
            _ if want.failsafe => None,
            Some(written) if !want.differs(written.value) => Some(never),
            _ if want.stop && self.ignored > 0 && !self.repeated && !self.is_new_stop(want) => {
                let rest = Duration::from_secs(1 << self.ignored.min(10)).min(LONGEST_DEAF_REST);
                self.tried.map(|(_, at)| at.after(rest))
            }
            Some(written) if want.eases(written.value) => None,
            Some(_) => Some(self.rests_until.unwrap_or(now)),
            None if want.stop || self.repeated => None,
            None if self.tried.is_some_and(|(v, _)| want.differs(v) && want.eases(v)) => None,
            None if self.unshown => Some(self.rests_until.unwrap_or(now)),
            // What it holds is seen with the next reading.
            None => Some(now.after(BETWEEN_WRITES)),
        }
    }

    /// A register in flash was written: it rests for `spacing_s` more.
    pub fn wears(&mut self, spacing_s: f64, now: Moment) {
        let begins = self.rests_until.filter(|until| until.uptime > now.uptime).unwrap_or(now);
        let until = begins.after(Duration::from_secs_f64(spacing_s));
        let latest = now.after(LONGEST_REST);
        self.rests_until = Some(if until.uptime < latest.uptime { until } else { latest });
    }

    /// Registers in flash that no reading shows: before the first write more power waits as after one.
    pub fn rest_unshown(&mut self, spacing_s: f64, now: Moment) {
        self.unshown = true;
        self.rests_until.get_or_insert(now.after(Duration::from_secs_f64(spacing_s)));
    }

    /// A register in flash holds this: it counts as written. Before the first write a higher value waits as
    /// after one, so that a gateway that starts again and again wears nothing out.
    pub fn adopt(&mut self, held: f64, spacing_s: f64, (asked, made): (Moment, u64)) {
        if spacing_s > 0.0 && self.written.is_none() && self.pending.is_none() && !self.repeated {
            self.written = Some(Written { value: held, at: asked, made });
            self.rests_until.get_or_insert(asked.after(Duration::from_secs_f64(spacing_s)));
        }
    }

    /// A value went out; it can be read back after `settles`. A renewal needs no time to settle.
    pub fn sent(&mut self, value: f64, now: Moment, settles: Duration) {
        let same = self.written.is_some_and(|written| written.value == value);
        let settles = if same { Duration::ZERO } else { settles };
        self.tried = Some((value, now));
        self.pending = Some(Pending { value, read_at: now.after(settles) });
    }

    /// A write or a read back failed: what the device holds is not known.
    pub fn failed(&mut self, value: f64, now: Moment) {
        self.tried = Some((value, now));
        (self.written, self.pending, self.repeated) = (None, None, false);
    }

    /// Whether the device has been seen to hold what it was told.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.written.is_some() && self.pending.is_none()
    }

    /// Whether the device was told to pause and has been seen to.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let stands = self.written.is_some_and(|written| written.value == 0.0);
        stands && self.tried.is_some_and(|(value, _)| value == 0.0)
    }

    /// The value that is out and not yet read back.
    #[must_use]
    pub fn pending(&self) -> Option<f64> {
        self.pending.map(|pending| pending.value)
    }

    /// The read back said this; `made` counts the connections.
    pub fn read_back(
        &mut self,
        held: Option<f64>,
        resolution: f64,
        (now, made): (Moment, u64),
    ) -> Verdict {
        let Some(pending) = self.pending.take() else {
            return Verdict::Again;
        };
        if held.is_some_and(|held| (held - pending.value).abs() <= resolution) {
            self.written = Some(Written { value: pending.value, at: now, made });
            (self.repeated, self.ignored) = (false, 0);
            return Verdict::Obeyed;
        }
        self.written = None;
        self.repeated = !self.repeated;
        if self.repeated {
            return Verdict::Again;
        }
        self.ignored = self.ignored.saturating_add(1);
        Verdict::Disobeyed
    }

    /// The device held something else, at the earliest at `asked`, than it was told: it is told again. Whether
    /// somebody else must have written it; a device whose line was cut since has more likely rebooted, and
    /// what was asked before we wrote says nothing. What is no number is never yielded to.
    pub fn notice(&mut self, held: f64, resolution: f64, (asked, made): (Moment, u64)) -> bool {
        let Some(written) = self.written else {
            return false;
        };
        let before = asked.uptime < written.at.uptime;
        if before || self.pending.is_some() || (held - written.value).abs() <= resolution {
            return false;
        }
        self.written = None;
        if written.made != made {
            return false;
        }
        self.rivals.push_back(asked);
        self.forget_rivals(asked);
        if self.rivals.len() >= RIVAL_WINS {
            self.yielded = Some(held);
        }
        true
    }

    /// Whether somebody else has written within the last minute; after that the rival is forgotten.
    pub fn has_rival(&mut self, now: Moment) -> bool {
        self.forget_rivals(now);
        if self.rivals.is_empty() {
            self.yielded = None;
        }
        !self.rivals.is_empty()
    }

    fn forget_rivals(&mut self, now: Moment) {
        while self.rivals.front().is_some_and(|at| at.age_at(now) >= RIVAL_COUNTS) {
            self.rivals.pop_front();
        }
    }

    /// Nothing is known of the device any more: whatever is wanted is written anew.
    pub fn forget(&mut self) {
        (self.written, self.pending, self.repeated) = (None, None, false);
    }
}

#[cfg(test)]
mod tests;
