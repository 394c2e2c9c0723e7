//! The simulated camera: a row of bays seen from a pole, drawn in software. One scene and one seed
//! give one picture; the labels for training come from the same geometry.

mod draw;
mod hazard;
mod view;

use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;

pub use view::{View, random_scene};

use crate::physics::World;
use draw::Canvas;

/// What stands in one bay.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The bay's id.
    pub id: String,
    /// The car, as a seed for its colour and shape.
    pub car: Option<u64>,
    /// Flame, 0 to 1.
    pub fire: f64,
    /// Smoke, 0 to 1.
    pub smoke: f64,
}

/// One picture to be.
#[derive(Clone, Debug)]
pub struct Scene {
    /// From where.
    pub view: View,
    /// The bays, from left to right.
    pub slots: Vec<Slot>,
    /// 0 night to 1 day.
    pub light: f64,
    /// Time of the picture, s; moves flame and noise.
    pub time_s: f64,
    /// Look of the ground and the surroundings.
    pub seed: u64,
}

/// A box around a hazard, shares of the frame: x, y, width, height.
#[derive(Clone, Debug, Serialize)]
pub struct HazardBox {
    /// `fire` or `smoke`.
    pub cls: String,
    /// x, y, width, height in 0..1.
    #[serde(rename = "box")]
    pub area: [f64; 4],
}

/// Light of the lamps at night.
const LAMPS: f64 = 0.2;

/// Colour, 0..255.
pub type Rgb = [f64; 3];

impl Scene {
    /// What the first camera of the running site sees now.
    #[must_use]
    pub fn of(world: &World) -> Scene {
        Scene::seen(world, View::default())
    }

    /// What the second camera sees now, from the pole at the other end.
    #[must_use]
    pub fn of_second(world: &World) -> Scene {
        Scene::seen(world, View::second())
    }

    fn seen(world: &World, view: View) -> Scene {
        let slot = |bay: &crate::physics::Bay| Slot {
            id: bay.id.clone(),
            car: bay.occupied.then_some(bay.look),
            fire: bay.fire,
            smoke: bay.smoke,
        };
        let hour = world.hour_of_day();
        let light = (((hour - 6.0) / 12.0 * std::f64::consts::PI).sin() * 1.6).clamp(0.0, 1.0);
        Scene {
            view,
            slots: world.bays.iter().map(slot).collect(),
            // Lamps keep it from getting quite dark.
            light: if (6.0..18.0).contains(&hour) { light.max(LAMPS) } else { LAMPS },
            time_s: world.elapsed_s,
            seed: 7,
        }
    }

    /// The polygon of bay `i`, shares of the frame, in order round the bay.
    #[must_use]
    pub fn polygon(&self, i: usize) -> [[f64; 2]; 4] {
        self.view.bay_polygon(i, self.slots.len())
    }

    /// Boxes of flame and smoke.
    #[must_use]
    pub fn hazards(&self) -> Vec<HazardBox> {
        hazard::boxes(self)
    }

    fn draw(&self) -> Canvas {
        let mut canvas = Canvas::new(self.view.width, self.view.height, self.seed);
        view::ground(&mut canvas, self);
        // Far things first; all bays are equally far, so the order is from the edges to the middle.
        let count = self.slots.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| {
            self.view.distance(*b, count).total_cmp(&self.view.distance(*a, count))
        });
        for i in order {
            if let Some(look) = self.slots[i].car {
                view::car(&mut canvas, self, i, look);
            }
        }
        canvas.expose(self.light);
        hazard::draw(&mut canvas, self);
        canvas.sensor_noise(self.light, (self.time_s * 1000.0) as u64 ^ self.seed);
        canvas
    }
}

/// The scene as a JPEG.
///
/// # Errors
/// When the encoder fails.
pub fn jpeg(scene: &Scene) -> Result<Vec<u8>, image::ImageError> {
    let canvas = scene.draw();
    let mut bytes = Vec::new();
    let size = (canvas.width as u32, canvas.height as u32);
    let colour = image::ExtendedColorType::Rgb8;
    JpegEncoder::new_with_quality(&mut bytes, 85).encode(
        &canvas.bytes(),
        size.0,
        size.1,
        colour,
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_car_changes_the_picture_of_its_bay() {
        let mut scene = Scene::of(&World::new(Scenario::sunny_day(), 1));
        scene.slots[1].car = None;
        let empty = scene.draw().bytes();
        scene.slots[1].car = Some(2);
        let full = scene.draw().bytes();
        let polygon = scene.polygon(1);
        let middle: [f64; 2] =
            std::array::from_fn(|k| polygon.iter().map(|p| p[k]).sum::<f64>() / 4.0);
        let (x, y) = ((middle[0] * 640.0) as usize, (middle[1] * 360.0) as usize);
        let at = (y * 640 + x) * 3;
        let change: i32 =
            (at..at + 3).map(|i| (i32::from(empty[i]) - i32::from(full[i])).abs()).sum();
        assert!(change > 20, "{change}");
    }

    #[test]
    fn polygons_lie_in_the_frame() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let scene = random_scene(&mut rng);
            for i in 0..scene.slots.len() {
                assert!(scene.polygon(i).iter().flatten().all(|v| (0.0..=1.0).contains(v)));
            }
        }
    }
}
