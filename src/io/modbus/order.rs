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
            Some(written) if want.value < written.value => None,
            Some(_) => Some(self.rests_until.unwrap_or(now)),
            None if want.stop || self.repeated => None,
            None if self.tried.is_some_and(|(v, _)| want.differs(v) && want.value < v) => None,
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
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment { uptime: Duration::from_millis(ms), utc: chrono::DateTime::UNIX_EPOCH }
    }

    fn want(value: f64) -> Want {
        let stop = value == 0.0;
        Want {
            value,
            resolution: 0.05,
            expires_s: Some(60.0),
            stop,
            failsafe: false,
            spacing_s: 0.0,
        }
    }

    /// Runs an order for `ms` milliseconds of a perfect device, the want changing by `wish`; the writes.
    fn run(order: &mut Order, ms: u64, mut wish: impl FnMut(u64) -> f64) -> Vec<(u64, f64)> {
        let mut writes = Vec::new();
        for now in 0..ms {
            let target = order.settle(want(wish(now)));
            let (when, _, step) = order.next(&target, at(now));
            if when.uptime > at(now).uptime {
                continue;
            }
            match step {
                Step::Write => {
                    order.sent(target.value, at(now), Duration::from_millis(200));
                    writes.push((now, target.value));
                }
                Step::ReadBack | Step::Look => {
                    let held = order.pending();
                    assert_eq!(order.read_back(held, 0.05, (at(now), 1)), Verdict::Obeyed);
                }
            }
        }
        writes
    }

    #[test]
    fn fb15_a_storm_of_a_thousand_wishes_a_second_is_one_write_a_second() {
        let mut order = Order::default();
        let writes = run(&mut order, 20_000, |ms| 6.0 + (ms % 25) as f64);
        assert!((18..=20).contains(&writes.len()), "{} writes in 20 s", writes.len());
        let closest = writes.windows(2).map(|pair| pair[1].0 - pair[0].0).min();
        assert!(closest >= Some(1000), "two writes {closest:?} ms apart");
    }

    #[test]
    fn fb15_a_stop_waits_for_no_other_write() {
        let mut order = Order::default();
        let writes = run(&mut order, 3000, |ms| if ms < 50 { 16.0 } else { 0.0 });
        assert_eq!(writes[..2], [(0, 16.0), (50, 0.0)]);
        assert_eq!(writes.len(), 2, "a stop that stands is not written again: {writes:?}");
    }

    #[test]
    fn a_setpoint_that_stands_is_renewed_in_time() {
        let mut order = Order::default();
        let writes = run(&mut order, 21_000, |_| 10.0);
        // The first second of each five passes until the read back.
        let times: Vec<u64> = writes.iter().map(|write| write.0 / 100).collect();
        assert_eq!(times, [0, 52, 102, 152, 202]);
    }

    #[test]
    fn fb14_a_rival_is_answered_three_times_a_minute_and_then_the_lower_value_stands() {
        let mut order = Order::default();
        let tell = |order: &mut Order, ms: u64, value: f64| {
            order.sent(value, at(ms), Duration::ZERO);
            assert_eq!(order.read_back(Some(value), 0.05, (at(ms), 1)), Verdict::Obeyed);
        };
        tell(&mut order, 0, 10.0);
        for round in 1..=3 {
            assert!(order.notice(16.0, 0.05, (at(round * 5000), 1)));
            assert_eq!(order.settle(want(10.0)).value, 10.0, "asserted again, round {round}");
            tell(&mut order, round * 5000, 10.0);
        }
        assert!(order.notice(8.0, 0.05, (at(20_000), 1)));
        assert_eq!(order.settle(want(10.0)).value, 8.0, "the rival's value is lower");
        assert_eq!(order.settle(want(6.0)).value, 6.0, "ours is lower");
        assert!(order.has_rival(at(79_000)));
        assert!(!order.has_rival(at(80_001)));
        assert_eq!(order.settle(want(10.0)).value, 10.0, "a minute without a rival");
    }

    #[test]
    fn what_was_read_before_we_wrote_is_no_rival() {
        let mut order = Order::default();
        order.sent(10.0, at(1000), Duration::ZERO);
        order.read_back(Some(10.0), 0.05, (at(1040), 1));
        assert!(!order.notice(16.9, 0.05, (at(990), 1)), "a round that began before the write");
        assert!(!order.has_rival(at(1100)));
        assert!(order.notice(16.9, 0.05, (at(1990), 1)));
    }

    #[test]
    fn a_device_whose_line_was_cut_has_rebooted_and_has_no_rival() {
        let mut order = Order::default();
        order.sent(10.0, at(0), Duration::ZERO);
        order.read_back(Some(10.0), 0.05, (at(0), 1));
        assert!(!order.notice(32.0, 0.05, (at(1000), 2)));
        assert_eq!(order.next(&want(10.0), at(1500)).0.uptime, at(1000).uptime, "told again");
        assert!(!order.has_rival(at(1000)));
    }

    /// Runs an order on flash with 24 writes a day for `hours`, the want by second; the device holds what it
    /// is told, or ignores it. The writes: second and value.
    fn wear_out(hours: u64, deaf: bool, mut wish: impl FnMut(u64) -> f64) -> Vec<(u64, f64)> {
        const SPACING_S: f64 = 3600.0;
        let (mut order, mut held, mut writes) = (Order::default(), 10.0, Vec::new());
        for second in 0..hours * 3600 {
            let now = at(second * 1000);
            order.notice(held, 0.05, (now, 1));
            order.adopt(held, SPACING_S, (now, 1));
            let target = Want { spacing_s: SPACING_S, expires_s: None, ..want(wish(second)) };
            loop {
                let (when, _, step) = order.next(&target, now);
                if when.uptime > now.uptime {
                    break;
                }
                if step == Step::Write {
                    order.sent(target.value, now, Duration::ZERO);
                    order.wears(SPACING_S, now);
                    writes.push((second, target.value));
                    held = if deaf { held } else { target.value };
                } else {
                    order.read_back(Some(held), 0.05, (now, 1));
                }
            }
        }
        writes
    }

    #[test]
    fn fb15_flash_takes_a_stop_and_less_at_once_and_more_within_its_budget() {
        // Up and down all day: as many writes as the budget has, and those that lower.
        let restless = wear_out(48, false, |second| 8.0 + (second / 60 % 12) as f64);
        let raises = restless.windows(2).filter(|pair| pair[1].1 > pair[0].1).count();
        assert!(
            (10..=24).contains(&raises),
            "{raises} raises in two days, {} writes",
            restless.len()
        );
        assert!(restless.len() <= 2 * 24 + 1, "{} writes in two days", restless.len());
        // The same value for ever, and the one that it holds already: nothing.
        assert_eq!(wear_out(48, false, |_| 10.0), []);
        let once = wear_out(48, false, |second| if second < 5 { 10.0 } else { 8.0 });
        assert_eq!(once, [(5, 8.0)]);
        // Used up: what lowers is written in the second it is wanted, a stop too; what raises waits.
        let falling = wear_out(30, false, |second| match second {
            0..100 => 10.0,
            100..104 => 10.0 - (second - 99) as f64,
            104..200 => 6.0,
            200..300 => 0.0,
            _ => 9.0,
        });
        let times: Vec<u64> = falling.iter().map(|(second, _)| *second).collect();
        assert_eq!(times[..5], [100, 101, 102, 103, 200]);
        assert_eq!(times[5..], [6 * 3600], "the start and five writes: six rests");
    }

    #[test]
    fn fb10_flash_of_a_device_that_ignores_it_is_not_written_again_and_again() {
        let writes = wear_out(24, true, |_| 16.0);
        assert!((2..=25).contains(&writes.len()), "{} writes in a day", writes.len());
        let stops = wear_out(24, true, |_| 0.0);
        assert!((10..=400).contains(&stops.len()), "{} stops in a day", stops.len());
    }

    #[test]
    fn a_device_that_does_not_hold_it_is_told_twice() {
        let mut order = Order::default();
        for (ms, verdict) in [(0, Verdict::Again), (1000, Verdict::Disobeyed)] {
            assert_eq!(order.next(&want(10.0), at(ms)).2, Step::Write);
            order.sent(10.0, at(ms), Duration::ZERO);
            assert_eq!(order.read_back(Some(32.0), 0.05, (at(ms), 1)), verdict);
        }
    }
}
