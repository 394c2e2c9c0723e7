//! Cheap measures of a frame: brightness, contrast, and how much it differs from the one before. What
//! follows from them is judged elsewhere.

use super::Frame;

/// Cells across and down.
pub const ACROSS: usize = 64;
pub const DOWN: usize = 36;
/// Rows looked at in each cell.
const ROWS: usize = 4;

/// Smallest difference of neighbouring cells that is an edge, 0 to 255: above a sensor's noise, of which the
/// mean over a cell leaves 1 to 2. Our own figures, as those that follow.
const EDGE: f32 = 4.0;
/// With fewer edges nothing is said; more than these are not looked at.
const FEWEST_EDGES: usize = 24;
const MOST_EDGES: usize = 200;
/// An edge is there from this share of its usual strength on, at the same light.
const FAINT: f32 = 0.3;

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

    /// The cells, row by row of [`ACROSS`].
    #[must_use]
    pub fn cells(&self) -> &[f32] {
        &self.0
    }

    /// The cells as whole numbers, to be kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().map(|cell| cell.round().clamp(0.0, 255.0) as u8).collect()
    }

    /// What was kept; nothing where the number of cells is another.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Glance> {
        let whole = bytes.len() == ACROSS * DOWN;
        whole.then(|| Glance(bytes.iter().map(|byte| f32::from(*byte)).collect()))
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

    /// Which part of another glance's strongest edges is still there, less the part that has turned round, -1 to
    /// 1, in the cells of `background` alone; none where those have too few edges to tell. Edges keep their
    /// place and their sense in any light, what stands before some of them leaves the others, and another
    /// place has as many of one sense as of the other.
    #[must_use]
    pub fn kept(&self, usual: &Glance, background: &[bool]) -> Option<f32> {
        let light = (self.brightness() / usual.brightness().max(1.0)).clamp(0.0, 1.0);
        let mut edges: Vec<(f32, f32)> = (0..self.0.len())
            .flat_map(|i| {
                let right = (i % ACROSS + 1 < ACROSS).then_some((i, i + 1));
                right.into_iter().chain((i + ACROSS < self.0.len()).then_some((i, i + ACROSS)))
            })
            .filter(|(i, next)| background[*i] && background[*next])
            .map(|(i, next)| (usual.0[next] - usual.0[i], self.0[next] - self.0[i]))
            .filter(|(then, _)| then.abs() >= EDGE)
            .collect();
        if edges.len() < FEWEST_EDGES {
            return None;
        }
        let strongest = (edges.len() / 2).clamp(FEWEST_EDGES, MOST_EDGES).min(edges.len());
        edges.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        let there =
            |(then, now): &&(f32, f32)| then * now > 0.0 && now.abs() >= FAINT * light * then.abs();
        let kept = edges[..strongest].iter().filter(there).count();
        Some(kept as f32 / strongest as f32)
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

/// Cells outside all areas (left, top, right, bottom as shares of the frame) in which things come and go. Above
/// an area half of its height goes with it: what stands there is taller than its place.
#[must_use]
pub fn background(areas: &[[f64; 4]]) -> Vec<bool> {
    let outside = |i: usize| {
        let x = ((i % ACROSS) as f64 + 0.5) / ACROSS as f64;
        let y = ((i / ACROSS) as f64 + 0.5) / DOWN as f64;
        !areas.iter().any(|[left, top, right, bottom]| {
            (*left..=*right).contains(&x) && (top - 0.5 * (bottom - top)..=*bottom).contains(&y)
        })
    };
    (0..ACROSS * DOWN).map(outside).collect()
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
                let (x, y) = ((i % 640 + shift) / 40, i / 640 / 45);
                let mixed = (x * 7919 + y * 104_729) * 2_654_435_761;
                [((mixed >> 7) % 7 * gain) as u8; 3]
            };
            Frame { rgb: (0..640 * 360).flat_map(pixel).collect(), width: 640, height: 360 }
        };
        let (usual, all) = (Glance::of(&picture(0, 30)), background(&[]));
        assert!(Glance::of(&picture(0, 12)).kept(&usual, &all) > Some(0.95));
        assert!(Glance::of(&picture(120, 30)).kept(&usual, &all) < Some(0.3));
        assert_eq!(Glance::of(&picture(0, 0)).kept(&usual, &all), Some(0.0));
        assert_eq!(usual.kept(&Glance::of(&picture(0, 0)), &all), None);
        let hidden = background(&[[0.0, 0.0, 1.0, 1.0]]);
        assert_eq!(usual.kept(&usual, &hidden), None, "all of it is bays");
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
