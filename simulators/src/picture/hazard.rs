//! Flame and smoke over a bay: noise that rises with time, shaped into a plume.

use super::draw::{Canvas, smooth};
use super::{HazardBox, Scene};

/// Bottom middle of the plume and its half width and height, in pixels.
fn plume(scene: &Scene, i: usize, smoke: bool, strength: f64) -> (f64, f64, f64, f64) {
    let view = &scene.view;
    let count = scene.slots.len();
    let foot = view.in_bay((i, count), [0.5, 0.25, 0.5]);
    let left = view.in_bay((i, count), [0.0, 0.25, 0.5]);
    let right = view.in_bay((i, count), [1.0, 0.25, 0.5]);
    let wide = (right[0] - left[0]) * view.width as f64;
    let (half, high) = if smoke { (0.45, 2.2) } else { (0.28, 0.95) };
    let grow = 0.35 + 0.65 * strength;
    let (x, y) = (foot[0] * view.width as f64, foot[1] * view.height as f64);
    (x, y, wide * half * grow, wide * high * grow)
}

pub fn draw(canvas: &mut Canvas, scene: &Scene) {
    for (i, slot) in scene.slots.iter().enumerate() {
        if slot.smoke > 0.0 {
            smoke(canvas, scene, i, slot.smoke);
        }
        if slot.fire > 0.0 {
            flame(canvas, scene, i, slot.fire);
        }
    }
}

/// Turbulence of a rising plume at a pixel, 0 to 1.
fn turbulence(x: f64, y: f64, scale: f64, rise: f64) -> f64 {
    let coarse = smooth(x / scale, (y + rise) / scale, 17);
    let fine = smooth(x / scale * 2.3, (y + rise * 1.4) / scale * 2.3, 29);
    coarse * 0.65 + fine * 0.35
}

fn flame(canvas: &mut Canvas, scene: &Scene, i: usize, strength: f64) {
    let (x0, y0, half, high) = plume(scene, i, false, strength);
    for y in (y0 - high) as i64..=y0 as i64 {
        let up = (y0 - y as f64) / high;
        for x in (x0 - half * 2.0) as i64..=(x0 + half * 2.0) as i64 {
            let swirl = turbulence(x as f64, y as f64, half * 0.7 + 2.0, scene.time_s * high * 2.2);
            let aside = ((x as f64 - x0) / half + (swirl - 0.5) * up * 1.6).abs();
            let heat = (1.25 - aside / (1.0 - 0.75 * up).max(0.1)) * (0.35 + swirl) * (1.15 - up);
            if heat > 0.05 {
                let green = (heat * 1.9 - 0.2).clamp(0.1, 1.0) * 235.0;
                let blue = (heat * 2.2 - 1.3).clamp(0.0, 1.0) * 190.0;
                canvas.blend(x, y, [255.0, green, blue], (heat * 2.4).min(0.97));
            }
        }
    }
    // Light that spills on what is near.
    let reach = half * 4.0;
    for y in (y0 - reach) as i64..(y0 + reach) as i64 {
        for x in (x0 - reach) as i64..(x0 + reach) as i64 {
            let away = ((x as f64 - x0).powi(2) + (y as f64 - y0).powi(2)).sqrt() / reach;
            if away < 1.0 {
                canvas.blend(x, y, [255.0, 150.0, 50.0], 0.18 * strength * (1.0 - away));
            }
        }
    }
}

fn smoke(canvas: &mut Canvas, scene: &Scene, i: usize, strength: f64) {
    let (x0, y0, half, high) = plume(scene, i, true, strength);
    let tone =
        (70.0 + 130.0 * smooth(scene.seed as f64 % 97.0, 1.0, 3)) * (0.25 + 0.75 * scene.light);
    for y in (y0 - high) as i64..=y0 as i64 {
        let up = (y0 - y as f64) / high;
        let spread = half * (0.5 + 1.8 * up);
        for x in (x0 - spread * 1.6) as i64..=(x0 + spread * 1.6) as i64 {
            let swirl =
                turbulence(x as f64, y as f64, half * 0.9 + 3.0, scene.time_s * high * 0.35);
            let aside = ((x as f64 - x0 - up * half * 0.5) / spread).abs();
            let body = (1.3 - aside + (swirl - 0.5) * 0.9).clamp(0.0, 1.0);
            let fade = (1.1 - up).clamp(0.0, 1.0) * (up * 6.0 + 0.3).min(1.0);
            let alpha =
                body * (swirl * 1.7 - 0.25).clamp(0.0, 1.0) * fade * (0.35 + 0.65 * strength);
            if alpha > 0.02 {
                let shade = tone + 50.0 * (swirl - 0.5);
                canvas.blend(x, y, [shade, shade, shade + 3.0], alpha.min(0.95));
            }
        }
    }
}

pub fn boxes(scene: &Scene) -> Vec<HazardBox> {
    let (w, h) = (scene.view.width as f64, scene.view.height as f64);
    let mut boxes = Vec::new();
    for (i, slot) in scene.slots.iter().enumerate() {
        for (strength, is_smoke) in [(slot.fire, false), (slot.smoke, true)] {
            if strength > 0.0 {
                let (x, y, half, high) = plume(scene, i, is_smoke, strength);
                let (left, top) = (((x - half) / w).max(0.0), ((y - high) / h).max(0.0));
                let (right, low) = (((x + half) / w).min(1.0), (y / h).min(1.0));
                let cls = if is_smoke { "smoke" } else { "fire" }.to_owned();
                boxes.push(HazardBox { cls, area: [left, top, right - left, low - top] });
            }
        }
    }
    boxes
}
