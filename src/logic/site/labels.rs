//! Labels that chargers give for nothing: what a camera's bays scored while a vehicle was plugged in there, and while
//! none was. `recalibrate` learns from them; nothing that acts looks at them.
//!
//! What a stranger gets wrong: the two are not alike. Who is plugged in stands there, nearly always. Who is not may
//! stand there as well, so that a score without a plug is no proof of a free bay, only a bound on how many there are.

use serde::{Deserialize, Serialize};

use super::{Bay, Id};

/// Steps of a score, 0 to 1.
const STEPS: usize = 100;
/// Stays that are remembered; then all of them count half, so that what was long ago fades.
const MOST_STAYS: u32 = 4000;

/// Scores of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many there were, by hundredths of a score.
    steps: Vec<u32>,
    /// From how many stays (or gaps between stays) they are: many reads of one parked car are no many proofs.
    stays: u32,
}

impl Scores {
    /// Takes in one score, 0 to 1; whether it is the first of its stay.
    pub fn add(&mut self, score: f64, first: bool) {
        if !(0.0..=1.0).contains(&score) {
            return;
        }
        self.steps.resize(STEPS, 0);
        let step = ((score * STEPS as f64) as usize).min(STEPS - 1);
        self.steps.iter_mut().skip(step).take(1).for_each(|count| *count = count.saturating_add(1));
        self.stays = self.stays.saturating_add(u32::from(first));
        if self.stays >= MOST_STAYS {
            self.steps.iter_mut().for_each(|count| *count /= 2);
            self.stays /= 2;
        }
    }

    /// Stays that they are from.
    #[must_use]
    pub fn stays(&self) -> u32 {
        self.stays
    }

    /// Share of them that is below a score, in whole hundredths; 0 where there are none.
    #[must_use]
    pub fn below(&self, score: f64) -> f64 {
        let steps = (score * STEPS as f64).round() as usize;
        let all: u64 = self.steps.iter().map(|count| u64::from(*count)).sum();
        let below: u64 = self.steps.iter().take(steps).map(|count| u64::from(*count)).sum();
        below as f64 / (all as f64).max(1.0)
    }
}

/// The labels of one camera.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// Where its bays are in its picture: labels of other places are none.
    places: Vec<(Id, Vec<[f64; 2]>)>,
    /// While a vehicle was plugged in.
    pub plugged: Scores,
    /// While none was.
    pub unplugged: Scores,
}

impl Labels {
    /// The same, or new ones where they are of other places.
    #[must_use]
    pub fn of<'b>(self, bays: impl Iterator<Item = &'b Bay>) -> Labels {
        let places: Vec<_> = bays.map(|bay| (bay.id.clone(), bay.polygon.clone())).collect();
        if self.places == places {
            return self;
        }
        Labels { places, ..Labels::default() }
    }

    /// Takes in the score of a bay.
    pub fn add(&mut self, plugged: bool, score: f64, first: bool) {
        let scores = if plugged { &mut self.plugged } else { &mut self.unplugged };
        scores.add(score, first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_counted_by_hundredths_and_the_old_ones_fade() {
        let mut scores = Scores::default();
        assert_eq!((scores.below(1.0), scores.stays()), (0.0, 0), "nothing is known");
        for (score, first) in [
            (0.0, true),
            (0.149, false),
            (0.151, true),
            (1.0, false),
            (f64::NAN, true),
            (1.1, true),
        ] {
            scores.add(score, first);
        }
        assert_eq!(scores.stays(), 2);
        assert_eq!(
            [0.0, 0.01, 0.15, 0.16, 1.0].map(|cut| scores.below(cut)),
            [0.0, 0.25, 0.5, 0.75, 1.0]
        );
        (0..MOST_STAYS).for_each(|_| scores.add(0.95, true));
        assert!(scores.stays() < MOST_STAYS && scores.stays() >= MOST_STAYS / 2);
        assert!(scores.below(0.9) < 0.001);
        let bay = |x: f64| Bay {
            id: Id::try_from("bay").unwrap(),
            name: "bay".to_owned(),
            charger: None,
            camera: None,
            polygon: vec![[x, 0.0], [1.0, 0.0], [1.0, 1.0]],
        };
        let at = |labels: Labels, x: f64| labels.of([bay(x)].iter());
        let mut labels = at(Labels::default(), 0.0);
        labels.add(true, 0.9, true);
        assert_eq!(at(labels.clone(), 0.0).plugged.stays(), 1);
        assert_eq!(at(labels, 0.1).plugged.stays(), 0, "another place");
    }
}
