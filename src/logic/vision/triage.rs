//! From the scores of single looks to a verdict over time.
//!
//! ```text
//!            one score over `doubtful`              k of the last n looks over `alarm`,
//!   Clear ───────────────────────────▶ Doubtful ──── the first and last of them >= 1.5 s ───▶ Alarm
//!     ▲                                   │           apart (flame) or >= 5 s (smoke)          │
//!     └────── 5 s without such a look ────┴──────────────────────────────────────────────────┘
//! ```
//! A look is over the alarm cut where a score is and its part of the frame stirs (`stir`), and an alarm needs
//! one that has stirred at its place for most of that span: flame flickers, smoke moves, a stain does neither and stays
//! a doubt for as long as it looks like more. The big net's answers come later, to the look they are about: it
//! can take a doubt back or confirm it, and what it sees must stir as well.
//!
//! What a stranger gets wrong: the verdict follows the scene and may go back to clear; what latches is
//! the hazard level of the zone (`logic::safety::fire`), not the verdict. A still picture has no time:
//! its verdict is what its scores say by themselves (`FireCuts::single`).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// Flame must be seen over this span (decisions: 1.5 s).
const FLAME_SPAN: Duration = Duration::from_millis(1500);
/// Smoke must be seen over this span (decisions: 5 s).
const SMOKE_SPAN: Duration = Duration::from_secs(5);
/// Share of the looks inside the window that must be over the alarm cut: k of n as 3 of 5.
const SHARE: f64 = 0.6;
/// Looks over the alarm cut that are needed at least, whatever the rate.
const LEAST_LOOKS: usize = 3;
/// The window of looks; bounded by time and by number.
const WINDOW: Duration = Duration::from_secs(12);
const MOST_LOOKS: usize = 120;
/// Doubt is over after this long without a doubtful look.
const DOUBT_LASTS: Duration = Duration::from_secs(5);

/// Cut-offs of the fire net: from the model's manifest entry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FireCuts {
    /// Flame score from which a look is doubtful.
    pub flame_doubtful: f64,
    /// Flame score that counts towards an alarm.
    pub flame_alarm: f64,
    /// Smoke score from which a look is doubtful.
    pub smoke_doubtful: f64,
    /// Smoke score that counts towards an alarm.
    pub smoke_alarm: f64,
}

impl FireCuts {
    /// How near the scores come to a doubt: 1 where it begins. Not a number is a doubt.
    #[must_use]
    pub fn reach(&self, flame: f64, smoke: f64) -> f64 {
        if flame.is_nan() || smoke.is_nan() {
            return 1.0;
        }
        (flame / self.flame_doubtful.max(1e-6)).max(smoke / self.smoke_doubtful.max(1e-6))
    }

    /// What one pair of scores says by itself. A score that is not a number is doubtful.
    #[must_use]
    pub fn single(&self, flame: f64, smoke: f64) -> Verdict {
        if flame >= self.flame_alarm || smoke >= self.smoke_alarm {
            Verdict::Alarm
        } else if !(flame < self.flame_doubtful && smoke < self.smoke_doubtful) {
            Verdict::Doubtful
        } else {
            Verdict::Clear
        }
    }
}

/// Flame and smoke in one part of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartLook {
    /// Which part: 0 the whole, then the tiles.
    pub part: usize,
    /// Flame, 0 to 1.
    pub flame: f64,
    /// Smoke, 0 to 1.
    pub smoke: f64,
    /// For how long this part has been stirring at one place; nothing where it is still, or where nobody knows.
    pub stirs: Option<Duration>,
    /// Whether the big net has confirmed flame or smoke here a moment ago: it is asked again, whatever the small one
    /// says now.
    pub confirmed: bool,
}

#[derive(Clone, Debug)]
struct Look {
    at: Duration,
    /// Where flame or smoke is over the alarm cut: for how long it has been stirring.
    flame: Option<Duration>,
    smoke: Option<Duration>,
    /// Whether anything is over the alarm cut, still or not.
    over: bool,
    /// Parts of the frame that are in doubt and that the big net has not released.
    doubts: usize,
    /// For how long each part that was looked at has been stirring.
    stirs: Vec<(usize, Option<Duration>)>,
}

/// What the big net says about one part of a look, by its own cut-offs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing there: the doubt is taken back.
    Released,
    /// It doubts too, or may not release.
    Doubtful,
    /// It sees flame, smoke, or both.
    Confirmed {
        /// Flame.
        flame: bool,
        /// Smoke.
        smoke: bool,
    },
}

/// The recent looks at one camera.
#[derive(Clone, Debug)]
pub struct Triage {
    cuts: FireCuts,
    looks: VecDeque<Look>,
}

impl Triage {
    /// Starts with nothing seen.
    #[must_use]
    pub fn new(cuts: FireCuts) -> Triage {
        Triage { cuts, looks: VecDeque::new() }
    }

    /// Adds the look taken at `at` (any steady clock of the source), with the parts of the frame that were
    /// looked at, and gives the verdict now. A score that is not a number is doubtful. A look that is not
    /// newer than the last one is not counted.
    pub fn judge(&mut self, at: Duration, parts: &[PartLook]) -> Verdict {
        if self.looks.back().is_none_or(|last| at > last.at) {
            let FireCuts { flame_alarm, smoke_alarm, .. } = self.cuts;
            let verdict = |part: &PartLook| self.cuts.single(part.flame, part.smoke);
            let flaming = parts.iter().filter(|part| part.flame >= flame_alarm);
            let smoking = parts.iter().filter(|part| part.smoke >= smoke_alarm);
            self.looks.push_back(Look {
                at,
                flame: flaming.filter_map(|part| part.stirs).max(),
                smoke: smoking.filter_map(|part| part.stirs).max(),
                over: parts.iter().any(|part| verdict(part) == Verdict::Alarm),
                doubts: parts.iter().filter(|part| verdict(part) != Verdict::Clear).count(),
                stirs: parts.iter().map(|part| (part.part, part.stirs)).collect(),
            });
        }
        self.verdict(at)
    }

    /// Takes in what the big net says about one part of the look at `at`; an answer about a look that
    /// is no longer remembered changes nothing. The verdict as of the newest look.
    pub fn answer(&mut self, at: Duration, part: usize, answer: Answer) -> Verdict {
        if let Some(look) = self.looks.iter_mut().find(|look| look.at == at) {
            match answer {
                Answer::Released => look.doubts = look.doubts.saturating_sub(1),
                Answer::Doubtful => {}
                Answer::Confirmed { flame, smoke } => {
                    let mine = look.stirs.iter().find(|(other, _)| *other == part);
                    let stirs = mine.and_then(|(_, stirs)| *stirs);
                    look.flame = look.flame.max(stirs.filter(|_| flame));
                    look.smoke = look.smoke.max(stirs.filter(|_| smoke));
                    look.over |= flame || smoke;
                }
            }
        }
        let newest = self.looks.back().map_or(at, |look| look.at);
        self.verdict(newest)
    }

    fn verdict(&mut self, at: Duration) -> Verdict {
        while self.looks.len() > MOST_LOOKS
            || self.looks.front().is_some_and(|old| at.saturating_sub(old.at) > WINDOW)
        {
            self.looks.pop_front();
        }
        if self.confirmed(FLAME_SPAN, |look| look.flame)
            || self.confirmed(SMOKE_SPAN, |look| look.smoke)
        {
            return Verdict::Alarm;
        }
        let recent = |look: &&Look| at.saturating_sub(look.at) < DOUBT_LASTS;
        let doubted = |look: &Look| look.doubts > 0 || look.over;
        if self.looks.iter().filter(recent).any(doubted) {
            Verdict::Doubtful
        } else {
            Verdict::Clear
        }
    }

    /// Whether, seen back from the newest look, positives span `span` at the required share, and one of them has
    /// been stirring at its place for that share of it.
    fn confirmed(&self, span: Duration, positive: impl Fn(&Look) -> Option<Duration>) -> bool {
        let newest = self.looks.back().filter(|newest| positive(newest).is_some());
        let Some(newest) = newest.map(|look| look.at) else { return false };
        let mut longest = Duration::ZERO;
        let mut seen = 0usize;
        let mut hits = 0usize;
        for look in self.looks.iter().rev() {
            seen += 1;
            if let Some(stirs) = positive(look) {
                hits += 1;
                longest = longest.max(stirs);
                let long_enough = newest.saturating_sub(look.at) >= span;
                let often_enough = hits >= LEAST_LOOKS && hits as f64 >= SHARE * seen as f64;
                if long_enough && often_enough && longest >= span.mul_f64(SHARE) {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUTS: FireCuts =
        FireCuts { flame_doubtful: 0.4, flame_alarm: 0.8, smoke_doubtful: 0.4, smoke_alarm: 0.8 };
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    /// Parts with these scores, stirring for so long.
    fn parts(scores: &[(f64, f64)], stirs: Option<Duration>) -> Vec<PartLook> {
        let part = |(part, (flame, smoke)): (usize, &(f64, f64))| PartLook {
            part,
            flame: *flame,
            smoke: *smoke,
            stirs,
            confirmed: false,
        };
        scores.iter().enumerate().map(part).collect()
    }

    /// Looks with these scores at what has been stirring ever since.
    fn judge(period_ms: u64, scores: &[(f64, f64)]) -> Vec<Verdict> {
        let mut triage = Triage::new(CUTS);
        let at = |i: usize| Duration::from_millis(period_ms * i as u64);
        let look = |(i, part)| triage.judge(at(i), &parts(&[part], Some(at(i))));
        scores.iter().copied().enumerate().map(look).collect()
    }

    #[test]
    fn flame_needs_three_looks_over_a_second_and_a_half() {
        let verdicts = judge(500, &[(0.9, 0.0); 5]);
        assert_eq!(verdicts[..3], [Verdict::Doubtful; 3]);
        assert_eq!(verdicts[3], Verdict::Alarm);
    }

    #[test]
    fn smoke_takes_five_seconds() {
        let verdicts = judge(1000, &[(0.0, 0.9); 7]);
        assert!(verdicts[..5].iter().all(|v| *v == Verdict::Doubtful), "{verdicts:?}");
        assert_eq!(verdicts[5], Verdict::Alarm);
    }

    #[test]
    fn one_flash_is_doubt_and_passes() {
        let mut scores = vec![(0.95, 0.0)];
        scores.extend([(0.0, 0.0); 8]);
        let verdicts = judge(1000, &scores);
        assert!(!verdicts.contains(&Verdict::Alarm));
        assert_eq!(verdicts.first(), Some(&Verdict::Doubtful));
        assert_eq!(verdicts.last(), Some(&Verdict::Clear));
    }

    #[test]
    fn not_a_number_is_doubt_never_clear() {
        assert_eq!(judge(1000, &[(f64::NAN, 0.0)]), [Verdict::Doubtful]);
    }

    #[test]
    fn the_same_frame_counts_once() {
        let mut triage = Triage::new(CUTS);
        for _ in 0..50 {
            assert_ne!(
                triage.judge(Duration::from_secs(1), &parts(&[(0.9, 0.9)], LONG)),
                Verdict::Alarm
            );
        }
    }

    #[test]
    fn a_doubt_is_over_once_all_its_parts_are_released() {
        let mut triage = Triage::new(CUTS);
        let at = Duration::from_secs(1);
        let doubted = triage.judge(at, &parts(&[(0.5, 0.0), (0.0, 0.6), (0.0, 0.0)], LONG));
        assert_eq!(doubted, Verdict::Doubtful);
        assert_eq!(triage.answer(at, 0, Answer::Doubtful), Verdict::Doubtful);
        assert_eq!(triage.answer(at, 0, Answer::Released), Verdict::Doubtful, "one part is left");
        assert_eq!(triage.answer(Duration::from_secs(9), 0, Answer::Released), Verdict::Doubtful);
        assert_eq!(triage.answer(at, 0, Answer::Released), Verdict::Clear);
    }

    #[test]
    fn a_score_over_the_alarm_cut_cannot_be_released() {
        let mut triage = Triage::new(CUTS);
        let at = Duration::from_secs(1);
        triage.judge(at, &parts(&[(0.9, 0.0)], LONG));
        assert_eq!(triage.answer(at, 0, Answer::Released), Verdict::Doubtful);
    }

    #[test]
    fn what_the_big_net_confirms_counts_towards_an_alarm() {
        let mut triage = Triage::new(CUTS);
        let at = |i: u64| Duration::from_millis(500 * i);
        for i in 1..=4 {
            triage.judge(at(i), &parts(&[(0.5, 0.0)], LONG));
        }
        for i in 1..4 {
            let sees = Answer::Confirmed { flame: true, smoke: false };
            assert_ne!(triage.answer(at(i), 0, sees), Verdict::Alarm);
        }
        let sees = Answer::Confirmed { flame: true, smoke: false };
        assert_eq!(triage.answer(at(4), 0, sees), Verdict::Alarm);
    }

    #[test]
    fn what_is_still_or_has_just_begun_to_stir_is_a_doubt_and_no_alarm() {
        let run = |stirs: fn(u64) -> Option<u64>, big: bool| {
            let mut triage = Triage::new(CUTS);
            let look = |i: u64| {
                let (at, smoke) = (Duration::from_millis(500 * i), if big { 0.5 } else { 0.9 });
                let stirs = stirs(i).map(Duration::from_millis);
                let verdict = triage.judge(at, &parts(&[(0.0, 0.1), (0.0, smoke)], stirs));
                let sees = Answer::Confirmed { flame: false, smoke: true };
                if big { triage.answer(at, 1, sees) } else { verdict }
            };
            (1..60).map(look).collect::<Vec<_>>()
        };
        for big in [false, true] {
            assert_eq!(run(|i| Some(500 * i), big).last(), Some(&Verdict::Alarm), "smoke");
            let all = |verdicts: Vec<Verdict>| verdicts.iter().all(|v| *v == Verdict::Doubtful);
            assert!(all(run(|_| None, big)), "a stain");
            assert!(all(run(|i| (i % 12 < 4).then_some(9000), big)), "still for most of the time");
            assert!(all(run(|_| Some(1500), big)), "one after the other drives past a stain");
        }
    }
}
