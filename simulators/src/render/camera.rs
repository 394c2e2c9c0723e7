//! The pinhole: from the lot to the frame and back.
//!
//! Owns the pose of the camera and projection. A pose knows nothing of pixels; a [`Pinhole`] is a
//! pose at one resolution. Frame coordinates start at the upper left corner. Depth is measured
//! along the optical axis, not along the ray: the reciprocal of it is linear across a triangle.

use super::vector::{V3, v3};

/// Where a camera stands and looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Position, metres.
    pub eye: V3,
    /// Radians to the right of straight ahead (+z).
    pub yaw: f32,
    /// Radians below the horizon.
    pub pitch: f32,
    /// Radians, a crooked mount.
    pub roll: f32,
    /// Horizontal angle of view, radians.
    pub view: f32,
}

/// A pose at one resolution.
#[derive(Clone, Copy, Debug)]
pub struct Pinhole {
    /// Position, metres.
    pub eye: V3,
    right: V3,
    up: V3,
    forward: V3,
    /// Pixels per unit of tangent.
    pub focal: f32,
    centre: (f32, f32),
}

impl Pinhole {
    /// The camera `pose` with a frame of `width` by `height` pixels.
    #[must_use]
    pub fn new(pose: &Pose, width: u32, height: u32) -> Pinhole {
        let (sy, cy) = pose.yaw.sin_cos();
        let (sp, cp) = pose.pitch.sin_cos();
        let forward = v3(sy * cp, -sp, cy * cp);
        let flat_right = v3(cy, 0.0, -sy);
        let flat_up = forward.cross(flat_right);
        let (sr, cr) = pose.roll.sin_cos();
        Pinhole {
            eye: pose.eye,
            right: flat_right * cr + flat_up * sr,
            up: flat_up * cr - flat_right * sr,
            forward,
            focal: width as f32 * 0.5 / (pose.view * 0.5).tan(),
            centre: (width as f32 * 0.5, height as f32 * 0.5),
        }
    }

    /// Pixel and depth in metres of a point, `None` behind the lens (closer than 0.2 m).
    #[must_use]
    pub fn project(&self, point: V3) -> Option<(f32, f32, f32)> {
        let d = point - self.eye;
        let depth = d.dot(self.forward);
        (depth > 0.2).then(|| {
            let k = self.focal / depth;
            (
                self.centre.0 + d.dot(self.right) * k,
                self.centre.1 - d.dot(self.up) * k,
                depth,
            )
        })
    }

    /// Direction of a pixel, scaled so that multiplying by the depth reaches the point.
    #[must_use]
    pub fn ray(&self, x: f32, y: f32) -> V3 {
        self.forward
            + self.right * ((x - self.centre.0) / self.focal)
            + self.up * ((self.centre.1 - y) / self.focal)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_ray_leads_back_to_its_point() {
        let pose = Pose {
            eye: v3(1.0, 4.0, -9.0),
            yaw: 0.2,
            pitch: 0.3,
            roll: 0.02,
            view: 1.1,
        };
        let camera = Pinhole::new(&pose, 640, 360);
        let point = v3(2.0, 0.7, 3.0);
        let (x, y, depth) = camera.project(point).unwrap();
        let back = camera.eye + camera.ray(x, y) * depth;
        assert!((back - point).length() < 1e-3);
        assert!(camera.project(v3(1.0, 4.0, -20.0)).is_none());
        // Higher in the world is higher in the frame; further right is further right.
        let (x2, y2, _) = camera.project(v3(2.5, 1.7, 3.0)).unwrap();
        assert!(y2 < y && x2 > x);
    }
}
