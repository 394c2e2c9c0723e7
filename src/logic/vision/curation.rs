//! Which of many kept pictures are worth training with: few, unlike each other, of all cameras, and first those from
//! which most is learned.
//!
//! What a stranger gets wrong: thirty pictures of one event are one picture. Of those that are alike one is taken, and
//! each further one is the one least like all that were taken of its camera.

use serde::{Deserialize, Serialize};

/// Signs of a likeness.
pub const SIGNS: usize = 1116;
/// Pictures of one camera that differ in no more signs than this are alike: a hundredth. Noise turns a few signs over, a
/// car that comes dozens.
const ALIKE: u32 = 12;

/// What a picture looks like, in signs of which most stay when it is only brighter, darker, smaller or noisier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Likeness([u64; SIGNS.div_ceil(64)]);

impl Likeness {
    /// Of signs, at most [`SIGNS`].
    #[must_use]
    pub fn of(signs: impl Iterator<Item = bool>) -> Likeness {
        let mut likeness = Likeness::default();
        for (i, _) in signs.take(SIGNS).enumerate().filter(|(_, sign)| *sign) {
            likeness.0.iter_mut().skip(i / 64).take(1).for_each(|word| *word |= 1 << (i % 64));
        }
        likeness
    }

    /// In how many signs two differ.
    #[must_use]
    pub fn distance(&self, other: &Likeness) -> u32 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

/// Why a picture is worth something, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// A charger said that a car was plugged in, and the eyes that its bay was free.
    Disagreed,
    /// The big net, asked later, did not say what was thought then.
    Contradicted,
    /// The eyes were in doubt.
    Doubtful,
    /// They were sure of a fire.
    Alarm,
}

/// A picture that may be taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Of which camera.
    pub camera: String,
    /// Why it is worth something.
    pub worth: Worth,
    /// What it looks like.
    pub likeness: Likeness,
}

/// The places of those that are taken, at most so many, and how many were too much like another. Each kind and each
/// camera has its turn.
#[must_use]
pub fn pick(candidates: &[Candidate], most: usize) -> (Vec<usize>, usize) {
    let mut groups: Vec<(Worth, &str)> =
        candidates.iter().map(|one| (one.worth, one.camera.as_str())).collect();
    groups.sort_unstable();
    groups.dedup();
    // How far each is from what was taken of its camera; nothing where it is taken itself.
    let mut far: Vec<Option<u32>> = vec![Some(u32::MAX); candidates.len()];
    let mut picked = Vec::new();
    loop {
        let before = picked.len();
        for (worth, camera) in &groups {
            let mine =
                |i: &usize| candidates[*i].worth == *worth && candidates[*i].camera == *camera;
            let unlike = (0..candidates.len())
                .filter(mine)
                .filter(|i| far[*i].is_some_and(|far| far > ALIKE));
            // Of equals the first.
            let Some(next) = unlike.max_by_key(|i| (far[*i], std::cmp::Reverse(*i))) else {
                continue;
            };
            if picked.len() >= most {
                break;
            }
            picked.push(next);
            far[next] = None;
            for (one, far) in
                candidates.iter().zip(&mut far).filter(|(one, _)| one.camera == *camera)
            {
                *far = far.map(|far| far.min(one.likeness.distance(&candidates[next].likeness)));
            }
        }
        if picked.len() == before || picked.len() >= most {
            break;
        }
    }
    let alike = far.iter().flatten().filter(|far| **far <= ALIKE).count();
    (picked, alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of which so many signs are on.
    fn one(camera: &str, worth: Worth, signs: std::ops::Range<usize>) -> Candidate {
        let likeness = Likeness::of((0..SIGNS).map(|i| signs.contains(&i)));
        Candidate { camera: camera.into(), worth, likeness }
    }

    #[test]
    fn few_are_taken_unlike_each_other_and_of_every_kind_and_camera() {
        let mut all: Vec<Candidate> =
            (0..100).map(|i| one("north", Worth::Doubtful, 0..i / 10)).collect();
        all.push(one("north", Worth::Doubtful, 100..200));
        all.push(one("north", Worth::Doubtful, 0..30));
        all.push(one("south", Worth::Alarm, 0..0));
        all.push(one("north", Worth::Disagreed, 200..300));
        // A hundred that are alike are one; the same picture of another camera is another one.
        let (picked, alike) = pick(&all, 50);
        assert_eq!(picked, [103, 100, 102, 101, 0]);
        assert_eq!(alike, 99);
        assert_eq!(pick(&all, 2).0, [103, 100], "those from which most is learned");
        assert_eq!(pick(&all, 0), (vec![], 0));
        assert_eq!(pick(&[], 9), (vec![], 0));
        // A picture that differs by a hundredth is alike, by one sign more it is not.
        for (signs, wanted) in [(12, 1), (13, 2)] {
            let two = [one("a", Worth::Alarm, 0..0), one("a", Worth::Alarm, 0..signs)];
            assert_eq!(pick(&two, 9).0.len(), wanted, "{signs}");
        }
    }

    #[test]
    fn the_most_varied_are_taken_whatever_there_is() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let all: Vec<Candidate> = (0..200)
                .map(|_| {
                    let from = rng.usize(0..SIGNS);
                    let camera = ["a", "b"][rng.usize(0..2)];
                    one(
                        camera,
                        [Worth::Alarm, Worth::Doubtful][rng.usize(0..2)],
                        from..from + rng.usize(0..90),
                    )
                })
                .collect();
            let most = rng.usize(1..60);
            let (picked, alike) = pick(&all, most);
            assert!(picked.len() <= most, "seed {seed}");
            for (i, a) in picked.iter().enumerate() {
                for b in &picked[..i] {
                    let (a, b) = (&all[*a], &all[*b]);
                    let apart = a.likeness.distance(&b.likeness) > ALIKE;
                    assert!(a.camera != b.camera || apart, "seed {seed}");
                }
            }
            let all_taken = picked.len() + alike == all.len();
            assert!(picked.len() == most || all_taken, "seed {seed}: {} {alike}", picked.len());
        }
    }
}
