//! This second's headroom, shared over the tree of circuits: minimum currents are admitted first, in
//! order of right, then everybody admitted rises together in proportion to their weights until a limit
//! is full or a charger has all it wants (weighted max-min fairness, exact): first up to what was
//! promised, then up to what is asked.
//!
//! What a stranger gets wrong: a [`Room`] is what all below it together may draw, not what is left
//! beside what they draw now. So whatever was granted and is not drawn yet stays reserved.

use super::filling::Filling;
use crate::logic::site::{Charger, ChargerSetpoint, Line};
use crate::units::{Amps, PerPhase, Phase, Volts, Watts};

/// What everybody below a node of the tree of circuits may draw together; infinite where nothing bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Current of each phase.
    pub amps: PerPhase<Amps>,
    /// Power of all phases.
    pub power: Watts,
    /// Current of each phase by those that do not load all three alike.
    pub unbalanced: PerPhase<Amps>,
}

impl Room {
    /// Without any bound.
    pub const UNBOUND: Room = Room {
        amps: PerPhase([Amps(f64::INFINITY); 3]),
        power: Watts(f64::INFINITY),
        unbalanced: PerPhase([Amps(f64::INFINITY); 3]),
    };

    /// Bounded on its phases only.
    #[must_use]
    pub fn of_phases(amps: PerPhase<Amps>) -> Room {
        Room { amps, ..Room::UNBOUND }
    }

    /// The most that may still be taken on each of `phases` at once.
    #[must_use]
    pub fn left_on(&self, phases: &[Phase], nominal: Volts) -> Amps {
        let by_power = self.power / nominal * (1.0 / phases.len().max(1) as f64);
        let least = phases.iter().map(|&phase| self.amps.on(phase)).fold(by_power, Amps::min);
        if phases.len() == Phase::ALL.len() {
            return least;
        }
        phases.iter().map(|&phase| self.unbalanced.on(phase)).fold(least, Amps::min)
    }

    /// Takes a current on each phase, of which `unbalanced` says whether it loads the phases alike.
    pub fn take(&mut self, amps: PerPhase<Amps>, nominal: Volts, unbalanced: bool) {
        self.amps = PerPhase::from_fn(|p| self.amps.on(p) - amps.on(p));
        self.power = self.power - amps.total() * nominal;
        if unbalanced {
            self.unbalanced = PerPhase::from_fn(|p| self.unbalanced.on(p) - amps.on(p));
        }
    }
}

/// What one charger asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The charger.
    pub charger: &'a Charger,
    /// The phases that its car uses: the charger's, or fewer.
    pub phases: &'a [Phase],
    /// The rooms that feed it.
    pub rooms: &'a [usize],
    /// The most it may get now; zero if it needs nothing. Not below its minimum otherwise.
    pub most: Amps,
    /// What the plan has promised it: it rises to this before anybody gets what was not promised.
    pub promised: Amps,
    /// Taken from the headroom whatever happens: a device that does not answer is assumed to draw it.
    pub reserved: Amps,
}

impl Claim<'_> {
    /// A current on the phases that the car uses.
    #[must_use]
    pub fn on_grid(&self, amps: Amps) -> PerPhase<Amps> {
        let mut all = PerPhase::all(Amps::ZERO);
        self.phases.iter().for_each(|&phase| all.set(phase, amps));
        all
    }

    /// Whether it loads the phases unlike each other.
    #[must_use]
    pub fn is_unbalanced(&self) -> bool {
        self.phases.len() < Phase::ALL.len()
    }
}

/// What one charger gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The setpoint.
    pub setpoint: ChargerSetpoint,
    /// The room that bound it and its line that is full; nothing if it got all it asked for.
    pub bound: Option<(usize, Line)>,
}

/// Lines of one room: three phases, the power, three unbalanced phases.
const LINES: usize = 7;

/// Shares `rooms` among `claims`, which stand in the order of their right to the minimum current. The
/// result is in the same order, never above `most`, never between zero and the charger's minimum, and
/// rounded down to its step.
#[must_use]
pub fn allocate(rooms: &[Room], nominal: Volts, claims: &[Claim<'_>]) -> Vec<Share> {
    let filling = fill(rooms, nominal, claims);
    let share = |(i, claim): (usize, &Claim<'_>)| {
        let (level, row) = filling.outcome(i);
        let setpoint = level.map_or(ChargerSetpoint::Pause, |amps| {
            ChargerSetpoint::Current(round_down(Amps(amps), claim.charger))
        });
        Share { setpoint, bound: row.map(|row| (row / LINES, line(row % LINES))) }
    };
    claims.iter().enumerate().map(share).collect()
}

fn fill(rooms: &[Room], nominal: Volts, claims: &[Claim<'_>]) -> Filling {
    let uses: Vec<Vec<(usize, f64)>> =
        claims.iter().map(|claim| uses(claim, rooms.len(), nominal)).collect();
    let weights = claims.iter().map(|claim| claim.charger.right.weight.max(0.01)).collect();
    let left: Vec<f64> = rooms.iter().flat_map(lines).collect();
    let mut filling = Filling::new(&left, &uses, weights);
    for (i, claim) in claims.iter().enumerate() {
        if claim.reserved > Amps::ZERO {
            filling.take(i, claim.reserved.get());
        }
    }
    for (i, claim) in claims.iter().enumerate() {
        if claim.most >= claim.charger.min && claim.reserved == Amps::ZERO {
            filling.admit(i, claim.charger.min.get());
        }
    }
    let promised: Vec<f64> = claims.iter().map(|c| c.promised.min(c.most).get()).collect();
    filling.rise(&promised);
    let most: Vec<f64> = claims.iter().map(|c| c.most.get()).collect();
    filling.rise(&most);
    filling
}

fn lines(room: &Room) -> [f64; LINES] {
    let ([l1, l2, l3], [u1, u2, u3]) = (room.amps.0, room.unbalanced.0);
    [l1.get(), l2.get(), l3.get(), room.power.get(), u1.get(), u2.get(), u3.get()]
}

fn line(place: usize) -> Line {
    match place {
        0..=2 => Line::Phase(Phase::ALL[place]),
        3 => Line::Power,
        _ => Line::Unbalance(Phase::ALL[place - 4]),
    }
}

/// Which lines an ampere of a claim takes, and how much of each.
fn uses(claim: &Claim<'_>, rooms: usize, nominal: Volts) -> Vec<(usize, f64)> {
    let mut uses = Vec::with_capacity(claim.rooms.len() * LINES);
    let watts = nominal.get() * claim.phases.len() as f64;
    for &room in claim.rooms.iter().filter(|room| **room < rooms) {
        let base = room * LINES;
        uses.extend(claim.phases.iter().map(|&phase| (base + phase as usize, 1.0)));
        uses.push((base + 3, watts));
        if claim.is_unbalanced() {
            uses.extend(claim.phases.iter().map(|&phase| (base + 4 + phase as usize, 1.0)));
        }
    }
    uses
}

/// Rounded down to the charger's step, not below its minimum.
#[must_use]
pub fn round_down(amps: Amps, charger: &Charger) -> Amps {
    let step = charger.step.get().max(0.01);
    Amps((amps.get() / step + 1e-6).floor() * step).bounded(charger.min, charger.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::{Id, Right};

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
            right: Right::default(),
            switching: None,
            mode: crate::logic::site::ChargingMode::default(),
            falls_back_within: crate::logic::site::FALLS_BACK_WITHIN,
        }
    }

    fn claim(charger: &Charger, most: f64) -> Claim<'_> {
        let phases = &charger.phases;
        let (most, none) = (Amps(most), Amps::ZERO);
        Claim { charger, phases, rooms: &[0], most, reserved: none, promised: none }
    }

    const NOMINAL: Volts = Volts(230.0);

    fn share<const N: usize>(rooms: [[f64; 3]; N], claims: &[Claim<'_>]) -> Vec<Share> {
        let rooms = rooms.map(|amps| Room::of_phases(PerPhase(amps.map(Amps))));
        allocate(&rooms, NOMINAL, claims)
    }

    fn amps(available: [f64; 3], chargers: &[(&Charger, f64)]) -> Vec<f64> {
        let claims: Vec<Claim<'_>> =
            chargers.iter().map(|&(charger, most)| claim(charger, most)).collect();
        let shares = share([available], &claims);
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
        let shares = share([[30.0; 3]], &claims);
        assert_eq!(shares[1].setpoint, ChargerSetpoint::Current(Amps(14.0)));
    }

    #[test]
    fn a_promise_comes_before_a_guest_but_a_guest_keeps_its_minimum() {
        let a = charger(&Phase::ALL);
        let claims = [claim(&a, 32.0), Claim { promised: Amps(20.0), ..claim(&a, 24.0) }];
        let told = |amps: f64| {
            let shares = share([[amps; 3]], &claims);
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
        let shares = share([[20.0, 25.0, 0.0]], &claims);
        let told: Vec<f64> = shares.iter().map(|s| s.setpoint.amps().get()).collect();
        assert_eq!(told, [20.0, 25.0]);
    }

    #[test]
    fn what_binds_is_named_with_its_room_and_its_line() {
        let (three, l3) = (charger(&Phase::ALL), charger(&[Phase::L3]));
        let wide = Room::of_phases(PerPhase::all(Amps(40.0)));
        let narrow = Room { amps: PerPhase([40.0, 12.0, 40.0].map(Amps)), ..wide };
        let weak = Room { power: Watts(6_900.0), ..wide };
        let uneven = Room { unbalanced: PerPhase([7.0, 8.0, 9.0].map(Amps)), ..wide };
        for (rooms, charger, told, bound) in [
            ([wide, narrow], &three, 12.0, Some((1, Line::Phase(Phase::L2)))),
            ([narrow, wide], &three, 12.0, Some((0, Line::Phase(Phase::L2)))),
            ([wide, weak], &three, 10.0, Some((1, Line::Power))),
            ([wide, uneven], &l3, 9.0, Some((1, Line::Unbalance(Phase::L3)))),
            ([wide, uneven], &three, 32.0, None),
        ] {
            // A room that there is not bounds nobody.
            let claims = [Claim { rooms: &[0, 1, 2], ..claim(charger, 32.0) }];
            let share = allocate(&rooms, NOMINAL, &claims).remove(0);
            assert_eq!(share.setpoint, ChargerSetpoint::Current(Amps(told)), "{bound:?}");
            assert_eq!(share.bound, bound);
        }
    }

    #[test]
    fn what_is_taken_is_missing_on_its_lines_and_nowhere_else() {
        let mut room = Room {
            amps: PerPhase([30.0, 20.0, 10.0].map(Amps)),
            power: Watts(10_000.0),
            unbalanced: PerPhase([9.0, 8.0, 7.0].map(Amps)),
        };
        let taken = PerPhase([5.0, 0.0, 1.0].map(Amps));
        room.take(taken, NOMINAL, false);
        assert_eq!(room.amps, PerPhase([25.0, 20.0, 9.0].map(Amps)));
        assert_eq!(room.power, Watts(10_000.0 - 6.0 * 230.0));
        assert_eq!(room.unbalanced, PerPhase([9.0, 8.0, 7.0].map(Amps)));
        room.take(taken, NOMINAL, true);
        assert_eq!(room.unbalanced, PerPhase([4.0, 8.0, 6.0].map(Amps)));
    }

    #[test]
    fn what_is_left_is_the_least_of_phases_power_and_unbalance() {
        let room = |power: f64, unbalanced: f64| Room {
            amps: PerPhase([30.0, 20.0, 10.0].map(Amps)),
            power: Watts(power),
            unbalanced: PerPhase::all(Amps(unbalanced)),
        };
        let (one, three) = (&[Phase::L1][..], &Phase::ALL[..]);
        for (what, room, phases, left) in [
            ("the fullest phase", room(1e6, 100.0), three, 10.0),
            ("its own phase", room(1e6, 100.0), one, 30.0),
            ("power, on three phases", room(6_900.0 * 0.9, 100.0), three, 9.0),
            ("power, on one", room(2_300.0, 100.0), one, 10.0),
            ("unbalance binds who is not balanced", room(1e6, 4.0), one, 4.0),
            ("and nobody else", room(1e6, 4.0), three, 10.0),
        ] {
            let found = room.left_on(phases, NOMINAL).get();
            assert!((found - left).abs() < 1e-9, "{what}: {found}");
        }
    }
}
