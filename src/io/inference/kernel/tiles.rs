//! The integer tiles: six rows of unsigned bytes times a panel of signed bytes, exact in 32 bits. One
//! version for each instruction set and a portable twin; all give the same bits. This is the one file
//! of the house with unsafe code, and all of it is here for two reasons: instructions that not every
//! machine has, and reads through pointers whose bounds `Rows::new` and `sums` have checked.
//!
//! What a stranger gets wrong: AVX2 has an eight-bit product (`vpmaddubsw`) that saturates; the version
//! here widens to 16 bits instead, which is half as fast and exact.

#![allow(unsafe_code)]

use super::lanes::{Lanes, Plain};

/// Rows of a tile.
pub const ROWS: usize = 6;
/// Columns of one vector.
pub const LANES: usize = 16;
/// Columns of the widest panel.
pub const MOST_COLUMNS: usize = 64;
/// Values that one instruction multiplies and adds up.
pub const GROUP: usize = 4;

/// What a tile adds up.
pub type Sums = [[i32; MOST_COLUMNS]; ROWS];

/// Rows of a matrix inside a buffer: each begins at its offset and goes on in `segments` pieces of
/// `length` bytes, `stride` bytes apart. A plain matrix has one segment; a convolution reads its
/// window in place, one segment for each row of the window.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [u8],
    offsets: &'a [u32],
    segments: usize,
    stride: usize,
    length: usize,
}

impl<'a> Rows<'a> {
    /// # Panics
    /// When a row leads outside of the buffer or a segment is no multiple of four: a fault of the
    /// program, never of a file.
    pub fn new(
        data: &'a [u8],
        offsets: &'a [u32],
        (segments, stride, length): (usize, usize, usize),
    ) -> Rows<'a> {
        let furthest = offsets.iter().max().map_or(0, |offset| *offset as usize);
        assert!(length.is_multiple_of(GROUP), "{length} bytes are no whole groups");
        assert!(segments > 0 && furthest + (segments - 1) * stride + length <= data.len());
        Rows { data, offsets, segments, stride, length }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of a row.
    pub fn depth(&self) -> usize {
        self.segments * self.length
    }

    /// Six offsets from `first` on; past the end the last row stands again.
    #[inline(always)]
    fn six(&self, first: usize) -> [usize; ROWS] {
        let mut six = [0; ROWS];
        for (i, place) in six.iter_mut().enumerate() {
            *place = self.offsets[(first + i).min(self.offsets.len() - 1)] as usize;
        }
        six
    }
}

/// An instruction set. Whoever holds one may use it: `Level::all` hands out only what the CPU has.
pub trait Tile: Copy {
    /// Its registers of real numbers.
    type Lanes: Lanes;
    /// One number sixteen times.
    fn splat(self, value: f32) -> Self::Lanes;
    /// Sixteen numbers.
    fn load(self, values: &[f32; LANES]) -> Self::Lanes;
    /// Sixteen integers as real numbers.
    fn whole(self, values: &[i32; LANES]) -> Self::Lanes;
    /// `sums[i][j]` = row `first + i` times column `j` of a panel with its width.
    fn sums(self, rows: &Rows<'_>, first: usize, panel: (&[i8], usize), sums: &mut Sums);
}

/// Checked before every tile: the panel is as deep as the rows and of whole vectors.
#[inline(always)]
fn check(rows: &Rows<'_>, panel: &[i8], width: usize) {
    assert!(panel.len() == rows.depth() * width && width.is_multiple_of(LANES));
    assert!(width <= MOST_COLUMNS && !rows.offsets.is_empty());
}

/// Something that is compiled once for each instruction set; all of it that is `inline(always)`.
pub trait Work {
    /// What comes out.
    type Out;
    /// Does it with a tile of that instruction set.
    fn work<T: Tile>(self, tile: T) -> Self::Out;
}

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 with AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Any machine.
    Portable,
}

impl Level {
    /// All that this machine has, the fastest first.
    #[must_use]
    pub fn all() -> Vec<Level> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx512::found().map(Level::Avx512));
            all.extend(AvxVnni::found().map(Level::AvxVnni));
            all.extend(Avx2::found().map(Level::Avx2));
        }
        all.push(Level::Portable);
        all
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(_) => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "AVX2",
            Level::Portable => "portable",
        }
    }

    /// Does some work with these instructions.
    pub fn run<W: Work>(self, work: W) -> W::Out {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(tile) => tile.run(work),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(tile) => tile.run(work),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(tile) => tile.run(work),
            Level::Portable => work.work(Portable),
        }
    }
}

/// Runs anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Tile for Portable {
    type Lanes = Plain;
    #[inline(always)]
    fn splat(self, value: f32) -> Plain {
        Plain([value; LANES])
    }
    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Plain {
        Plain(*values)
    }
    #[inline(always)]
    fn whole(self, values: &[i32; LANES]) -> Plain {
        Plain(values.map(|value| value as f32))
    }
    #[inline(always)]
    fn sums(self, rows: &Rows<'_>, first: usize, (panel, width): (&[i8], usize), sums: &mut Sums) {
        check(rows, panel, width);
        for (offset, sums) in rows.six(first).into_iter().zip(sums) {
            sums.fill(0);
            let mut groups = panel.chunks_exact(width * GROUP);
            for segment in 0..rows.segments {
                let start = offset + segment * rows.stride;
                let bytes = &rows.data[start..start + rows.length];
                for (four, group) in bytes.chunks_exact(GROUP).zip(&mut groups) {
                    for (sum, weights) in sums.iter_mut().zip(group.chunks_exact(GROUP)) {
                        for (byte, weight) in four.iter().zip(weights) {
                            *sum = sum.wrapping_add(i32::from(*byte) * i32::from(*weight));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, AvxVnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::lanes::{Lanes256, Lanes512};
    use super::{GROUP, LANES, MOST_COLUMNS, ROWS, Rows, Sums, Tile, Work, check};

    /// An instruction set as a token: only `found` makes one, after asking the CPU, and `run` compiles
    /// work with its features.
    macro_rules! instruction_set {
        ($name:ident, $features:literal, [$($feature:tt),+]) => {
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name(());

            impl $name {
                pub fn found() -> Option<$name> {
                    let all = true $(&& is_x86_feature_detected!($feature))+;
                    all.then_some($name(()))
                }

                pub fn run<W: Work>(self, work: W) -> W::Out {
                    #[target_feature(enable = $features)]
                    fn with_features<W: Work>(work: W, tile: $name) -> W::Out {
                        work.work(tile)
                    }
                    // Safety: `found` has seen these features.
                    unsafe { with_features(work, self) }
                }
            }
        };
    }

    /// The registers of an instruction set.
    macro_rules! registers {
        ($lanes:ident) => {
            type Lanes = $lanes;
            #[inline(always)]
            fn splat(self, value: f32) -> $lanes {
                // Safety: `self` was made by `found` (here and below).
                unsafe { $lanes::splat(value) }
            }
            #[inline(always)]
            fn load(self, values: &[f32; LANES]) -> $lanes {
                unsafe { $lanes::load(values) }
            }
            #[inline(always)]
            fn whole(self, values: &[i32; LANES]) -> $lanes {
                unsafe { $lanes::whole(values) }
            }
        };
    }

    instruction_set!(
        Avx512,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
        ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"]
    );
    instruction_set!(AvxVnni, "avx2,avxvnni", ["avx2", "avxvnni"]);
    instruction_set!(Avx2, "avx2", ["avx2"]);

    impl Tile for Avx512 {
        registers!(Lanes512);
        #[inline(always)]
        fn sums(
            self,
            rows: &Rows<'_>,
            first: usize,
            (panel, width): (&[i8], usize),
            sums: &mut Sums,
        ) {
            check(rows, panel, width);
            // Safety: `check` and `Rows::new` bound all reads; the type is used where the CPU fits.
            unsafe {
                match width / LANES {
                    1 => avx512::<1>(rows, rows.six(first), panel.as_ptr(), sums),
                    2 => avx512::<2>(rows, rows.six(first), panel.as_ptr(), sums),
                    3 => avx512::<3>(rows, rows.six(first), panel.as_ptr(), sums),
                    _ => avx512::<4>(rows, rows.six(first), panel.as_ptr(), sums),
                }
            }
        }
    }

    impl Tile for AvxVnni {
        registers!(Lanes256);
        #[inline(always)]
        fn sums(
            self,
            rows: &Rows<'_>,
            first: usize,
            (panel, width): (&[i8], usize),
            sums: &mut Sums,
        ) {
            check(rows, panel, width);
            // Safety: as above.
            unsafe { avx_vnni(rows, rows.six(first), (panel.as_ptr(), width), sums) }
        }
    }

    impl Tile for Avx2 {
        registers!(Lanes256);
        #[inline(always)]
        fn sums(
            self,
            rows: &Rows<'_>,
            first: usize,
            (panel, width): (&[i8], usize),
            sums: &mut Sums,
        ) {
            check(rows, panel, width);
            // Safety: as above.
            unsafe { avx2(rows, rows.six(first), (panel.as_ptr(), width), sums) }
        }
    }

    /// Four bytes of a row, wherever they stand.
    ///
    /// # Safety
    /// Four bytes can be read at `at`.
    #[inline(always)]
    unsafe fn four(at: *const u8) -> i32 {
        unsafe { at.cast::<i32>().read_unaligned() }
    }

    /// # Safety
    /// The CPU has the features; rows and panel were checked; the panel has `V` vectors.
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn avx512<const V: usize>(
        rows: &Rows<'_>,
        offsets: [usize; ROWS],
        mut panel: *const i8,
        sums: &mut Sums,
    ) {
        let mut held = [[_mm512_setzero_si512(); V]; ROWS];
        for segment in 0..rows.segments {
            for k in (0..rows.length).step_by(GROUP) {
                // Safety: `offset + segment * stride + k + 4` lies inside the data, and the panel
                // holds V vectors for each group of a row.
                unsafe {
                    let mut weights = [_mm512_setzero_si512(); V];
                    for (j, weights) in weights.iter_mut().enumerate() {
                        *weights = _mm512_loadu_si512(panel.add(j * 64).cast());
                    }
                    panel = panel.add(V * 64);
                    let data = rows.data.as_ptr().add(segment * rows.stride + k);
                    for (held, offset) in held.iter_mut().zip(offsets) {
                        let bytes = _mm512_set1_epi32(four(data.add(offset)));
                        for (held, weights) in held.iter_mut().zip(weights) {
                            *held = _mm512_dpbusd_epi32(*held, bytes, weights);
                        }
                    }
                }
            }
        }
        for (sums, held) in sums.iter_mut().zip(held) {
            for (sums, held) in sums.chunks_exact_mut(LANES).zip(held) {
                // Safety: sixteen integers stand there.
                unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), held) }
            }
        }
    }

    /// # Safety
    /// The CPU has the features; rows and panel were checked.
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn avx_vnni(
        rows: &Rows<'_>,
        offsets: [usize; ROWS],
        (panel, width): (*const i8, usize),
        sums: &mut Sums,
    ) {
        for column in (0..width).step_by(LANES) {
            let mut held = [[_mm256_setzero_si256(); 2]; ROWS];
            // Safety: as in `avx512`; a group of the panel is `width * 4` bytes.
            unsafe {
                let mut weights = panel.add(column * GROUP);
                for segment in 0..rows.segments {
                    for k in (0..rows.length).step_by(GROUP) {
                        let left = _mm256_loadu_si256(weights.cast());
                        let right = _mm256_loadu_si256(weights.add(32).cast());
                        weights = weights.wrapping_add(width * GROUP);
                        let data = rows.data.as_ptr().add(segment * rows.stride + k);
                        for (held, offset) in held.iter_mut().zip(offsets) {
                            let bytes = _mm256_set1_epi32(four(data.add(offset)));
                            held[0] = _mm256_dpbusd_avx_epi32(held[0], bytes, left);
                            held[1] = _mm256_dpbusd_avx_epi32(held[1], bytes, right);
                        }
                    }
                }
                for (sums, held) in sums.iter_mut().zip(held) {
                    let place = sums.as_mut_ptr().add(column);
                    _mm256_storeu_si256(place.cast(), held[0]);
                    _mm256_storeu_si256(place.add(8).cast(), held[1]);
                }
            }
        }
    }

    /// # Safety
    /// The CPU has the features; rows and panel were checked.
    #[target_feature(enable = "avx2")]
    unsafe fn avx2(
        rows: &Rows<'_>,
        offsets: [usize; ROWS],
        (panel, width): (*const i8, usize),
        sums: &mut Sums,
    ) {
        for column in (0..width.min(MOST_COLUMNS)).step_by(8) {
            let mut held = [[_mm256_setzero_si256(); 2]; ROWS];
            // Safety: as in `avx512`; a group of the panel is `width * 4` bytes.
            unsafe {
                let mut weights = panel.add(column * GROUP);
                for segment in 0..rows.segments {
                    for k in (0..rows.length).step_by(GROUP) {
                        let left = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.cast()));
                        let right = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(16).cast()));
                        weights = weights.wrapping_add(width * GROUP);
                        let data = rows.data.as_ptr().add(segment * rows.stride + k);
                        for (held, offset) in held.iter_mut().zip(offsets) {
                            let bytes = _mm_set1_epi32(four(data.add(offset)));
                            let bytes = _mm256_cvtepu8_epi16(bytes);
                            held[0] = _mm256_add_epi32(held[0], _mm256_madd_epi16(bytes, left));
                            held[1] = _mm256_add_epi32(held[1], _mm256_madd_epi16(bytes, right));
                        }
                    }
                }
                for (sums, held) in sums.iter_mut().zip(held) {
                    // Each column stands in two halves; adding neighbours leaves 0 1 4 5 2 3 6 7.
                    let added = _mm256_hadd_epi32(held[0], held[1]);
                    let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(added);
                    _mm256_storeu_si256(sums.as_mut_ptr().add(column).cast(), ordered);
                }
            }
        }
    }
}
