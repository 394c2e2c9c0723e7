//! What stands before the lens: the lot, the light, cars, props, fire.
//!
//! Owns the description only; nothing here is drawn. Coordinates as in [`super::vector`]: the row
//! of bays runs along x, bay entrances lie at z = 0 and the curb at z = `bay_depth`. Bays are
//! numbered from the left, starting at 1 ("bay1").

use super::camera::{Pinhole, Pose};
use super::vector::{V3, v3};

/// Part of the day, which decides sun, sky and lamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hour {
    /// Sun or overcast.
    Day,
    /// Low, warm light.
    Dusk,
    /// Lamps only.
    Night,
}

impl Hour {
    /// The word used in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hour::Day => "day",
            Hour::Dusk => "dusk",
            Hour::Night => "night",
        }
    }
}

/// Daylight.
#[derive(Clone, Copy, Debug)]
pub struct Daylight {
    /// Part of the day.
    pub hour: Hour,
    /// Compass angle of the sun, radians from +z to the right.
    pub azimuth: f32,
    /// Height of the sun, radians.
    pub elevation: f32,
    /// 0 clear .. 1 overcast.
    pub clouds: f32,
    /// Lamps: 0 white .. 1 sodium orange.
    pub lamp_warmth: f32,
}

/// What closes the view behind the bays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backdrop {
    /// Red or yellow brick.
    Brick,
    /// Grey concrete with joints and stains.
    Concrete,
    /// Profiled sheet metal.
    Metal,
    /// A clipped hedge.
    Hedge,
    /// Facade with windows.
    Facade,
    /// No wall: trees and sky.
    Open,
}

/// The asphalt, its paint and what is behind.
#[derive(Clone, Copy, Debug)]
pub struct Lot {
    /// Number of bays, 1..=8.
    pub bays: usize,
    /// Metres.
    pub bay_width: f32,
    /// Metres.
    pub bay_depth: f32,
    /// Tangent of the bays' slant: metres to the right per metre of depth.
    pub slant: f32,
    /// Linear reflectance of the asphalt, about 0.05..0.2.
    pub asphalt: f32,
    /// Line colour.
    pub paint: V3,
    /// 0 fresh .. 1 nearly gone.
    pub wear: f32,
    /// Bay (from 0) painted as an EV bay.
    pub painted_bay: Option<usize>,
    /// Colour of that bay.
    pub bay_colour: V3,
    /// 0 dry .. 1 covered by water.
    pub wet: f32,
    /// What is behind.
    pub backdrop: Backdrop,
    /// Metres from the entrances to the wall.
    pub wall_z: f32,
    /// Metres.
    pub wall_height: f32,
    /// Tint of the wall.
    pub wall_colour: V3,
    /// 0 green .. 1 autumn orange.
    pub autumn: f32,
}

impl Lot {
    /// Left edge of bay `index` (from 0) at `z`, metres.
    #[must_use]
    pub fn edge(&self, index: usize, z: f32) -> f32 {
        (index as f32 - self.bays as f32 * 0.5) * self.bay_width
            + (z - self.bay_depth * 0.5) * self.slant
    }

    /// Middle of bay `index` (from 0) on the ground.
    #[must_use]
    pub fn middle(&self, index: usize) -> V3 {
        let z = self.bay_depth * 0.5;
        v3(self.edge(index, z) + self.bay_width * 0.5, 0.0, z)
    }

    /// Corners on the ground: entrance left, entrance right, back right, back left.
    #[must_use]
    pub fn corners(&self, index: usize) -> [V3; 4] {
        let (front, back) = (0.0, self.bay_depth);
        [
            v3(self.edge(index, front), 0.0, front),
            v3(self.edge(index + 1, front), 0.0, front),
            v3(self.edge(index + 1, back), 0.0, back),
            v3(self.edge(index, back), 0.0, back),
        ]
    }
}

/// Body of a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Three boxes.
    Saloon,
    /// Two boxes.
    Hatchback,
    /// Tall.
    Suv,
    /// Delivery van.
    Van,
    /// Open bed.
    Pickup,
}

/// A car standing in the scene.
#[derive(Clone, Copy, Debug)]
pub struct Car {
    /// Shape.
    pub body: Body,
    /// Middle of the car on the ground.
    pub place: V3,
    /// Radians from +z to the right.
    pub heading: f32,
    /// Length, width, height in metres.
    pub size: V3,
    /// Linear paint colour.
    pub paint: V3,
    /// Headlights on.
    pub headlights: bool,
    /// Brake lights on.
    pub brakes: bool,
}

/// Things that are not cars.
#[derive(Clone, Copy, Debug)]
pub enum Prop {
    /// Charging post; the cable goes to `plug` when one is given.
    Post {
        /// Foot of the post.
        place: V3,
        /// Where the cable ends.
        plug: Option<V3>,
        /// Colour of the status lamp.
        lamp: V3,
    },
    /// A person.
    Person {
        /// Feet.
        place: V3,
        /// Colour of the jacket or vest.
        vest: V3,
        /// Metres.
        height: f32,
    },
    /// Traffic cone.
    Cone {
        /// Foot.
        place: V3,
    },
    /// Lamp post; lit in the dark.
    Lamp {
        /// Foot.
        place: V3,
        /// Metres.
        height: f32,
    },
    /// A box: bin, cabinet, sign.
    Block {
        /// Middle of the footprint.
        place: V3,
        /// Width, height, depth in metres.
        size: V3,
        /// Linear colour.
        colour: V3,
        /// Light that it gives off itself, 0 for none.
        glow: f32,
    },
}

/// Fire or smoke at a place.
#[derive(Clone, Copy, Debug)]
pub struct Plume {
    /// Seat of the fire.
    pub place: V3,
    /// 0..1.
    pub intensity: f32,
    /// Drift, metres to the right per metre of rise.
    pub wind: f32,
    /// Smoke only: 0 black .. 1 white.
    pub brightness: f32,
    /// Changes the shape.
    pub seed: u32,
}

/// Everything the renderer draws.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Textures of asphalt, wall, sky.
    pub seed: u32,
    /// The camera.
    pub pose: Pose,
    /// Sun, sky, lamps.
    pub daylight: Daylight,
    /// Ground and backdrop.
    pub lot: Lot,
    /// Cars.
    pub cars: Vec<Car>,
    /// Everything else.
    pub props: Vec<Prop>,
    /// Flames.
    pub fires: Vec<Plume>,
    /// Smoke.
    pub smokes: Vec<Plume>,
    /// Gain of the sensor noise, 1 = a usual surveillance camera.
    pub grain: f32,
    /// Lens softness, pixels.
    pub blur: f32,
    /// Stops of exposure error.
    pub exposure: f32,
}

impl Scene {
    /// Ground outline of bay `index` (from 0) in fractions of the frame, clamped to the frame.
    /// Order: entrance left, entrance right, back right, back left. `aspect` = width / height.
    #[must_use]
    pub fn polygon(&self, index: usize, aspect: f32) -> Option<[[f32; 2]; 4]> {
        let mut polygon = self.outline(index, aspect)?;
        for point in &mut polygon {
            *point = point.map(|v| (v.clamp(0.0, 1.0) * 1e4).round() / 1e4);
        }
        Some(polygon)
    }

    /// As [`Scene::polygon`], not clamped; `None` when a corner is behind the lens.
    #[must_use]
    pub fn outline(&self, index: usize, aspect: f32) -> Option<[[f32; 2]; 4]> {
        let (width, height) = (aspect * 1000.0, 1000.0);
        let camera = Pinhole::new(&self.pose, width as u32, height as u32);
        let mut polygon = [[0.0; 2]; 4];
        for (point, corner) in polygon.iter_mut().zip(self.lot.corners(index)) {
            let (x, y, _) = camera.project(corner)?;
            *point = [x / width.floor(), y / height];
        }
        Some(polygon)
    }
}
