//! Electrical quantities as small newtypes over `f64`, and values per phase.
//!
//! What a stranger gets wrong: a [`PerPhase`] of amperes is signed like the grid (import positive);
//! a charger that loads only L2 has zeros on L1 and L3, not missing values.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: $name = $name(0.0);

            /// The bare number, in the unit of the type.
            #[must_use]
            pub fn get(self) -> f64 {
                self.0
            }

            /// The smaller of the two.
            #[must_use]
            pub fn min(self, other: $name) -> $name {
                $name(self.0.min(other.0))
            }

            /// The larger of the two.
            #[must_use]
            pub fn max(self, other: $name) -> $name {
                $name(self.0.max(other.0))
            }

            /// Bounded to `low..=high`; `low` wins where the two cross.
            #[must_use]
            pub fn bounded(self, low: $name, high: $name) -> $name {
                self.min(high).max(low)
            }

            /// Distance from zero.
            #[must_use]
            pub fn abs(self) -> $name {
                $name(self.0.abs())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:.1} {}", self.0, $unit)
            }
        }

        impl Add for $name {
            type Output = $name;
            fn add(self, other: $name) -> $name {
                $name(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: $name) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = $name;
            fn sub(self, other: $name) -> $name {
                $name(self.0 - other.0)
            }
        }
        impl Neg for $name {
            type Output = $name;
            fn neg(self) -> $name {
                $name(-self.0)
            }
        }
        impl Mul<f64> for $name {
            type Output = $name;
            fn mul(self, factor: f64) -> $name {
                $name(self.0 * factor)
            }
        }
        impl Div<f64> for $name {
            type Output = $name;
            fn div(self, divisor: f64) -> $name {
                $name(self.0 / divisor)
            }
        }
        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = $name>>(values: I) -> $name {
                values.fold($name::ZERO, Add::add)
            }
        }
    };
}

quantity!(
    /// Active power in watts.
    Watts, "W"
);
quantity!(
    /// Current in amperes (RMS), signed like the power it carries.
    Amps, "A"
);
quantity!(
    /// Voltage in volts (RMS), phase to neutral.
    Volts, "V"
);
quantity!(
    /// Energy in watt-hours.
    WattHours, "Wh"
);
quantity!(
    /// Frequency in hertz.
    Hertz, "Hz"
);

impl Mul<Volts> for Amps {
    type Output = Watts;
    fn mul(self, volts: Volts) -> Watts {
        Watts(self.0 * volts.0)
    }
}

impl Div<Volts> for Watts {
    type Output = Amps;
    fn div(self, volts: Volts) -> Amps {
        Amps(self.0 / volts.0)
    }
}

/// State of charge, 0 (empty) to 1 (full).
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Soc(f64);

impl Soc {
    /// From a ratio; values outside 0..=1 are bounded, not-a-number is refused.
    #[must_use]
    pub fn from_ratio(ratio: f64) -> Option<Soc> {
        ratio.is_finite().then(|| Soc(ratio.clamp(0.0, 1.0)))
    }

    /// 0 to 1.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.0
    }

    /// 0 to 100.
    #[must_use]
    pub fn percent(self) -> f64 {
        self.0 * 100.0
    }
}

/// One of the three phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Phase 1.
    L1,
    /// Phase 2.
    L2,
    /// Phase 3.
    L3,
}

impl Phase {
    /// All three, in order.
    pub const ALL: [Phase; 3] = [Phase::L1, Phase::L2, Phase::L3];

    fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "L{}", self.index() + 1)
    }
}

/// One value for each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerPhase<T>(pub [T; 3]);

impl<T: Copy> PerPhase<T> {
    /// The same value on every phase.
    #[must_use]
    pub fn all(value: T) -> PerPhase<T> {
        PerPhase([value; 3])
    }

    /// Computes each phase's value from the phase.
    #[must_use]
    pub fn from_fn(f: impl FnMut(Phase) -> T) -> PerPhase<T> {
        PerPhase(Phase::ALL.map(f))
    }

    /// The value of one phase.
    #[must_use]
    pub fn on(&self, phase: Phase) -> T {
        self.0[phase.index()]
    }

    /// Replaces the value of one phase.
    pub fn set(&mut self, phase: Phase, value: T) {
        self.0[phase.index()] = value;
    }

    /// Phases with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, T)> + '_ {
        Phase::ALL.into_iter().map(|phase| (phase, self.on(phase)))
    }
}

impl<T: Copy + std::iter::Sum> PerPhase<T> {
    /// Sum over the phases.
    #[must_use]
    pub fn total(&self) -> T {
        self.0.iter().copied().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_and_current_convert_by_voltage() {
        assert_eq!(Amps(16.0) * Volts(230.0), Watts(3680.0));
        assert_eq!(Watts(3680.0) / Volts(230.0), Amps(16.0));
    }

    #[test]
    fn soc_refuses_nan_and_bounds_the_rest() {
        assert_eq!(Soc::from_ratio(f64::NAN), None);
        assert_eq!(Soc::from_ratio(25.0).map(Soc::ratio), Some(1.0));
        assert_eq!(Soc::from_ratio(-0.1).map(Soc::percent), Some(0.0));
    }

    #[test]
    fn bounded_lets_the_lower_bound_win() {
        assert_eq!(Amps(10.0).bounded(Amps(6.0), Amps(4.0)), Amps(6.0));
    }
}
