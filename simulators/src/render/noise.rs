//! Value noise: the grain of asphalt, leaves, clouds, flame and smoke.
//!
//! Owns pure functions of a place and a seed. Nothing here keeps a state, so a picture can be
//! rendered again byte for byte. The hash is a mixer of integers, not a random generator: two
//! seeds that differ by one give unrelated textures.

const SCALE: f32 = 1.0 / 16_777_216.0;

/// Mixes a lattice point and a seed into `0..1`.
#[must_use]
pub fn hash(x: i32, y: i32, z: i32, seed: u32) -> f32 {
    let mut h = (x as u32).wrapping_mul(0x27d4_eb2d)
        ^ (y as u32).wrapping_mul(0x1656_67b1)
        ^ (z as u32).wrapping_mul(0x9e37_79b1)
        ^ seed.wrapping_mul(0x85eb_ca77);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2c1b_3c6d);
    h ^= h >> 12;
    h = h.wrapping_mul(0x297a_2d39);
    h ^= h >> 15;
    (h >> 8) as f32 * SCALE
}

fn split(x: f32) -> (i32, f32) {
    let floor = x.floor();
    let t = x - floor;
    (floor as i32, t * t * (3.0 - 2.0 * t))
}

/// Smooth noise over a plane, `0..1`, one feature per unit.
#[must_use]
pub fn plane(x: f32, y: f32, seed: u32) -> f32 {
    let (ix, fx) = split(x);
    let (iy, fy) = split(y);
    let (jx, jy) = (ix.wrapping_add(1), iy.wrapping_add(1));
    let low = hash(ix, iy, 0, seed) * (1.0 - fx) + hash(jx, iy, 0, seed) * fx;
    let high = hash(ix, jy, 0, seed) * (1.0 - fx) + hash(jx, jy, 0, seed) * fx;
    low + (high - low) * fy
}

/// Smooth noise over space (or a plane and time), `0..1`.
#[must_use]
pub fn space(x: f32, y: f32, z: f32, seed: u32) -> f32 {
    let (iz, fz) = split(z);
    let (ix, fx) = split(x);
    let (iy, fy) = split(y);
    let (jx, jy) = (ix.wrapping_add(1), iy.wrapping_add(1));
    let layer = |k: i32| {
        let low = hash(ix, iy, k, seed) * (1.0 - fx) + hash(jx, iy, k, seed) * fx;
        let high = hash(ix, jy, k, seed) * (1.0 - fx) + hash(jx, jy, k, seed) * fx;
        low + (high - low) * fy
    };
    let near = layer(iz);
    near + (layer(iz.wrapping_add(1)) - near) * fz
}

/// `octaves` layers of [`plane`], each twice as fine and half as strong, about `0..1`.
#[must_use]
pub fn fractal(x: f32, y: f32, seed: u32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut scale) = (0.0, 0.5, 1.0);
    for octave in 0..octaves {
        sum += weight * plane(x * scale, y * scale, seed.wrapping_add(octave));
        weight *= 0.5;
        scale *= 2.03;
    }
    sum / (1.0 - weight * 2.0)
}

/// `octaves` layers of [`space`], about `0..1`.
#[must_use]
pub fn turbulence(x: f32, y: f32, z: f32, seed: u32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut scale) = (0.0, 0.5, 1.0);
    for octave in 0..octaves {
        sum += weight * space(x * scale, y * scale, z * scale, seed.wrapping_add(octave));
        weight *= 0.5;
        scale *= 2.03;
    }
    sum / (1.0 - weight * 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stays_in_range_and_depends_on_the_seed() {
        let mut differs = false;
        for i in 0..500 {
            let x = i as f32 * 0.37 - 40.0;
            let a = fractal(x, -x * 0.5, 7, 4);
            assert!((0.0..=1.0).contains(&a), "{a}");
            assert!((0.0..=1.0).contains(&turbulence(x, 1.0, x, 3, 3)));
            differs |= (a - fractal(x, -x * 0.5, 8, 4)).abs() > 0.05;
        }
        assert!(differs);
    }
}
