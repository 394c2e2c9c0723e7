//! The int8 kernel: a fast path for exactly one family of nets, on one thread. `acts` and `layers` read
//! an ONNX file, `packed` turns its weights into bytes, `tiles` multiplies them (the one file with unsafe
//! code), `rows` does what stays in real numbers, `net` runs it all.
//!
//! What a stranger gets wrong: nothing here is trusted. Whoever loads a net compares its output with the
//! stored golden one and takes the general runtime where they differ.

mod acts;
mod lanes;
mod layers;
mod net;
mod packed;
mod product;
mod rows;
mod tiles;

use std::sync::{Mutex, PoisonError};

pub use tiles::Level;

/// Why the kernel does not take a net.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The file.
    #[error(transparent)]
    File(#[from] acts::ActError),
    /// The architecture.
    #[error(transparent)]
    Family(#[from] layers::NotOfTheFamily),
    /// The picture's size.
    #[error("the layers do not fit pictures of {0} x {1} x {2}")]
    Size(usize, usize, usize),
}

/// A net of the family.
pub struct Kernel {
    net: Mutex<net::Net>,
    level: Level,
    inputs: usize,
}

impl Kernel {
    /// Reads an ONNX file for pictures of channels, height and width.
    ///
    /// # Errors
    /// When the net is not of the family; says where it leaves it.
    pub fn read(
        bytes: &[u8],
        (channels, height, width): (usize, usize, usize),
        level: Level,
    ) -> Result<Kernel, NotTaken> {
        let layers = layers::layers(&acts::read(bytes)?)?;
        let net = net::Net::new(layers, (channels, height, width));
        let net = Mutex::new(net.ok_or(NotTaken::Size(channels, height, width))?);
        Ok(Kernel { net, level, inputs: channels * height * width })
    }

    /// The instruction set.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The net's outputs for a picture `[channels][height][width]`; nothing where it has another size.
    #[must_use]
    pub fn run(&self, picture: &[f32]) -> Option<Vec<f32>> {
        if picture.len() != self.inputs {
            return None;
        }
        let mut net = self.net.lock().unwrap_or_else(PoisonError::into_inner);
        Some(self.level.run(net.judge(picture)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        std::fs::read(folder.join(name)).unwrap()
    }

    const SHIPPED: [(&str, (usize, usize, usize)); 2] =
        [("bay-small.onnx", (4, 64, 64)), ("fire-small.onnx", (3, 192, 192))];

    #[test]
    fn tiles_are_bit_equal_for_all_shapes_and_tails() {
        let mut rng = fastrand::Rng::with_seed(5);
        for round in 0..400 {
            let (count, segments) = (rng.usize(1..14), rng.usize(1..4));
            let (length, width) = (rng.usize(1..40) * 4, rng.usize(1..5) * tiles::LANES);
            let stride = length + rng.usize(0..9);
            let data: Vec<u8> = (0..2000).map(|_| rng.u8(..)).collect();
            let room = data.len() - (segments - 1) * stride - length;
            let offsets: Vec<u32> = (0..count).map(|_| rng.u32(..=room as u32)).collect();
            let panel: Vec<i8> = (0..segments * length * width).map(|_| rng.i8(..)).collect();
            let rows = tiles::Rows::new(&data, &offsets, (segments, stride, length));
            let first = rng.usize(0..count);
            let tile = Tile { rows, first, panel: &panel, width };
            let portable = Level::Portable.run(tile);
            for (i, sums) in portable.iter().enumerate() {
                let row = offsets[(first + i).min(count - 1)] as usize;
                let column = rng.usize(0..width);
                let at = |k: usize| row + k / length * stride + k % length;
                let product = |k: usize| {
                    i32::from(data[at(k)]) * i32::from(panel[(k / 4 * width + column) * 4 + k % 4])
                };
                let wanted: i32 = (0..segments * length).map(product).sum();
                assert_eq!(sums[column], wanted, "round {round}, row {i}, column {column}");
            }
            for level in Level::all() {
                assert_eq!(level.run(tile), portable, "round {round} on {}", level.name());
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Tile<'a> {
        rows: tiles::Rows<'a>,
        first: usize,
        panel: &'a [i8],
        width: usize,
    }

    impl tiles::Work for Tile<'_> {
        type Out = tiles::Sums;
        #[inline(always)]
        fn work<T: tiles::Tile>(self, tile: T) -> tiles::Sums {
            let mut sums = [[0; tiles::MOST_COLUMNS]; tiles::ROWS];
            tile.sums(&self.rows, self.first, (self.panel, self.width), &mut sums);
            sums
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let mut rng = fastrand::Rng::with_seed(7);
        for (name, size) in SHIPPED {
            let picture: Vec<f32> =
                (0..size.0 * size.1 * size.2).map(|_| rng.f32() * 4.0 - 2.0).collect();
            let run = |level| Kernel::read(&shipped(name), size, level).unwrap().run(&picture);
            let portable = run(Level::Portable).unwrap();
            assert!(portable.iter().all(|value| value.is_finite()));
            for level in Level::all() {
                assert_eq!(run(level).unwrap(), portable, "{name} on {}", level.name());
            }
        }
    }
}
