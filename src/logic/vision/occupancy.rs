//! When a bay counts as occupied: the score must leave the abstain band, and two of the last three
//! reads must agree. Everything else is `unknown`, which is never "free".

use serde::{Deserialize, Serialize};

/// State of a bay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BayState {
    /// Nobody stands there.
    Free,
    /// A vehicle stands there.
    Occupied,
    /// Not seen, or doubtful.
    #[default]
    Unknown,
}

/// The abstain band of the bay net: from the model's manifest entry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BayCuts {
    /// At or below this score a read says free.
    pub free_below: f64,
    /// At or above this score a read says occupied.
    pub occupied_above: f64,
}

/// The last reads of one bay.
#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    reads: [BayState; 3],
    filled: usize,
}

impl Occupancy {
    /// What one score says by itself.
    #[must_use]
    pub fn single(score: f64, cuts: BayCuts) -> BayState {
        if score.is_nan() {
            BayState::Unknown
        } else if score >= cuts.occupied_above {
            BayState::Occupied
        } else if score <= cuts.free_below {
            BayState::Free
        } else {
            BayState::Unknown
        }
    }

    /// Adds a read and tells the state: the first read counts alone (a still picture has no other),
    /// afterwards two of the last three must agree.
    pub fn read(&mut self, score: f64, cuts: BayCuts) -> BayState {
        let now = Self::single(score, cuts);
        self.reads.rotate_right(1);
        self.reads[0] = now;
        self.filled = (self.filled + 1).min(self.reads.len());
        if self.filled == 1 {
            return now;
        }
        let agree = |state| self.reads[..self.filled].iter().filter(|&&r| r == state).count() >= 2;
        [BayState::Free, BayState::Occupied]
            .into_iter()
            .find(|&state| agree(state))
            .unwrap_or(BayState::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUTS: BayCuts = BayCuts { free_below: 0.3, occupied_above: 0.7 };

    #[test]
    fn two_of_three_reads_decide() {
        let table = [
            (vec![0.9], BayState::Occupied),
            (vec![0.5], BayState::Unknown),
            (vec![f64::NAN], BayState::Unknown),
            (vec![0.1, 0.9], BayState::Unknown),
            (vec![0.1, 0.9, 0.1], BayState::Free),
            (vec![0.1, 0.1, 0.9], BayState::Free),
            (vec![0.1, 0.9, 0.9], BayState::Occupied),
            (vec![0.9, 0.5, 0.5], BayState::Unknown),
        ];
        for (scores, expected) in table {
            let mut bay = Occupancy::default();
            let mut state = BayState::Unknown;
            for score in &scores {
                state = bay.read(*score, CUTS);
            }
            assert_eq!(state, expected, "{scores:?}");
        }
    }
}
