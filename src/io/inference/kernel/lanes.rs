//! Sixteen real numbers side by side, in the registers of each instruction set. Only operations that
//! every set rounds alike: no fused multiply-add, so that all give the same bits.
//!
//! What a stranger gets wrong: lanes can only be made with an instruction set's token (`Tile`), so
//! whoever holds some may use the instructions. That is the reason for all the unsafe blocks here.

#![allow(unsafe_code)]

use std::ops::{Add, Mul, Sub};

use super::tiles::LANES;

/// Sixteen real numbers.
pub trait Lanes: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// Writes them down.
    fn store(self, out: &mut [f32; LANES]);
    /// The lower of each pair; the other's where one is not a number.
    fn low(self, other: Self) -> Self;
    /// The higher of each pair; the other's where one is not a number.
    fn high(self, other: Self) -> Self;
    /// Without sign.
    fn size(self) -> Self;
    /// The lowest byte of each number's bits.
    fn bytes(self) -> [u8; LANES];
    /// The bits of each number plus the other's bits shifted into the exponent.
    fn raise(self, power: Self) -> Self;
}

/// On any machine.
#[derive(Clone, Copy)]
pub struct Plain(pub [f32; LANES]);

impl Plain {
    #[inline(always)]
    fn each(self, other: Plain, operation: impl Fn(f32, f32) -> f32) -> Plain {
        let mut out = self.0;
        for (out, other) in out.iter_mut().zip(other.0) {
            *out = operation(*out, other);
        }
        Plain(out)
    }
}

macro_rules! plain_operation {
    ($name:ident, $method:ident, $operation:tt) => {
        impl $name for Plain {
            type Output = Plain;
            #[inline(always)]
            fn $method(self, other: Plain) -> Plain {
                self.each(other, |a, b| a $operation b)
            }
        }
    };
}
plain_operation!(Add, add, +);
plain_operation!(Sub, sub, -);
plain_operation!(Mul, mul, *);

impl Lanes for Plain {
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES]) {
        *out = self.0;
    }
    #[inline(always)]
    fn low(self, other: Plain) -> Plain {
        self.each(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn high(self, other: Plain) -> Plain {
        self.each(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn size(self) -> Plain {
        Plain(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn bytes(self) -> [u8; LANES] {
        self.0.map(|value| value.to_bits() as u8)
    }
    #[inline(always)]
    fn raise(self, power: Plain) -> Plain {
        self.each(power, |a, b| f32::from_bits(a.to_bits().wrapping_add(b.to_bits() << 23)))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Lanes256, Lanes512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::ops::{Add, Mul, Sub};

    use super::{LANES, Lanes};

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub struct Lanes512(__m512);

    impl Lanes512 {
        /// # Safety
        /// The CPU has AVX-512F.
        #[inline(always)]
        pub unsafe fn splat(value: f32) -> Lanes512 {
            unsafe { Lanes512(_mm512_set1_ps(value)) }
        }
        /// # Safety
        /// The CPU has AVX-512F.
        #[inline(always)]
        pub unsafe fn load(values: &[f32; LANES]) -> Lanes512 {
            unsafe { Lanes512(_mm512_loadu_ps(values.as_ptr())) }
        }
        /// # Safety
        /// The CPU has AVX-512F.
        #[inline(always)]
        pub unsafe fn whole(values: &[i32; LANES]) -> Lanes512 {
            unsafe { Lanes512(_mm512_cvtepi32_ps(_mm512_loadu_si512(values.as_ptr().cast()))) }
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub struct Lanes256(__m256, __m256);

    impl Lanes256 {
        /// # Safety
        /// The CPU has AVX2.
        #[inline(always)]
        pub unsafe fn splat(value: f32) -> Lanes256 {
            unsafe { Lanes256(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        /// # Safety
        /// The CPU has AVX2.
        #[inline(always)]
        pub unsafe fn load(values: &[f32; LANES]) -> Lanes256 {
            let at = values.as_ptr();
            unsafe { Lanes256(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
        }
        /// # Safety
        /// The CPU has AVX2.
        #[inline(always)]
        pub unsafe fn whole(values: &[i32; LANES]) -> Lanes256 {
            let at: *const __m256i = values.as_ptr().cast();
            unsafe {
                let (left, right) = (_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1)));
                Lanes256(_mm256_cvtepi32_ps(left), _mm256_cvtepi32_ps(right))
            }
        }
    }

    macro_rules! operation {
        ($name:ident, $method:ident, $wide:ident, $narrow:ident) => {
            impl $name for Lanes512 {
                type Output = Lanes512;
                #[inline(always)]
                fn $method(self, other: Lanes512) -> Lanes512 {
                    // Safety: who holds lanes holds the token of their instruction set.
                    unsafe { Lanes512($wide(self.0, other.0)) }
                }
            }
            impl $name for Lanes256 {
                type Output = Lanes256;
                #[inline(always)]
                fn $method(self, other: Lanes256) -> Lanes256 {
                    // Safety: as above.
                    unsafe { Lanes256($narrow(self.0, other.0), $narrow(self.1, other.1)) }
                }
            }
        };
    }
    operation!(Add, add, _mm512_add_ps, _mm256_add_ps);
    operation!(Sub, sub, _mm512_sub_ps, _mm256_sub_ps);
    operation!(Mul, mul, _mm512_mul_ps, _mm256_mul_ps);

    impl Lanes for Lanes512 {
        #[inline(always)]
        fn store(self, out: &mut [f32; LANES]) {
            // Safety: sixteen numbers stand there; the token was held (here and below).
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn low(self, other: Lanes512) -> Lanes512 {
            unsafe { Lanes512(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn high(self, other: Lanes512) -> Lanes512 {
            unsafe { Lanes512(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn size(self) -> Lanes512 {
            unsafe { Lanes512(_mm512_abs_ps(self.0)) }
        }
        #[inline(always)]
        fn bytes(self) -> [u8; LANES] {
            let mut out = [0; LANES];
            unsafe {
                let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0));
                _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
            }
            out
        }
        #[inline(always)]
        fn raise(self, power: Lanes512) -> Lanes512 {
            unsafe {
                let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(power.0));
                let raised = _mm512_add_epi32(_mm512_castps_si512(self.0), shifted);
                Lanes512(_mm512_castsi512_ps(raised))
            }
        }
    }

    #[inline(always)]
    unsafe fn raise_half(value: __m256, power: __m256) -> __m256 {
        unsafe {
            let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(power));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), shifted))
        }
    }

    impl Lanes for Lanes256 {
        #[inline(always)]
        fn store(self, out: &mut [f32; LANES]) {
            // Safety: sixteen numbers stand there; the token was held (here and below).
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), self.0);
                _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
            }
        }
        #[inline(always)]
        fn low(self, other: Lanes256) -> Lanes256 {
            unsafe { Lanes256(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn high(self, other: Lanes256) -> Lanes256 {
            unsafe { Lanes256(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn size(self) -> Lanes256 {
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                Lanes256(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
            }
        }
        #[inline(always)]
        fn bytes(self) -> [u8; LANES] {
            let mut out = [0; LANES];
            unsafe {
                let lowest = _mm256_set1_epi32(0xff);
                let left = _mm256_and_si256(_mm256_castps_si256(self.0), lowest);
                let right = _mm256_and_si256(_mm256_castps_si256(self.1), lowest);
                // Packing works in halves of 128 bits: 0-3 8-11 4-7 12-15, put in order afterwards.
                let words = _mm256_packus_epi32(left, right);
                let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
                let (low, high) =
                    (_mm256_castsi256_si128(ordered), _mm256_extracti128_si256::<1>(ordered));
                _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
            }
            out
        }
        #[inline(always)]
        fn raise(self, power: Lanes256) -> Lanes256 {
            unsafe { Lanes256(raise_half(self.0, power.0), raise_half(self.1, power.1)) }
        }
    }
}
