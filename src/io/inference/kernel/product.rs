//! Quantised rows times a packed matrix: the tiles go over the panels, and what they add up is turned
//! back into real numbers and handed on, row by row.
//!
//! What a stranger gets wrong: a panel stays in the nearest cache while all rows pass by it, so a row
//! is finished in pieces; whoever takes the pieces must not need the whole row.

use super::lanes::Lanes;
use super::packed::Packed;
use super::tiles::{MOST_COLUMNS, ROWS, Rows, Sums, Tile};

/// What the bytes of a row mean: `(byte - zero) * step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meaning {
    /// One step, a real number.
    pub step: f32,
    /// The byte that means nothing.
    pub zero: f32,
}

impl Meaning {
    /// For values between two bounds; nothing itself always has a byte of its own.
    #[inline(always)]
    pub fn between(low: f32, high: f32) -> Meaning {
        let low = if low < 0.0 { low } else { 0.0 };
        let high = if high > 0.0 { high } else { 0.0 };
        let step = (high - low) / 255.0;
        // Steps below the smallest normal number would divide to infinity.
        let step = if step > f32::MIN_POSITIVE { step } else { 1.0 };
        Meaning { step, zero: (-low / step).round_ties_even() }
    }
}

/// Where the real numbers go: rows of a buffer, each at the same column, after a bias was added.
pub struct Target<'a> {
    pub out: &'a mut [f32],
    /// From one row to the next.
    pub stride: usize,
    /// One for each packed column.
    pub bias: &'a [f32],
}

/// How a number joins what stands in its place.
pub trait Join<T: Tile> {
    /// Sixteen old and new numbers to what stands there afterwards.
    fn join(&mut self, old: T::Lanes, new: T::Lanes) -> T::Lanes;
}

/// Multiplies and writes down. `meanings` has one for each row, or one for all.
#[inline(always)]
pub fn product<T: Tile>(
    tile: T,
    (rows, meanings): (&Rows<'_>, &[Meaning]),
    weights: &Packed,
    target: Target<'_>,
    joint: &mut impl Join<T>,
) {
    let mut sums: Sums = [[0; MOST_COLUMNS]; ROWS];
    for panel in weights.panels() {
        let columns = panel.column..panel.column + panel.width;
        let scales = weights.scales[columns.clone()].as_chunks().0;
        let whole = weights.sums[columns.clone()].as_chunks().0;
        let bias = target.bias[columns].as_chunks().0;
        for first in (0..rows.count()).step_by(ROWS) {
            tile.sums(rows, first, (panel.values, panel.width), &mut sums);
            let start = first * target.stride + panel.column;
            let lines = target.out[start..].chunks_mut(target.stride);
            let count = rows.count() - first;
            for (i, (sums, line)) in sums.iter().zip(lines).enumerate().take(count) {
                let meaning = meanings[if meanings.len() == 1 { 0 } else { first + i }];
                let (step, zero) = (tile.splat(meaning.step), tile.splat(meaning.zero));
                let factors = scales.iter().zip(whole).zip(bias);
                let places = sums.as_chunks().0.iter().zip(line.as_chunks_mut().0);
                for ((sums, out), ((scales, whole), bias)) in places.zip(factors) {
                    // Without the zero's share, times both steps.
                    let sum = tile.whole(sums) - zero * tile.load(whole);
                    let real = sum * (step * tile.load(scales)) + tile.load(bias);
                    joint.join(tile.load(out), real).store(out);
                }
            }
        }
    }
}

/// The new takes the old's place.
pub struct Replace;

impl<T: Tile> Join<T> for Replace {
    #[inline(always)]
    fn join(&mut self, _: T::Lanes, new: T::Lanes) -> T::Lanes {
        new
    }
}

/// The new is added to the old.
pub struct Sum;

impl<T: Tile> Join<T> for Sum {
    #[inline(always)]
    fn join(&mut self, old: T::Lanes, new: T::Lanes) -> T::Lanes {
        old + new
    }
}

/// The new takes the old's place, but not below a floor; keeps the bounds of all that was written.
pub struct Bounded<L> {
    pub floor: L,
    pub low: L,
    pub high: L,
}

impl<T: Tile> Join<T> for Bounded<T::Lanes> {
    #[inline(always)]
    fn join(&mut self, _: T::Lanes, new: T::Lanes) -> T::Lanes {
        let new = new.high(self.floor);
        (self.low, self.high) = (new.low(self.low), new.high(self.high));
        new
    }
}
