//! From a picture to its likeness: where it gets brighter or darker from left to right, on a coarse grid.
//!
//! What a stranger gets wrong: small steps are no signs. Where a picture is even, noise would turn half of them over.

use super::gate::{ACROSS, DOWN, Glance};
use crate::logic::vision::Likeness;

/// Cells of the grid, across and down.
const COLUMNS: usize = 32;
const ROWS: usize = 18;
/// Smallest step that is a sign, 0 to 255: above the noise that is left of a sensor's in a cell (our own figure).
const STEP: f32 = 4.0;

/// What a glance at a picture looks like.
#[must_use]
pub fn likeness(glance: &Glance) -> Likeness {
    let (wide, high) = (ACROSS / COLUMNS, DOWN / ROWS);
    let cell = |column: usize, row: usize| {
        let inside = (0..wide * high).map(|i| {
            let (x, y) = (column * wide + i % wide, row * high + i / wide);
            glance.cells().get(y * ACROSS + x).copied().unwrap_or_default()
        });
        inside.sum::<f32>() / (wide * high) as f32
    };
    let steps = (0..ROWS * (COLUMNS - 1)).map(|i| {
        let (column, row) = (i % (COLUMNS - 1), i / (COLUMNS - 1));
        cell(column + 1, row) - cell(column, row)
    });
    let steps: Vec<f32> = steps.collect();
    Likeness::of(
        steps.iter().map(|step| *step > STEP).chain(steps.iter().map(|step| *step < -STEP)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::camera::Frame;
    use crate::logic::vision::SIGNS;

    /// A yard of grey blocks with a car before some of them, in some light, with a sensor's noise.
    fn yard(rng: &mut fastrand::Rng, car: Option<usize>, light: f64, width: usize) -> Frame {
        let height = width * 9 / 16;
        let pixel = |i: usize| {
            let (x, y) = ((i % width) * 320 / width, (i / width) * 320 / width);
            let ground = 40 + (x / 40 * 37 + y / 30 * 91) % 7 * 20;
            let there =
                car.is_some_and(|left| (left..left + 60).contains(&x) && (90..150).contains(&y));
            let body = if (x / 15) % 2 == 0 { 230 } else { 60 };
            let grey = if there { body } else { ground };
            [((grey as f64 * light) as usize + rng.usize(0..8)).min(255) as u8; 3]
        };
        Frame { rgb: (0..width * height).flat_map(pixel).collect(), width, height }
    }

    #[test]
    fn a_picture_is_like_itself_in_noise_light_and_size_and_unlike_another() {
        assert_eq!(2 * ROWS * (COLUMNS - 1), SIGNS);
        let mut rng = fastrand::Rng::with_seed(5);
        let mut of = |car, light, width| likeness(&Glance::of(&yard(&mut rng, car, light, width)));
        let empty = of(None, 1.0, 640);
        for (light, width) in [(1.0, 640), (0.9, 640), (1.1, 640), (1.0, 320)] {
            let distance = of(None, light, width).distance(&empty);
            assert!(distance <= 8, "light {light}, width {width}: {distance}");
        }
        let parked = of(Some(100), 1.0, 640);
        assert!(parked.distance(&empty) > 12, "a car: {}", parked.distance(&empty));
        assert!(of(Some(200), 1.0, 640).distance(&parked) > 12, "elsewhere");
        assert!(of(Some(100), 1.0, 640).distance(&parked) <= 12, "the same again");
    }
}
