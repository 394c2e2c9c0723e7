//! This second's headroom, shared per phase: minimum currents are admitted first, in order, then
//! everybody admitted rises together until a phase is full or a charger has all it wants (max-min
//! fairness by progressive filling): first up to what was promised, then up to what is asked.
//!
//! What a stranger gets wrong: `available` is what all chargers together may draw, not what is left
//! beside what they draw now. So whatever was granted and is not drawn yet stays reserved.

use crate::logic::site::{Charger, ChargerSetpoint, Reason};
use crate::units::{Amps, PerPhase, Phase};

/// What one charger asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The charger.
    pub charger: &'a Charger,
    /// The phases that its car uses: the charger's, or fewer.
    pub phases: &'a [Phase],
    /// The most it may get now; zero if it needs nothing. Not below its minimum otherwise.
    pub most: Amps,
    /// What the plan has promised it: it rises to this before anybody gets what was not promised.
    pub promised: Amps,
    /// Taken from the headroom whatever happens: a device that does not answer is assumed to draw it.
    pub reserved: Amps,
}

/// What one charger gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The setpoint.
    pub setpoint: ChargerSetpoint,
    /// What bound it; nothing if it got all it asked for.
    pub bound: Option<Reason>,
}

/// Shares `available` (the current that all chargers together may draw, each phase) among `claims`,
/// which stand in the order of their right to the minimum current. The result is in the same order,
/// never above `most`, never between zero and the charger's minimum, and rounded down to its step.
#[must_use]
pub fn allocate(available: PerPhase<Amps>, claims: &[Claim<'_>]) -> Vec<Share> {
    let mut left = available;
    for claim in claims {
        take(&mut left, claim.phases, claim.reserved);
    }
    let mut level: Vec<Option<Amps>> = Vec::with_capacity(claims.len());
    let mut bound: Vec<Option<Reason>> = vec![None; claims.len()];
    for (claim, bound) in claims.iter().zip(&mut bound) {
        let asks = claim.most >= claim.charger.min && claim.reserved == Amps::ZERO;
        let full = fullest(&left, claim.phases);
        if asks && full.1 >= claim.charger.min {
            take(&mut left, claim.phases, claim.charger.min);
            level.push(Some(claim.charger.min));
        } else {
            *bound = asks.then_some(Reason::BelowMinimum { phase: full.0 });
            level.push(None);
        }
    }
    let promised = |claim: &Claim<'_>| claim.promised.min(claim.most);
    fill(&mut left, claims, promised, (&mut level, &mut bound));
    fill(&mut left, claims, |claim| claim.most, (&mut level, &mut bound));
    let share = |((claim, level), bound): ((&Claim<'_>, Option<Amps>), Option<Reason>)| Share {
        setpoint: level.map_or(ChargerSetpoint::Pause, |amps| {
            ChargerSetpoint::Current(round_down(amps, claim.charger))
        }),
        bound,
    };
    claims.iter().zip(level).zip(bound).map(share).collect()
}

/// Raises the lowest of the admitted chargers together, freezing each when its phase is full or it has
/// `enough`.
fn fill(
    left: &mut PerPhase<Amps>,
    claims: &[Claim<'_>],
    enough: impl Fn(&Claim<'_>) -> Amps,
    (level, bound): (&mut [Option<Amps>], &mut [Option<Reason>]),
) {
    let rises = |&i: &usize| level[i].is_some_and(|amps| amps + EPSILON < enough(&claims[i]));
    let mut rising: Vec<usize> = (0..claims.len()).filter(rises).collect();
    // Each round freezes a charger or lifts one to the level of the next.
    for _ in 0..2 * claims.len() {
        let at = |i: usize| level[i].unwrap_or(Amps::ZERO);
        let low = rising.iter().map(|&i| at(i)).fold(Amps(f64::MAX), Amps::min);
        let lowest: Vec<usize> =
            rising.iter().copied().filter(|&i| at(i) <= low + EPSILON).collect();
        if lowest.is_empty() {
            return;
        }
        let next = rising.iter().map(|&i| at(i)).filter(|level| *level > low + EPSILON);
        let users =
            |phase: Phase| lowest.iter().filter(|&&i| claims[i].phases.contains(&phase)).count();
        let by_phase = left.iter().filter(|(phase, _)| users(*phase) > 0);
        let phase_step = by_phase.map(|(phase, amps)| amps.max(Amps::ZERO) / users(phase) as f64);
        let wishes = lowest.iter().map(|&i| enough(&claims[i]) - at(i));
        let step = phase_step
            .chain(wishes)
            .chain(next.map(|level| level - low))
            .fold(Amps(f64::MAX), Amps::min);
        for &i in &lowest {
            take(left, claims[i].phases, step);
            level[i] = level[i].map(|amps| amps + step);
        }
        rising.retain(|&i| {
            let (phase, amps) = fullest(left, claims[i].phases);
            let has = level[i].is_none_or(|level| level + EPSILON >= enough(&claims[i]));
            if !has && amps <= EPSILON {
                bound[i] = Some(Reason::GridLimit { phase });
            }
            !has && amps > EPSILON
        });
    }
}

/// Far below the resolution of any charger; absorbs rounding of the sums.
const EPSILON: Amps = Amps(1e-9);

fn take(left: &mut PerPhase<Amps>, phases: &[Phase], amps: Amps) {
    for &phase in phases {
        left.set(phase, left.on(phase) - amps);
    }
}

/// The phase with the least left, and how much that is.
fn fullest(left: &PerPhase<Amps>, phases: &[Phase]) -> (Phase, Amps) {
    let mut least = (Phase::L1, Amps(f64::MAX));
    for &phase in phases {
        if left.on(phase) < least.1 {
            least = (phase, left.on(phase));
        }
    }
    least
}

/// Rounded down to the charger's step, not below its minimum.
fn round_down(amps: Amps, charger: &Charger) -> Amps {
    let step = charger.step.get().max(0.01);
    Amps((amps.get() / step + 1e-6).floor() * step).bounded(charger.min, charger.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;

    fn charger(phases: &[Phase]) -> Charger {
        Charger {
            id: Id::try_from("c").unwrap(),
            name: "c".into(),
            phases: phases.to_vec(),
            min: Amps(6.0),
            max: Amps(32.0),
            failsafe: Amps(6.0),
            step: Amps(1.0),
            stay: None,
        }
    }

    fn claim(charger: &Charger, most: f64) -> Claim<'_> {
        let phases = &charger.phases;
        Claim { charger, phases, most: Amps(most), reserved: Amps::ZERO, promised: Amps::ZERO }
    }

    fn amps(available: [f64; 3], chargers: &[(&Charger, f64)]) -> Vec<f64> {
        let claims: Vec<Claim<'_>> =
            chargers.iter().map(|&(charger, most)| claim(charger, most)).collect();
        let shares = allocate(PerPhase(available.map(Amps)), &claims);
        shares.iter().map(|share| share.setpoint.amps().get()).collect()
    }

    #[test]
    fn shares_are_max_min_fair_per_phase() {
        let three = charger(&Phase::ALL);
        let l1 = charger(&[Phase::L1]);
        let l2 = charger(&[Phase::L2]);
        type Row<'a> = ([f64; 3], Vec<(&'a Charger, f64)>, Vec<f64>);
        let table: [Row<'_>; 7] = [
            ([40.0; 3], vec![(&three, 32.0)], vec![32.0]),
            ([20.0; 3], vec![(&three, 32.0), (&three, 32.0)], vec![10.0, 10.0]),
            ([20.0, 40.0, 40.0], vec![(&three, 32.0), (&l2, 32.0)], vec![20.0, 20.0]),
            ([30.0; 3], vec![(&l1, 8.0), (&l1, 32.0)], vec![8.0, 22.0]),
            ([11.0; 3], vec![(&three, 32.0), (&three, 32.0)], vec![11.0, 0.0]),
            ([5.9; 3], vec![(&three, 32.0)], vec![0.0]),
            ([-3.0; 3], vec![(&three, 32.0), (&l1, 16.0)], vec![0.0, 0.0]),
        ];
        for (available, chargers, expected) in table {
            assert_eq!(amps(available, &chargers), expected, "{available:?}");
        }
    }

    #[test]
    fn what_a_silent_device_may_draw_is_reserved() {
        let a = charger(&Phase::ALL);
        let claims = [Claim { reserved: Amps(16.0), ..claim(&a, 32.0) }, claim(&a, 32.0)];
        let shares = allocate(PerPhase::all(Amps(30.0)), &claims);
        assert_eq!(shares[1].setpoint, ChargerSetpoint::Current(Amps(14.0)));
    }

    #[test]
    fn a_promise_comes_before_a_guest_but_a_guest_keeps_its_minimum() {
        let a = charger(&Phase::ALL);
        let claims = [claim(&a, 32.0), Claim { promised: Amps(20.0), ..claim(&a, 24.0) }];
        let told = |amps: f64| {
            let shares = allocate(PerPhase::all(Amps(amps)), &claims);
            shares.iter().map(|share| share.setpoint.amps().get()).collect::<Vec<f64>>()
        };
        assert_eq!(told(60.0), [32.0, 24.0]);
        assert_eq!(told(40.0), [20.0, 20.0]);
        assert_eq!(told(30.0), [10.0, 20.0]);
        assert_eq!(told(20.0), [6.0, 14.0]);
    }

    #[test]
    fn a_car_on_one_phase_takes_nothing_from_the_others() {
        let a = charger(&Phase::ALL);
        let l2 = charger(&[Phase::L2]);
        let claims = [Claim { phases: &[Phase::L1], ..claim(&a, 32.0) }, claim(&l2, 32.0)];
        let shares = allocate(PerPhase([Amps(20.0), Amps(25.0), Amps(0.0)]), &claims);
        let told: Vec<f64> = shares.iter().map(|s| s.setpoint.amps().get()).collect();
        assert_eq!(told, [20.0, 25.0]);
    }

    #[test]
    fn no_phase_is_ever_overdrawn() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let chargers: Vec<Charger> = (0..rng.usize(1..12))
                .map(|_| match rng.usize(0..4) {
                    0 => charger(&[Phase::L1]),
                    1 => charger(&[Phase::L2]),
                    2 => charger(&[Phase::L2, Phase::L3]),
                    _ => charger(&Phase::ALL),
                })
                .collect();
            let available = PerPhase::from_fn(|_| Amps(rng.f64() * 120.0 - 10.0));
            let claims: Vec<Claim<'_>> = chargers
                .iter()
                .map(|charger| Claim {
                    promised: Amps(rng.f64() * 20.0),
                    ..claim(charger, (rng.f64() * 40.0).min(charger.max.get()))
                })
                .collect();
            let mut left = available;
            for (share, claim) in allocate(available, &claims).iter().zip(&claims) {
                let amps = share.setpoint.amps();
                assert!(amps <= claim.most.max(Amps::ZERO) + EPSILON);
                assert!(amps == Amps::ZERO || amps >= claim.charger.min);
                take(&mut left, claim.phases, amps);
            }
            for (phase, amps) in left.iter() {
                let over = amps < Amps(-1e-6) && available.on(phase) >= Amps::ZERO;
                assert!(!over, "{phase} overdrawn by {amps}");
            }
        }
    }
}
