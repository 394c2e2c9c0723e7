//! From pixels to the numbers a net wants, exactly as `models/train/augment.py` does it.
//!
//! What a stranger gets wrong: the bay's crop is not a box. The polygon is warped to the inner
//! rectangle of a square with 15 % context on each side, every output pixel is the mean of 2x2 bilinear
//! taps at half-pixel centres, edges are replicated, and a fourth channel marks the polygon.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::io::camera::Frame;

/// Context on each side, in sides of the polygon.
const CONTEXT: f64 = 0.15;
const MEAN: f32 = 0.5;
const STD: f32 = 0.25;

fn normalise(value: f32) -> f32 {
    (value / 255.0 - MEAN) / STD
}

/// First and last edge of the polygon's rectangle inside a square of `side` pixels.
fn inner(side: usize) -> (f64, f64) {
    let margin = CONTEXT / (1.0 + 2.0 * CONTEXT);
    (side as f64 * margin, side as f64 * (1.0 - margin))
}

/// Four corners in pixels: the polygon itself if it has four points, else its bounding box.
fn corners(polygon: &[[f64; 2]], width: f64, height: f64) -> [[f64; 2]; 4] {
    if let Ok(four) = <[[f64; 2]; 4]>::try_from(polygon) {
        return four.map(|[x, y]| [x * width, y * height]);
    }
    let low = |k: usize| polygon.iter().map(|p| p[k]).fold(f64::MAX, f64::min);
    let high = |k: usize| polygon.iter().map(|p| p[k]).fold(f64::MIN, f64::max);
    let (left, top, right, bottom) =
        (low(0) * width, low(1) * height, high(0) * width, high(1) * height);
    [[left, top], [right, top], [right, bottom], [left, bottom]]
}

/// The homography that maps the square's inner rectangle to four corners; row by row, the last is 1.
/// Nothing where the corners lie on a line.
fn homography(corners: [[f64; 2]; 4], side: usize) -> Option<[f64; 9]> {
    let (low, high) = inner(side);
    let square = [[low, low], [high, low], [high, high], [low, high]];
    let mut rows = [[0.0; 9]; 8];
    for (i, ([u, v], [x, y])) in square.into_iter().zip(corners).enumerate() {
        rows[i] = [u, v, 1.0, 0.0, 0.0, 0.0, -u * x, -v * x, x];
        rows[i + 4] = [0.0, 0.0, 0.0, u, v, 1.0, -u * y, -v * y, y];
    }
    for column in 0..8 {
        let largest =
            |a: &usize, b: &usize| rows[*a][column].abs().total_cmp(&rows[*b][column].abs());
        let pivot = (column..8).max_by(largest)?;
        rows.swap(column, pivot);
        if rows[column][column].abs() < 1e-12 {
            return None;
        }
        let lead = rows[column];
        for (i, row) in rows.iter_mut().enumerate() {
            if i != column {
                let factor = row[column] / lead[column];
                for (value, lead) in row.iter_mut().zip(lead) {
                    *value -= factor * lead;
                }
            }
        }
    }
    let mut map = [1.0; 9];
    for (i, row) in rows.iter().enumerate() {
        map[i] = row[8] / row[i];
    }
    Some(map)
}

/// The bay's crop as `[4][side][side]`, normalised. Nothing where the polygon has no area.
#[must_use]
pub fn bay_crop(frame: &Frame, polygon: &[[f64; 2]], side: usize) -> Option<Vec<f32>> {
    let map = homography(corners(polygon, frame.width as f64, frame.height as f64), side)?;
    let plane = side * side;
    let mut out = vec![0.0f32; 4 * plane];
    let (low, high) = inner(side);
    let inside = |at: usize| (low..high).contains(&(at as f64 + 0.5));
    let [red, green, blue, mask] = planes(&mut out, plane);
    let pixels = red.iter_mut().zip(green).zip(blue).zip(mask);
    for (at, (((red, green), blue), mask)) in pixels.enumerate() {
        let (row, column) = (at / side, at % side);
        let mut sum = [0.0f32; 3];
        for (down, right) in [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)] {
            let (u, v) = (column as f64 + right, row as f64 + down);
            let turn = 1.0 / (map[6] * u + map[7] * v + map[8]);
            let x = (map[0] * u + map[1] * v + map[2]) * turn;
            let y = (map[3] * u + map[4] * v + map[5]) * turn;
            let tap = bilinear(frame, x, y);
            sum = [sum[0] + tap[0], sum[1] + tap[1], sum[2] + tap[2]];
        }
        *red = normalise(sum[0] / 4.0);
        *green = normalise(sum[1] / 4.0);
        *blue = normalise(sum[2] / 4.0);
        *mask = if inside(row) && inside(column) { 1.0 } else { 0.0 };
    }
    Some(out)
}

/// Four planes of a tensor; those that it does not have are empty.
fn planes(out: &mut [f32], plane: usize) -> [&mut [f32]; 4] {
    let mut all = out.chunks_mut(plane);
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// A pixel between pixels; x and y in pixels with the first centre at 0.5.
#[inline]
fn bilinear(frame: &Frame, x: f64, y: f64) -> [f32; 3] {
    let clamp = |v: f64, size: usize| (v - 0.5).clamp(0.0, size as f64 - 1.0);
    let (x, y) = (clamp(x, frame.width), clamp(y, frame.height));
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(frame.width - 1), (top + 1).min(frame.height - 1));
    let (fx, fy) = ((x - left as f64) as f32, (y - top as f64) as f32);
    let stride = frame.width * 3;
    let (upper, lower) = (&frame.rgb[top * stride..], &frame.rgb[bottom * stride..]);
    let pixel = |line: &[u8], column: usize| -> [f32; 3] {
        let bytes = line[column * 3..].first_chunk::<3>().copied().unwrap_or_default();
        bytes.map(f32::from)
    };
    let (a, b) = (pixel(upper, left), pixel(upper, right));
    let (c, d) = (pixel(lower, left), pixel(lower, right));
    std::array::from_fn(|k| {
        let upper = a[k] * (1.0 - fx) + b[k] * fx;
        let lower = c[k] * (1.0 - fx) + d[k] * fx;
        upper * (1.0 - fy) + lower * fy
    })
}

/// A part of the frame (shares: left, top, width, height) stretched to a square of `side` pixels, as
/// `[3][side][side]`, normalised. Nothing where the part is empty.
#[must_use]
pub fn square(frame: &Frame, part: [f64; 4], side: usize) -> Option<Vec<f32>> {
    Some(normalised(&resized(frame, part, side)?))
}

/// The same as bytes, three a pixel.
#[must_use]
pub fn resized(frame: &Frame, part: [f64; 4], side: usize) -> Option<Vec<u8>> {
    let [left, top, width, height] = part;
    let (w, h) = (frame.width as f64, frame.height as f64);
    let source =
        ImageRef::new(frame.width as u32, frame.height as u32, &frame.rgb, PixelType::U8x3).ok()?;
    let mut target = Image::new(side as u32, side as u32, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left * w, top * h, width * w, height * h);
    Resizer::new().resize(&source, &mut target, &options).ok()?;
    Some(target.into_vec())
}

/// How a frame is put into an input of another shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// In its own proportions, the rest grey at the right or below.
    TopLeft,
    /// In its own proportions, the rest grey on both sides.
    Middle,
    /// Stretched.
    Stretched,
}

/// Where a frame stands in an input, in pixels of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Placed {
    /// Corners in the input as shares of the frame, 0 to 1.
    #[must_use]
    pub fn back(&self, corners: [f32; 4]) -> [f64; 4] {
        let x = |value: f32| ((f64::from(value) - self.left) / self.width).clamp(0.0, 1.0);
        let y = |value: f32| ((f64::from(value) - self.top) / self.height).clamp(0.0, 1.0);
        [x(corners[0]), y(corners[1]), x(corners[2]), y(corners[3])]
    }
}

/// Grey around a frame that does not fill the input: what detectors are trained with.
const AROUND: u8 = 114;

/// A whole frame in an input of `size`, as bytes, three a pixel. Nothing where one of them is empty.
#[must_use]
pub fn fitted(frame: &Frame, size: (usize, usize), fit: Fit) -> Option<(Vec<u8>, Placed)> {
    let (w, h) = (frame.width as f64, frame.height as f64);
    let scale = (size.0 as f64 / w).min(size.1 as f64 / h);
    let (width, height) = match fit {
        Fit::Stretched => size,
        _ => (((w * scale).round() as usize).max(1), ((h * scale).round() as usize).max(1)),
    };
    let (left, top) = match fit {
        Fit::Middle => ((size.0 - width.min(size.0)) / 2, (size.1 - height.min(size.1)) / 2),
        _ => (0, 0),
    };
    let source =
        ImageRef::new(frame.width as u32, frame.height as u32, &frame.rgb, PixelType::U8x3).ok()?;
    let mut target = Image::new(width as u32, height as u32, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &options).ok()?;
    let mut pixels = vec![AROUND; size.0 * size.1 * 3];
    let lines = pixels.chunks_exact_mut(size.0 * 3).skip(top);
    for (line, row) in lines.zip(target.buffer().chunks_exact(width * 3)) {
        line[left * 3..(left + width) * 3].copy_from_slice(row);
    }
    let [left, top, width, height] = [left, top, width, height].map(|pixels| pixels as f64);
    Some((pixels, Placed { left, top, width, height }))
}

/// Pixels of three bytes as three planes, each byte times the first and plus the second of its plane's
/// values.
#[must_use]
pub fn planes_of(pixels: &[u8], values: [(f32, f32); 3], is_bgr: bool) -> Vec<f32> {
    let plane = pixels.len() / 3;
    let mut out = vec![0.0f32; 3 * plane];
    for (i, (out, (times, plus))) in out.chunks_mut(plane.max(1)).zip(values).enumerate() {
        let byte = if is_bgr { 2 - i } else { i };
        for (out, pixel) in out.iter_mut().zip(pixels.as_chunks::<3>().0) {
            *out = f32::from(pixel[byte]) * times + plus;
        }
    }
    out
}

/// Pixels of three bytes as three planes, normalised.
#[must_use]
pub fn normalised(pixels: &[u8]) -> Vec<f32> {
    let plane = pixels.len() / 3;
    let mut out = vec![0.0f32; 3 * plane];
    let table: [f32; 256] = std::array::from_fn(|value| normalise(value as f32));
    let [red, green, blue, _] = planes(&mut out, plane);
    let places = red.iter_mut().zip(green).zip(blue);
    for (pixel, ((red, green), blue)) in pixels.as_chunks::<3>().0.iter().zip(places) {
        *red = table[usize::from(pixel[0])];
        *green = table[usize::from(pixel[1])];
        *blue = table[usize::from(pixel[2])];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Frame {
        let pixel = |i: usize| [(i % width) as u8, (i / width) as u8, 100];
        Frame { rgb: (0..width * height).flat_map(pixel).collect(), width, height }
    }

    #[test]
    fn corners_map_to_corners() {
        let quad = [[10.0, 20.0], [90.0, 25.0], [80.0, 70.0], [5.0, 60.0]];
        let map = homography(quad, 64).unwrap();
        let (low, high) = inner(64);
        for ([u, v], [x, y]) in
            [[low, low], [high, low], [high, high], [low, high]].into_iter().zip(quad)
        {
            let w = map[6] * u + map[7] * v + map[8];
            assert!(((map[0] * u + map[1] * v + map[2]) / w - x).abs() < 1e-9);
            assert!(((map[3] * u + map[4] * v + map[5]) / w - y).abs() < 1e-9);
        }
        assert!(homography([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], 64).is_none());
    }

    #[test]
    fn an_axis_aligned_bay_is_a_plain_resize() {
        let frame = gradient(200, 200);
        let polygon = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]];
        let crop = bay_crop(&frame, &polygon, 64).unwrap();
        let middle = crop[32 * 64 + 32];
        assert!((middle - normalise(100.0)).abs() < 0.05, "{middle}");
        let (low, high) = inner(64);
        let edge = |at: f64| crop[32 * 64 + at.round() as usize];
        assert!((edge(low) - normalise(50.0)).abs() < 0.05);
        assert!((edge(high) - normalise(150.0)).abs() < 0.05);
        let marked = crop[3 * 64 * 64..].iter().filter(|v| **v == 1.0).count();
        assert_eq!(marked, 50 * 50);
    }

    #[test]
    fn a_frame_is_fitted_as_the_family_does_it_and_boxes_are_led_back() {
        let frame = Frame { rgb: [200, 100, 50].repeat(160 * 80), width: 160, height: 80 };
        let table = [
            (Fit::TopLeft, (0, 31), (0, 33), [0.0, 0.0, 64.0, 32.0]),
            (Fit::Middle, (0, 17), (0, 15), [0.0, 16.0, 64.0, 48.0]),
        ];
        for (fit, inside, outside, whole) in table {
            let (pixels, place) = fitted(&frame, (64, 64), fit).unwrap();
            let pixel = |(x, y): (usize, usize)| &pixels[(y * 64 + x) * 3..][..3];
            assert_eq!(pixel(inside), [200, 100, 50], "{fit:?}");
            assert_eq!(pixel(outside), [AROUND; 3], "{fit:?}");
            assert_eq!(place.back(whole), [0.0, 0.0, 1.0, 1.0], "{fit:?}");
        }
        let (pixels, place) = fitted(&frame, (64, 64), Fit::Stretched).unwrap();
        assert!(pixels.as_chunks::<3>().0.iter().all(|pixel| *pixel == [200, 100, 50]));
        assert_eq!(place.back([16.0, 16.0, 99.0, 48.0]), [0.25, 0.25, 1.0, 0.75]);
        let values = [(1.0, 0.0), (0.5, 1.0), (1.0, 0.0)];
        let planes = planes_of(&pixels, values, true);
        assert_eq!([planes[0], planes[4096], planes[8192]], [50.0, 51.0, 200.0], "blue first");
    }

    #[test]
    fn a_square_keeps_flat_colour() {
        let frame = gradient(64, 48);
        let part = square(&frame, [0.0, 0.0, 1.0, 1.0], 16).unwrap();
        assert!((part[2 * 256 + 40] - normalise(100.0)).abs() < 0.02);
        assert!(square(&frame, [0.0, 0.0, 2.0, 1.0], 16).is_none());
    }
}
