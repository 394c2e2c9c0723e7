//! The cuts of one camera's bays, from the labels that its chargers have given.
//!
//! What a stranger gets wrong: labels are one-sided (see `site::labels`), so a temperature cannot be learned from them,
//! and each cut is moved by what can be known. Who is plugged in and scores low was nearly called free: that tells where
//! "free" may begin. Who is not plugged in and scores high may be parked there: so "occupied" may begin lower as far as
//! nearly nobody without a plug scores there, and never higher. A cut moves to the careful side when it is shown to
//! be wrong, and to the bold side only when it is shown to be right, at no bay to be wrong: one behind a pillar is not
//! outvoted by the others of its camera.

use serde::{Deserialize, Serialize};

use super::BayCuts;
use crate::logic::site::{BayLabels, Labels, Scores};

/// Share of stays that a cut may get wrong, of all bays together, and where it moves to the bold side of each.
const MOST_WRONG: f64 = 0.02;
/// A cut is not moved for less than this share of stays.
const WORTH: f64 = 0.01;
/// How far a cut may go from what came with the net.
const MOST_MOVED: f64 = 0.2;
/// And how near to the middle: some doubt is left.
const MOST_FREE: f64 = 0.45;
const LEAST_OCCUPIED: f64 = 0.55;
/// No cut is moved to the careful side for fewer stays.
pub const LEAST_STAYS: u32 = 30;
/// Quantile of a bound that holds in 95 of 100 cases.
const Z: f64 = 1.645;
/// Cuts are whole hundredths, as scores are counted.
const STEP: f64 = 0.01;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Cuts for this camera.
    pub cuts: BayCuts,
    /// Stays with a plug that it rests on.
    pub stays: u32,
    /// Gaps without.
    pub gaps: u32,
    /// Share of stays with a plug that the net's own cuts call occupied at every read: the agreement of eyes and
    /// chargers.
    pub agreed: f64,
    /// The same by these cuts.
    pub agrees: f64,
    /// Share of stays with a plug that the net's own cuts call free at some read.
    pub contradicted: f64,
    /// The same by these cuts.
    pub contradicts: f64,
}

/// Cuts for a camera whose net came with `shipped`. Without enough labels they are those.
#[must_use]
pub fn calibrate(shipped: BayCuts, labels: &Labels) -> Calibration {
    let all = labels.all();
    let cuts = BayCuts {
        free_below: free(shipped, &all, labels),
        occupied_above: occupied(shipped, &all, labels),
    };
    let plugged = &all.plugged;
    let known = f64::from(u8::from(plugged.stays() > 0));
    let above = |cut: f64| known * (1.0 - plugged.below(cut));
    Calibration {
        cuts,
        stays: plugged.stays(),
        gaps: all.unplugged.stays(),
        agreed: above(shipped.occupied_above),
        agrees: above(cuts.occupied_above),
        contradicted: plugged.below(shipped.free_below),
        contradicts: plugged.below(cuts.free_below),
    }
}

fn free(shipped: BayCuts, all: &BayLabels, labels: &Labels) -> f64 {
    let (plugged, unplugged) = (&all.plugged, &all.unplugged);
    let (here, n) = (shipped.free_below, plugged.stays());
    let wrong = |cut: f64| plugged.below(cut);
    if n >= LEAST_STAYS && bounds(wrong(here), n).0 > MOST_WRONG {
        let lower = down(here, STEP);
        return lower.into_iter().find(|cut| wrong(*cut) <= MOST_WRONG).unwrap_or(STEP);
    }
    let highest = (here + MOST_MOVED).min(MOST_FREE);
    let good = |cut: &f64| {
        let each = labels.bays().all(|bay| bay.plugged.below(*cut) <= MOST_WRONG);
        each && bounds(wrong(*cut), n).1 <= MOST_WRONG
    };
    let found = down(highest, here).into_iter().find(good);
    let gain = |cut: f64| unplugged.below(cut) - unplugged.below(here);
    found.filter(|cut| gain(*cut) >= WORTH).unwrap_or(here)
}

fn occupied(shipped: BayCuts, all: &BayLabels, labels: &Labels) -> f64 {
    let (plugged, unplugged) = (&all.plugged, &all.unplugged);
    let here = shipped.occupied_above;
    let lowest = (here - MOST_MOVED).max(LEAST_OCCUPIED);
    let between = |scores: &Scores, cut: f64| scores.below(here) - scores.below(cut);
    let good = |cut: &f64| {
        let each = labels.bays().all(|bay| between(&bay.unplugged, *cut) <= MOST_WRONG);
        each && bounds(between(unplugged, *cut), unplugged.stays()).1 <= MOST_WRONG
    };
    let mut cuts = down(here, lowest);
    cuts.reverse();
    let found = cuts.into_iter().find(good);
    found.filter(|cut| between(plugged, *cut) >= WORTH).unwrap_or(here)
}

/// Hundredths from below `from` (or at it) down to `to`.
fn down(from: f64, to: f64) -> Vec<f64> {
    let (from, to) = ((from / STEP).floor() as i32, (to / STEP).ceil() as i32);
    (to..=from).rev().map(|step| f64::from(step) * STEP).collect()
}

/// Between which shares the truth lies where a share of `n` was seen (E. B. Wilson's interval, 1927), each end by itself
/// with 95 in 100.
fn bounds(share: f64, n: u32) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let n = f64::from(n);
    let (middle, scale) = (share + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).max(0.0).sqrt();
    ((middle - half) / scale, (middle + half) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;

    const SHIPPED: BayCuts = BayCuts { free_below: 0.15, occupied_above: 0.85 };

    /// So many stays at a bay, of which each has one read at one of the scores in turn.
    fn stay(labels: &mut Labels, bay: &str, plugged: bool, (n, scores): (u32, &[f64])) {
        let bay = Id::try_from(bay).unwrap();
        let turn = scores.iter().cycle().take(n as usize);
        turn.for_each(|score| {
            labels.add(&bay, plugged, *score, None);
        });
    }

    fn labels(plugged: (u32, &[f64]), unplugged: (u32, &[f64])) -> Labels {
        let mut labels = Labels::default();
        stay(&mut labels, "bay", true, plugged);
        stay(&mut labels, "bay", false, unplugged);
        labels
    }

    #[test]
    fn cuts_move_as_far_as_the_labels_bear_and_no_further() {
        let (sure, free) = ([0.95, 0.97, 0.99], [0.02, 0.04]);
        let faint: Vec<f64> = (0..10).map(|i| if i < 3 { 0.74 } else { 0.95 }).collect();
        let lost: Vec<f64> = (0..10).map(|i| if i < 2 { 0.115 } else { 0.95 }).collect();
        let grey: Vec<f64> = (0..10).map(|i| if i < 3 { 0.22 } else { 0.03 }).collect();
        let parked: Vec<f64> = (0..10).map(|i| if i < 3 { 0.8 } else { 0.03 }).collect();
        // (what, plugged, unplugged, free below, occupied above)
        let table = [
            ("nothing is known", (0, &sure[..]), (0, &free[..]), 0.15, 0.85),
            ("all is well", (500, &sure), (500, &free), 0.15, 0.85),
            ("cars score low", (500, &faint), (500, &free), 0.15, 0.65),
            ("few gaps prove nothing", (500, &faint), (100, &free), 0.15, 0.85),
            ("who is not plugged in scores there, too", (500, &faint), (500, &parked), 0.15, 0.85),
            ("cars are called free", (30, &lost), (500, &free), 0.11, 0.85),
            ("too few to say so", (29, &lost), (500, &free), 0.15, 0.85),
            ("free bays are doubted", (500, &sure), (500, &grey), 0.35, 0.85),
            ("few stays prove nothing", (100, &sure), (500, &grey), 0.15, 0.85),
        ];
        for (what, plugged, unplugged, free_below, occupied_above) in table {
            let found = calibrate(SHIPPED, &labels(plugged, unplugged));
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            let BayCuts { free_below: free, occupied_above: occupied } = found.cuts;
            assert!(near(free, free_below) && near(occupied, occupied_above), "{what}: {found:?}");
        }
        let found = calibrate(SHIPPED, &labels((500, &faint), (500, &free)));
        assert!((found.agreed - 0.7).abs() < 1e-9 && found.agrees > 0.999, "{found:?}");
        let found = calibrate(SHIPPED, &labels((500, &lost), (0, &free)));
        assert!((found.contradicted - 0.2).abs() < 1e-9 && found.contradicts == 0.0, "{found:?}");
    }

    #[test]
    fn one_car_that_stands_for_long_is_one_proof() {
        let (sure, free) = ([0.95, 0.97, 0.99], [0.02, 0.04]);
        // Three of thirty stays are called free.
        let mut labels = labels((27, &sure), (500, &free));
        stay(&mut labels, "bay", true, (3, &[0.115]));
        let found = calibrate(SHIPPED, &labels);
        assert!(found.cuts.free_below < 0.12, "{found:?}");
        // A car that stands there for weeks and is seen well at every hour does not outweigh them.
        let bay = Id::try_from("bay").unwrap();
        let mut before = None;
        for _ in 0..1000 {
            before = Some(labels.add(&bay, true, 0.97, before));
        }
        let outweighed = calibrate(SHIPPED, &labels);
        assert_eq!((outweighed.stays, outweighed.cuts), (31, found.cuts));
        // Nor is one that is seen badly once, among a thousand looks, seen well.
        before = Some(labels.add(&bay, true, 0.115, before));
        for _ in 0..1000 {
            before = Some(labels.add(&bay, true, 0.97, before));
        }
        let found = calibrate(SHIPPED, &labels);
        assert!((found.contradicted - 4.0 / 31.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn no_bay_is_outvoted_by_the_others_of_its_camera() {
        let (sure, free, grey) = ([0.95, 0.97, 0.99], [0.02, 0.04], [0.03, 0.22, 0.03]);
        let faint: Vec<f64> = (0..10).map(|i| if i < 3 { 0.74 } else { 0.95 }).collect();
        // (what, stays at a second bay, gaps there, free below, occupied above)
        type Row<'a> = (&'a str, (u32, &'a [f64]), (u32, &'a [f64]), f64, f64);
        let table: [Row<'_>; 6] = [
            ("two alike", (50, &faint), (50, &grey), 0.35, 0.65),
            ("nothing is known of it", (0, &[]), (0, &[]), 0.35, 0.65),
            ("behind a pillar", (4, &[0.2]), (50, &free), 0.15, 0.65),
            ("a charger that is stuck over an empty bay", (1, &[0.03]), (0, &[]), 0.15, 0.65),
            ("something grey lies there", (50, &sure), (4, &[0.755]), 0.35, 0.85),
            ("seen above the new cut", (4, &[0.36]), (50, &free), 0.35, 0.65),
        ];
        for (what, plugged, unplugged, free_below, occupied_above) in table {
            let mut labels = labels((500, &faint), (500, &grey));
            stay(&mut labels, "other", true, plugged);
            stay(&mut labels, "other", false, unplugged);
            let found = calibrate(SHIPPED, &labels);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            let BayCuts { free_below: free, occupied_above: occupied } = found.cuts;
            assert!(near(free, free_below) && near(occupied, occupied_above), "{what}: {found:?}");
        }
    }

    #[test]
    fn whatever_the_labels_are_the_cuts_are_usable() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut labels = Labels::default();
            let bias = rng.f64();
            for _ in 0..rng.u32(0..2000) {
                let score = if rng.bool() { rng.f64() } else { bias };
                let bay = Id::try_from(format!("bay{}", rng.u8(0..3))).unwrap();
                let before = (rng.u8(0..3) > 0).then(|| rng.f64());
                labels.add(&bay, rng.bool(), score, before);
            }
            let shipped = BayCuts {
                free_below: 0.4 * rng.f64() + 0.01,
                occupied_above: 0.6 + 0.39 * rng.f64(),
            };
            let BayCuts { free_below, occupied_above } = calibrate(shipped, &labels).cuts;
            let sound = free_below > 0.0 && free_below < 0.5 && occupied_above > 0.5;
            let near = free_below <= shipped.free_below + 0.2
                && occupied_above >= shipped.occupied_above - 0.2;
            assert!(sound && near && occupied_above <= shipped.occupied_above, "seed {seed}");
        }
    }
}
