//! From the scores of single looks to a verdict over time.
//!
//! ```text
//!            one score over `doubtful`              k of the last n looks over `alarm`,
//!   Clear ───────────────────────────▶ Doubtful ──── the first and last of them >= 1.5 s ───▶ Alarm
//!     ▲                                   │           apart (flame) or >= 5 s (smoke)          │
//!     └────── 5 s without such a look ────┴──────────────────────────────────────────────────┘
//! ```
//! The big net's answers come later, to the look they are about: it can take a doubt back or confirm it.
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

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    flame: bool,
    smoke: bool,
    /// Parts of the frame that are in doubt and that the big net has not released.
    doubts: usize,
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

    /// Adds the look taken at `at` (any steady clock of the source), flame and smoke of each part of the
    /// frame that was looked at, and gives the verdict now. A score that is not a number is doubtful. A
    /// look that is not newer than the last one is not counted.
    pub fn judge(&mut self, at: Duration, parts: &[(f64, f64)]) -> Verdict {
        if self.looks.back().is_none_or(|last| at > last.at) {
            let in_doubt =
                |(flame, smoke): &&(f64, f64)| self.cuts.single(*flame, *smoke) != Verdict::Clear;
            self.looks.push_back(Look {
                at,
                flame: parts.iter().any(|(flame, _)| *flame >= self.cuts.flame_alarm),
                smoke: parts.iter().any(|(_, smoke)| *smoke >= self.cuts.smoke_alarm),
                doubts: parts.iter().filter(in_doubt).count(),
            });
        }
        self.verdict(at)
    }

    /// Takes in what the big net says about one part of the look at `at`; an answer about a look that
    /// is no longer remembered changes nothing. The verdict as of the newest look.
    pub fn answer(&mut self, at: Duration, answer: Answer) -> Verdict {
        if let Some(look) = self.looks.iter_mut().find(|look| look.at == at) {
            match answer {
                Answer::Released => look.doubts = look.doubts.saturating_sub(1),
                Answer::Doubtful => {}
                Answer::Confirmed { flame, smoke } => {
                    look.flame |= flame;
                    look.smoke |= smoke;
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
        let doubted = |look: &Look| look.doubts > 0 || look.flame || look.smoke;
        if self.looks.iter().filter(recent).any(doubted) {
            Verdict::Doubtful
        } else {
            Verdict::Clear
        }
    }

    /// Whether, seen back from the newest look, positives span `span` at the required share.
    fn confirmed(&self, span: Duration, positive: impl Fn(&Look) -> bool) -> bool {
        if !self.looks.back().is_some_and(&positive) {
            return false;
        }
        let newest = self.looks.back().map_or(Duration::ZERO, |look| look.at);
        let mut seen = 0usize;
        let mut hits = 0usize;
        for look in self.looks.iter().rev() {
            seen += 1;
            if positive(look) {
                hits += 1;
                let long_enough = newest.saturating_sub(look.at) >= span;
                if long_enough && hits >= LEAST_LOOKS && hits as f64 >= SHARE * seen as f64 {
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

    fn judge(period_ms: u64, scores: &[(f64, f64)]) -> Vec<Verdict> {
        let mut triage = Triage::new(CUTS);
        let at = |i: usize| Duration::from_millis(period_ms * i as u64);
        scores.iter().enumerate().map(|(i, part)| triage.judge(at(i), &[*part])).collect()
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
            assert_ne!(triage.judge(Duration::from_secs(1), &[(0.9, 0.9)]), Verdict::Alarm);
        }
    }

    #[test]
    fn a_doubt_is_over_once_all_its_parts_are_released() {
        let mut triage = Triage::new(CUTS);
        let at = Duration::from_secs(1);
        let doubted = triage.judge(at, &[(0.5, 0.0), (0.0, 0.6), (0.0, 0.0)]);
        assert_eq!(doubted, Verdict::Doubtful);
        assert_eq!(triage.answer(at, Answer::Doubtful), Verdict::Doubtful);
        assert_eq!(triage.answer(at, Answer::Released), Verdict::Doubtful, "one part is left");
        assert_eq!(triage.answer(Duration::from_secs(9), Answer::Released), Verdict::Doubtful);
        assert_eq!(triage.answer(at, Answer::Released), Verdict::Clear);
    }

    #[test]
    fn a_score_over_the_alarm_cut_cannot_be_released() {
        let mut triage = Triage::new(CUTS);
        let at = Duration::from_secs(1);
        triage.judge(at, &[(0.9, 0.0)]);
        assert_eq!(triage.answer(at, Answer::Released), Verdict::Doubtful);
    }

    #[test]
    fn what_the_big_net_confirms_counts_towards_an_alarm() {
        let mut triage = Triage::new(CUTS);
        let at = |i: u64| Duration::from_millis(500 * i);
        for i in 1..=4 {
            triage.judge(at(i), &[(0.5, 0.0)]);
        }
        for i in 1..4 {
            let sees = Answer::Confirmed { flame: true, smoke: false };
            assert_ne!(triage.answer(at(i), sees), Verdict::Alarm);
        }
        let sees = Answer::Confirmed { flame: true, smoke: false };
        assert_eq!(triage.answer(at(4), sees), Verdict::Alarm);
    }
}
