//! Labels that chargers give for nothing: what a camera's bays scored while a vehicle was plugged in there, and while
//! none was. `recalibrate` learns from them; nothing that acts looks at them.
//!
//! What a stranger gets wrong: the two are not alike. Who is plugged in stands there, nearly always. Who is not may
//! stand there as well, so that a score without a plug is no proof of a free bay, only a bound on how many there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Id;

/// Steps of a score, 0 to 1.
const STEPS: usize = 100;
/// Stays that are remembered of a bay; then all of them count half, so that what was long ago fades.
const MOST_STAYS: u32 = 4000;

/// Scores of one kind, one of each stay (or gap between stays): many reads of one parked car are no many proofs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many there were, by hundredths of a score.
    steps: Vec<u32>,
}

impl Scores {
    /// Counts a stay by this score, 0 to 1. One that was counted by another `before` is counted by this one instead.
    pub fn count(&mut self, score: f64, before: Option<f64>) {
        let step = |score: f64| ((score * STEPS as f64) as usize).min(STEPS - 1);
        self.steps.resize(STEPS, 0);
        if let Some(before) = before {
            match self.steps.get_mut(step(before)) {
                Some(count) if *count > 0 => *count -= 1,
                // It has faded meanwhile.
                _ => return,
            }
        }
        self.steps.iter_mut().skip(step(score)).take(1).for_each(|count| *count += 1);
        if self.stays() >= MOST_STAYS {
            self.steps.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// Stays that they are from.
    #[must_use]
    pub fn stays(&self) -> u32 {
        self.steps.iter().sum()
    }

    /// Share of them that is below a score, in whole hundredths; 0 where there are none.
    #[must_use]
    pub fn below(&self, score: f64) -> f64 {
        let steps = (score * STEPS as f64).round() as usize;
        let below: u32 = self.steps.iter().take(steps).sum();
        f64::from(below) / f64::from(self.stays()).max(1.0)
    }

    fn join(mut self, other: &Scores) -> Scores {
        self.steps.resize(STEPS, 0);
        self.steps.iter_mut().zip(&other.steps).for_each(|(count, more)| *count += more);
        self
    }
}

/// The labels of one bay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BayLabels {
    /// While a vehicle was plugged in: the lowest score of each stay.
    pub plugged: Scores,
    /// While none was: the highest score of each gap.
    pub unplugged: Scores,
}

/// The labels of one camera.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// What they were scored by, as `Scene::scored_by` says: labels of another net or of other places are none.
    scored_by: Option<u32>,
    bays: BTreeMap<Id, BayLabels>,
}

impl Labels {
    /// The same, or new ones where they were scored by something else.
    #[must_use]
    pub fn of(self, scored_by: u32) -> Labels {
        if self.scored_by == Some(scored_by) {
            return self;
        }
        Labels { scored_by: Some(scored_by), ..Labels::default() }
    }

    /// Takes in the score of a bay, 0 to 1; what its stay has counted by `before`, where it is known already. By what it
    /// counts now: by its worst.
    pub fn add(&mut self, bay: &Id, plugged: bool, score: f64, before: Option<f64>) -> f64 {
        let bay = self.bays.entry(bay.clone()).or_default();
        let (scores, worse): (&mut Scores, fn(f64, f64) -> f64) =
            if plugged { (&mut bay.plugged, f64::min) } else { (&mut bay.unplugged, f64::max) };
        let counts = before.map_or(score, |before| worse(before, score));
        scores.count(counts, before);
        counts
    }

    /// By bay.
    pub fn bays(&self) -> impl Iterator<Item = &BayLabels> {
        self.bays.values()
    }

    /// All bays together.
    #[must_use]
    pub fn all(&self) -> BayLabels {
        let join = |all: BayLabels, bay: &BayLabels| BayLabels {
            plugged: all.plugged.join(&bay.plugged),
            unplugged: all.unplugged.join(&bay.unplugged),
        };
        self.bays.values().fold(BayLabels::default(), join)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_are_counted_by_their_worst_score_and_the_old_ones_fade() {
        let mut scores = Scores::default();
        assert_eq!((scores.below(1.0), scores.stays()), (0.0, 0), "nothing is known");
        for (score, before) in
            [(0.0, None), (0.149, None), (0.151, None), (0.5, None), (1.0, Some(0.5))]
        {
            scores.count(score, before);
        }
        assert_eq!(scores.stays(), 4);
        assert_eq!(
            [0.0, 0.01, 0.15, 0.16, 0.99, 1.0].map(|cut| scores.below(cut)),
            [0.0, 0.25, 0.5, 0.75, 0.75, 1.0]
        );
        (0..MOST_STAYS).for_each(|_| scores.count(0.95, None));
        assert!(scores.stays() < MOST_STAYS && scores.stays() >= MOST_STAYS / 2);
        assert!(scores.below(0.9) < 0.001);
        let faded = scores.clone();
        scores.count(0.1, Some(0.2));
        assert_eq!(scores, faded, "one that has faded meanwhile");
    }

    #[test]
    fn labels_are_kept_by_bay_and_end_with_what_scored_them() {
        let bay = |name: &str| Id::try_from(name).unwrap();
        let mut labels = Labels::default().of(7);
        let counts = labels.add(&bay("a"), true, 0.9, None);
        assert_eq!(labels.add(&bay("a"), true, 0.7, Some(counts)), 0.7, "the lowest of a stay");
        assert_eq!(labels.add(&bay("a"), true, 0.8, Some(0.7)), 0.7);
        assert_eq!(labels.add(&bay("b"), false, 0.2, None), 0.2);
        assert_eq!(labels.add(&bay("b"), false, 0.4, Some(0.2)), 0.4, "the highest of a gap");
        assert_eq!(labels.add(&bay("b"), true, 0.6, None), 0.6);
        let all = labels.all();
        assert_eq!((all.plugged.stays(), all.unplugged.stays()), (2, 1));
        assert_eq!((all.plugged.below(0.65), all.plugged.below(0.75)), (0.5, 1.0));
        assert_eq!((all.unplugged.below(0.4), all.unplugged.below(0.41)), (0.0, 1.0));
        let stays: Vec<u32> = labels.bays().map(|bay| bay.plugged.stays()).collect();
        assert_eq!(stays, [1, 1]);
        assert_eq!(labels.clone().of(7), labels);
        assert_eq!(labels.of(8).all().plugged.stays(), 0, "another net, or another place");
    }
}
