//! Cheap measures of a frame: brightness, contrast, and how much it differs from the one before. What
//! follows from them is judged elsewhere.

use super::Frame;

/// Cells across and down.
const ACROSS: usize = 64;
const DOWN: usize = 36;
/// Rows looked at in each cell.
const ROWS: usize = 4;

/// The frame as 64 x 36 cells of mean brightness, 0 to 255.
#[derive(Clone, Debug, PartialEq)]
pub struct Glance(Vec<f32>);

impl Glance {
    /// Takes a glance at a frame.
    #[must_use]
    pub fn of(frame: &Frame) -> Glance {
        let mut cells = Vec::with_capacity(ACROSS * DOWN);
        for down in 0..DOWN {
            for across in 0..ACROSS {
                let left = across * frame.width / ACROSS;
                let right = ((across + 1) * frame.width / ACROSS)
                    .clamp(left + 1, frame.width.max(left + 1));
                let (mut sum, mut count) = (0u32, 0u32);
                for row in 0..ROWS {
                    let y = (down * ROWS + row) * frame.height / (DOWN * ROWS);
                    for x in left..right.min(frame.width) {
                        let at = (y.min(frame.height - 1) * frame.width + x) * 3;
                        sum += u32::from(frame.rgb[at + 1]);
                        count += 1;
                    }
                }
                cells.push(if count == 0 { 0.0 } else { sum as f32 / count as f32 });
            }
        }
        Glance(cells)
    }

    /// Mean brightness, 0 to 255.
    #[must_use]
    pub fn brightness(&self) -> f32 {
        self.0.iter().sum::<f32>() / self.0.len() as f32
    }

    /// Standard deviation of the cells, 0 to 127.
    #[must_use]
    pub fn contrast(&self) -> f32 {
        let mean = self.brightness();
        let square = self.0.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>();
        (square / self.0.len() as f32).sqrt()
    }

    /// How much the pattern is like another's, whatever the light: the correlation of the cells, -1 to 1.
    /// A flat picture is like nothing (0).
    #[must_use]
    pub fn alike(&self, other: &Glance) -> f32 {
        let (here, there) = (self.brightness(), other.brightness());
        let (mut both, mut own, mut others) = (0.0, 0.0, 0.0);
        for (a, b) in self.0.iter().zip(&other.0) {
            let (a, b) = (a - here, b - there);
            both += a * b;
            own += a * a;
            others += b * b;
        }
        let size = (own * others).sqrt();
        if size > 0.0 { both / size } else { 0.0 }
    }

    /// Moves every cell by a share of the way towards another glance.
    pub fn follow(&mut self, other: &Glance, share: f32) {
        for (cell, other) in self.0.iter_mut().zip(&other.0) {
            *cell += (other - *cell) * share;
        }
    }

    /// Share of the cells inside a box (shares of the frame) that differ by more than `by`, once the
    /// change of overall brightness is taken out.
    #[must_use]
    pub fn change(&self, before: &Glance, area: [f64; 4], by: f32) -> f64 {
        let shift = self.brightness() - before.brightness();
        let [left, top, right, bottom] = area;
        let (mut changed, mut count) = (0u32, 0u32);
        for (i, (now, then)) in self.0.iter().zip(&before.0).enumerate() {
            let x = ((i % ACROSS) as f64 + 0.5) / ACROSS as f64;
            let y = ((i / ACROSS) as f64 + 0.5) / DOWN as f64;
            if (left..=right).contains(&x) && (top..=bottom).contains(&y) {
                count += 1;
                changed += u32::from((now - then - shift).abs() > by);
            }
        }
        if count == 0 { 1.0 } else { f64::from(changed) / f64::from(count) }
    }
}

/// Mean difference of neighbouring pixels along some rows, 0 to 255: what a lens out of focus loses.
#[must_use]
pub fn detail(frame: &Frame) -> f32 {
    let (mut sum, mut count) = (0u64, 0u64);
    let step = (frame.height / (DOWN * ROWS)).max(1);
    for row in frame.rgb.chunks_exact(frame.width * 3).step_by(step) {
        for (pixel, next) in row.chunks_exact(3).zip(row[3..].chunks_exact(3)) {
            sum += u64::from(pixel[1].abs_diff(next[1]));
        }
        count += frame.width as u64 - 1;
    }
    if count == 0 { 0.0 } else { sum as f32 / count as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_known_again_in_other_light_and_not_after_a_turn() {
        let picture = |shift: usize, gain: usize| {
            let pixel = |i: usize| {
                let (x, y) = (i % 640 + shift, i / 640);
                [((x / 40 * 37 + y / 45 * 91) % 7 * gain) as u8; 3]
            };
            Frame { rgb: (0..640 * 360).flat_map(pixel).collect(), width: 640, height: 360 }
        };
        let usual = Glance::of(&picture(0, 30));
        assert!(Glance::of(&picture(0, 12)).alike(&usual) > 0.99);
        assert!(Glance::of(&picture(120, 30)).alike(&usual) < 0.3);
        assert_eq!(Glance::of(&picture(0, 0)).alike(&usual), 0.0);
        assert!(detail(&picture(0, 30)) > 2.0 * detail(&picture(0, 10)));
    }

    #[test]
    fn a_change_counts_where_it_is() {
        let mut frame = Frame { rgb: vec![80; 640 * 360 * 3], width: 640, height: 360 };
        let before = Glance::of(&frame);
        for y in 0..180 {
            for x in 0..320 {
                frame.rgb[(y * 640 + x) * 3 + 1] = 200;
            }
        }
        let after = Glance::of(&frame);
        assert!(after.change(&before, [0.0, 0.0, 0.5, 0.5], 40.0) > 0.9);
        assert!(after.change(&before, [0.5, 0.5, 1.0, 1.0], 40.0) < 0.1);
        assert!(after.contrast() > before.contrast());
    }
}
