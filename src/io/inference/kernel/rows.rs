//! What happens to rows of real numbers between two products: normalising, GELU, softmax, and back to
//! bytes. Plain code in lanes of sixteen, so that every instruction set computes the same bits.
//!
//! What a stranger gets wrong: sums and extremes run over sixteen lanes that are folded at the end; a
//! plain `sum()` could not be vectorised without changing its result.

use super::product::Meaning;
use super::tiles::LANES;

/// Adding this to a small number leaves its nearest integer in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;
/// Scores of rows that are not there.
pub const NOWHERE: f32 = -1e30;

/// Lowest and highest.
#[inline(always)]
pub fn bounds(row: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for chunk in row.chunks(LANES) {
        for ((value, low), high) in chunk.iter().zip(&mut low).zip(&mut high) {
            *low = if *value < *low { *value } else { *low };
            *high = if *value > *high { *value } else { *high };
        }
    }
    fold_bounds(&low, &high)
}

/// Lanes of bounds to bounds.
#[inline(always)]
pub fn fold_bounds(low: &[f32; LANES], high: &[f32; LANES]) -> (f32, f32) {
    let mut whole = (f32::INFINITY, f32::NEG_INFINITY);
    for (low, high) in low.iter().zip(high) {
        whole.0 = if *low < whole.0 { *low } else { whole.0 };
        whole.1 = if *high > whole.1 { *high } else { whole.1 };
    }
    whole
}

/// Reals to bytes. Values outside of the bounds that `meaning` was made for become nonsense.
#[inline(always)]
pub fn bytes(row: &[f32], meaning: Meaning, out: &mut [u8]) {
    let (turn, shift) = (1.0 / meaning.step, meaning.zero);
    for (out, value) in out.iter_mut().zip(row) {
        let level = value * turn + shift;
        let level = if level > 0.0 { level } else { 0.0 };
        let level = if level < 255.0 { level } else { 255.0 };
        *out = (level + ROUNDING).to_bits() as u8;
    }
}

/// Reals to bytes by their own bounds.
#[inline(always)]
pub fn quantise(row: &[f32], out: &mut [u8]) -> Meaning {
    let (low, high) = bounds(row);
    let meaning = Meaning::between(low, high);
    bytes(row, meaning, out);
    meaning
}

/// The nearest integer, for reals from -127 to 127.
#[inline(always)]
pub fn integer(real: f32) -> i8 {
    (real + ROUNDING).to_bits() as i8
}

/// Reals to signed integers of at most 127; the step.
#[inline(always)]
pub fn signed(row: &[f32], out: &mut [i8]) -> f32 {
    let (low, high) = bounds(row);
    let most = if high > -low { high } else { -low };
    let step = if most > f32::MIN_POSITIVE * 127.0 { most / 127.0 } else { 1.0 };
    let turn = 1.0 / step;
    for (out, value) in out.iter_mut().zip(row) {
        *out = integer(value * turn);
    }
    step
}

#[inline(always)]
fn sum(lanes: &[f32; LANES]) -> f32 {
    let mut half = [0.0; LANES / 2];
    for (i, half) in half.iter_mut().enumerate() {
        *half = lanes[i] + lanes[i + LANES / 2];
    }
    (half[0] + half[4]) + (half[1] + half[5]) + ((half[2] + half[6]) + (half[3] + half[7]))
}

/// What a layer norm multiplies and adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    pub gain: Vec<f32>,
    pub bias: Vec<f32>,
    pub epsilon: f32,
}

impl Norm {
    /// The row with mean 0 and variance 1, times gain, plus bias. Rows are whole lanes.
    #[inline(always)]
    pub fn apply(&self, row: &[f32], out: &mut [f32]) {
        let mut lanes = [0.0f32; LANES];
        for chunk in row.chunks_exact(LANES) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        let mean = sum(&lanes) / row.len() as f32;
        let mut lanes = [0.0f32; LANES];
        for chunk in row.chunks_exact(LANES) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += (value - mean) * (value - mean);
            }
        }
        let turn = 1.0 / (sum(&lanes) / row.len() as f32 + self.epsilon).sqrt();
        let factors = self.gain.iter().zip(&self.bias);
        for ((out, value), (gain, bias)) in out.iter_mut().zip(row).zip(factors) {
            *out = (value - mean) * turn * gain + bias;
        }
    }
}

/// Two to the power of x, for x from -126 to 0; relative error below 4e-6 (degree 5 around half steps).
#[inline(always)]
fn two_to(x: f32) -> f32 {
    let x = if x > -126.0 { x } else { -126.0 };
    let shifted = x + ROUNDING;
    let part = x - (shifted - ROUNDING);
    // Taylor terms of 2^part, |part| <= 1/2: ln 2 ^ n / n!.
    let power = 1.0
        + part
            * (0.693_147_2
                + part
                    * (0.240_226_5 + part * (0.055_504_1 + part * (0.009_618_13 + part * 0.001_333_36))));
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Scores that are already in powers of two to shares: bytes of which 255 is the highest score's, and
/// what one step of them is worth.
#[inline(always)]
pub fn shares(row: &mut [f32], out: &mut [u8]) -> f32 {
    let (_, high) = bounds(row);
    let mut total = [0.0f32; LANES];
    for (chunk, out) in row.chunks_exact_mut(LANES).zip(out.chunks_exact_mut(LANES)) {
        for ((value, out), total) in chunk.iter_mut().zip(out).zip(&mut total) {
            let level = two_to(*value - high) * 255.0 + ROUNDING;
            *total += level - ROUNDING;
            *out = level.to_bits() as u8;
        }
    }
    1.0 / sum(&total)
}

/// x times the share of a normal distribution below x. The error function after Abramowitz and Stegun
/// 7.1.26 (absolute error below 1.5e-7).
#[inline(always)]
pub fn gelu(row: &mut [f32]) {
    for value in row {
        let x = *value;
        let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let sum = t
            * (0.254_829_6
                + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
        let tail = sum * two_to(-z * z * std::f32::consts::LOG2_E);
        let below = if x > 0.0 { 1.0 - 0.5 * tail } else { 0.5 * tail };
        *value = x * below;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_and_gelu_are_near_the_real_ones() {
        for i in 0..12_600 {
            let x = -(i as f32) / 100.0;
            let wanted = f64::from(x).exp2();
            assert!((f64::from(two_to(x)) / wanted - 1.0).abs() < 4e-6, "{x}");
        }
        for i in -800..800 {
            let x = i as f32 / 100.0;
            let mut row = [x];
            gelu(&mut row);
            let wanted = f64::from(x) * 0.5 * (1.0 + libm::erf(f64::from(x) / 2f64.sqrt()));
            assert!((f64::from(row[0]) - wanted).abs() < 2e-6, "{x}: {} {wanted}", row[0]);
        }
    }

    #[test]
    fn bytes_are_within_half_a_step() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let scale = rng.f32() * 10.0;
            let row: Vec<f32> = (0..64).map(|_| (rng.f32() - 0.3) * scale).collect();
            let mut out = vec![0; 64];
            let meaning = quantise(&row, &mut out);
            for (byte, value) in out.iter().zip(&row) {
                let back = (f32::from(*byte) - meaning.zero) * meaning.step;
                assert!((back - value).abs() <= meaning.step * 1.01, "{back} {value}");
            }
        }
        let flat = quantise(&[0.0; 16], &mut [0; 16]);
        assert!(flat.step.is_finite() && flat.zero == 0.0);
    }

    #[test]
    fn shares_add_up_to_one() {
        let mut row = [NOWHERE; 32];
        row[..20].copy_from_slice(&std::array::from_fn::<f32, 20, _>(|i| i as f32 / 3.0));
        let mut out = [0; 32];
        let step = shares(&mut row, &mut out);
        let whole: f32 = out.iter().map(|byte| f32::from(*byte) * step).sum();
        assert!((whole - 1.0).abs() < 1e-5, "{whole}");
        assert!(out[20..].iter().all(|byte| *byte == 0));
    }
}
