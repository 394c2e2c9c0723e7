//! What happens to rows of real numbers between two products: normalising, GELU, softmax, and back to
//! bytes. Plain code in lanes of sixteen, so that every instruction set computes the same bits.
//!
//! What a stranger gets wrong: sums and extremes run over sixteen lanes that are folded at the end; a
//! plain `sum()` could not be vectorised without changing its result.

use super::lanes::Lanes;
use super::product::Meaning;
use super::tiles::{LANES, Tile};

/// Adding this to a small number leaves its nearest integer in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;
/// Scores of rows that are not there.
pub const NOWHERE: f32 = -1e30;

/// A row, sixteen numbers at a time.
#[inline(always)]
fn sixteens(row: &[f32]) -> &[[f32; LANES]] {
    row.as_chunks().0
}

/// Lowest and highest.
#[inline(always)]
pub fn bounds<T: Tile>(tile: T, row: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = (tile.splat(f32::INFINITY), tile.splat(f32::NEG_INFINITY));
    for values in sixteens(row) {
        let values = tile.load(values);
        (low, high) = (values.low(low), values.high(high));
    }
    fold_bounds(low, high)
}

/// Lanes of bounds to bounds.
#[inline(always)]
pub fn fold_bounds<L: Lanes>(low: L, high: L) -> (f32, f32) {
    let (mut lows, mut highs) = ([0.0; LANES], [0.0; LANES]);
    low.store(&mut lows);
    high.store(&mut highs);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lows[i] = if lows[i + half] < lows[i] { lows[i + half] } else { lows[i] };
            highs[i] = if highs[i + half] > highs[i] { highs[i + half] } else { highs[i] };
        }
    }
    (lows[0], highs[0])
}

#[inline(always)]
fn sum<L: Lanes>(lanes: L) -> f32 {
    let mut sums = [0.0; LANES];
    lanes.store(&mut sums);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// Sixteen reals as the nearest bytes.
#[inline(always)]
fn sixteen_bytes<T: Tile>(
    tile: T,
    values: &[f32; LANES],
    (turn, zero): (T::Lanes, T::Lanes),
) -> [u8; LANES] {
    let level = tile.load(values) * turn + zero;
    let level = level.high(tile.splat(0.0)).low(tile.splat(255.0));
    (level + tile.splat(ROUNDING)).bytes()
}

/// Reals to bytes; values outside of the bounds that `meaning` was made for to the nearest byte.
#[inline(always)]
pub fn bytes<T: Tile>(tile: T, row: &[f32], meaning: Meaning, out: &mut [u8]) {
    let factors = (tile.splat(1.0 / meaning.step), tile.splat(meaning.zero));
    let (rows, rest) = row.as_chunks();
    let (outs, out_rest) = out.as_chunks_mut();
    for (out, values) in outs.iter_mut().zip(rows) {
        *out = sixteen_bytes(tile, values, factors);
    }
    if !rest.is_empty() {
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        out_rest.copy_from_slice(&sixteen_bytes(tile, &last, factors)[..rest.len()]);
    }
}

/// Reals to bytes by their own bounds. Rows are whole lanes, here and below.
#[inline(always)]
pub fn quantise<T: Tile>(tile: T, row: &[f32], out: &mut [u8]) -> Meaning {
    let (low, high) = bounds(tile, row);
    let meaning = Meaning::between(low, high);
    bytes(tile, row, meaning, out);
    meaning
}

/// Reals to signed integers (as bytes) by a factor for each column that brings them into -127 to 127.
#[inline(always)]
pub fn signed<T: Tile>(tile: T, row: &[f32], turns: &[f32], out: &mut [u8]) {
    let rounding = tile.splat(ROUNDING);
    let all = out.as_chunks_mut().0.iter_mut().zip(sixteens(row)).zip(sixteens(turns));
    for ((out, values), turns) in all {
        *out = (tile.load(values) * tile.load(turns) + rounding).bytes();
    }
}

/// Largest size in each column so far.
#[inline(always)]
pub fn sizes<T: Tile>(tile: T, row: &[f32], most: &mut [f32]) {
    for (most, values) in most.as_chunks_mut().0.iter_mut().zip(sixteens(row)) {
        tile.load(values).size().high(tile.load(most)).store(most);
    }
}

/// What a layer norm multiplies and adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    pub gain: Vec<f32>,
    pub bias: Vec<f32>,
    pub epsilon: f32,
}

impl Norm {
    /// The row with mean 0 and variance 1, times gain, plus bias.
    #[inline(always)]
    pub fn apply<T: Tile>(&self, tile: T, row: &[f32], out: &mut [f32]) {
        let count = row.len() as f32;
        let mut total = tile.splat(0.0);
        for values in sixteens(row) {
            total = total + tile.load(values);
        }
        let mean = tile.splat(sum(total) / count);
        let mut squares = tile.splat(0.0);
        for values in sixteens(row) {
            let apart = tile.load(values) - mean;
            squares = squares + apart * apart;
        }
        let turn = tile.splat(1.0 / (sum(squares) / count + self.epsilon).sqrt());
        let factors = sixteens(&self.gain).iter().zip(sixteens(&self.bias));
        let outs = out.as_chunks_mut().0.iter_mut();
        for ((out, values), (gain, bias)) in outs.zip(sixteens(row)).zip(factors) {
            let even = (tile.load(values) - mean) * turn;
            (even * tile.load(gain) + tile.load(bias)).store(out);
        }
    }
}

/// A polynomial of `x`, the highest term first.
#[inline(always)]
fn polynomial<T: Tile>(tile: T, x: T::Lanes, terms: &[f32]) -> T::Lanes {
    let mut value = tile.splat(0.0);
    for term in terms {
        value = value * x + tile.splat(*term);
    }
    value
}

/// Two to the power of x, for x up to 0 (from -126 down it stays there); relative error below 4e-6.
#[inline(always)]
fn two_to<T: Tile>(tile: T, x: T::Lanes) -> T::Lanes {
    // Taylor terms of 2^part, |part| <= 1/2: ln 2 ^ n / n!.
    const TERMS: [f32; 6] =
        [0.001_333_36, 0.009_618_13, 0.055_504_1, 0.240_226_5, std::f32::consts::LN_2, 1.0];
    let x = x.high(tile.splat(-126.0));
    let shifted = x + tile.splat(ROUNDING);
    let part = x - (shifted - tile.splat(ROUNDING));
    polynomial(tile, part, &TERMS).raise(shifted)
}

/// Scores that are already in powers of two to shares: bytes of which 255 is the highest score's, and
/// what one step of them is worth.
#[inline(always)]
pub fn shares<T: Tile>(tile: T, row: &[f32], out: &mut [u8]) -> f32 {
    let (_, high) = bounds(tile, row);
    let (high, most, rounding) = (tile.splat(high), tile.splat(255.0), tile.splat(ROUNDING));
    let mut total = tile.splat(0.0);
    for (out, values) in out.as_chunks_mut().0.iter_mut().zip(sixteens(row)) {
        let level = two_to(tile, tile.load(values) - high) * most + rounding;
        total = total + (level - rounding);
        *out = level.bytes();
    }
    1.0 / sum(total)
}

/// x times the share of a normal distribution below x. That share minus one half is x times a polynomial
/// of x², fitted over -4 to 4 (weighted least squares, our own; largest error of the product 3e-5) and
/// taken from the edge beyond (error 4e-5 times x): far less than a step of the bytes that follow.
#[inline(always)]
pub fn gelu<T: Tile>(tile: T, row: &mut [f32]) {
    const EDGE: f32 = 4.0;
    const TERMS: [f32; 9] = [
        6.740_41e-11,
        -6.066_919_3e-9,
        2.440_849_5e-7,
        -5.860_608e-6,
        9.494_033e-5,
        -0.001_112_856_6,
        0.009_815_803,
        -0.066_323_63,
        0.398_881_02,
    ];
    for values in row.as_chunks_mut().0 {
        let x = tile.load(values);
        let near = x.high(tile.splat(-EDGE)).low(tile.splat(EDGE));
        let below = near * polynomial(tile, near * near, &TERMS) + tile.splat(0.5);
        (x * below).store(values);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiles::Portable;
    use super::*;

    #[test]
    fn powers_of_two_and_gelu_are_near_the_real_ones() {
        for i in 0..12_600 {
            let x = -(i as f32) / 100.0;
            let wanted = f64::from(x).exp2();
            let found = two_to(Portable, Portable.splat(x)).0[0];
            assert!((f64::from(found) / wanted - 1.0).abs() < 4e-6, "{x}");
        }
        for i in -800..800 {
            let x = i as f32 / 100.0;
            let mut row = [x; LANES];
            gelu(Portable, &mut row);
            let wanted = f64::from(x) * 0.5 * (1.0 + libm::erf(f64::from(x) / 2f64.sqrt()));
            let bound = if x.abs() > 4.0 { 4e-5 * f64::from(x.abs()) } else { 3e-5 };
            assert!((f64::from(row[0]) - wanted).abs() < bound, "{x}: {} {wanted}", row[0]);
        }
    }

    #[test]
    fn bytes_are_within_half_a_step() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let scale = rng.f32() * 10.0;
            let row: Vec<f32> = (0..64).map(|_| (rng.f32() - 0.3) * scale).collect();
            let mut out = vec![0; 64];
            let meaning = quantise(Portable, &row, &mut out);
            for (byte, value) in out.iter().zip(&row) {
                let back = (f32::from(*byte) - meaning.zero) * meaning.step;
                assert!((back - value).abs() <= meaning.step * 1.01, "{back} {value}");
            }
        }
        let flat = quantise(Portable, &[0.0; 16], &mut [0; 16]);
        assert!(flat.step.is_finite() && flat.zero == 0.0);
    }

    #[test]
    fn shares_add_up_to_one() {
        let mut row = [NOWHERE; 32];
        row[..20].copy_from_slice(&std::array::from_fn::<f32, 20, _>(|i| i as f32 / 3.0));
        let mut out = [0; 32];
        let step = shares(Portable, &row, &mut out);
        let whole: f32 = out.iter().map(|byte| f32::from(*byte) * step).sum();
        assert!((whole - 1.0).abs() < 1e-5, "{whole}");
        assert!(out[20..].iter().all(|byte| *byte == 0));
    }
}
