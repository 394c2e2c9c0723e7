//! Weights as eight-bit integers, laid out for the tiles of `tiles`.
//!
//! Symmetric, one scale for each output column. The columns stand in panels of up to 64; inside a panel
//! four consecutive values of a column stand together, because the dot-product instructions take four.
//! What a stranger gets wrong: the sum of each column is kept, since activations are unsigned with a
//! zero of their own and the zero's share must be taken out of every product.

use super::tiles::{GROUP, LANES, MOST_COLUMNS};

/// The largest magnitude of a quantised weight.
pub const LEVELS: f32 = 127.0;

/// A packed matrix `[depth, columns]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    /// Panel by panel; see above.
    pub values: Vec<i8>,
    /// Rows of the matrix, a multiple of four.
    pub depth: usize,
    /// Columns that mean something; the packed ones are a multiple of 16.
    pub columns: usize,
    /// What one step of the integers is worth, for each packed column.
    pub scales: Vec<f32>,
    /// Sum of the integers of each packed column.
    pub sums: Vec<f32>,
}

/// One panel of a packed matrix.
pub struct Panel<'a> {
    pub values: &'a [i8],
    /// The first column.
    pub column: usize,
    /// Columns, a multiple of 16.
    pub width: usize,
}

impl Packed {
    /// Quantises and packs the matrix whose value at (row, column) `value` tells.
    pub fn of(depth: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Packed {
        let mut packed = Packed::default();
        packed.clear(depth, columns);
        for column in 0..columns {
            let largest = (0..depth).map(|row| value(row, column).abs()).fold(0.0, f32::max);
            let scale = if largest > 0.0 { largest / LEVELS } else { 1.0 };
            packed.scales[column] = scale;
            for row in 0..depth {
                let at = packed.group(row, column) + row % GROUP;
                packed.values[at] = (value(row, column) / scale).round_ties_even() as i8;
            }
        }
        packed.sum();
        packed
    }

    /// Makes room for another matrix; all integers zero, all scales one.
    pub fn clear(&mut self, depth: usize, columns: usize) {
        self.depth = depth.next_multiple_of(GROUP);
        self.columns = columns;
        let width = columns.next_multiple_of(LANES);
        self.values.clear();
        self.values.resize(self.depth * width, 0);
        self.scales.clear();
        self.scales.resize(width, 1.0);
        self.sums.clear();
        self.sums.resize(width, 0.0);
    }

    /// Where the group of four begins that holds this value.
    #[inline(always)]
    fn group(&self, row: usize, column: usize) -> usize {
        let first = column / MOST_COLUMNS * MOST_COLUMNS;
        let width = MOST_COLUMNS.min(self.scales.len() - first);
        first * self.depth + (row / GROUP * width + column - first) * GROUP
    }

    /// Places four integers of a column, from `row` (a multiple of four) on.
    #[inline(always)]
    pub fn put(&mut self, row: usize, column: usize, four: [u8; GROUP]) {
        let at = self.group(row, column);
        for (place, byte) in self.values[at..at + GROUP].iter_mut().zip(four) {
            *place = byte.cast_signed();
        }
    }

    /// Adds up the columns once all integers stand.
    #[inline(always)]
    pub fn sum(&mut self) {
        let depth = self.depth;
        let Packed { values, sums, .. } = self;
        let mut rest = values.as_slice();
        for sums in sums.chunks_mut(MOST_COLUMNS) {
            let (panel, others) = rest.split_at(sums.len() * depth);
            rest = others;
            let mut whole = [0i32; MOST_COLUMNS];
            for groups in panel.chunks_exact(sums.len() * GROUP) {
                for (sum, group) in whole.iter_mut().zip(groups.chunks_exact(GROUP)) {
                    for value in group {
                        *sum = sum.wrapping_add(i32::from(*value));
                    }
                }
            }
            for (sum, whole) in sums.iter_mut().zip(whole) {
                *sum = whole as f32;
            }
        }
    }

    /// The panels from left to right.
    pub fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let firsts = (0..self.scales.len()).step_by(MOST_COLUMNS);
        firsts.map(|column| {
            let width = MOST_COLUMNS.min(self.scales.len() - column);
            let values = &self.values[column * self.depth..(column + width) * self.depth];
            Panel { values, column, width }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_stands_where_the_tiles_look_for_it() {
        let value = |row: usize, column: usize| (row * 7 + column * 3) as f32 % 11.0 - 5.0;
        let (depth, columns) = (8, 83);
        let packed = Packed::of(depth, columns, value);
        let mut seen = 0;
        for panel in packed.panels() {
            for group in 0..depth / GROUP {
                for lane in 0..panel.width {
                    let column = panel.column + lane;
                    for k in 0..GROUP {
                        let integer = panel.values[(group * panel.width + lane) * GROUP + k];
                        let real = f32::from(integer) * packed.scales[column];
                        let row = group * GROUP + k;
                        let wanted = if column < columns { value(row, column) } else { 0.0 };
                        assert!((real - wanted).abs() <= packed.scales[column] / 2.0 + 1e-6);
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, depth * 96);
        let sum: f32 = (0..depth)
            .map(|row| f32::from(packed.values[packed.group(row, 70) + row % GROUP]))
            .sum();
        assert_eq!(packed.sums[70], sum);
    }
}
