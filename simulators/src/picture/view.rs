//! Where the camera hangs, and what it sees: ground, lines and cars as boxes in perspective.
//!
//! What a stranger gets wrong: the world is in metres, x to the right along the row of bays, y away
//! from the camera, z up. Bays are 2.5 m wide and 5 m deep.

use super::draw::{Canvas, hash, smooth};
use super::{Rgb, Scene, Slot};

const BAY_WIDTH: f64 = 2.5;
const BAY_DEPTH: f64 = 5.0;

/// The camera.
#[derive(Clone, Debug)]
pub struct View {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Height of the camera above the ground, m.
    pub up_m: f64,
    /// Distance from the camera to the front of the bays, m.
    pub away_m: f64,
    /// Shift along the row, m.
    pub aside_m: f64,
    /// Look down from the horizon, radians.
    pub pitch: f64,
    /// Focal length in frame widths.
    pub focal: f64,
    /// Turn of the bays against the row, m of shear over their depth.
    pub shear_m: f64,
}

impl Default for View {
    fn default() -> View {
        View {
            width: 640,
            height: 360,
            up_m: 6.0,
            away_m: 6.0,
            aside_m: 0.6,
            pitch: 0.58,
            focal: 0.85,
            shear_m: 0.3,
        }
    }
}

impl View {
    /// Of the second camera: higher, from the other side.
    pub(super) fn second() -> View {
        View {
            up_m: 7.2,
            away_m: 5.6,
            aside_m: -1.1,
            pitch: 0.74,
            focal: 0.8,
            shear_m: 0.3,
            ..View::default()
        }
    }

    /// Shares of the frame of a point in metres.
    fn project(&self, [x, y, z]: [f64; 3]) -> [f64; 2] {
        let (down, ahead) = (self.up_m - z, y + self.away_m);
        let (sin, cos) = self.pitch.sin_cos();
        let depth = (ahead * cos + down * sin).max(0.3);
        let low = down * cos - ahead * sin;
        let aspect = self.width as f64 / self.height as f64;
        let u = 0.5 + self.focal * (x - self.aside_m) / depth;
        [u, 0.5 + self.focal * aspect * low / depth]
    }

    /// Left edge of bay `i` of `count`, m.
    fn left(i: usize, count: usize) -> f64 {
        (i as f64 - count as f64 / 2.0) * BAY_WIDTH
    }

    /// How far bay `i` is from the camera, m.
    pub(super) fn distance(&self, i: usize, count: usize) -> f64 {
        (View::left(i, count) + BAY_WIDTH / 2.0 - self.aside_m).abs()
    }

    /// A point of bay `i`: `x` 0 to 1 across, `y` 0 to 1 deep, `z` metres up.
    pub(super) fn in_bay(&self, (i, count): (usize, usize), [x, y, z]: [f64; 3]) -> [f64; 2] {
        let left = View::left(i, count);
        self.project([left + x * BAY_WIDTH + self.shear_m * y, y * BAY_DEPTH, z])
    }

    pub(super) fn bay_polygon(&self, i: usize, count: usize) -> [[f64; 2]; 4] {
        let corner = |x, y| self.in_bay((i, count), [x, y, 0.0]).map(|v| v.clamp(0.0, 1.0));
        [corner(0.0, 0.0), corner(1.0, 0.0), corner(1.0, 1.0), corner(0.0, 1.0)]
    }
}

/// Asphalt, verge behind, painted lines.
pub(super) fn ground(canvas: &mut Canvas, scene: &Scene) {
    let (view, seed, count) = (&scene.view, scene.seed, scene.slots.len());
    let height = view.height as f64;
    let kerb = view.project([0.0, BAY_DEPTH + 0.5, 0.0])[1] * height;
    let wall = view.project([0.0, BAY_DEPTH + 2.5, 0.0])[1] * height;
    let green = hash(3, 3, seed) > 0.4;
    let tone = 88.0 + 50.0 * hash(1, 1, seed);
    canvas.paint(|x, y| {
        let patch = smooth(x / 60.0, y / 30.0, seed) * 26.0 + smooth(x / 7.0, y / 4.0, seed) * 10.0;
        let grain = (hash(x as i64, y as i64, seed) - 0.5) * 16.0;
        if y < wall {
            let brick = smooth(x / 25.0, y / 12.0, seed ^ 5) * 20.0;
            [128.0 + brick, 120.0 + brick, 112.0 + brick]
        } else if y < kerb && green {
            [58.0 + patch, 92.0 + patch, 46.0 + grain]
        } else if y < kerb {
            [150.0 + grain, 148.0 + grain, 144.0 + grain]
        } else {
            [tone + patch + grain, tone + patch + grain, tone + 3.0 + patch + grain]
        }
    });
    let paint: Rgb = if hash(2, 2, seed) > 0.25 { [225.0; 3] } else { [220.0, 190.0, 60.0] };
    let wide = 0.04;
    for i in 0..=count {
        let edge = |x: f64, y: f64| view.in_bay((i, count), [x, y, 0.0]);
        let line = [edge(-wide, 0.0), edge(wide, 0.0), edge(wide, 1.0), edge(-wide, 1.0)];
        canvas.fill(&line, paint, 0.85);
    }
    for i in 0..count {
        let at = |x: f64, y: f64| view.in_bay((i, count), [x, y, 0.0]);
        canvas.fill(&[at(0.0, 0.985), at(1.0, 0.985), at(1.0, 1.01), at(0.0, 1.01)], paint, 0.8);
    }
}

const COLOURS: [Rgb; 9] = [
    [235.0, 235.0, 232.0],
    [28.0, 30.0, 34.0],
    [150.0, 152.0, 156.0],
    [160.0, 28.0, 30.0],
    [32.0, 60.0, 140.0],
    [90.0, 94.0, 98.0],
    [70.0, 100.0, 70.0],
    [200.0, 180.0, 150.0],
    [210.0, 110.0, 40.0],
];

/// A car: shadow, body, cabin with windows, lights.
pub(super) fn car(canvas: &mut Canvas, scene: &Scene, i: usize, look: u64) {
    let (view, bay) = (&scene.view, (i, scene.slots.len()));
    let pick = |k: i64| hash(k, 11, look);
    let paint = COLOURS[(pick(1) * 8.99) as usize];
    let (narrow, short) = (0.1 + 0.05 * pick(2), 0.06 + 0.12 * pick(3));
    let shift = (pick(4) - 0.5) * 0.08;
    let (x0, x1) = (narrow + shift, 1.0 - narrow + shift);
    let (y0, y1) = (short * pick(5), 1.0 - short);
    let body = 0.75 + 0.25 * pick(6);
    let roof = body + 0.5 + 0.25 * pick(7);
    let at = |x: f64, y: f64, z: f64| view.in_bay(bay, [x, y, z]);
    let shade = |factor: f64| paint.map(|c| c * factor);
    let spread = 0.05;
    let shadow = [
        at(x0 - spread, y0, 0.0),
        at(x1 + spread, y0, 0.0),
        at(x1 + spread, y1, 0.0),
        at(x0 - spread, y1, 0.0),
    ];
    canvas.fill(&shadow, [20.0; 3], 0.6);
    let mut faces = |(x0, x1): (f64, f64),
                     (y0, y1): (f64, f64),
                     (z0, z1): (f64, f64),
                     tones: [Rgb; 3]| {
        let [side, front, top] = tones;
        // The side that the camera sees.
        let x = if at(x0, y0, z0)[0] > 0.5 { x0 } else { x1 };
        canvas.fill(&[at(x, y0, z0), at(x, y1, z0), at(x, y1, z1), at(x, y0, z1)], side, 1.0);
        canvas.fill(&[at(x0, y0, z0), at(x1, y0, z0), at(x1, y0, z1), at(x0, y0, z1)], front, 1.0);
        canvas.fill(&[at(x0, y0, z1), at(x1, y0, z1), at(x1, y1, z1), at(x0, y1, z1)], top, 1.0);
    };
    faces((x0, x1), (y0, y1), (0.25, body), [shade(0.6), shade(0.78), shade(1.0)]);
    let glass: Rgb = [38.0, 46.0, 56.0];
    let (c0, c1) = (y0 + 0.24 + 0.06 * pick(8), y1 - 0.06 - 0.1 * pick(9));
    faces((x0 + 0.05, x1 - 0.05), (c0, c1), (body, roof), [glass, glass, shade(0.95)]);
    let lamp: Rgb = if pick(10) > 0.5 { [240.0, 238.0, 220.0] } else { [190.0, 20.0, 20.0] };
    for x in [x0 + 0.02, x1 - 0.14] {
        let z = body - 0.28;
        canvas.fill(
            &[at(x, y0, z), at(x + 0.12, y0, z), at(x + 0.12, y0, z + 0.14), at(x, y0, z + 0.14)],
            lamp,
            0.9,
        );
    }
    canvas.fill(
        &[at(x0, y0, 0.1), at(x1, y0, 0.1), at(x1, y0, 0.32), at(x0, y0, 0.32)],
        [24.0; 3],
        0.8,
    );
}

/// A camera for training: from a pole, from straight above, or low and far over a long row.
fn random_view(
    rng: &mut fastrand::Rng,
    between: impl Fn(&mut fastrand::Rng, f64, f64) -> f64,
) -> (View, usize) {
    let kind = rng.f64();
    let (count, up, away, focal) = if kind < 0.5 {
        let count = rng.usize(3..6);
        let focal = between(rng, 0.72, 0.95) * (4.0 / count as f64).sqrt();
        (count, between(rng, 4.5, 9.0), between(rng, 4.5, 9.0), focal)
    } else if kind < 0.72 {
        // From a roof or a mast: the bays lie right below.
        let count = rng.usize(3..9);
        let up = between(rng, 9.0, 22.0);
        let fills = 0.9 * up / (count as f64 * BAY_WIDTH + 1.0);
        (count, up, between(rng, -3.2, 1.0), fills.min(2.2) * between(rng, 0.8, 1.0))
    } else {
        let count = rng.usize(5..13);
        let away = between(rng, 8.0, 24.0);
        let fills = 0.9 * away / (count as f64 * BAY_WIDTH + 2.0);
        (count, between(rng, 3.0, 8.0), away, fills * between(rng, 0.8, 1.0))
    };
    let view = View {
        up_m: up,
        away_m: away,
        aside_m: between(rng, -1.5, 1.5),
        pitch: up.atan2(away + 2.2) + between(rng, -0.06, 0.06),
        focal,
        shear_m: between(rng, -1.6, 1.6),
        ..View::default()
    };
    (view, count)
}

/// A scene for training: another camera, other cars, now and then fire or smoke.
#[must_use]
pub fn random_scene(rng: &mut fastrand::Rng) -> Scene {
    let between = |rng: &mut fastrand::Rng, low: f64, high: f64| low + (high - low) * rng.f64();
    let (view, count) = random_view(rng, between);
    let hazard = rng.f64();
    let burning = rng.usize(0..count);
    let slot = |i: usize, rng: &mut fastrand::Rng| Slot {
        id: format!("bay{}", i + 1),
        car: (rng.f64() < 0.5).then(|| rng.u64(..)),
        fire: if i == burning && hazard < 0.16 { 0.3 + 0.7 * rng.f64() } else { 0.0 },
        smoke: if i == burning && (0.1..0.26).contains(&hazard) {
            0.35 + 0.65 * rng.f64()
        } else {
            0.0
        },
    };
    let slots = (0..count).map(|i| slot(i, rng)).collect();
    let light = if rng.f64() < 0.2 { 0.05 + 0.2 * rng.f64() } else { 0.4 + 0.6 * rng.f64() };
    Scene { view, slots, light, time_s: rng.f64() * 1000.0, seed: rng.u64(..) }
}
