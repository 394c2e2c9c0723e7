//! Taking a car from three phases to one and back: when it is wanted for long enough, with nothing flowing,
//! within a budget, and believed only when the charger says so.
//!
//! ```text
//!            wanted for long enough, budget and lock-out allow it
//!   steady ─────────────────────────────────────────────▶ emptying: paused, as it was
//!     ▲ ▲                                                   │ no current for 10 s   │ still drawing after a minute
//!     │ └───────────────────────────────────────────────────┼───────────────────────┘ given up for this car
//!     │      charger confirms, and has settled              ▼
//!     └────────────────────────────────────────────────── switching: paused, told the other
//!            never confirmed: given up for this car
//! ```
//! What a stranger gets wrong: being told one phase is not being on one. Three are counted until the charger
//! confirms one, and again at once when current is seen on another phase than the first.

use std::time::Duration;

use crate::logic::site::{ChargerReading, Line, PhaseCount, Switching, Vehicle};
use crate::units::{Amps, Moment};

/// To one phase after the lack has lasted so long; the car is paused by then. Our own figure.
const DOWN_AFTER: Duration = Duration::from_secs(30);
/// To three phases after there has been room for so long (EVerest: 600 s).
const UP_AFTER: Duration = Duration::from_secs(600);
/// No current was measured for so long: longer than the slowest car takes to let go. Our own figure.
const QUIET: Duration = Duration::from_secs(10);
/// Less is metering noise.
const NO_CURRENT: Amps = Amps(0.5);
/// More on another phase than the first one is a car on three.
const OTHER_PHASE: Amps = Amps(1.0);
/// Who still draws after so long does not let go.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);
/// A charger has shown what it was told within this. Our own figure.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);

/// A room of the tree of circuits and its line that is full.
pub type Full = (usize, Line);

/// What would be better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Better {
    /// As it is.
    Stay,
    /// One phase: on three there is not even the minimum current, because this is full.
    One(Option<Full>),
    /// Three phases: there is room for more than one takes.
    Three,
}

impl Better {
    fn count(self) -> Option<PhaseCount> {
        match self {
            Better::Stay => None,
            Better::One(_) => Some(PhaseCount::One),
            Better::Three => Some(PhaseCount::Three),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Steady,
    Emptying {
        to: PhaseCount,
        since: Moment,
    },
    Switching {
        to: PhaseCount,
        since: Moment,
        confirmed: Option<Moment>,
    },
}

/// What a second is like for a switch.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// What allocation would rather have.
    pub better: Better,
    /// Whether the charger was heard of just now.
    pub fresh: bool,
    /// Whether its car may be paused for it.
    pub may_pause: bool,
    /// Always so, but in tests that show what a rule is for: wishes must last, and nothing may flow.
    pub patient: bool,
    /// See `patient`.
    pub empty_first: bool,
}

/// One charger's phases.
#[derive(Clone, Debug, Default)]
pub struct PhaseSwitch {
    stage: Stage,
    /// What the charger says, as far as it can be believed.
    connected: Option<PhaseCount>,
    plugged: bool,
    quiet_since: Option<Moment>,
    wanted: Option<(PhaseCount, Moment)>,
    /// Why it is on one phase.
    because: Option<Full>,
    /// Switches during this stay, and when the last one was.
    spent: u32,
    last: Option<Moment>,
    /// It was not obeyed: no more of it while this car stays.
    given_up: bool,
    /// It said one phase while current flowed on another: never believed again.
    lies: bool,
}

impl PhaseSwitch {
    /// Takes in what the charger says.
    pub fn see(&mut self, at: Moment, reading: &ChargerReading) {
        let plugged = match reading.vehicle {
            Vehicle::Connected | Vehicle::Charging => true,
            Vehicle::Absent => false,
            Vehicle::Fault => self.plugged,
        };
        if plugged != self.plugged {
            (self.plugged, self.spent, self.last) = (plugged, 0, None);
            (self.given_up, self.wanted) = (self.lies, None);
        }
        let [_, second, third] = reading.current.0;
        if reading.phases == Some(PhaseCount::One) && second.max(third) > OTHER_PHASE {
            (self.lies, self.given_up) = (true, true);
        }
        self.connected = if self.lies { None } else { reading.phases };
        let quiet = reading.most_drawn() < NO_CURRENT;
        self.quiet_since = quiet.then(|| self.quiet_since.unwrap_or(at));
    }

    /// A second passes.
    pub fn step(&mut self, now: Moment, allowed: &Switching, second: Second) {
        if !second.fresh {
            self.quiet_since = None;
        }
        match self.stage {
            Stage::Steady => self.consider(now, allowed, second),
            Stage::Emptying { to, since } => {
                let quiet = |from: Moment| from.uptime.max(since.uptime) + QUIET <= now.uptime;
                if self.quiet_since.is_some_and(quiet) || !second.empty_first {
                    self.stage = Stage::Switching { to, since: now, confirmed: None };
                    if self.plugged {
                        self.spent += 1;
                        self.last = Some(now);
                    }
                } else if since.age_at(now) >= EMPTY_WITHIN {
                    self.give_up();
                }
            }
            Stage::Switching { to, since, confirmed } => {
                let holds = self.connected == Some(to);
                let confirmed = if holds { confirmed.or(Some(now)) } else { None };
                self.stage = Stage::Switching { to, since, confirmed };
                if confirmed.is_some_and(|at| at.age_at(now) >= allowed.settle) {
                    self.stage = Stage::Steady;
                } else if !holds && since.age_at(now) >= CONFIRMED_WITHIN + allowed.settle {
                    self.give_up();
                }
            }
        }
    }

    fn consider(&mut self, now: Moment, allowed: &Switching, second: Second) {
        let better = second.better;
        let wanted = better.count().filter(|count| self.connected.is_some_and(|c| c != *count));
        let Some(to) = wanted.filter(|_| !self.given_up) else {
            self.wanted = None;
            return;
        };
        let since = match self.wanted {
            Some((count, since)) if count == to => since,
            _ => now,
        };
        self.wanted = Some((to, since));
        if let Better::One(full) = better {
            self.because = full;
        }
        let patience = match to {
            _ if !self.plugged || !second.patient => Duration::ZERO,
            PhaseCount::One => DOWN_AFTER,
            PhaseCount::Three => UP_AFTER,
        };
        let locked = self.last.is_some_and(|last| last.age_at(now) < allowed.lockout);
        let left = (self.spent < allowed.most && !locked) || !second.patient;
        let free = !self.plugged || (left && second.may_pause);
        if free && since.age_at(now) >= patience {
            self.stage = Stage::Emptying { to, since: now };
            self.wanted = None;
        }
    }

    fn give_up(&mut self) {
        (self.stage, self.given_up, self.wanted) = (Stage::Steady, true, None);
    }

    /// What the charger is told; nothing: whatever it is on. It is asked for only once nothing flows.
    #[must_use]
    pub fn told(&self) -> Option<PhaseCount> {
        match self.stage {
            Stage::Switching { to, .. } => Some(to),
            Stage::Steady | Stage::Emptying { .. } => self.connected,
        }
    }

    /// Whether it is paused because of it.
    #[must_use]
    pub fn pauses(&self) -> bool {
        self.stage != Stage::Steady
    }

    /// What it will be on once a switch under way is done, or what it is on.
    #[must_use]
    pub fn heading(&self) -> PhaseCount {
        match self.stage {
            Stage::Emptying { to, .. } | Stage::Switching { to, .. } => to,
            Stage::Steady => self.counted(),
        }
    }

    /// On how many phases it counts: one only where that is sure.
    #[must_use]
    pub fn counted(&self) -> PhaseCount {
        match self.stage {
            Stage::Switching { .. } => PhaseCount::Three,
            Stage::Steady | Stage::Emptying { .. } => self.connected.unwrap_or(PhaseCount::Three),
        }
    }

    /// What was full when it went to one phase; nothing while it counts on three.
    #[must_use]
    pub fn because(&self) -> Option<Full> {
        self.because.filter(|_| self.counted() == PhaseCount::One)
    }

    /// Whether this car may not be switched any more.
    #[must_use]
    pub fn is_spent(&self, allowed: &Switching) -> bool {
        self.given_up || self.spent >= allowed.most
    }

    /// Whether the charger did not do it.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{PerPhase, Watts};

    const ALLOWED: Switching =
        Switching { most: 2, lockout: Duration::from_secs(120), settle: Duration::from_secs(5) };

    /// A charger that does what it is told once it is paused, a second later, unless it is broken.
    #[derive(Default)]
    struct Bench {
        switch: PhaseSwitch,
        connected: Option<PhaseCount>,
        amps: f64,
        /// Draws on all phases whatever it says.
        welded: bool,
        deaf: bool,
        absent: bool,
        now: u64,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { connected: Some(PhaseCount::Three), ..Bench::default() }
        }

        fn second(&mut self, better: Better) {
            self.now += 1;
            let utc = chrono::DateTime::UNIX_EPOCH;
            let now = Moment { uptime: Duration::from_secs(self.now), utc };
            let on = |one: bool| if one { self.amps } else { 0.0 };
            let rest = self.welded || self.connected == Some(PhaseCount::Three);
            let vehicle = if self.absent { Vehicle::Absent } else { Vehicle::Charging };
            let reading = ChargerReading {
                vehicle,
                current: PerPhase([on(true), on(rest), on(rest)].map(Amps)),
                voltage: PerPhase::default(),
                power: Watts(0.0),
                limit: Amps(0.0),
                energy: None,
                phases: self.connected,
                lease: None,
            };
            self.switch.see(now, &reading);
            let second =
                Second { better, fresh: true, may_pause: true, patient: true, empty_first: true };
            self.switch.step(now, &ALLOWED, second);
            if !self.deaf && self.switch.pauses() && self.amps == 0.0 {
                self.connected = self.switch.told();
            }
        }

        /// Seconds until it counts `count`, at most `most`.
        fn until(&mut self, count: PhaseCount, better: Better, most: u64) -> Option<u64> {
            (0..most).find(|_| {
                self.second(better);
                self.switch.counted() == count && !self.switch.pauses()
            })
        }
    }

    const ONE: Better = Better::One(Some((0, Line::Power)));

    #[test]
    fn a_lack_that_lasts_takes_a_paused_car_to_one_phase() {
        let mut bench = Bench::new();
        for _ in 0..29 {
            bench.second(ONE);
        }
        bench.second(Better::Stay);
        assert!(!bench.switch.pauses(), "a short lack switches nothing");
        assert!(bench.until(PhaseCount::One, ONE, 30 + 10 + 5 + 5).is_some());
        assert_eq!(bench.switch.because(), Some((0, Line::Power)));
    }

    #[test]
    fn nothing_is_switched_while_current_flows() {
        let mut bench = Bench::new();
        bench.amps = 16.0;
        for _ in 0..60 {
            bench.second(ONE);
            assert_eq!(bench.switch.told(), Some(PhaseCount::Three));
        }
        assert!(bench.switch.pauses(), "it has to let go first");
        for second in 0..9 {
            bench.amps = if second == 4 { 6.0 } else { 0.0 };
            bench.second(ONE);
            assert_eq!(bench.switch.told(), Some(PhaseCount::Three), "{second}");
        }
        bench.amps = 16.0;
        for _ in 0..60 {
            bench.second(ONE);
            assert_eq!(bench.switch.told(), Some(PhaseCount::Three));
        }
        assert!(bench.switch.is_ignored() && !bench.switch.pauses(), "it never lets go");
    }

    #[test]
    fn three_are_counted_until_the_charger_says_one_and_a_deaf_one_is_asked_once_for_each_car() {
        let mut bench = Bench::new();
        bench.deaf = true;
        assert_eq!(bench.until(PhaseCount::One, ONE, 2000), None);
        assert!(bench.switch.is_ignored() && !bench.switch.pauses());
        bench.absent = true;
        bench.second(Better::Stay);
        (bench.absent, bench.deaf) = (false, false);
        assert!(!bench.switch.is_ignored(), "another car");
        assert!(bench.until(PhaseCount::One, ONE, 100).is_some(), "the next car may be switched");
    }

    #[test]
    fn a_charger_that_says_one_and_draws_on_three_is_never_believed_again() {
        let mut bench = Bench::new();
        assert!(bench.until(PhaseCount::One, ONE, 100).is_some());
        (bench.welded, bench.amps) = (true, 6.0);
        bench.second(Better::Stay);
        assert_eq!(bench.switch.counted(), PhaseCount::Three, "at once");
        bench.amps = 0.0;
        assert_eq!(bench.until(PhaseCount::One, ONE, 1000), None);
        assert!(bench.switch.is_ignored());
    }

    #[test]
    fn a_stay_has_a_budget_and_between_two_switches_there_is_a_lock_out() {
        let mut bench = Bench::new();
        assert!(bench.until(PhaseCount::One, ONE, 100).is_some());
        let up = bench.until(PhaseCount::Three, Better::Three, 2000).unwrap();
        assert!(up >= UP_AFTER.as_secs(), "{up} s");
        assert_eq!(bench.until(PhaseCount::One, ONE, 5000), None, "two switches are spent");
        bench.absent = true;
        bench.second(Better::Stay);
        bench.absent = false;
        assert!(bench.until(PhaseCount::One, ONE, 100).is_some(), "another car, another budget");
        bench.absent = true;
        assert!(bench.until(PhaseCount::Three, Better::Three, 40).is_some(), "nobody waits");
    }
}
