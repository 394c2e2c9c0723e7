//! How a charger's setpoint may move: down at once; up by at most 6 A or a quarter of its maximum in
//! 10 s, and only when two samples in a row allow it; after a pause by load control not before a
//! minute has passed and never more than six times an hour (contactor life).
//!
//! What a stranger gets wrong: the start from a pause goes straight to the minimum current, because
//! between zero and the minimum there is nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::logic::site::{Charger, ChargerSetpoint, Reason};
use crate::units::{Amps, Moment};

/// Largest raise in [`RAISE_EVERY`] (design/safety: 6 A, or [`RAISE_SHARE`] of the maximum if less).
const RAISE_MOST: Amps = Amps(6.0);
const RAISE_SHARE: f64 = 0.25;
const RAISE_EVERY: Duration = Duration::from_secs(10);
/// Shortest pause once load control has paused a charger.
const PAUSE_LEAST: Duration = Duration::from_secs(60);
/// Pauses by load control in [`HOUR`].
const PAUSES_MOST: usize = 6;
const HOUR: Duration = Duration::from_secs(3600);
/// Meters and steps of the devices: a car within this of its setpoint obeys. Our own figure.
const OBEYS_WITHIN: Amps = Amps(1.0);
/// A raise of which so much, and most of it, is taken back within [`RAISE_EVERY`] was a mistake: the next one
/// waits twice as long, up to [`MOST_DOUBLINGS`] times. It calms swings between devices that answer late. Our
/// own figures.
const TAKEN_BACK: Amps = Amps(0.5);
const MOST_DOUBLINGS: u32 = 2;
/// A step down of less is not waited for before a raise. Our own figure.
const WORTH_SETTLING: Amps = Amps(1.0);
/// A charger that is seen to draw more than it was told for so long, and does not come down, ignores it. FB10 has
/// twenty seconds from the telling; one of them passes before the first sample.
const DEAF_AFTER: Duration = Duration::from_secs(19);
/// A car that is slow to come down takes so long (design/safety: chain of delays); then the others have to
/// give up what it draws too much.
const COMES_DOWN_IN: Duration = Duration::from_secs(8);
/// What it was told so long ago it may still draw: a charger changes its pilot every five seconds at most, and a
/// car has some six to follow (IEC 61851-1; EVerest PR 762), and a second passes before that is read.
const FOLLOWS_IN: Duration = Duration::from_secs(12);

/// Memory of one charger's setpoint.
#[derive(Clone, Debug, Default)]
pub struct Ramp {
    last: Option<ChargerSetpoint>,
    raised: Option<Duration>,
    /// What the sample before allowed: a raise needs two.
    allowed_before: Amps,
    pauses: VecDeque<Duration>,
    /// Since when more is drawn than was told.
    above_since: Option<Duration>,
    /// What it was told before it was lowered, and until when; of the last [`FOLLOWS_IN`], falling.
    told_before: VecDeque<(Duration, Amps)>,
    /// When the setpoint was lowered last, and when by so much that it takes time to be seen.
    lowered: Option<Duration>,
    settles: Option<Duration>,
    /// What it draws, and what it drew when the setpoint was lowered last.
    drawn: Amps,
    drew: Amps,
    /// By how much it was raised last.
    raised_by: Amps,
    /// Raises in a row that had to be taken back at once.
    taken_back: u32,
    /// Draws more than was told, and not because it is still coming down.
    excess: bool,
    /// What it had been told when it answered last: what came after, it may not have heard.
    heard: Amps,
    /// What it was told, or drew, before it was lost; nothing while it answers.
    held: Option<Amps>,
}

impl Ramp {
    /// What the charger was last told; nothing before the first decision.
    #[must_use]
    pub fn last(&self) -> Option<ChargerSetpoint> {
        self.last
    }

    /// Takes over what the device holds already, at the start.
    pub fn adopt(&mut self, held: ChargerSetpoint) {
        self.last = Some(held);
    }

    /// Takes a share for one that the sample before allowed, too.
    pub fn allow(&mut self, share: ChargerSetpoint) {
        self.allowed_before = share.amps();
    }

    /// Takes in what is drawn.
    pub fn see(&mut self, at: Moment, drawn: Amps) {
        let told = self.last.map_or(Amps(f64::MAX), ChargerSetpoint::amps);
        let above = drawn > told + OBEYS_WITHIN;
        self.above_since = above.then(|| self.above_since.unwrap_or(at.uptime));
        // Once noticed it stays so until it obeys: being told even less changes nothing.
        self.excess = above && (self.excess || !self.was_just_lowered(at));
        self.heard = self.last.map_or(Amps::ZERO, ChargerSetpoint::amps);
        (self.drawn, self.held) = (drawn, None);
    }

    /// Whether the setpoint was lowered so lately that a slow car need not have followed.
    fn was_just_lowered(&self, now: Moment) -> bool {
        self.lowered.is_some_and(|low| now.uptime.saturating_sub(low) < COMES_DOWN_IN)
    }

    fn lower(&mut self, now: Moment) {
        (self.lowered, self.drew) = (Some(now.uptime), self.drawn);
        let before = self.last.map_or(Amps::ZERO, ChargerSetpoint::amps);
        while self.told_before.back().is_some_and(|(_, amps)| *amps <= before) {
            self.told_before.pop_back();
        }
        self.told_before.push_back((now.uptime, before));
        let old = |(until, _): &(Duration, Amps)| now.uptime.saturating_sub(*until) > FOLLOWS_IN;
        while self.told_before.front().is_some_and(old) {
            self.told_before.pop_front();
        }
    }

    /// Whether it draws no more than it was told a while ago, and so is on its way down.
    fn follows(&self, now: Moment) -> bool {
        let young =
            |(until, _): &&(Duration, Amps)| now.uptime.saturating_sub(*until) <= FOLLOWS_IN;
        let told = self.told_before.iter().find(young);
        told.is_some_and(|(_, amps)| self.drawn <= *amps + OBEYS_WITHIN)
    }

    /// The device does not answer any more: it is told its safe share, and may not hear it.
    pub fn lose(&mut self, now: Moment, safe: ChargerSetpoint) {
        if self.held.is_none() {
            // Who went on above its setpoint goes on unheard.
            self.held = self.last.map(|last| last.amps().max(self.heard).max(self.drawn));
        }
        // Who hears nothing disobeys nobody.
        self.above_since = None;
        self.force(now, safe);
    }

    /// What a lost device may still hold; nothing while it answers.
    #[must_use]
    pub fn held(&self) -> Option<Amps> {
        self.held
    }

    /// For how long more has been drawn than was told, by one that is not on its way down.
    #[must_use]
    pub fn disobeyed_for(&self, now: Moment) -> Duration {
        if self.follows(now) { Duration::ZERO } else { self.above_for(now) }
    }

    /// For how long more has been drawn than was told, whatever the reason.
    #[must_use]
    pub fn above_for(&self, now: Moment) -> Duration {
        self.above_since.map_or(Duration::ZERO, |since| now.uptime.saturating_sub(since))
    }

    /// Whether it goes on whatever it is told: it has drawn more for long, and it does not come down.
    #[must_use]
    pub fn is_deaf(&self, now: Moment) -> bool {
        let comes_down = self.was_just_lowered(now) && self.drawn < self.drew - OBEYS_WITHIN;
        self.disobeyed_for(now) >= DEAF_AFTER && !comes_down
    }

    /// Whether more is drawn than was told, and that not because the car is still coming down.
    #[must_use]
    pub fn draws_too_much(&self) -> bool {
        self.excess
    }

    /// From the share this second to the setpoint, with the reason if the ramp binds. `may_raise` is
    /// false while the meter or the device is stale.
    pub fn step(
        &mut self,
        now: Moment,
        charger: &Charger,
        share: ChargerSetpoint,
        may_raise: bool,
    ) -> (ChargerSetpoint, Option<Reason>) {
        let last = self.last.unwrap_or(ChargerSetpoint::Pause);
        let allowed = share.amps().min(self.allowed_before);
        self.allowed_before = if may_raise { share.amps() } else { Amps::ZERO };
        let (next, reason) = if share.amps() <= last.amps() {
            (share, None)
        } else {
            self.raise(now, charger, last, if may_raise { allowed } else { Amps::ZERO })
        };
        let paused = next == ChargerSetpoint::Pause && last != ChargerSetpoint::Pause;
        if paused {
            self.pauses.push_back(now.uptime);
            while self.pauses.len() > PAUSES_MOST {
                self.pauses.pop_front();
            }
        }
        let since_raise = self.raised.map(|at| now.uptime.saturating_sub(at));
        if next.amps() > last.amps() {
            if since_raise.is_some_and(|since| since >= self.patience() + RAISE_EVERY)
                && self.settles < self.raised
            {
                self.taken_back = 0;
            }
            self.raised = Some(now.uptime);
            self.raised_by = next.amps() - last.amps();
        } else if next.amps() < last.amps() {
            self.lower(now);
            if since_raise.is_some_and(|since| since < RAISE_EVERY)
                && last.amps() - next.amps() >= TAKEN_BACK.max(self.raised_by * 0.6)
            {
                self.taken_back = (self.taken_back + 1).min(MOST_DOUBLINGS);
            }
            if last.amps() - next.amps() >= WORTH_SETTLING {
                self.settles = Some(now.uptime);
            }
        }
        self.last = Some(next);
        (next, reason)
    }

    /// The charger was stopped or paused by somebody else than load control.
    pub fn force(&mut self, now: Moment, setpoint: ChargerSetpoint) {
        if self.last.is_some_and(|last| setpoint.amps() < last.amps()) {
            self.lower(now);
        }
        self.last = Some(setpoint);
        self.allowed_before = Amps::ZERO;
    }

    fn raise(
        &self,
        now: Moment,
        charger: &Charger,
        last: ChargerSetpoint,
        allowed: Amps,
    ) -> (ChargerSetpoint, Option<Reason>) {
        if allowed < charger.min || allowed <= last.amps() {
            return (last, Some(Reason::RampUp));
        }
        if last == ChargerSetpoint::Pause {
            if self.must_rest(now) {
                return (last, Some(Reason::RestartDelay));
            }
            let reason = (allowed > charger.min).then_some(Reason::RampUp);
            return (ChargerSetpoint::Current(charger.min), reason);
        }
        let long_ago =
            |at: Option<Duration>| at.is_none_or(|at| now.uptime.saturating_sub(at) >= RAISE_EVERY);
        // One change in flight: what was lowered shows on the meter only when the car has followed.
        let waited = self.raised.is_none_or(|at| now.uptime.saturating_sub(at) >= self.patience());
        if !waited || !long_ago(self.settles) {
            return (last, Some(Reason::RampUp));
        }
        let most = last.amps() + RAISE_MOST.min(charger.max * RAISE_SHARE);
        let reason = (allowed > most).then_some(Reason::RampUp);
        (ChargerSetpoint::Current(allowed.min(most)), reason)
    }

    /// Shortest time between two raises.
    fn patience(&self) -> Duration {
        RAISE_EVERY * 2u32.pow(self.taken_back)
    }

    /// Whether it may be paused by load control once more within the hour.
    #[must_use]
    pub fn may_pause(&self, now: Moment) -> bool {
        let first = self.pauses.front().map(|first| now.uptime.saturating_sub(*first));
        self.pauses.len() < PAUSES_MOST || first.is_none_or(|since| since >= HOUR)
    }

    fn must_rest(&self, now: Moment) -> bool {
        let since = |paused: &Duration| now.uptime.saturating_sub(*paused);
        let just_paused = self.pauses.back().is_some_and(|paused| since(paused) < PAUSE_LEAST);
        just_paused || !self.may_pause(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;
    use crate::units::Phase;

    fn charger() -> Charger {
        Charger {
            id: Id::try_from("c").unwrap(),
            name: "c".into(),
            phases: Phase::ALL.to_vec(),
            min: Amps(6.0),
            max: Amps(32.0),
            failsafe: Amps(6.0),
            step: Amps(1.0),
            stay: None,
            right: crate::logic::site::Right::default(),
            switching: None,
            mode: crate::logic::site::ChargingMode::default(),
            falls_back_within: crate::logic::site::FALLS_BACK_WITHIN,
        }
    }

    fn second(s: u64) -> Moment {
        let origin = Moment {
            uptime: Duration::from_secs(1000),
            utc: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        };
        origin.after(Duration::from_secs(s))
    }

    fn current(amps: f64) -> ChargerSetpoint {
        ChargerSetpoint::Current(Amps(amps))
    }

    #[test]
    fn up_is_slow_and_down_is_immediate() {
        let mut ramp = Ramp::default();
        let mut told = Vec::new();
        for s in 0..40 {
            told.push(ramp.step(second(s), &charger(), current(32.0), true).0.amps().get());
        }
        assert_eq!(told[0], 0.0, "one sample is not enough");
        assert_eq!(told[1], 6.0);
        for window in told.windows(10) {
            assert!(window[9] - window[0] <= 6.0, "{told:?}");
        }
        assert_eq!(told[39], 24.0);
        assert_eq!(ramp.step(second(40), &charger(), current(9.0), true).0, current(9.0));
        assert_eq!(
            ramp.step(second(41), &charger(), ChargerSetpoint::Pause, true).0.amps().get(),
            0.0
        );
    }

    #[test]
    fn a_lost_one_may_hold_what_it_had_before_it_fell_silent() {
        let mut ramp = Ramp::default();
        ramp.adopt(current(18.0));
        ramp.see(second(0), Amps(16.0));
        // Told less, and silent from then on: nobody knows whether it heard that.
        ramp.step(second(1), &charger(), current(6.0), true);
        ramp.lose(second(10), current(6.0));
        ramp.lose(second(11), current(6.0));
        assert_eq!(ramp.held(), Some(Amps(18.0)));
        // It answers again, was told 6 A since, and is lost once more.
        ramp.see(second(20), Amps(6.0));
        assert_eq!(ramp.held(), None);
        ramp.lose(second(31), current(6.0));
        assert_eq!(ramp.held(), Some(Amps(6.0)));
    }

    #[test]
    fn stale_data_raise_nothing() {
        let mut ramp = Ramp::default();
        ramp.adopt(current(10.0));
        for s in 0..60 {
            assert_eq!(ramp.step(second(s), &charger(), current(32.0), false).0, current(10.0));
        }
    }

    #[test]
    fn fb10_who_draws_more_than_told_for_twenty_seconds_is_deaf_unless_it_comes_down() {
        // Told 16 A, then 6 A, then nothing from second 15 on; what the car draws is the story.
        let heard_deaf = |drawn: &dyn Fn(u64) -> f64, lost: std::ops::Range<u64>| {
            let mut ramp = Ramp::default();
            ramp.adopt(current(16.0));
            (0..60).find(|&s| {
                if lost.contains(&s) {
                    ramp.lose(second(s), current(6.0));
                } else {
                    ramp.see(second(s), Amps(drawn(s)));
                    let told = if s < 15 { current(6.0) } else { ChargerSetpoint::Pause };
                    ramp.step(second(s), &charger(), told, true);
                }
                ramp.is_deaf(second(s))
            })
        };
        let nobody = 0..0;
        assert_eq!(heard_deaf(&|_| 16.0, nobody.clone()), Some(20), "told in second 0");
        let slow = |s: u64| if s < 22 { 16.0 - s as f64 * 0.5 } else { 0.0 };
        assert_eq!(heard_deaf(&slow, nobody.clone()), None, "it comes down");
        let halfway = |s: u64| if s < 18 { 16.0 } else { 8.0 };
        assert_eq!(
            heard_deaf(&halfway, nobody),
            Some(23),
            "it came down, and not to what it was told"
        );
        assert_eq!(heard_deaf(&|_| 16.0, 2..45), None, "it had no time to hear");
    }

    #[test]
    fn six_pauses_an_hour_at_most() {
        let mut ramp = Ramp::default();
        let mut pauses = 0;
        let mut last = ChargerSetpoint::Pause;
        for s in 0..3600 {
            let share = if s % 20 < 10 { current(32.0) } else { ChargerSetpoint::Pause };
            let next = ramp.step(second(s), &charger(), share, true).0;
            if next == ChargerSetpoint::Pause && last != ChargerSetpoint::Pause {
                pauses += 1;
            }
            last = next;
        }
        assert_eq!(pauses, 6);
    }
    #[test]
    fn a_car_that_comes_down_has_eight_seconds_before_others_give_way() {
        let mut ramp = Ramp::default();
        ramp.adopt(current(20.0));
        ramp.step(second(0), &charger(), current(8.0), true);
        for s in 1..8 {
            ramp.see(second(s), Amps(16.0));
            assert!(!ramp.draws_too_much(), "{s} s");
        }
        ramp.see(second(8), Amps(16.0));
        assert!(ramp.draws_too_much());
        assert_eq!(ramp.above_for(second(8)), Duration::from_secs(7));
        // It draws no more than it was told before: it may still be following, and disobeys nobody.
        assert!(ramp.disobeyed_for(second(12)).is_zero());
        assert_eq!(ramp.disobeyed_for(second(13)), Duration::from_secs(12));
        // An ampere above is a meter's error.
        ramp.see(second(13), Amps(9.0));
        assert!(!ramp.draws_too_much() && ramp.disobeyed_for(second(13)).is_zero());
    }

    #[test]
    fn who_is_lowered_twice_may_still_be_coming_down_from_the_first_time() {
        let mut ramp = Ramp::default();
        ramp.adopt(current(20.0));
        ramp.step(second(0), &charger(), current(16.0), true);
        ramp.step(second(2), &charger(), current(8.0), true);
        ramp.see(second(3), Amps(19.5));
        assert!(ramp.disobeyed_for(second(12)).is_zero(), "as told until second 0");
        assert_eq!(ramp.disobeyed_for(second(13)), Duration::from_secs(10));
        ramp.see(second(14), Amps(16.5));
        assert!(ramp.disobeyed_for(second(14)).is_zero(), "as told until second 2");
        assert_eq!(ramp.disobeyed_for(second(15)), Duration::from_secs(12));
    }

    #[test]
    fn a_small_step_down_after_a_raise_is_no_mistake_and_most_of_it_is() {
        // Down by half an ampere, by half of the raise, by two thirds of it; the next raise.
        for (down, again) in [(15.5, 40), (13.0, 42), (12.0, 50)] {
            let mut ramp = Ramp::default();
            ramp.adopt(current(10.0));
            let mut told = |s, share| {
                ramp.allow(current(share));
                ramp.step(second(s), &charger(), current(share), true).0.amps()
            };
            assert_eq!(told(30, 16.0), Amps(16.0));
            told(32, down);
            let raised = (33..60).find(|&s| told(s, 20.0) > Amps(down));
            assert_eq!(raised, Some(again), "to {down} A");
        }
    }

    #[test]
    fn a_small_charger_is_raised_by_a_quarter_of_what_it_can() {
        let small = Charger { max: Amps(16.0), ..charger() };
        let mut ramp = Ramp::default();
        ramp.adopt(current(8.0));
        ramp.allow(current(16.0));
        let step = ramp.step(second(30), &small, current(16.0), true);
        assert_eq!(step, (current(12.0), Some(Reason::RampUp)));
    }

    #[test]
    fn who_was_paused_begins_at_its_least_after_a_minute() {
        for (share, reason) in [(16.0, Some(Reason::RampUp)), (6.0, None)] {
            let mut ramp = Ramp::default();
            ramp.adopt(current(6.0));
            ramp.step(second(0), &charger(), ChargerSetpoint::Pause, true);
            ramp.allow(current(share));
            let early = ramp.step(second(59), &charger(), current(share), true);
            assert_eq!(early, (ChargerSetpoint::Pause, Some(Reason::RestartDelay)));
            let step = ramp.step(second(60), &charger(), current(share), true);
            assert_eq!(step, (current(6.0), reason));
        }
    }

    #[test]
    fn a_raise_needs_two_samples_that_allow_it() {
        let mut ramp = Ramp::default();
        ramp.adopt(current(10.0));
        ramp.allow(current(8.0));
        let step = ramp.step(second(30), &charger(), current(16.0), true);
        assert_eq!(step, (current(10.0), Some(Reason::RampUp)));
        assert_eq!(ramp.step(second(31), &charger(), current(16.0), true), (current(16.0), None));
    }

    #[test]
    fn only_a_raise_that_the_ramp_cuts_short_names_it() {
        for (share, told, reason) in
            [(15.0, 15.0, None), (16.0, 16.0, None), (17.0, 16.0, Some(Reason::RampUp))]
        {
            let mut ramp = Ramp::default();
            ramp.adopt(current(10.0));
            ramp.allow(current(share));
            let step = ramp.step(second(30), &charger(), current(share), true);
            assert_eq!(step, (current(told), reason), "{share} A");
        }
    }
}
