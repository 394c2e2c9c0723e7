//! Cars as lofted shells, and what their skin shows at each place.
//!
//! Owns the shape of the five bodies and the drawing on the skin: lamps, plates, seams, pillars,
//! wheels. Local axes of a car: x forward, y up, z to its right, origin on the ground in its
//! middle. Lamps and pillars are not geometry: they are looked up by local place when shaded.

use super::mesh::{Mesh, Part};
use super::scene::{Body, Car};
use super::vector::{V3, smoothstep, v3};

/// Place on the length (-0.5 rear .. 0.5 nose), height and width in parts of the whole.
type Station = (f32, f32, f32);

const SALOON: [Station; 11] = [
    (-0.50, 0.43, 0.86),
    (-0.488, 0.60, 0.93),
    (-0.46, 0.69, 0.96),
    (-0.33, 0.71, 0.98),
    (-0.17, 0.975, 1.0),
    (0.0, 1.0, 1.0),
    (0.09, 0.98, 1.0),
    (0.26, 0.69, 1.0),
    (0.44, 0.59, 0.95),
    (0.487, 0.51, 0.90),
    (0.50, 0.38, 0.84),
];
const HATCHBACK: [Station; 11] = [
    (-0.50, 0.40, 0.88),
    (-0.492, 0.62, 0.95),
    (-0.455, 0.68, 0.97),
    (-0.37, 0.95, 0.98),
    (-0.2, 1.0, 1.0),
    (0.03, 1.0, 1.0),
    (0.12, 0.975, 1.0),
    (0.31, 0.67, 1.0),
    (0.45, 0.57, 0.95),
    (0.49, 0.49, 0.90),
    (0.50, 0.38, 0.85),
];
const SUV: [Station; 11] = [
    (-0.50, 0.40, 0.90),
    (-0.493, 0.60, 0.96),
    (-0.475, 0.66, 0.98),
    (-0.42, 0.95, 0.98),
    (-0.2, 1.0, 1.0),
    (0.03, 1.0, 1.0),
    (0.11, 0.975, 1.0),
    (0.25, 0.69, 1.0),
    (0.45, 0.63, 0.96),
    (0.49, 0.53, 0.92),
    (0.50, 0.38, 0.88),
];
const VAN: [Station; 11] = [
    (-0.50, 0.35, 0.94),
    (-0.497, 0.62, 0.98),
    (-0.49, 0.96, 0.98),
    (-0.3, 1.0, 1.0),
    (0.0, 1.0, 1.0),
    (0.17, 1.0, 1.0),
    (0.24, 0.97, 1.0),
    (0.38, 0.60, 1.0),
    (0.47, 0.51, 0.95),
    (0.493, 0.43, 0.91),
    (0.50, 0.30, 0.88),
];
const PICKUP: [Station; 11] = [
    (-0.50, 0.36, 0.95),
    (-0.495, 0.55, 0.97),
    (-0.48, 0.57, 0.98),
    (-0.13, 0.57, 0.98),
    (-0.10, 0.95, 0.98),
    (0.0, 1.0, 1.0),
    (0.08, 0.975, 1.0),
    (0.21, 0.67, 1.0),
    (0.44, 0.60, 0.96),
    (0.49, 0.50, 0.92),
    (0.50, 0.36, 0.90),
];

/// Tyre radius in metres.
const TYRE: f32 = 0.33;

fn stations(body: Body) -> &'static [Station; 11] {
    match body {
        Body::Saloon => &SALOON,
        Body::Hatchback => &HATCHBACK,
        Body::Suv => &SUV,
        Body::Van => &VAN,
        Body::Pickup => &PICKUP,
    }
}

/// Usual length, width and height of a body in metres.
#[must_use]
pub fn usual_size(body: Body) -> V3 {
    match body {
        Body::Saloon => v3(4.65, 1.82, 1.45),
        Body::Hatchback => v3(4.05, 1.76, 1.49),
        Body::Suv => v3(4.55, 1.88, 1.68),
        Body::Van => v3(5.1, 1.97, 2.05),
        Body::Pickup => v3(5.2, 1.9, 1.78),
    }
}

impl Car {
    /// From the car's own axes to the lot.
    #[must_use]
    pub fn outward(&self, local: V3) -> V3 {
        let (sin, cos) = self.heading.sin_cos();
        self.place
            + v3(sin, 0.0, cos) * local.x
            + v3(0.0, 1.0, 0.0) * local.y
            + v3(cos, 0.0, -sin) * local.z
    }

    /// From the lot to the car's own axes.
    #[must_use]
    pub fn inward(&self, world: V3) -> V3 {
        let d = world - self.place;
        let (sin, cos) = self.heading.sin_cos();
        v3(d.x * sin + d.z * cos, d.y, d.x * cos - d.z * sin)
    }

    fn axles(&self) -> [f32; 2] {
        [-0.305 * self.size.x, 0.315 * self.size.x]
    }

    fn belt(&self) -> f32 {
        self.size.y * if self.body == Body::Van { 0.52 } else { 0.63 }
    }
}

/// One half of a cross-section, from the sill to the middle of the roof: (z, y).
fn section(car: &Car, station: Station) -> [(f32, f32); 6] {
    let w = car.size.y.mul_add(0.0, car.size.y * 0.0) + 0.5 * station.2 * car.size.y.max(0.0) * 0.0
        + 0.5 * station.2 * width(car);
    let top = station.1 * car.size.y;
    let roof = station.1 > 0.9;
    let belt = car.belt().min(top - 0.03);
    let waist = (0.42 * car.size.y).min(top * 0.8);
    let (edge, edge_y) = if roof {
        (if car.body == Body::Van { 0.88 } else { 0.76 }, top - 0.05)
    } else {
        (0.84, top - 0.01)
    };
    [
        (w * 0.84, 0.17),
        (w * 0.98, 0.27),
        (w, waist),
        (w * 0.965, belt),
        (w * edge, edge_y),
        (0.0, top + 0.015),
    ]
}

fn width(car: &Car) -> f32 {
    car.size.z
}

/// Adds the triangles of `car`, which is number `index` in its scene.
pub fn add(mesh: &mut Mesh, car: &Car, index: u16) {
    let shape = stations(car.body);
    let mut last: Option<(Vec<u32>, Station)> = None;
    let mut caps = Vec::new();
    for &station in shape {
        let half = section(car, station);
        let x = station.0 * car.size.x;
        let mut ring = Vec::with_capacity(11);
        for (z, y) in half {
            ring.push(mesh.point(car.outward(v3(x, y, z))));
        }
        for (z, y) in half.iter().rev().skip(1) {
            ring.push(mesh.point(car.outward(v3(x, *y, -z))));
        }
        if let Some((before, rear)) = last.take() {
            let steep = (rear.1 - station.1).abs() > 0.18 && rear.1.max(station.1) > 0.9;
            let cabin = rear.1 > 0.9 || station.1 > 0.9;
            for j in 0..10 {
                let side = j == 3 || j == 6;
                let top = j == 4 || j == 5;
                let glass = (top && steep) || (side && cabin);
                let part = if glass {
                    Part::Glass(index)
                } else {
                    Part::Body(index)
                };
                let q = [before[j], before[j + 1], ring[j + 1], ring[j]];
                mesh.triangle([q[0], q[1], q[2]], part, true);
                mesh.triangle([q[0], q[2], q[3]], part, true);
            }
        }
        caps.push(ring.clone());
        last = Some((ring, station));
    }
    for ring in [caps.first(), caps.last()].into_iter().flatten() {
        for j in 1..10 {
            mesh.triangle([ring[0], ring[j], ring[j + 1]], Part::Body(index), false);
        }
    }
    wheels(mesh, car, index);
}

fn wheels(mesh: &mut Mesh, car: &Car, index: u16) {
    let part = Part::Wheel(index);
    let outer = width(car) * 0.5 + 0.012;
    for axle in car.axles() {
        for side in [-1.0, 1.0] {
            let hub = mesh.point(car.outward(v3(axle, TYRE, side * outer)));
            let rim = |k: u32, z: f32| {
                let (sin, cos) = (k as f32 * std::f32::consts::TAU / 18.0).sin_cos();
                car.outward(v3(axle + TYRE * cos, TYRE + TYRE * sin, side * z))
            };
            for k in 0..18 {
                let (a, b) = (mesh.point(rim(k, outer)), mesh.point(rim(k + 1, outer)));
                mesh.triangle([hub, a, b], part, false);
                let (c, d) = (rim(k + 1, outer - 0.22), rim(k, outer - 0.22));
                let (c, d) = (mesh.point(c), mesh.point(d));
                mesh.triangle([a, b, c], part, false);
                mesh.triangle([a, c, d], part, false);
            }
        }
    }
}

/// What a sample of a surface is.
#[derive(Clone, Copy, Debug)]
pub struct Skin {
    /// Linear colour.
    pub colour: V3,
    /// 0 dull .. 1 mirror-like.
    pub gloss: f32,
    /// Own light.
    pub glow: V3,
}

fn dull(colour: V3) -> Skin {
    Skin {
        colour,
        gloss: 0.05,
        glow: V3::default(),
    }
}

/// Skin of the body at a place in the car's own axes.
#[must_use]
pub fn body_skin(car: &Car, p: V3) -> Skin {
    let (length, height, half) = (car.size.x, car.size.y, width(car) * 0.5);
    let dark = v3(0.015, 0.015, 0.017);
    let (along, across) = (p.x / length, p.z.abs() / half);
    if p.y < 0.25 {
        return dull(dark);
    }
    for axle in car.axles() {
        let (dx, dy) = (p.x - axle, p.y - TYRE);
        if across > 0.8 && dx * dx + dy * dy < (TYRE + 0.07) * (TYRE + 0.07) {
            return dull(v3(0.006, 0.006, 0.006));
        }
    }
    if let Some(skin) = lamps(car, along, p.y / height, across) {
        return skin;
    }
    let end = along.abs() > 0.484;
    if end && p.z.abs() < 0.26 && (0.40..0.52).contains(&p.y) {
        return dull(v3(0.75, 0.75, 0.72));
    }
    if along > 0.484 && across < 0.55 && (0.20..0.43).contains(&(p.y / height)) {
        return dull(v3(0.02, 0.02, 0.022));
    }
    let mut skin = Skin {
        colour: car.paint,
        gloss: 0.7,
        glow: V3::default(),
    };
    if end && p.y < 0.42 {
        skin.colour = skin.colour * 0.75;
    }
    if across > 0.8 && p.y < car.belt() {
        for seam in [-0.17, 0.035, 0.225] {
            let d = (along - seam).abs() * length;
            skin.colour = skin.colour * (0.35 + 0.65 * smoothstep(0.006, 0.02, d));
        }
        let handle = (p.y - car.belt() + 0.12).abs() < 0.018;
        if handle && ((along + 0.13).abs() < 0.02 || (along - 0.075).abs() < 0.02) {
            skin.colour = skin.colour * 0.5;
        }
    }
    skin
}

fn lamps(car: &Car, along: f32, up: f32, across: f32) -> Option<Skin> {
    let tall = matches!(car.body, Body::Van | Body::Suv);
    if along > 0.445 && across > 0.52 && (0.40..0.52).contains(&up) {
        let glow = if car.headlights {
            v3(9.0, 8.6, 7.6)
        } else {
            V3::default()
        };
        return Some(Skin {
            colour: v3(0.55, 0.57, 0.6),
            gloss: 0.9,
            glow,
        });
    }
    let (low, high) = if tall { (0.40, 0.58) } else { (0.49, 0.61) };
    if along < -0.462 && across > 0.58 && (low..high).contains(&up) {
        let glow = match (car.brakes, car.headlights) {
            (true, _) => v3(5.0, 0.25, 0.12),
            (false, true) => v3(0.9, 0.05, 0.03),
            _ => V3::default(),
        };
        return Some(Skin {
            colour: v3(0.32, 0.015, 0.015),
            gloss: 0.8,
            glow,
        });
    }
    None
}

/// Skin of the windows: glass between pillars.
#[must_use]
pub fn glass_skin(car: &Car, p: V3, flat: V3) -> Skin {
    let along = p.x / car.size.x;
    let side = {
        let (sin, cos) = car.heading.sin_cos();
        (flat.x * cos - flat.z * sin).abs() > 0.6
    };
    let mut pillar = false;
    if side {
        pillar |= p.y > car.size.y * 0.935 || p.y < car.belt() + 0.015;
        pillar |= (along + 0.05).abs() < 0.012;
        pillar |= car.body != Body::Pickup && (along + 0.245).abs() < 0.014;
        pillar |= car.body == Body::Van && along < 0.06;
    } else {
        pillar |= p.z.abs() > width(car) * 0.435;
        pillar |= car.body == Body::Van && along < 0.0 && (p.y < car.belt() + 0.1 || p.z.abs() < 0.03);
    }
    if pillar {
        return Skin {
            colour: car.paint,
            gloss: 0.6,
            glow: V3::default(),
        };
    }
    Skin {
        colour: v3(0.012, 0.014, 0.016),
        gloss: 1.0,
        glow: V3::default(),
    }
}

/// Skin of a wheel.
#[must_use]
pub fn wheel_skin(car: &Car, p: V3) -> Skin {
    let near = |axle: f32| ((p.x - axle).powi(2) + (p.y - TYRE).powi(2)).sqrt();
    let axles = car.axles();
    let axle = if p.x > 0.0 { axles[1] } else { axles[0] };
    let r = near(axle);
    let spoke = ((p.y - TYRE).atan2(p.x - axle) * 2.5).cos().abs();
    let rim = r < TYRE * 0.68 && (spoke > 0.45 || r < TYRE * 0.2 || r > TYRE * 0.6);
    let outer = p.z.abs() > width(car) * 0.5;
    if rim && outer {
        Skin {
            colour: v3(0.34, 0.35, 0.36),
            gloss: 0.5,
            glow: V3::default(),
        }
    } else {
        dull(v3(0.012, 0.012, 0.013))
    }
}
