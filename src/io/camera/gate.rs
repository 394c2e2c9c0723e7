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

#[cfg(test)]
mod tests {
    use super::*;

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
