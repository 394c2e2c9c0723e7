//! Which block of a device is read when, and what came of it: each block by its own period, its values kept
//! until the next answer.
//!
//! ```text
//!   round (the shortest period):  fast blocks ─▶ what was never read, or is overdue ─▶ one reading
//!   between rounds, when nothing fast waits on the line:  one slow block that is due
//! ```
//! What a stranger gets wrong: slow blocks give way to every fast read of their line, so on a full line they
//! are never due alone. Who is overdue by a whole period goes with the round; whose values are three periods
//! old has none. A block that the device refuses (exceptions 1 to 3) is taken apart where it bridges unused
//! registers, since those may be the illegal ones; a refused part is asked again after ten minutes, or when the
//! device was connected anew.

use std::time::Duration;

use super::blocks::{self, Block};
use super::decoder;
use super::readings::Values;
use crate::config::Profile;
use crate::units::Moment;

/// Period of a device without blocks (its models are walked).
pub const USUAL_PERIOD: Duration = Duration::from_secs(1);
/// A refused block is asked again after this long. Our own figure.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// A slow block this many periods after its last answer goes with the round.
const OVERDUE: u32 = 2;
/// Values this many periods old are no values any more (conventions: grey beyond three periods).
const KEPT_FOR: u32 = 3;

/// One read, and what became of it.
#[derive(Clone, Debug)]
struct Ask {
    block: Block,
    asked: Option<Moment>,
    kept: Option<(Moment, Values)>,
    refused: Option<(Moment, u64)>,
}

impl Ask {
    fn of(block: Block) -> Ask {
        Ask { block, asked: None, kept: None, refused: None }
    }

    /// Whether its last answer is younger than so many periods.
    fn is_younger(&self, periods: u32, now: Moment) -> bool {
        self.kept.as_ref().is_some_and(|(at, _)| at.age_at(now) < self.block.period * periods)
    }
}

/// How often a device whose models are walked is read: every second, or as often as its quickest model.
#[must_use]
pub fn walked_period(profile: &Profile) -> Duration {
    let periods = profile.models.values().map(|seconds| Duration::from_secs_f64(*seconds));
    periods.fold(USUAL_PERIOD, Duration::min)
}

/// The reads of one device.
#[derive(Clone, Debug)]
pub struct Rota {
    period: Duration,
    asks: Vec<Ask>,
}

impl Rota {
    /// Nothing read yet.
    #[must_use]
    pub fn of(profile: &Profile) -> Rota {
        let asks: Vec<Ask> = blocks::compile(profile).into_iter().map(Ask::of).collect();
        let period = asks.first().map_or(walked_period(profile), |ask| ask.block.period);
        Rota { period, asks }
    }

    /// How often a round begins.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Whether a block belongs to the round: it is fast, or there is nothing of it, or it is overdue.
    fn is_of_round(&self, ask: &Ask, now: Moment) -> bool {
        let pressing = ask.asked.is_none() || !ask.is_younger(OVERDUE, now);
        ask.block.period <= self.period || pressing
    }

    /// The next block of the round from `from` on; `made` counts the connections.
    #[must_use]
    pub fn next_of_round(&self, from: usize, (now, made): (Moment, u64)) -> Option<usize> {
        let due = |ask: &Ask| {
            ask.refused.is_none_or(|(at, then)| then != made || at.age_at(now) >= REFUSED_FOR)
        };
        (from..self.asks.len())
            .find(|&i| due(&self.asks[i]) && self.is_of_round(&self.asks[i], now))
    }

    /// The slow block that is due next between two rounds, and when.
    #[must_use]
    pub fn next_slow(&self, now: Moment) -> Option<(Moment, usize)> {
        let slow = self
            .asks
            .iter()
            .enumerate()
            .filter(|(_, ask)| ask.refused.is_none() && !self.is_of_round(ask, now));
        let due = |(i, ask): (usize, &Ask)| Some((ask.asked?.after(ask.block.period), i));
        slow.filter_map(due).min_by_key(|(at, _)| at.uptime)
    }

    /// A block that is being asked now.
    pub fn ask(&mut self, i: usize, now: Moment) -> Block {
        let ask = &mut self.asks[i];
        ask.asked = Some(now);
        ask.block.clone()
    }

    /// A block answered; it was asked when [`Rota::ask`] said so.
    pub fn keep(&mut self, i: usize, values: Values) {
        let ask = &mut self.asks[i];
        ask.refused = None;
        ask.kept = ask.asked.map(|at| (at, values));
    }

    /// A block was refused. The number of parts that are asked in its place; 1 when it cannot be taken apart.
    pub fn refuse(&mut self, i: usize, profile: &Profile, (now, made): (Moment, u64)) -> usize {
        let parts = blocks::parts(profile, &self.asks[i].block);
        let count = parts.len();
        if count > 1 {
            self.asks.splice(i..=i, parts.into_iter().map(Ask::of));
        } else {
            (self.asks[i].refused, self.asks[i].kept) = (Some((now, made)), None);
            // What is wrong with it may be wrong with the slow ones: they are asked with the next round.
            let others = self.asks.iter_mut().filter(|ask| ask.refused.is_none());
            others.for_each(|ask| ask.asked = None);
        }
        count
    }

    /// Whether anything stands refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.asks.iter().any(|ask| ask.refused.is_some())
    }

    /// After a fault the device may be another one: everything is read anew.
    pub fn forget(&mut self) {
        self.asks.iter_mut().for_each(|ask| ask.kept = None);
    }

    /// All values of the round that `began`, and those that are young enough for their own period; those of one
    /// quantity are added.
    #[must_use]
    pub fn values(&self, began: Moment, now: Moment) -> Values {
        let mut all = Values::new();
        let of_round = |ask: &&Ask| {
            ask.kept.as_ref().is_some_and(|(at, _)| at.uptime >= began.uptime)
                || ask.is_younger(KEPT_FOR, now)
        };
        let kept = self.asks.iter().filter(of_round).filter_map(|ask| ask.kept.as_ref());
        for (_, values) in kept {
            for (quantity, value) in values {
                decoder::add(&mut all, quantity, value.clone());
            }
        }
        all
    }

    /// When the value of a quantity was asked for that stands now.
    #[must_use]
    pub fn asked(&self, profile: &Profile, quantity: &str) -> Option<Moment> {
        let has = |ask: &&Ask| {
            let name = |i: &usize| profile.points.get(*i).map(|point| point.quantity.as_str());
            ask.block.points.iter().any(|i| name(i) == Some(quantity))
        };
        let times = self.asks.iter().filter(has).filter_map(|ask| ask.kept.as_ref());
        times.map(|(at, _)| *at).min_by_key(|at| at.uptime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_profile;
    use crate::io::modbus::codec::Raw;

    fn at(seconds: u64) -> Moment {
        Moment { uptime: Duration::from_secs(seconds), utc: chrono::DateTime::UNIX_EPOCH }
    }

    /// A fast value, and a counter far away.
    fn rota() -> (Rota, Profile) {
        let text = "id='p'\nkind='sunspec_meter'\nname='p'\nsource='test'\nconfidence='documented'\n\
            type='u16'\npoints=[{quantity='energy_wh',address=0},{quantity='power_w',address=500}]";
        let mut faults = Vec::new();
        let profile = read_profile(text, &mut faults).unwrap_or_else(|| panic!("{faults:?}"));
        (Rota::of(&profile), profile)
    }

    fn read(rota: &mut Rota, i: usize, quantity: &str, now: u64) {
        rota.ask(i, at(now));
        rota.keep(i, Values::from([(quantity.to_owned(), Raw::Number(now as f64))]));
    }

    #[test]
    fn slow_blocks_go_with_the_first_round_and_then_by_their_own_period() {
        let (mut rota, _) = rota();
        assert_eq!(rota.period(), Duration::from_secs(1));
        assert_eq!(rota.next_of_round(0, (at(0), 1)), Some(0));
        assert_eq!(
            rota.next_of_round(1, (at(0), 1)),
            Some(1),
            "never read: it goes with the round"
        );
        read(&mut rota, 0, "power_w", 0);
        assert!(rota.next_of_round(1, (at(0), 1)).is_some());
        read(&mut rota, 1, "energy_wh", 0);
        for second in 1..20 {
            read(&mut rota, 0, "power_w", second);
            assert_eq!(rota.next_of_round(1, (at(second), 1)), None, "{second} s");
        }
        assert_eq!(rota.next_slow(at(5)).map(|(due, i)| (due.uptime.as_secs(), i)), Some((10, 1)));
        assert_eq!(rota.next_of_round(1, (at(20), 1)), Some(1), "overdue by a whole period");
        assert_eq!(rota.next_slow(at(20)), None);
        assert_eq!(rota.next_of_round(1, (at(1), 2)), None, "a new line alone changes nothing");
        rota.forget();
        assert_eq!(rota.next_of_round(1, (at(1), 1)), Some(1), "after a fault all is read anew");
    }

    #[test]
    fn each_value_is_as_old_as_its_own_period_allows() {
        let (mut rota, profile) = rota();
        read(&mut rota, 0, "power_w", 0);
        read(&mut rota, 1, "energy_wh", 0);
        let has = |rota: &Rota, began: u64, now: u64| {
            let values = rota.values(at(began), at(now));
            ["power_w", "energy_wh"].map(|quantity| values.contains_key(quantity))
        };
        assert_eq!(has(&rota, 0, 2), [true, true]);
        assert_eq!(has(&rota, 1, 3), [false, true], "three of its periods of a second are over");
        assert_eq!(has(&rota, 0, 9), [true, true], "what this round has read counts, however slow");
        assert_eq!(has(&rota, 1, 29), [false, true]);
        assert_eq!(has(&rota, 1, 30), [false, false]);
        assert_eq!(rota.asked(&profile, "energy_wh"), Some(at(0)));
        read(&mut rota, 1, "energy_wh", 12);
        assert_eq!(rota.asked(&profile, "energy_wh"), Some(at(12)));
    }

    #[test]
    fn a_refused_block_is_asked_again_after_ten_minutes_or_on_a_new_line() {
        let (mut rota, profile) = rota();
        read(&mut rota, 0, "power_w", 0);
        assert_eq!(rota.refuse(0, &profile, (at(5), 1)), 1);
        assert!(rota.is_refused());
        assert!(
            rota.next_slow(at(5)).is_none() && rota.next_of_round(0, (at(5), 1)) == Some(1),
            "never asked yet"
        );
        assert_ne!(rota.next_of_round(0, (at(604), 1)), Some(0));
        assert_eq!(rota.next_of_round(0, (at(605), 1)), Some(0));
        assert_eq!(rota.next_of_round(0, (at(6), 2)), Some(0));
        assert!(rota.values(at(6), at(6)).is_empty(), "what was refused is not kept");
        read(&mut rota, 0, "power_w", 7);
        read(&mut rota, 1, "energy_wh", 7);
        assert_eq!(rota.next_of_round(1, (at(8), 2)), None);
        rota.refuse(0, &profile, (at(8), 2));
        assert_eq!(rota.next_of_round(1, (at(8), 2)), Some(1), "slow ones are asked at once");
    }
}
