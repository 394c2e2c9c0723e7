//! Charging with what the sun leaves over: when a car may start on it and when it pauses, how several cars share
//! it, and how to find out how much there is where the meter cannot show it.
//!
//! ```text
//!          enough for a minute, and rested            lacking for three minutes
//!   waits ───────────────────────────────▶ charges ───────────────────────────▶ waits
//!     │  it may be hidden: nothing may be exported,                               ▲
//!     │  and what is not used is curtailed                  still imports         │
//!     └─────────────────────────────▶ tries ──────────────────────────────────────┘
//!                                       │ the inverter has followed   (longer each time)
//!                                       └──────────▶ charges
//! ```
//! What a stranger gets wrong: where nothing may be exported the meter reads zero under the brightest sun. What
//! there is shows only to who takes it.

use std::time::Duration;

use crate::units::{Moment, Watts};

/// A car starts when there has been enough for so long (evcc: 1 min).
pub const STARTS_AFTER: Duration = Duration::from_secs(60);
/// It pauses when there has been too little for so long (evcc: 3 min).
pub const PAUSES_AFTER: Duration = Duration::from_secs(180);
/// Or so long, where the site has been short for the three minutes already, for another car. Our own figure.
pub const PAUSES_ALSO_AFTER: Duration = Duration::from_secs(30);
/// Shortest pause. With the three minutes above: six an hour at most, as for every pause.
pub const RESTS: Duration = Duration::from_secs(420);
/// A trial is judged when the car has drawn for so long: inverters follow within it. Our own figure.
const TRIED_FOR: Duration = Duration::from_secs(30);
/// A car that has not begun to draw within this is tried later; phases may have to be changed first.
const TRIAL_BEGINS_WITHIN: Duration = Duration::from_secs(240);
/// The first pause after a trial that found nothing; twice as long each time, up to [`MOST_DOUBLINGS`]. Our own
/// figures.
const TRIES_AGAIN_AFTER: Duration = Duration::from_secs(1200);
const MOST_DOUBLINGS: u32 = 2;

/// What a second is like for a car that waits for sun or charges with it.
#[derive(Clone, Copy, Debug)]
pub struct SunSecond {
    /// There is enough for its minimum on the fewest phases that it could use.
    pub enough: bool,
    /// There is too little for what it charges with now, beyond noise.
    pub lacking: bool,
    /// For how long there has been too little for some car on the sun, this one or another.
    pub short_for: Duration,
    /// There may be more than the meter shows.
    pub hidden: bool,
    /// It draws current.
    pub draws: bool,
    /// Always so, but in tests that show what waiting is for.
    pub patient: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Waits,
    Tries {
        since: Moment,
        drawn_since: Option<Moment>,
    },
    Charges,
}

/// One car's start and pause.
#[derive(Clone, Debug, Default)]
pub struct SunSwitch {
    stage: Stage,
    paused: Option<Moment>,
    enough_since: Option<Moment>,
    hidden_since: Option<Moment>,
    lacking_since: Option<Moment>,
    /// It goes on with the least there is: on one phase where it was on three.
    small: bool,
    /// When a trial found nothing, and how many did in a row.
    refused: Option<Moment>,
    refusals: u32,
}

impl SunSwitch {
    /// Another car, or none: what was learnt of the sun holds on.
    pub fn unplug(&mut self) {
        let (refused, refusals) = (self.refused, self.refusals);
        *self = SunSwitch { refused, refusals, ..SunSwitch::default() };
    }

    /// It charges already, and there is enough for it.
    pub fn take_over(&mut self) {
        self.stage = Stage::Charges;
    }

    /// A second passes.
    pub fn step(&mut self, now: Moment, second: SunSecond) {
        let since = |holds: bool, before: Option<Moment>| holds.then(|| before.unwrap_or(now));
        self.enough_since = since(second.enough, self.enough_since);
        self.hidden_since = since(second.hidden && !second.enough, self.hidden_since);
        self.lacking_since = since(second.lacking, self.lacking_since);
        let wait = |time: Duration| if second.patient { time } else { Duration::ZERO };
        let lasts =
            |from: Option<Moment>, time| from.is_some_and(|at| at.age_at(now) >= wait(time));
        match self.stage {
            Stage::Waits => {
                if self.paused.is_some_and(|at| at.age_at(now) < wait(RESTS)) {
                } else if lasts(self.enough_since, STARTS_AFTER) {
                    self.stage = Stage::Charges;
                } else if lasts(self.hidden_since, STARTS_AFTER) && self.may_try(now) {
                    self.stage = Stage::Tries { since: now, drawn_since: None };
                }
            }
            Stage::Tries { since, drawn_since } => {
                let drawn_since = drawn_since.or(second.draws.then_some(now));
                self.stage = Stage::Tries { since, drawn_since };
                if drawn_since.is_some_and(|at| at.age_at(now) >= TRIED_FOR) {
                    self.end_trial(second.enough, now);
                } else if drawn_since.is_none() && since.age_at(now) >= TRIAL_BEGINS_WITHIN {
                    self.end_trial(false, now);
                }
            }
            Stage::Charges => {
                // Clouds that come one after another, each for another car, are one cloud to the meter.
                let short = second.short_for >= wait(PAUSES_AFTER);
                let seldom = self.paused.is_none_or(|at| at.age_at(now) >= RESTS + PAUSES_AFTER);
                let also = short && seldom && lasts(self.lacking_since, PAUSES_ALSO_AFTER);
                if also || lasts(self.lacking_since, PAUSES_AFTER) {
                    // For less there may be enough.
                    if second.enough && !self.small {
                        (self.small, self.lacking_since) = (true, None);
                    } else {
                        self.pause(now);
                    }
                } else if second.draws && !second.lacking {
                    self.small = false;
                }
            }
        }
    }

    fn may_try(&self, now: Moment) -> bool {
        let wait =
            TRIES_AGAIN_AFTER * 2u32.pow(self.refusals.saturating_sub(1).min(MOST_DOUBLINGS));
        self.refused.is_none_or(|at| at.age_at(now) >= wait)
    }

    fn end_trial(&mut self, found: bool, now: Moment) {
        if found {
            (self.stage, self.refused, self.refusals) = (Stage::Charges, None, 0);
        } else {
            (self.refused, self.refusals) = (Some(now), self.refusals.saturating_add(1));
            self.pause(now);
        }
    }

    fn pause(&mut self, now: Moment) {
        (self.stage, self.paused, self.small) = (Stage::Waits, Some(now), false);
        (self.enough_since, self.hidden_since, self.lacking_since) = (None, None, None);
    }

    /// Whether it may charge.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.stage != Stage::Waits
    }

    /// Whether it charges to see what there is.
    #[must_use]
    pub fn tries(&self) -> bool {
        matches!(self.stage, Stage::Tries { .. })
    }

    /// Whether it had better go on with the least there is.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.small
    }
}

/// What one car takes of the sun: at least and at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SunClaim {
    /// It has this whether the sun gives it or not.
    pub least: Watts,
    /// It takes no more.
    pub most: Watts,
}

/// Each gets its least, and what that leaves of the sun is shared alike among those that take more.
#[must_use]
pub fn share_sun(available: Watts, claims: &[SunClaim]) -> Vec<Watts> {
    let mut given: Vec<Watts> = claims.iter().map(|claim| claim.least).collect();
    let mut left = available - given.iter().copied().sum::<Watts>();
    let mut open: Vec<usize> = (0..claims.len()).filter(|&i| claims[i].most > given[i]).collect();
    // The smallest wish first: each turn fulfils one, or shares all that is left.
    open.sort_by(|&a, &b| {
        let room = |i: usize| (claims[i].most - claims[i].least).get();
        room(a).total_cmp(&room(b))
    });
    for (turn, &i) in open.iter().enumerate() {
        if left <= Watts::ZERO {
            break;
        }
        let part = left * (1.0 / (open.len() - turn) as f64);
        let more = part.min(claims[i].most - given[i]);
        given[i] += more;
        left = left - more;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a switch for so many seconds of the same kind; when it changed, s.
    struct Bench {
        switch: SunSwitch,
        now: u64,
        changes: Vec<u64>,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { switch: SunSwitch::default(), now: 0, changes: Vec::new() }
        }

        fn run(&mut self, seconds: u64, second: SunSecond) {
            for _ in 0..seconds {
                self.now += 1;
                let utc = chrono::DateTime::UNIX_EPOCH;
                let now = Moment { uptime: Duration::from_secs(self.now), utc };
                let before = self.switch.is_on();
                self.switch.step(now, SunSecond { draws: before && second.draws, ..second });
                if self.switch.is_on() != before {
                    self.changes.push(self.now);
                }
            }
        }
    }

    const NONE: SunSecond = SunSecond {
        enough: false,
        lacking: true,
        short_for: Duration::ZERO,
        hidden: false,
        draws: true,
        patient: true,
    };
    const SUN: SunSecond = SunSecond { enough: true, lacking: false, ..NONE };
    const HIDDEN: SunSecond = SunSecond { hidden: true, ..NONE };

    #[test]
    fn a_car_starts_after_a_minute_of_sun_and_pauses_after_three_without() {
        let mut bench = Bench::new();
        bench.run(59, SUN);
        bench.run(1, NONE);
        assert!(!bench.switch.is_on(), "a short gleam starts nothing");
        bench.run(62, SUN);
        assert!(bench.switch.is_on());
        bench.run(170, NONE);
        bench.run(1, SUN);
        bench.run(170, NONE);
        assert!(bench.switch.is_on(), "a cloud pauses nothing");
        bench.run(12, NONE);
        assert!(!bench.switch.is_on());
        let paused = bench.now;
        bench.run(2000, SUN);
        assert!(bench.changes[2] - paused >= 400, "{:?}", bench.changes);
    }

    #[test]
    fn a_car_that_lacks_while_another_has_lacked_for_long_does_not_wait_as_long_again() {
        let mut bench = Bench::new();
        bench.run(62, SUN);
        let short_for = PAUSES_AFTER;
        bench.run(60, SunSecond { short_for, ..SUN });
        assert!(bench.switch.is_on(), "it has enough itself");
        bench.run(30, SunSecond { short_for, ..NONE });
        assert!(bench.switch.is_on());
        bench.run(2, SunSecond { short_for, ..NONE });
        assert!(!bench.switch.is_on());
    }

    #[test]
    fn whatever_the_sky_does_there_are_six_pauses_an_hour_at_most() {
        for period in [1, 30, 100, 200, 300, 500] {
            let mut bench = Bench::new();
            while bench.now < 20 * 3600 {
                bench.run(period, SUN);
                bench.run(period, NONE);
            }
            let pauses: Vec<u64> = bench.changes.iter().copied().skip(1).step_by(2).collect();
            let worst = pauses
                .iter()
                .map(|from| pauses.iter().filter(|at| (*from..*from + 3600).contains(*at)).count());
            assert!(worst.max().unwrap_or(0) <= 6, "{period}: {pauses:?}");
        }
    }

    #[test]
    fn a_trial_that_finds_nothing_is_made_seldom_and_one_that_finds_sun_goes_on() {
        let mut bench = Bench::new();
        bench.run(8 * 3600, HIDDEN);
        let trials = bench.changes.len() / 2;
        assert!((4..=9).contains(&trials), "{trials} trials in eight hours");
        assert!(bench.changes.chunks(2).all(|trial| trial[1] - trial[0] <= 32), "each is short");
        let mut bench = Bench::new();
        bench.run(62, HIDDEN);
        assert!(bench.switch.tries());
        bench.run(40, SUN);
        assert!(bench.switch.is_on() && !bench.switch.tries(), "the inverter has followed");
        bench.run(170, NONE);
        assert!(bench.switch.is_on(), "and then it is like any other sun");
    }

    #[test]
    fn on_three_phases_less_is_tried_before_a_pause() {
        let mut bench = Bench::new();
        bench.run(100, SUN);
        let little = SunSecond { lacking: true, ..SUN };
        bench.run(200, little);
        assert!(bench.switch.is_on() && bench.switch.is_small());
        bench.run(200, little);
        assert!(!bench.switch.is_on(), "nor is there enough for that");
    }

    #[test]
    fn the_sun_is_shared_alike_beyond_what_each_has_anyway() {
        let claim = |least: f64, most: f64| SunClaim { least: Watts(least), most: Watts(most) };
        let table: [(f64, &[SunClaim], &[f64]); 4] = [
            (-500.0, &[claim(1400.0, 3600.0)], &[1400.0]),
            (5000.0, &[claim(1400.0, 3600.0)], &[3600.0]),
            (9000.0, &[claim(1000.0, 9000.0), claim(3000.0, 9000.0)], &[3500.0, 5500.0]),
            (9000.0, &[claim(1000.0, 9000.0), claim(3000.0, 4000.0)], &[5000.0, 4000.0]),
        ];
        for (available, claims, given) in table {
            let shared: Vec<f64> =
                share_sun(Watts(available), claims).iter().map(|w| w.get()).collect();
            assert_eq!(shared, given, "{available}");
        }
    }
}
