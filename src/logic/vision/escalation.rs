//! Which doubtful looks the big net gets to see: the riskiest first, under a budget of energy.
//!
//! ```text
//!   doubtful part ──▶ waiting (one for each camera and part, the newest) ──riskiest──▶ big net
//!                        │ older than 5 s: gone                   │ only while the last hour's
//!                        └ over the alarm cut: never dropped      ▼ energy is under the budget
//!                                        released · confirmed · still doubtful
//! ```
//! What a stranger gets wrong: nothing waits for the big net. A doubt derates as soon as the small net
//! has it; the big one can take it back (not twice a minute for one part, never a score over the alarm
//! cut) or add to it. A part whose budget is spent stays doubtful. And what is still is hardly worth asking about:
//! it cannot become an alarm (`triage`), so a stain costs a look a minute and, over the alarm cut, none.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{FireCuts, PartLook, Verdict};
use crate::logic::site::Id;

/// A doubt below the alarm cut is worth an answer for as long as it counts in `triage`.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
/// A part is released at most once in this time (decisions: not twice a minute).
const RELEASED_ONCE_IN: Duration = Duration::from_secs(60);
/// The big net is asked about a part that is still at most once in this time: all that can come of it is a release.
const STILL_ASKED_ONCE_IN: Duration = RELEASED_ONCE_IN;
/// Budgets are kept for each hour that ends now.
const HOUR: Duration = Duration::from_secs(3600);
/// Spent energy is remembered in pieces of this length; a piece counts until all of it is an hour old.
const PIECE: Duration = Duration::from_secs(60);
/// Risk counts this many times where the zone is already on watch, or something electrical is odd.
const EAGER_COUNTS: f64 = 2.0;

/// A part of a frame in which the small net saw more than nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// The camera.
    pub camera: Id,
    /// Part of the frame: 0 the whole, then the tiles.
    pub part: usize,
    /// When the look was taken, on the clock of `triage`.
    pub at: Duration,
    /// Expected risk: how far the small scores reach into the doubt band, 0 to 1, above 1 over the
    /// alarm cut; counted twice where there is another reason to look.
    pub risk: f64,
    /// Whether a small score is over the alarm cut.
    pub over: bool,
    /// Whether the part is still, or nobody knows.
    pub still: bool,
    /// Whether the small net sees nothing here now, and only the big one did a moment ago.
    pub lingers: bool,
}

impl Doubt {
    /// The doubt about a part of a look taken at `at`; nothing where there is none. `eager`: there is another
    /// reason to look.
    #[must_use]
    pub fn about(
        (camera, at): (&Id, Duration),
        look: &PartLook,
        cuts: FireCuts,
        eager: bool,
    ) -> Option<Doubt> {
        let PartLook { part, flame, smoke, stirs, confirmed } = *look;
        let verdict = cuts.single(flame, smoke);
        let lingers = verdict == Verdict::Clear;
        if lingers && !confirmed {
            return None;
        }
        let reach = |score: f64, from: f64, to: f64| {
            let reach = (score - from) / (to - from).max(1e-6);
            if reach.is_nan() { 1.0 } else { reach.max(0.0) }
        };
        let flame = reach(flame, cuts.flame_doubtful, cuts.flame_alarm);
        let smoke = reach(smoke, cuts.smoke_doubtful, cuts.smoke_alarm);
        let times = if eager { EAGER_COUNTS } else { 1.0 };
        let risk = flame.max(smoke) * times;
        let (over, still) = (verdict == Verdict::Alarm, stirs.is_none());
        Some(Doubt { camera: camera.clone(), part, at, risk, over, still, lingers })
    }
}

/// Energy that may be spent in any hour.
#[derive(Clone, Debug)]
pub struct Budget {
    per_hour_j: f64,
    /// Begin of each piece and what was spent in it, J.
    spent: VecDeque<(Duration, f64)>,
}

impl Budget {
    /// Nothing spent yet; `per_hour_j` in joules, 0 for none.
    #[must_use]
    pub fn of(per_hour_j: f64) -> Budget {
        Budget { per_hour_j: per_hour_j.max(0.0), spent: VecDeque::new() }
    }

    /// Joules of the hour that ends at `now`, at most a minute's too much.
    #[must_use]
    pub fn spent(&self, now: Duration) -> f64 {
        let counts = |begin: &Duration| now.saturating_sub(*begin) < HOUR + PIECE;
        self.spent.iter().filter(|(begin, _)| counts(begin)).map(|(_, joules)| joules).sum()
    }
    /// Whether another look may begin. So the budget is passed by one look at most.
    #[must_use]
    pub fn allows(&self, now: Duration) -> bool {
        self.spent(now) < self.per_hour_j
    }

    /// Books what a look took. What is not a number or below nothing counts as a whole budget: a meter
    /// that fails must not open the purse.
    pub fn book(&mut self, now: Duration, joules: f64) {
        let joules = if joules >= 0.0 { joules } else { self.per_hour_j };
        self.spent.retain(|(begin, _)| now.saturating_sub(*begin) < HOUR + PIECE);
        match self.spent.back_mut().filter(|(begin, _)| now.saturating_sub(*begin) < PIECE) {
            Some((_, spent)) => *spent += joules,
            None => self.spent.push_back((now, joules)),
        }
    }
}

/// Doubts that wait for the big net, each with what it is to see.
#[derive(Clone, Debug)]
pub struct Escalation<T> {
    waiting: BTreeMap<(Id, usize), (Doubt, T)>,
    released: BTreeMap<(Id, usize), Duration>,
    /// When the big net was last asked about a part that was still.
    asked_still: BTreeMap<(Id, usize), Duration>,
    budget: Budget,
    dropped: u64,
}

impl<T> Escalation<T> {
    /// None waits; `per_hour_j` joules may be spent in any hour.
    #[must_use]
    pub fn new(per_hour_j: f64) -> Escalation<T> {
        Escalation {
            waiting: BTreeMap::new(),
            released: BTreeMap::new(),
            asked_still: BTreeMap::new(),
            budget: Budget::of(per_hour_j),
            dropped: 0,
        }
    }

    /// The budget, to be booked on.
    pub fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Doubts that grew old before the budget or the big net had room for them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether anything can come of asking about a doubt; a yes counts as having asked. What is still cannot be
    /// confirmed, and what is over the alarm cut cannot be released.
    pub fn is_worth(&mut self, doubt: &Doubt) -> bool {
        if !doubt.still {
            return true;
        }
        let place = (doubt.camera.clone(), doubt.part);
        let since = |last: &Duration| doubt.at.saturating_sub(*last);
        let again = self.asked_still.get(&place).is_some_and(|l| since(l) < STILL_ASKED_ONCE_IN);
        if doubt.over || again {
            return false;
        }
        self.asked_still.insert(place, doubt.at);
        true
    }

    /// Puts a doubt among those that wait; it takes the place of an older one about the same part,
    /// unless that one is over the alarm cut and this one is not.
    pub fn ask(&mut self, doubt: Doubt, about: T) {
        let place = (doubt.camera.clone(), doubt.part);
        if let Some((older, _)) = self.waiting.get(&place) {
            if older.over && !doubt.over {
                self.dropped += 1;
                return;
            }
            self.dropped += 1;
        }
        self.waiting.insert(place, (doubt, about));
    }

    /// The riskiest doubt, if the budget has room for a look.
    pub fn next(&mut self, now: Duration) -> Option<(Doubt, T)> {
        let before = self.waiting.len();
        self.waiting
            .retain(|_, (doubt, _)| doubt.over || now.saturating_sub(doubt.at) <= ASKED_WITHIN);
        self.dropped += (before - self.waiting.len()) as u64;
        if !self.budget.allows(now) {
            return None;
        }
        let riskier = |a: &Doubt, b: &Doubt| {
            a.over.cmp(&b.over).then(a.risk.total_cmp(&b.risk)).then(a.at.cmp(&b.at))
        };
        let place = self.waiting.iter().max_by(|(_, (a, _)), (_, (b, _))| riskier(a, b))?.0.clone();
        self.waiting.remove(&place)
    }

    /// Whether the big net's "nothing" takes this doubt back, which only the small net's own can be. Asking counts as
    /// a release.
    pub fn release(&mut self, doubt: &Doubt, now: Duration) -> bool {
        let place = (doubt.camera.clone(), doubt.part);
        let again = self.released.get(&place);
        let too_soon = again.is_some_and(|last| now.saturating_sub(*last) < RELEASED_ONCE_IN);
        if doubt.over || doubt.lingers || too_soon {
            return false;
        }
        self.released.insert(place, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUTS: FireCuts =
        FireCuts { flame_doubtful: 0.4, flame_alarm: 0.8, smoke_doubtful: 0.4, smoke_alarm: 0.8 };

    fn second(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn doubt(camera: &str, part: usize, at: u64, score: f64) -> Doubt {
        let camera = Id::try_from(camera).unwrap();
        Doubt::about((&camera, second(at)), &seen(part, score, 0.0), CUTS, false).unwrap()
    }

    /// A part that stirs.
    fn seen(part: usize, flame: f64, smoke: f64) -> PartLook {
        PartLook { part, flame, smoke, stirs: Some(second(9)), confirmed: false }
    }

    #[test]
    fn only_the_doubt_band_and_above_is_asked_about() {
        let camera = Id::try_from("cam").unwrap();
        let about = |flame, smoke, eager| {
            Doubt::about((&camera, second(1)), &seen(0, flame, smoke), CUTS, eager)
        };
        assert_eq!(about(0.39, 0.39, true), None);
        assert!(!about(0.6, 0.0, false).unwrap().over);
        assert!(about(0.0, 0.8, false).unwrap().over);
        assert!((about(0.6, 0.0, false).unwrap().risk - 0.5).abs() < 1e-9);
        assert!((about(0.6, 0.0, true).unwrap().risk - 1.0).abs() < 1e-9);
        assert!(about(f64::NAN, 0.0, false).is_some(), "not a number is doubt");
    }

    #[test]
    fn what_the_big_net_has_confirmed_is_asked_again_and_is_no_doubt_to_take_back() {
        let camera = Id::try_from("cam").unwrap();
        let looks = |confirmed| PartLook { confirmed, ..seen(1, 0.1, 0.2) };
        let about = |confirmed| Doubt::about((&camera, second(1)), &looks(confirmed), CUTS, false);
        assert_eq!(about(false), None);
        let lingers = about(true).unwrap();
        assert!(lingers.lingers && !lingers.over && lingers.risk == 0.0, "{lingers:?}");
        let mut queue: Escalation<()> = Escalation::new(10.0);
        assert!(!queue.release(&lingers, second(1)));
        assert!(queue.release(&doubt("cam", 1, 1, 0.6), second(1)), "and no release is used up");
    }

    #[test]
    fn the_riskiest_goes_first_and_the_old_are_dropped() {
        let mut queue = Escalation::new(1000.0);
        for (camera, part, at, score) in
            [("a", 0, 0, 0.7), ("b", 1, 3, 0.5), ("c", 2, 3, 0.79), ("d", 0, 0, 0.95)]
        {
            queue.ask(doubt(camera, part, at, score), ());
        }
        let mut order = Vec::new();
        while let Some((doubt, ())) = queue.next(second(6)) {
            order.push(doubt.camera.to_string());
        }
        assert_eq!(order, ["d", "c", "b"], "a is older than 5 s; d too, but over the alarm cut");
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn one_waits_for_each_part_and_a_lower_score_does_not_push_out_an_alarming_one() {
        let mut queue = Escalation::new(1000.0);
        queue.ask(doubt("a", 0, 0, 0.5), 1);
        queue.ask(doubt("a", 0, 1, 0.9), 2);
        queue.ask(doubt("a", 0, 2, 0.5), 3);
        assert_eq!(queue.waiting(), 1);
        assert_eq!(queue.next(second(2)).map(|(_, about)| about), Some(2));
    }

    #[test]
    fn the_budget_is_passed_by_one_look_at_most_in_any_hour() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..20 {
            let (budget, most) = (50.0 + rng.f64() * 500.0, 1.0 + rng.f64() * 30.0);
            let mut queue = Escalation::new(budget);
            let mut booked: Vec<(Duration, f64)> = Vec::new();
            let mut now = Duration::from_secs(rng.u64(0..100_000));
            for _ in 0..4000 {
                now += Duration::from_millis(rng.u64(0..8000));
                let camera = Id::try_from("a").unwrap();
                let look = seen(0, 0.4 + rng.f64() * 0.6, 0.0);
                queue.ask(Doubt::about((&camera, now), &look, CUTS, true).unwrap(), ());
                if queue.next(now).is_some() {
                    let joules = rng.f64() * most;
                    queue.budget().book(now, joules);
                    booked.push((now, joules));
                    let hour = booked.iter().rev().take_while(|(at, _)| now - *at < HOUR);
                    let spent: f64 = hour.map(|(_, joules)| joules).sum();
                    assert!(spent <= budget + most, "round {round}: {spent} J of {budget}");
                }
            }
            let all: f64 = booked.iter().map(|(_, joules)| joules).sum();
            let hours = (booked.last().unwrap().0 - booked[0].0).as_secs_f64() / 3600.0;
            assert!(all > budget * hours * 0.5, "round {round}: {all} J in {hours} h: not used");
        }
    }

    #[test]
    fn without_a_budget_nothing_goes_and_a_broken_meter_closes_it() {
        let mut queue = Escalation::new(0.0);
        queue.ask(doubt("a", 0, 0, 0.9), ());
        assert!(queue.next(second(0)).is_none());
        let mut queue = Escalation::new(10.0);
        queue.budget().book(second(0), f64::NAN);
        queue.ask(doubt("a", 0, 0, 0.9), ());
        assert!(queue.next(second(1)).is_none());
        assert!(queue.next(second(3661)).is_some(), "an hour later there is room again");
    }

    #[test]
    fn a_part_is_released_once_a_minute_and_never_over_the_alarm_cut() {
        let mut queue: Escalation<()> = Escalation::new(10.0);
        assert!(queue.release(&doubt("a", 1, 0, 0.5), second(0)));
        assert!(!queue.release(&doubt("a", 1, 30, 0.5), second(30)));
        assert!(queue.release(&doubt("a", 2, 30, 0.5), second(30)), "another tile");
        assert!(queue.release(&doubt("a", 1, 61, 0.5), second(61)));
        assert!(!queue.release(&doubt("b", 1, 61, 0.9), second(61)));
    }

    /// A stain: over the alarm cut no answer changes anything, below it only a release, once a minute.
    #[test]
    fn a_still_part_is_asked_about_once_a_minute_and_over_the_alarm_cut_never() {
        let mut queue: Escalation<()> = Escalation::new(10.0);
        let mut asked = |part, score, still: bool| {
            let worth = |at| {
                let doubt = Doubt { still, ..doubt("a", part, at, score) };
                queue.is_worth(&doubt)
            };
            (0..600).map(worth).filter(|worth| *worth).count()
        };
        assert_eq!(asked(1, 0.9, true), 0, "a stain over the cut");
        assert_eq!(asked(1, 0.6, true), 10, "one below it");
        assert_eq!(asked(1, 0.6, false), 600, "what stirs");
        assert_eq!(asked(1, 0.9, false), 600);
        assert_eq!(asked(2, 0.6, true), 10, "another tile has its own minute");
    }
}
