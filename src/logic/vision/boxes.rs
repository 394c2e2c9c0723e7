//! What a detector's outputs mean: boxes, by the four ways that public detectors write them, without the
//! doubles; and which bay a box stands in.
//!
//! What a stranger gets wrong: a vehicle stands where its wheels are. A box belongs to a bay when the
//! middle of its lower edge is inside the polygon, however far its roof reaches over the next one.

/// A box in the pixels of the net's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boxed {
    /// Number of the label.
    pub label: usize,
    /// 0 to 1.
    pub score: f32,
    /// Left, top, right, bottom.
    pub corners: [f32; 4],
}

/// How a detector writes its boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// `[4 + labels, boxes]`: centre and size in pixels, a score for each label.
    Yolov8,
    /// `[boxes, 5 + labels]`: offset in cells of 8, 16, 32 pixels, logarithm of the size in cells,
    /// whether there is anything, a score for each label.
    Yolox,
    /// `[boxes, labels + 4 * bins]`: a score for each label, then for each side the distribution of its
    /// distance in cells of 8, 16, 32 (and 64) pixels.
    Nanodet,
    /// `[5 + labels, cells]` of 16 pixels: whether there is anything, offset in cells (through tanh), size as a share of
    /// the picture (through a sigmoid), a score for each label.
    Fastestdet,
}

/// Boxes that overlap more than this share are one.
const SAME: f32 = 0.5;
/// More boxes than this are noise.
const MOST: usize = 300;

/// The outputs of a detector as boxes of at least `least` score, the best first. `size` is the input's
/// width and height.
///
/// # Errors
/// When the number of values fits no such detector: how many there are, and how many there should be.
pub fn boxes(
    values: &[f32],
    writing: Writing,
    (labels, least): (usize, f32),
    size: (usize, usize),
) -> Result<Vec<Boxed>, String> {
    let all = match writing {
        Writing::Yolov8 => yolov8(values, labels, size)?,
        Writing::Yolox => yolox(values, labels, size)?,
        Writing::Nanodet => nanodet(values, labels, size)?,
        Writing::Fastestdet => fastestdet(values, labels, size)?,
    };
    let good = |found: &Boxed| {
        found.score >= least && found.corners.iter().all(|corner| corner.is_finite())
    };
    Ok(without_doubles(all.into_iter().filter(good).collect()))
}

/// Cells of all strides: left and top in cells, and the stride.
fn cells(strides: &[usize], (width, height): (usize, usize)) -> Vec<(f32, f32, f32)> {
    let grid = |stride: &usize| {
        let (across, down) = (width.div_ceil(*stride), height.div_ceil(*stride));
        let stride = *stride as f32;
        (0..across * down)
            .map(move |i| ((i % across) as f32, (i / across) as f32, stride))
            .collect::<Vec<_>>()
    };
    strides.iter().flat_map(grid).collect()
}

fn best(scores: impl Iterator<Item = f32>) -> (usize, f32) {
    let higher = |best: (usize, f32), (label, score): (usize, f32)| {
        if score > best.1 { (label, score) } else { best }
    };
    scores.enumerate().fold((0, 0.0), higher)
}

fn around(x: f32, y: f32, width: f32, height: f32) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

fn yolov8(values: &[f32], labels: usize, size: (usize, usize)) -> Result<Vec<Boxed>, String> {
    let count = cells(&[8, 16, 32], size).len();
    if values.len() != count * (4 + labels) {
        return Err(mismatch(values.len(), count * (4 + labels), labels));
    }
    let at = |row: usize, i: usize| values[row * count + i];
    let read = |i: usize| {
        let (label, score) = best((0..labels).map(|label| at(4 + label, i)));
        Boxed { label, score, corners: around(at(0, i), at(1, i), at(2, i), at(3, i)) }
    };
    Ok((0..count).map(read).collect())
}

fn yolox(values: &[f32], labels: usize, size: (usize, usize)) -> Result<Vec<Boxed>, String> {
    let cells = cells(&[8, 16, 32], size);
    let row = 5 + labels;
    if values.len() != cells.len() * row {
        return Err(mismatch(values.len(), cells.len() * row, labels));
    }
    let read = |(row, (left, top, stride)): (&[f32], (f32, f32, f32))| {
        let (x, y) = ((row[0] + left) * stride, (row[1] + top) * stride);
        let (width, height) = (libm::expf(row[2]) * stride, libm::expf(row[3]) * stride);
        let (label, score) = best(row[5..].iter().copied());
        Boxed { label, score: score * row[4], corners: around(x, y, width, height) }
    };
    Ok(values.chunks_exact(row).zip(cells).map(read).collect())
}

fn nanodet(values: &[f32], labels: usize, size: (usize, usize)) -> Result<Vec<Boxed>, String> {
    // The one with four strides counts from a cell's corner, the older one from its middle.
    let kinds: [(&[usize], f32); 2] = [(&[8, 16, 32, 64], 0.0), (&[8, 16, 32], 0.5)];
    for (strides, middle) in kinds {
        let cells = cells(strides, size);
        let row = values.len() / cells.len().max(1);
        let bins = row.saturating_sub(labels) / 4;
        if values.len() != cells.len() * row || row != labels + 4 * bins || bins < 2 {
            continue;
        }
        let read = |(row, (left, top, stride)): (&[f32], (f32, f32, f32))| {
            let (x, y) = ((left + middle) * stride, (top + middle) * stride);
            let (label, score) = best(row[..labels].iter().copied());
            let mut sides = row[labels..].chunks_exact(bins).map(|side| mean(side) * stride);
            let mut side = || sides.next().unwrap_or(0.0);
            let (l, t, r, b) = (side(), side(), side(), side());
            Boxed { label, score, corners: [x - l, y - t, x + r, y + b] }
        };
        return Ok(values.chunks_exact(row).zip(cells).map(read).collect());
    }
    let count = cells(&[8, 16, 32, 64], size).len();
    Err(mismatch(values.len(), count * (labels + 32), labels))
}

fn fastestdet(values: &[f32], labels: usize, size: (usize, usize)) -> Result<Vec<Boxed>, String> {
    let cells = cells(&[16], size);
    let count = cells.len();
    if values.len() != count * (5 + labels) {
        return Err(mismatch(values.len(), count * (5 + labels), labels));
    }
    let at = |row: usize, i: usize| values[row * count + i];
    let share = |logit: f32| 1.0 / (1.0 + libm::expf(-logit));
    let read = |(i, (left, top, stride)): (usize, (f32, f32, f32))| {
        let (x, y) = (left + libm::tanhf(at(1, i)), top + libm::tanhf(at(2, i)));
        let (width, height) = (share(at(3, i)) * size.0 as f32, share(at(4, i)) * size.1 as f32);
        let (label, score) = best((0..labels).map(|label| at(5 + label, i)));
        let corners = around(x * stride, y * stride, width, height);
        Boxed { label, score: score * at(0, i), corners }
    };
    Ok(cells.into_iter().enumerate().map(read).collect())
}

/// Mean of a distribution that is given as logits of 0, 1, 2, ...
fn mean(logits: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let (mut whole, mut sum) = (0.0, 0.0);
    for (i, logit) in logits.iter().enumerate() {
        let weight = libm::expf(logit - most);
        whole += weight;
        sum += weight * i as f32;
    }
    sum / whole
}

fn mismatch(found: usize, wanted: usize, labels: usize) -> String {
    format!(
        "{found} output values; with {labels} labels and this input size there should be {wanted}: check decoder, labels, width and height"
    )
}

fn area(corners: [f32; 4]) -> f32 {
    (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0)
}

/// The best of every heap of boxes with one label.
fn without_doubles(mut all: Vec<Boxed>) -> Vec<Boxed> {
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Boxed> = Vec::new();
    for found in all {
        let [left, top, right, bottom] = found.corners;
        let double = |other: &Boxed| {
            let [l, t, r, b] = other.corners;
            let shared = area([left.max(l), top.max(t), right.min(r), bottom.min(b)]);
            let both = area(found.corners) + area(other.corners) - shared;
            other.label == found.label && shared > SAME * both
        };
        if !kept.iter().any(double) {
            kept.push(found);
        }
        if kept.len() == MOST {
            break;
        }
    }
    kept
}

/// Whether the middle of a box's lower edge is inside a polygon; both as shares of the frame.
#[must_use]
pub fn stands_in(corners: [f64; 4], polygon: &[[f64; 2]]) -> bool {
    let (x, y) = ((corners[0] + corners[2]) / 2.0, corners[3]);
    let mut inside = false;
    for (i, [ax, ay]) in polygon.iter().enumerate() {
        let [bx, by] = polygon[(i + 1) % polygon.len()];
        if (*ay > y) != (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax {
            inside = !inside;
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each decoder is held against an encoder written from the detector's own description.

    fn close(found: &Boxed, wanted: (usize, f32, [f32; 4])) {
        assert_eq!(found.label, wanted.0, "{found:?}");
        assert!((found.score - wanted.1).abs() < 1e-4, "{found:?} {wanted:?}");
        let apart = found.corners.iter().zip(wanted.2).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 0.01, "{found:?} {wanted:?}");
    }

    /// The value of a cell's box at (column, row) of a stride, in a grid for 64 x 32 pixels.
    fn cell(stride: usize, column: usize, row: usize) -> usize {
        let before: usize =
            [8, 16, 32, 64].iter().take_while(|s| **s < stride).map(|s| (64 / s) * (32 / s)).sum();
        before + row * (64 / stride) + column
    }

    #[test]
    fn yolov8_writes_columns() {
        let count = 32 + 8 + 2;
        let mut values = vec![0.0; count * 7];
        let i = cell(16, 2, 1);
        for (row, value) in [30.0, 20.0, 16.0, 8.0, 0.1, 0.9, 0.2].into_iter().enumerate() {
            values[row * count + i] = value;
        }
        let found = boxes(&values, Writing::Yolov8, (3, 0.5), (64, 32)).unwrap();
        assert_eq!(found.len(), 1);
        close(&found[0], (1, 0.9, [22.0, 16.0, 38.0, 24.0]));
    }

    #[test]
    fn yolox_counts_in_cells() {
        let mut values = vec![0.0; 42 * 7];
        let i = cell(8, 3, 2) * 7;
        let (x, y, width, height) = (30.0f32, 20.0f32, 16.0f32, 12.0f32);
        let row =
            [x / 8.0 - 3.0, y / 8.0 - 2.0, (width / 8.0).ln(), (height / 8.0).ln(), 0.8, 0.5, 0.9];
        values[i..i + 7].copy_from_slice(&row);
        let found = boxes(&values, Writing::Yolox, (2, 0.3), (64, 32)).unwrap();
        assert_eq!(found.len(), 1);
        close(&found[0], (1, 0.72, [22.0, 14.0, 38.0, 26.0]));
    }

    #[test]
    fn nanodet_gives_distances_as_distributions() {
        for (strides, middle) in [(vec![8, 16, 32, 64], 0.0), (vec![8, 16, 32], 0.5)] {
            let count: usize =
                strides.iter().map(|s: &usize| 64usize.div_ceil(*s) * 32usize.div_ceil(*s)).sum();
            let row = 2 + 4 * 8;
            let mut values = vec![0.0f32; count * row];
            let i = cell(16, 1, 1) * row;
            values[i] = 0.7;
            // All weight on one bin, or half and half on two.
            for (side, (a, b)) in [(1, 1), (0, 1), (2, 2), (3, 4)].into_iter().enumerate() {
                let bins = &mut values[i + 2 + side * 8..i + 2 + side * 8 + 8];
                bins.fill(-50.0);
                bins[a] = 50.0;
                bins[b] = 50.0;
            }
            let found = boxes(&values, Writing::Nanodet, (2, 0.5), (64, 32)).unwrap();
            let (x, y) = ((1.0 + middle) * 16.0, (1.0 + middle) * 16.0);
            close(&found[0], (0, 0.7, [x - 16.0, y - 8.0, x + 32.0, y + 56.0]));
            assert_eq!(found.len(), 1);
        }
    }

    #[test]
    fn fastestdet_writes_planes_of_cells() {
        let count = 4 * 2;
        let mut values = vec![0.0f32; count * 7];
        let i = 4 + 2;
        let logit = |share: f32| (share / (1.0 - share)).ln();
        let (x, y, width, height) = (38.0f32, 20.0f32, 16.0f32, 8.0f32);
        let rows = [
            0.9,
            (x / 16.0 - 2.0).atanh(),
            (y / 16.0 - 1.0).atanh(),
            logit(width / 64.0),
            logit(height / 32.0),
            0.1,
            0.8,
        ];
        for (row, value) in rows.into_iter().enumerate() {
            values[row * count + i] = value;
        }
        let found = boxes(&values, Writing::Fastestdet, (2, 0.5), (64, 32)).unwrap();
        assert_eq!(found.len(), 1);
        close(&found[0], (1, 0.72, [30.0, 16.0, 46.0, 24.0]));
    }

    #[test]
    fn sizes_that_fit_no_such_detector_are_told() {
        for writing in [Writing::Yolov8, Writing::Yolox, Writing::Nanodet, Writing::Fastestdet] {
            let told = boxes(&[0.0; 777], writing, (80, 0.5), (416, 416)).unwrap_err();
            assert!(told.contains("777") && told.contains("80 labels"), "{told}");
        }
    }

    #[test]
    fn doubles_go_and_neighbours_stay() {
        let found =
            |label, score, left| Boxed { label, score, corners: [left, 0.0, left + 20.0, 10.0] };
        let kept = without_doubles(vec![
            found(0, 0.6, 1.0),
            found(0, 0.9, 0.0),
            found(1, 0.5, 0.0),
            found(0, 0.7, 15.0),
        ]);
        let kept: Vec<(usize, f32)> = kept.iter().map(|found| (found.label, found.score)).collect();
        assert_eq!(kept, [(0, 0.9), (0, 0.7), (1, 0.5)]);
    }

    #[test]
    fn a_vehicle_stands_where_its_wheels_are() {
        let bay = [[0.2, 0.5], [0.4, 0.5], [0.5, 0.9], [0.2, 0.9]];
        assert!(stands_in([0.1, 0.1, 0.5, 0.7], &bay));
        assert!(!stands_in([0.1, 0.1, 0.5, 0.95], &bay), "in front of it");
        assert!(!stands_in([0.5, 0.6, 0.9, 0.8], &bay), "the next bay");
        assert!(!stands_in([0.1, 0.55, 0.5, 0.45], &bay));
    }
}
