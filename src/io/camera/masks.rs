//! What nobody else may see of a camera's picture: polygons that are painted over in every picture that is kept or
//! leaves the device (stills for the page, evidence, crops for a net on another machine).
//!
//! What a stranger gets wrong: the nets here see the whole picture, masks or not. A fire behind a mask is a fire,
//! and no net keeps what it saw. What is painted is a little more than the polygon, never less: each pixel that it
//! touches goes.

use super::Frame;

/// What is painted: a grey that nothing is taken for.
const PAINT: [u8; 3] = [40, 40, 40];
/// A row of pixels is cut this often, so that a corner between two cuts is not lost.
const CUTS: usize = 8;

/// Pixels of a row that are painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    row: usize,
    from: usize,
    to: usize,
}

/// The masks of a camera.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    polygons: Vec<Vec<[f64; 2]>>,
    /// What they are in a frame of the size that was last painted.
    size: (usize, usize),
    spans: Vec<Span>,
}

impl Masks {
    /// Polygons in shares of the frame, 0 to 1.
    #[must_use]
    pub fn new(polygons: Vec<Vec<[f64; 2]>>) -> Masks {
        Masks { polygons, ..Masks::default() }
    }

    /// Whether any of them may reach into a part of the frame (shares: left, top, width, height).
    #[must_use]
    pub fn touch(&self, [left, top, width, height]: [f64; 4]) -> bool {
        let reaches = |polygon: &Vec<[f64; 2]>, k: usize, from: f64, length: f64| {
            let low = polygon.iter().map(|point| point[k]).fold(f64::INFINITY, f64::min);
            let high = polygon.iter().map(|point| point[k]).fold(f64::NEG_INFINITY, f64::max);
            low <= from + length && high >= from
        };
        let both = |p: &Vec<[f64; 2]>| reaches(p, 0, left, width) && reaches(p, 1, top, height);
        self.polygons.iter().any(both)
    }

    /// Paints them over.
    pub fn paint(&mut self, frame: &mut Frame) {
        if self.polygons.is_empty() {
            return;
        }
        let size = (frame.width, frame.height);
        if self.size != size {
            self.spans = self.polygons.iter().flat_map(|polygon| spans(polygon, size)).collect();
            self.size = size;
        }
        for Span { row, from, to } in &self.spans {
            let start = row * frame.width;
            let pixels =
                frame.rgb.get_mut((start + from) * 3..(start + to) * 3).unwrap_or_default();
            pixels.as_chunks_mut::<3>().0.fill(PAINT);
        }
    }
}

/// The pixels that a polygon touches.
fn spans(polygon: &[[f64; 2]], (width, height): (usize, usize)) -> Vec<Span> {
    let mut spans = Vec::new();
    for row in 0..height {
        for cut in 0..=CUTS {
            let y = (row as f64 + cut as f64 / CUTS as f64) / height as f64;
            for pair in crossings(polygon, y).as_chunks::<2>().0 {
                let from = (pair[0] * width as f64).floor().max(0.0) as usize;
                let to = ((pair[1] * width as f64).ceil() as usize).min(width);
                let span = Span { row, from, to };
                if from < to && spans.last() != Some(&span) {
                    spans.push(span);
                }
            }
        }
    }
    spans
}

/// Where the edges of a polygon cross a height, from left to right.
fn crossings(polygon: &[[f64; 2]], y: f64) -> Vec<f64> {
    let next = |i: usize| polygon[(i + 1) % polygon.len()];
    let edges = (0..polygon.len()).map(|i| (polygon[i], next(i)));
    let crossed = edges.filter(|(a, b)| (a[1] <= y) != (b[1] <= y));
    let mut all: Vec<f64> =
        crossed.map(|(a, b)| a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(width: usize, height: usize) -> Frame {
        Frame { rgb: vec![255; width * height * 3], width, height }
    }

    fn is_painted(frame: &Frame, x: usize, y: usize) -> bool {
        let at = (y * frame.width + x) * 3;
        let pixel = &frame.rgb[at..at + 3];
        assert!(pixel == PAINT || pixel == [255; 3], "neither painted nor unchanged: {pixel:?}");
        pixel == PAINT
    }

    #[test]
    fn what_lies_inside_is_gone_and_what_lies_outside_is_unchanged() {
        let square = vec![[0.25, 0.5], [0.5, 0.5], [0.5, 1.0], [0.25, 1.0]];
        let triangle = vec![[0.7, 0.1], [0.9, 0.1], [0.8, 0.3]];
        let mut masks = Masks::new(vec![square, triangle]);
        // Another size in between: what was painted for one does not serve another.
        for (width, height) in [(64, 32), (640, 360), (64, 32), (33, 77)] {
            let mut frame = white(width, height);
            masks.paint(&mut frame);
            for y in 0..height {
                for x in 0..width {
                    let inside = |x: f64, y: f64| {
                        (0.25..0.5).contains(&x) && (0.5..1.0).contains(&y)
                            || y >= 0.1 && (x - 0.8).abs() < (0.3 - y) / 2.0
                    };
                    let share = |dx: f64, dy: f64| {
                        ((x as f64 + dx) / width as f64, (y as f64 + dy) / height as f64)
                    };
                    let (x0, y0) = share(0.5, 0.5);
                    let painted = is_painted(&frame, x, y);
                    if inside(x0, y0) {
                        assert!(painted, "{width} x {height}: {x} {y} is seen");
                    }
                    // A pixel none of whose neighbours is inside keeps what it was.
                    let near = [-0.6, 0.5, 1.6];
                    let around = near.iter().flat_map(|dx| near.iter().map(|dy| share(*dx, *dy)));
                    if around.into_iter().all(|(x, y)| !inside(x, y)) {
                        assert!(!painted, "{width} x {height}: {x} {y} is painted");
                    }
                }
            }
        }
    }

    #[test]
    fn a_mask_narrower_than_a_pixel_and_one_over_all_are_painted() {
        let mut frame = white(64, 36);
        Masks::new(vec![vec![[0.5, 0.0], [0.5001, 0.0], [0.5001, 1.0], [0.5, 1.0]]])
            .paint(&mut frame);
        assert!((0..36).all(|y| is_painted(&frame, 32, y)), "a line from top to bottom");
        assert!((0..36).all(|y| !is_painted(&frame, 30, y)));
        Masks::new(vec![vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]).paint(&mut frame);
        assert!(frame.rgb.iter().all(|value| *value == PAINT[0]));
        let before = white(8, 8);
        let mut after = before.clone();
        Masks::default().paint(&mut after);
        assert_eq!(before, after);
    }

    #[test]
    fn a_part_is_touched_or_not() {
        let masks = Masks::new(vec![vec![[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]]);
        assert!(masks.touch([0.0, 0.0, 1.0, 1.0]) && masks.touch([0.15, 0.0, 0.5, 0.5]));
        assert!(!masks.touch([0.5, 0.0, 0.5, 0.5]) && !masks.touch([0.0, 0.5, 1.0, 0.5]));
        assert!(!Masks::default().touch([0.0, 0.0, 1.0, 1.0]));
    }
}
