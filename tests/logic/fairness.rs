//! Allocation against an independent solver: plain progressive filling, the water level found by
//! bisection, every limit checked by adding up. And what no allocation may ever do.

use wattgate::logic::energy::{Claim, Room, Share, allocate};
use wattgate::logic::site::{Charger, Line, Right};
use wattgate::units::{Amps, PerPhase, Phase, Volts, Watts};

use crate::bench::{id, site};

const NOMINAL: Volts = Volts(230.0);
const STEP: f64 = 0.01;

/// A site of three levels: the grid connection, its circuits, theirs; and who hangs where.
struct Puzzle {
    rooms: Vec<Room>,
    chargers: Vec<Charger>,
    chains: Vec<Vec<usize>>,
    most: Vec<f64>,
    promised: Vec<f64>,
}

fn puzzle(rng: &mut fastrand::Rng, chargers: usize) -> Puzzle {
    let (middle, low) = (rng.usize(1..5), rng.usize(1..12));
    let each = |rng: &mut fastrand::Rng, scale: f64| {
        let mut room = Room::UNBOUND;
        if rng.u8(0..8) > 0 {
            room.amps = PerPhase::from_fn(|_| Amps(rng.f64() * scale - 3.0));
        }
        if rng.bool() {
            room.power = Watts(rng.f64() * scale * 500.0);
        }
        room
    };
    let all = chargers as f64 * 20.0;
    let mut rooms = vec![each(rng, all)];
    if rng.bool() {
        rooms[0].unbalanced = PerPhase::from_fn(|_| Amps(rng.f64() * all * 0.4));
    }
    rooms.extend((0..middle).map(|_| each(rng, all * 1.5 / middle as f64)));
    rooms.extend((0..low).map(|_| each(rng, all * 2.0 / low as f64)));
    let parents: Vec<usize> = (0..low).map(|_| 1 + rng.usize(0..middle)).collect();
    let mut puzzle =
        Puzzle { rooms, chargers: vec![], chains: vec![], most: vec![], promised: vec![] };
    for i in 0..chargers {
        let phases = match rng.u8(0..6) {
            0 => vec![Phase::L1],
            1 => vec![Phase::L2],
            2 => vec![Phase::L3, Phase::L1],
            _ => Phase::ALL.to_vec(),
        };
        let weight = if rng.bool() { 1.0 } else { 0.1 + 9.9 * rng.f64() };
        let right = Right { priority: 0, weight };
        let name = format!("c{i}");
        let (id, step) = (id(&name), Amps(STEP));
        puzzle.chargers.push(Charger { id, phases, step, right, ..site().chargers[0].clone() });
        let leaf = rng.usize(0..low);
        puzzle.chains.push(match rng.u8(0..4) {
            0 => vec![0],
            1 => vec![parents[leaf], 0],
            _ => vec![1 + middle + leaf, parents[leaf], 0],
        });
        let none = rng.u8(0..8) == 0;
        puzzle.most.push(if none { 0.0 } else { 6.0 + (26.0 * rng.f64()) });
        puzzle.promised.push(if rng.bool() { rng.f64() * 20.0 } else { 0.0 });
    }
    puzzle
}

impl Puzzle {
    fn claims(&self) -> Vec<Claim<'_>> {
        (0..self.chargers.len())
            .map(|i| Claim {
                charger: &self.chargers[i],
                phases: &self.chargers[i].phases,
                rooms: &self.chains[i],
                most: Amps(self.most[i]),
                promised: Amps(self.promised[i]),
                reserved: Amps::ZERO,
            })
            .collect()
    }

    fn shares(&self) -> Vec<Share> {
        allocate(&self.rooms, NOMINAL, &self.claims())
    }

    /// The first limit that `amps` break by more than `by`, by adding up.
    fn broken(&self, amps: &[f64], by: f64) -> Option<(usize, Line)> {
        for (at, room) in self.rooms.iter().enumerate() {
            let below = || (0..amps.len()).filter(|i| self.chains[*i].contains(&at));
            for phase in Phase::ALL {
                let on = || below().filter(|i| self.chargers[*i].phases.contains(&phase));
                if on().map(|i| amps[i]).sum::<f64>() > room.amps.on(phase).get() + by {
                    return Some((at, Line::Phase(phase)));
                }
                let uneven = on().filter(|i| self.chargers[*i].phases.len() < 3);
                let uneven: f64 = uneven.map(|i| amps[i]).sum();
                if uneven > room.unbalanced.on(phase).get() + by {
                    return Some((at, Line::Unbalance(phase)));
                }
            }
            let watts = |i: usize| amps[i] * 230.0 * self.chargers[i].phases.len() as f64;
            if below().map(watts).sum::<f64>() > room.power.get() + by * 690.0 {
                return Some((at, Line::Power));
            }
        }
        None
    }

    /// Nobody's part in a broken limit: rooms that are short from the start count as zero.
    fn solve(&self) -> Vec<f64> {
        let mut amps = vec![0.0; self.chargers.len()];
        let mut admitted = vec![false; amps.len()];
        for i in 0..amps.len() {
            if self.most[i] < 6.0 {
                continue;
            }
            amps[i] = 6.0;
            admitted[i] = !self.touches_broken(&amps, i);
            if !admitted[i] {
                amps[i] = 0.0;
            }
        }
        let promised: Vec<f64> =
            self.promised.iter().zip(&self.most).map(|(a, b)| a.min(*b)).collect();
        self.level(&mut amps, &admitted, &promised);
        self.level(&mut amps, &admitted, &self.most);
        amps
    }

    /// Whether any limit that charger `i` counts in is broken.
    fn touches_broken(&self, amps: &[f64], i: usize) -> bool {
        let mut own = Puzzle {
            rooms: self.rooms.clone(),
            chargers: self.chargers.clone(),
            chains: self.chains.clone(),
            most: Vec::new(),
            promised: Vec::new(),
        };
        for (at, room) in own.rooms.iter_mut().enumerate() {
            if !self.chains[i].contains(&at) {
                *room = Room::UNBOUND;
            }
            for phase in Phase::ALL {
                if !self.chargers[i].phases.contains(&phase) {
                    room.amps.set(phase, Amps(f64::INFINITY));
                }
                if !self.chargers[i].phases.contains(&phase) || self.chargers[i].phases.len() == 3 {
                    room.unbalanced.set(phase, Amps(f64::INFINITY));
                }
            }
        }
        own.broken(amps, 1e-7).is_some()
    }

    fn level(&self, amps: &mut [f64], admitted: &[bool], enough: &[f64]) {
        let start = amps.to_vec();
        let mut open: Vec<usize> =
            (0..amps.len()).filter(|i| admitted[*i] && amps[*i] < enough[*i]).collect();
        while !open.is_empty() {
            let weight = |i: usize| self.chargers[i].right.weight;
            let at = |water: f64| {
                let mut trial = amps.to_vec();
                open.iter().for_each(|&i| {
                    trial[i] = (water * weight(i)).clamp(start[i], enough[i].max(start[i]));
                });
                trial
            };
            // Limits that are broken before anybody rises bind nobody who rises: only what gets worse counts.
            let fits = |water: f64| {
                let trial = at(water);
                !open.iter().any(|&i| trial[i] > amps[i] + 1e-12 && self.touches_broken(&trial, i))
            };
            let (mut low, mut high) = (0.0, 400.0);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if fits(middle) { low = middle } else { high = middle }
            }
            let reached = at(low);
            amps.copy_from_slice(&reached);
            let before = open.len();
            open.retain(|&i| {
                let mut more = reached.clone();
                more[i] += 1e-5;
                reached[i] + 1e-9 < enough[i] && !self.touches_broken(&more, i)
            });
            if open.len() == before {
                return;
            }
        }
    }
}

#[test]
fn shares_are_those_of_an_independent_solver() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let chargers = rng.usize(1..26);
        let puzzle = puzzle(&mut rng, chargers);
        let shares = puzzle.shares();
        for (i, (share, solved)) in shares.iter().zip(puzzle.solve()).enumerate() {
            let got = share.setpoint.amps().get();
            let near = got <= solved + 2e-4 && got >= solved - STEP - 2e-4;
            assert!(near, "seed {seed}: charger {i} of {chargers} got {got}, not {solved}");
        }
    }
}

#[test]
fn no_limit_is_ever_passed_and_every_bound_is_named() {
    for seed in 1_000..3_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let chargers = rng.usize(1..100);
        let puzzle = puzzle(&mut rng, chargers);
        let shares = puzzle.shares();
        let amps: Vec<f64> = shares.iter().map(|share| share.setpoint.amps().get()).collect();
        for (i, share) in shares.iter().enumerate() {
            let (got, most) = (amps[i], puzzle.most[i]);
            assert!(got <= most + 1e-6, "seed {seed}: charger {i} got {got} of {most}");
            assert!(got == 0.0 || got >= 6.0, "seed {seed}: charger {i} got {got}");
            let short = most >= 6.0 && got + STEP + 1e-6 < most;
            let named = share.bound.is_some();
            assert!(named || !short, "seed {seed}: charger {i} is bound by nothing: {share:?}");
            assert!(got < most || !named, "seed {seed}: charger {i} has all it wants: {share:?}");
            let broken = got > 0.0 && puzzle.touches_broken(&amps, i);
            assert!(!broken, "seed {seed}: charger {i} is above a limit");
        }
    }
}
