//! Quantised rows times a packed matrix: the tiles go over the panels, and what they add up is turned
//! back into real numbers and handed on, row by row.
//!
//! What a stranger gets wrong: a panel stays in the nearest cache while all rows pass by it, so a row
//! is finished in pieces; whoever takes the pieces must not need the whole row.

use super::packed::Packed;
use super::tiles::{LANES, MOST_COLUMNS, ROWS, Rows, Sums, Tile};

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

/// Takes the real numbers of a row, piece by piece.
pub trait Take {
    /// Columns from `column` on of row `row`; not more than a panel is wide.
    fn take(&mut self, row: usize, column: usize, reals: &[f32]);
}

/// Multiplies and hands on. `meanings` has one for each row, or one for all.
#[inline(always)]
pub fn product<T: Tile>(
    tile: T,
    rows: &Rows<'_>,
    meanings: &[Meaning],
    weights: &Packed,
    taker: &mut impl Take,
) {
    let mut sums: Sums = [[0; MOST_COLUMNS]; ROWS];
    let mut reals = [0.0; MOST_COLUMNS];
    for panel in weights.panels() {
        let columns = panel.column..panel.column + panel.width;
        let (scales, whole) = (&weights.scales[columns.clone()], &weights.sums[columns]);
        let real_columns = panel.width.min(weights.columns - panel.column);
        for first in (0..rows.count()).step_by(ROWS) {
            tile.sums(rows, first, panel.values, panel.width, &mut sums);
            for (i, sums) in sums.iter().enumerate().take(rows.count() - first) {
                let meaning = meanings[if meanings.len() == 1 { 0 } else { first + i }];
                turn_back(&sums[..panel.width], meaning, (scales, whole), &mut reals);
                taker.take(first + i, panel.column, &reals[..real_columns]);
            }
        }
    }
}

/// Sums to reals: without the zero's share, times both steps.
#[inline(always)]
fn turn_back(sums: &[i32], meaning: Meaning, (scales, whole): (&[f32], &[f32]), reals: &mut [f32]) {
    let all = sums.chunks_exact(LANES).zip(scales.chunks_exact(LANES));
    let all = all.zip(whole.chunks_exact(LANES)).zip(reals.chunks_exact_mut(LANES));
    for (((sums, scales), whole), reals) in all {
        for i in 0..LANES {
            let sum = sums[i] as f32 - meaning.zero * whole[i];
            reals[i] = sum * (meaning.step * scales[i]);
        }
    }
}

/// Writes `reals + bias` to rows of a buffer, at the same column.
pub struct Place<'a> {
    pub out: &'a mut [f32],
    pub stride: usize,
    pub bias: &'a [f32],
}

impl Take for Place<'_> {
    #[inline(always)]
    fn take(&mut self, row: usize, column: usize, reals: &[f32]) {
        let at = row * self.stride + column;
        let out = &mut self.out[at..at + reals.len()];
        let bias = &self.bias[column..column + reals.len()];
        for ((out, real), bias) in out.iter_mut().zip(reals).zip(bias) {
            *out = real + bias;
        }
    }
}

/// As `Place`, with nothing below zero where `rectify` says so, and keeps the bounds of what it wrote.
pub struct Convolved<'a> {
    pub out: &'a mut [f32],
    pub stride: usize,
    pub bias: &'a [f32],
    pub floor: f32,
    pub low: [f32; LANES],
    pub high: [f32; LANES],
}

impl Take for Convolved<'_> {
    #[inline(always)]
    fn take(&mut self, row: usize, column: usize, reals: &[f32]) {
        let at = row * self.stride + column;
        let out = &mut self.out[at..at + reals.len()];
        let bias = &self.bias[column..column + reals.len()];
        let all = out.chunks_mut(LANES).zip(reals.chunks(LANES)).zip(bias.chunks(LANES));
        for ((out, reals), bias) in all {
            let lanes = self.low.iter_mut().zip(&mut self.high);
            for (((out, real), bias), (low, high)) in out.iter_mut().zip(reals).zip(bias).zip(lanes) {
                let value = real + bias;
                let value = if value > self.floor { value } else { self.floor };
                *low = if value < *low { value } else { *low };
                *high = if value > *high { value } else { *high };
                *out = value;
            }
        }
    }
}

/// Adds `reals + bias` to what stands there.
pub struct Add<'a> {
    pub out: &'a mut [f32],
    pub stride: usize,
    pub bias: &'a [f32],
}

impl Take for Add<'_> {
    #[inline(always)]
    fn take(&mut self, row: usize, column: usize, reals: &[f32]) {
        let at = row * self.stride + column;
        let out = &mut self.out[at..at + reals.len()];
        let bias = &self.bias[column..column + reals.len()];
        for ((out, real), bias) in out.iter_mut().zip(reals).zip(bias) {
            *out += real + bias;
        }
    }
}
