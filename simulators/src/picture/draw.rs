//! A canvas of linear colour: filled convex polygons, grain, exposure, sensor noise.

use super::Rgb;

/// Pixels, row by row, 0..255 each channel.
pub struct Canvas {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    pixels: Vec<Rgb>,
    grain: u64,
}

/// A cheap hash of a place, 0 to 1.
pub fn hash(x: i64, y: i64, seed: u64) -> f64 {
    let mut h = seed
        ^ (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (y as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    h ^= h >> 29;
    h = h.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h ^= h >> 32;
    (h & 0xFFFF) as f64 / 65_535.0
}

/// Smooth noise of a place, 0 to 1.
pub fn smooth(x: f64, y: f64, seed: u64) -> f64 {
    let (cell_x, cell_y) = (x.floor(), y.floor());
    let ease = |t: f64| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - cell_x), ease(y - cell_y));
    let at = |i: i64, j: i64| hash(cell_x as i64 + i, cell_y as i64 + j, seed);
    let top = at(0, 0) * (1.0 - u) + at(1, 0) * u;
    let low = at(0, 1) * (1.0 - u) + at(1, 1) * u;
    top * (1.0 - v) + low * v
}

impl Canvas {
    pub fn new(width: usize, height: usize, grain: u64) -> Canvas {
        Canvas { width, height, pixels: vec![[0.0; 3]; width * height], grain }
    }

    /// Sets every pixel from its place (x, y in pixels).
    pub fn paint(&mut self, colour: impl Fn(f64, f64) -> Rgb) {
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = colour((i % self.width) as f64, (i / self.width) as f64);
        }
    }

    /// Mixes `colour` into a pixel with weight `alpha`.
    pub fn blend(&mut self, x: i64, y: i64, colour: Rgb, alpha: f64) {
        let inside = x >= 0 && y >= 0 && x < self.width as i64 && y < self.height as i64;
        if inside {
            let pixel = &mut self.pixels[y as usize * self.width + x as usize];
            for (old, new) in pixel.iter_mut().zip(colour) {
                *old += (new - *old) * alpha.clamp(0.0, 1.0);
            }
        }
    }

    /// Fills a convex polygon given in shares of the frame, with a little grain.
    pub fn fill(&mut self, points: &[[f64; 2]], colour: Rgb, alpha: f64) {
        let (w, h) = (self.width as f64, self.height as f64);
        let corners: Vec<[f64; 2]> = points.iter().map(|p| [p[0] * w, p[1] * h]).collect();
        let low = corners.iter().map(|p| p[1]).fold(f64::MAX, f64::min).max(0.0) as i64;
        let high = corners.iter().map(|p| p[1]).fold(f64::MIN, f64::max).min(h - 1.0) as i64;
        for y in low..=high {
            let line = y as f64 + 0.5;
            let (mut left, mut right) = (f64::MAX, f64::MIN);
            for (i, a) in corners.iter().enumerate() {
                let b = corners[(i + 1) % corners.len()];
                if (a[1] <= line) != (b[1] <= line) {
                    let x = a[0] + (line - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
                    left = left.min(x);
                    right = right.max(x);
                }
            }
            for x in left.max(0.0).round() as i64..right.min(w).round() as i64 {
                let grain = 1.0 + (hash(x, y, self.grain) - 0.5) * 0.06;
                self.blend(x, y, colour.map(|c| c * grain), alpha);
            }
        }
    }

    /// Darkens and cools the whole picture towards night, with a lamp's warm pool in the middle.
    pub fn expose(&mut self, light: f64) {
        let (w, h) = (self.width as f64, self.height as f64);
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = ((i % self.width) as f64 / w - 0.5, (i / self.width) as f64 / h - 0.45);
            let lamp = (1.0 - light) * 0.5 * (-(x * x * 5.0 + y * y * 7.0)).exp();
            let tint = [1.0, 0.92, 0.78];
            for (channel, tint) in pixel.iter_mut().zip(tint) {
                *channel *= 0.1 + 0.9 * light + lamp * tint;
            }
        }
    }

    /// Shot noise of the sensor: more when dark.
    pub fn sensor_noise(&mut self, light: f64, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let strength = 2.0 + 5.0 * (1.0 - light);
        for pixel in &mut self.pixels {
            let shared = (rng.f64() - 0.5) * 2.0 * strength;
            for channel in pixel {
                *channel += shared + (rng.f64() - 0.5) * strength;
            }
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.pixels.iter().flatten().map(|c| c.round().clamp(0.0, 255.0) as u8).collect()
    }
}
