//! Triangles of everything that stands on the lot, and how they are filled into the frame.
//!
//! Owns the triangle soup and the buffer that says which triangle each sample sees. It does not
//! shade. A sample stores the reciprocal of the depth (0 = nothing), because only that is linear
//! over a triangle on the screen. Triangles that reach behind the lens are dropped, not clipped.

use super::camera::Pinhole;
use super::vector::{V3, v3};

/// What a triangle is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// Car sheet metal, plastics and lamps; looked up by the place on the car.
    Body(u16),
    /// Car windows.
    Glass(u16),
    /// Wheel; the number is the car's.
    Wheel(u16),
    /// A plain colour with a gloss 0..1 and own light.
    Plain {
        /// Linear colour.
        colour: V3,
        /// 0 dull .. 1 mirror-like.
        gloss: f32,
        /// Own light, times the colour.
        glow: f32,
    },
    /// Orange and white rings.
    Cone,
}

/// One triangle; indices into [`Mesh::points`].
#[derive(Clone, Copy, Debug)]
pub struct Triangle {
    /// Corners.
    pub corners: [u32; 3],
    /// Material.
    pub part: Part,
    /// Normal of the flat triangle, either side.
    pub normal: V3,
    /// Use the corners' averaged normals.
    pub smooth: bool,
}

/// All triangles of a scene.
#[derive(Debug, Default)]
pub struct Mesh {
    /// Corners, metres.
    pub points: Vec<V3>,
    /// Averaged normal of each corner.
    pub normals: Vec<V3>,
    /// Triangles.
    pub triangles: Vec<Triangle>,
}

impl Mesh {
    /// Adds a corner.
    pub fn point(&mut self, p: V3) -> u32 {
        self.points.push(p);
        self.normals.push(V3::default());
        (self.points.len() - 1) as u32
    }

    /// Adds a triangle between corners already there.
    pub fn triangle(&mut self, corners: [u32; 3], part: Part, smooth: bool) {
        let [a, b, c] = corners.map(|i| self.points[i as usize]);
        let area = (b - a).cross(c - a);
        if area.length() < 1e-9 {
            return;
        }
        if smooth {
            for i in corners {
                self.normals[i as usize] += area;
            }
        }
        let normal = area.unit();
        self.triangles.push(Triangle {
            corners,
            part,
            normal,
            smooth,
        });
    }

    /// Adds a flat quadrilateral.
    pub fn quad(&mut self, corners: [V3; 4], part: Part) {
        let i = corners.map(|p| self.point(p));
        self.triangle([i[0], i[1], i[2]], part, false);
        self.triangle([i[0], i[2], i[3]], part, false);
    }

    /// Adds an upright box; `place` is the middle of its footprint.
    pub fn block(&mut self, place: V3, size: V3, part: Part) {
        let (w, h, d) = (size.x * 0.5, size.y, size.z * 0.5);
        let at = |x: f32, y: f32, z: f32| place + v3(x * w, y * h, z * d);
        let faces = [
            [(-1., 0., -1.), (1., 0., -1.), (1., 1., -1.), (-1., 1., -1.)],
            [(-1., 0., 1.), (1., 0., 1.), (1., 1., 1.), (-1., 1., 1.)],
            [(-1., 0., -1.), (-1., 0., 1.), (-1., 1., 1.), (-1., 1., -1.)],
            [(1., 0., -1.), (1., 0., 1.), (1., 1., 1.), (1., 1., -1.)],
            [(-1., 1., -1.), (1., 1., -1.), (1., 1., 1.), (-1., 1., 1.)],
        ];
        for face in faces {
            self.quad(face.map(|(x, y, z)| at(x, y, z)), part);
        }
    }

    /// Adds a tube of `radius` through `path`; the ends stay open.
    pub fn tube(&mut self, path: &[V3], radius: impl Fn(usize) -> f32, sides: u32, part: Part) {
        let mut last: Vec<u32> = Vec::new();
        for (k, p) in path.iter().enumerate() {
            let ahead = path[(k + 1).min(path.len() - 1)];
            let along = (ahead - path[k.saturating_sub(1)]).unit();
            let helper = if along.y.abs() > 0.9 {
                v3(1.0, 0.0, 0.0)
            } else {
                v3(0.0, 1.0, 0.0)
            };
            let side = along.cross(helper).unit();
            let over = side.cross(along);
            let ring: Vec<u32> = (0..sides)
                .map(|s| {
                    let (sin, cos) = (s as f32 * std::f32::consts::TAU / sides as f32).sin_cos();
                    self.point(*p + (side * cos + over * sin) * radius(k))
                })
                .collect();
            for s in 0..last.len() {
                let t = (s + 1) % last.len();
                self.triangle([last[s], last[t], ring[t]], part, true);
                self.triangle([last[s], ring[t], ring[s]], part, true);
            }
            last = ring;
        }
    }
}

/// Which triangle each sample sees.
#[derive(Debug)]
pub struct Visibility {
    /// Samples per line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Index of the triangle plus one; 0 = none.
    pub triangle: Vec<u32>,
    /// 1 / depth in metres; 0 = none.
    pub nearness: Vec<f32>,
}

impl Visibility {
    /// Fills `mesh` into a frame of `width` by `height` samples.
    #[must_use]
    pub fn of(mesh: &Mesh, camera: &Pinhole, width: usize, height: usize) -> Visibility {
        let mut seen = Visibility {
            width,
            height,
            triangle: vec![0; width * height],
            nearness: vec![0.0; width * height],
        };
        let screen: Vec<_> = mesh.points.iter().map(|p| camera.project(*p)).collect();
        for (index, triangle) in mesh.triangles.iter().enumerate() {
            let [a, b, c] = triangle.corners.map(|i| screen[i as usize]);
            if let (Some(a), Some(b), Some(c)) = (a, b, c) {
                seen.fill([a, b, c], index as u32 + 1);
            }
        }
        seen
    }

    fn fill(&mut self, corner: [(f32, f32, f32); 3], id: u32) {
        let [a, b, c] = corner;
        let area = (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0);
        if area.abs() < 1e-6 {
            return;
        }
        let k = 1.0 / area;
        let low = |v: f32| (v.floor().max(0.0)) as usize;
        let left = low(a.0.min(b.0).min(c.0));
        let top = low(a.1.min(b.1).min(c.1));
        let right = (low(a.0.max(b.0).max(c.0)) + 1).min(self.width);
        let bottom = (low(a.1.max(b.1).max(c.1)) + 1).min(self.height);
        let (na, nb, nc) = (1.0 / a.2, 1.0 / b.2, 1.0 / c.2);
        for y in top..bottom {
            let py = y as f32 + 0.5;
            for x in left..right {
                let px = x as f32 + 0.5;
                let wb = ((px - a.0) * (c.1 - a.1) - (py - a.1) * (c.0 - a.0)) * k;
                let wc = ((b.0 - a.0) * (py - a.1) - (b.1 - a.1) * (px - a.0)) * k;
                let wa = 1.0 - wb - wc;
                if wa < 0.0 || wb < 0.0 || wc < 0.0 {
                    continue;
                }
                let near = wa * na + wb * nb + wc * nc;
                let at = y * self.width + x;
                if near > self.nearness[at] {
                    self.nearness[at] = near;
                    self.triangle[at] = id;
                }
            }
        }
    }
}
