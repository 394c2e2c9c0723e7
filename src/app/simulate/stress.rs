//! How much of its patience a breaker has used: our own model of its trip curve, the same for every
//! simulated run.
//!
//! What a stranger gets wrong: 1.0 is a trip, not a limit. The figure falls again below the rated
//! current, with a time constant of ten minutes, as a bimetal cools.

/// Points of the curve (IEC 60898-1): holds 1.13 In for an hour, trips within a second at 2.55 In.
const HOLDS: (f64, f64) = (1.13, 3600.0);
const TRIPS: (f64, f64) = (2.55, 1.0);
/// Above this multiple the magnetic part acts.
const MAGNETIC: f64 = 5.0;
const MAGNETIC_S: f64 = 0.1;
/// How fast stress fades below the rated current, s.
const FADES_S: f64 = 600.0;

/// Stress of the breaker of one phase each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stress {
    now: [f64; 3],
    most: f64,
}

impl Stress {
    /// Currents of three phases for `dt` seconds through a breaker rated `rated_a`.
    pub fn carry(&mut self, amps: [f64; 3], rated_a: f64, dt: f64) {
        for (stress, amps) in self.now.iter_mut().zip(amps) {
            let ratio = amps.abs() / rated_a.max(0.1);
            if ratio > 1.0 {
                *stress += dt / shortest_trip_s(ratio);
                self.most = self.most.max(*stress);
            } else if *stress > 0.0 {
                *stress -= *stress * (dt / FADES_S).min(1.0);
            }
        }
    }

    /// The most so far; 1 is a trip.
    #[must_use]
    pub fn most(&self) -> f64 {
        self.most
    }
}

/// Shortest time to a trip at a multiple of the rated current, s: a line between the points in logarithms.
fn shortest_trip_s(ratio: f64) -> f64 {
    if ratio >= MAGNETIC {
        return MAGNETIC_S;
    }
    let slope = (TRIPS.1 / HOLDS.1).ln() / (TRIPS.0 / HOLDS.0).ln();
    (HOLDS.1 * (ratio / HOLDS.0).powf(slope)).max(MAGNETIC_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_goes_through_its_points_and_stress_fades() {
        assert!((shortest_trip_s(1.13) - 3600.0).abs() < 1e-6);
        assert!((shortest_trip_s(2.55) - 1.0).abs() < 1e-9);
        assert_eq!(shortest_trip_s(6.0), MAGNETIC_S);
        let mut stress = Stress::default();
        (0..10).for_each(|_| stress.carry([60.0, 40.0, 0.0], 40.0, 1.0));
        let after_ten = stress.most();
        assert!((0.04..0.06).contains(&after_ten), "{after_ten}: 1.5 In for ten seconds");
        (0..600).for_each(|_| stress.carry([0.0; 3], 40.0, 1.0));
        assert!((stress.now[0] / after_ten - 0.37).abs() < 0.01, "{:?}", stress.now);
        (0..300).for_each(|_| stress.carry([60.0; 3], 40.0, 1.0));
        assert!(stress.most() > 1.0, "1.5 In for five minutes trips");
    }
}
