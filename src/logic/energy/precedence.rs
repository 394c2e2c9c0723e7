//! Among plans that cost the same: whoever is due first charges first, and the battery after the cars.
//!
//! What a stranger gets wrong: nothing of the plan's cost or of what any step draws changes here. Two loads on
//! the same phases only exchange energy between two steps, so that the one with less time has its energy
//! behind it when something does not go as planned. A car is due before it leaves: it charges slower at the
//! end than a plan knows, and one that has until it leaves because it is in a hurry is not the one to wait.

use super::plan::{Group, Member, Session, Store};

/// Less than this is not worth an exchange, kW.
const LEAST_KW: f64 = 0.01;

/// What an exchange must respect of a load.
#[derive(Clone, Copy)]
struct Bounds {
    arrival: i64,
    departure: i64,
    min_kw: f64,
    max_kw: f64,
}

impl From<&Session> for Bounds {
    fn from(session: &Session) -> Bounds {
        let Session { arrival, departure, min_kw, max_kw, .. } = *session;
        Bounds { arrival, departure, min_kw, max_kw }
    }
}

/// What the circuits leave beside the cars on them.
#[derive(Clone, Debug, Default)]
pub struct Circuits {
    /// Those of each car.
    of: Vec<Vec<usize>>,
    /// Left of each in every step, kW.
    left: Vec<Vec<f64>>,
}

impl Circuits {
    /// The circuits of cars that draw so much, one row of kW for each.
    #[must_use]
    pub fn of(groups: &[Group], powers: &[Vec<f64>]) -> Circuits {
        let on = |car: usize, group: &Group| group.members.contains(&Member::Session(car));
        let of = |car| (0..groups.len()).filter(|&g| on(car, &groups[g])).collect();
        let steps = powers.first().map_or(0, Vec::len);
        let mut circuits = Circuits {
            of: (0..powers.len()).map(of).collect(),
            left: groups.iter().map(|group| vec![group.limit_kw; steps]).collect(),
        };
        for (car, row) in powers.iter().enumerate() {
            for &circuit in &circuits.of[car] {
                circuits.left[circuit].iter_mut().zip(row).for_each(|(left, kw)| *left -= kw);
            }
        }
        circuits
    }

    /// Whether two cars hang on the same circuits.
    fn alike(&self, a: usize, b: usize) -> bool {
        self.of.get(a) == self.of.get(b)
    }

    /// Whether a car hangs on a circuit.
    fn bind(&self, car: usize) -> bool {
        self.of.get(car).is_some_and(|mine| !mine.is_empty())
    }

    /// What a car may draw more in a step, kW.
    fn left(&self, car: usize, step: usize) -> f64 {
        let mine = self.of.get(car).into_iter().flatten();
        mine.map(|&circuit| self.left[circuit][step]).fold(f64::INFINITY, f64::min)
    }

    fn shift(&mut self, car: usize, (from, to): (usize, usize), kw: f64) {
        for &circuit in self.of.get(car).into_iter().flatten() {
            self.left[circuit][from] += kw;
            self.left[circuit][to] -= kw;
        }
    }
}

/// Exchanges power between loads so that cars that are due earlier take theirs earlier, and the battery
/// charges after cars on three phases. `powers` is one row of kW for each session, `due` the step by which
/// each should be done (not after its departure), `stored` the battery's (charging positive). The sum of each
/// step and of each circuit in it, the energy of each load, and zero-or-minimum are kept.
pub fn earliest_first(
    (sessions, circuits): (&[Session], &Circuits),
    due: &[i64],
    powers: &mut [Vec<f64>],
    store: Option<(&Store, &mut [f64])>,
) {
    let order = by_due(due, sessions.len().min(powers.len()));
    for (place, &first) in order.iter().enumerate() {
        for &second in &order[place + 1..] {
            let (a, b) = (&sessions[first], &sessions[second]);
            let alike = a.phases == b.phases && circuits.alike(first, second);
            if !alike || due[first] >= due[second] {
                continue;
            }
            if let Ok([mine, other]) = powers.get_disjoint_mut([first, second]) {
                exchange((a.into(), mine), (b.into(), other));
            }
        }
    }
    let Some((store, stored)) = store else { return };
    let bounds = Bounds { arrival: 0, departure: i64::MAX, min_kw: 0.0, max_kw: store.charge_kw };
    // The battery hangs on no circuit: what it gives up a car on one might have no room for.
    let free = |car: &&usize| sessions[**car].phases == [true; 3] && !circuits.bind(**car);
    for &car in order.iter().filter(free) {
        exchange(((&sessions[car]).into(), &mut powers[car]), (bounds, stored));
    }
}

/// Moves the first load's energy from late steps to early ones, and the second's the other way, but not
/// past a step in which the second gives power: it must have what it gives.
fn exchange((a, first): (Bounds, &mut [f64]), (b, second): (Bounds, &mut [f64])) {
    let steps = first.len().min(second.len());
    let from = usize::try_from(a.arrival.max(b.arrival)).unwrap_or(0);
    let until = usize::try_from(a.departure.min(b.departure)).unwrap_or(0).min(steps);
    for early in from..until {
        let gives = |step: &usize| second[*step] < 0.0;
        let end = (early + 1..until).find(gives).unwrap_or(until);
        for late in (early + 1..end).rev() {
            let most = (a.max_kw - first[early])
                .min(first[late])
                .min(second[early])
                .min(b.max_kw - second[late]);
            if most < LEAST_KW {
                continue;
            }
            // All of it, or as much as leaves somebody just at the minimum.
            let candidates = [most, first[late] - a.min_kw, second[early] - b.min_kw].into_iter();
            let legal = |kw: &f64| {
                (LEAST_KW..=most).contains(kw)
                    && may_draw(first[early] + kw, a)
                    && may_draw(first[late] - kw, a)
                    && may_draw(second[early] - kw, b)
                    && may_draw(second[late] + kw, b)
            };
            let Some(kw) = candidates.filter(legal).reduce(f64::max) else {
                continue;
            };
            first[early] += kw;
            first[late] = cleared(first[late] - kw);
            second[early] = cleared(second[early] - kw);
            second[late] += kw;
        }
    }
}

/// The steps of a plan, as far as moving energy between them matters.
#[derive(Debug)]
pub struct Steps<'a> {
    /// Import price of each step, per kWh.
    pub price: &'a [f64],
    /// Import of each step, kW; kept up to date.
    pub grid: &'a mut [f64],
    /// No step is filled beyond this import, kW.
    pub most_kw: f64,
    /// What the circuits leave; kept up to date.
    pub circuits: Circuits,
}

/// Moves each car's energy to earlier steps in which it costs no more and the connection has room, whoever
/// is due first first: what is had early need not be hoped for. Only between steps that import, where a
/// kWh costs the import price whatever else happens.
pub fn early_for_nothing(
    sessions: &[Session],
    due: &[i64],
    powers: &mut [Vec<f64>],
    steps: &mut Steps<'_>,
) {
    for car in by_due(due, sessions.len().min(powers.len())) {
        let (bounds, row) = (Bounds::from(&sessions[car]), &mut powers[car]);
        let from = usize::try_from(bounds.arrival).unwrap_or(0);
        let until = usize::try_from(bounds.departure).unwrap_or(0).min(row.len());
        for early in from..until {
            for late in (early + 1..until).rev() {
                if steps.price[early] > steps.price[late] + 1e-9 || steps.grid[early] < 0.0 {
                    continue;
                }
                let most = (bounds.max_kw - row[early])
                    .min(row[late])
                    .min(steps.grid[late])
                    .min(steps.most_kw - steps.grid[early])
                    .min(steps.circuits.left(car, early));
                let legal = |kw: &f64| {
                    (LEAST_KW..=most).contains(kw)
                        && may_draw(row[early] + kw, bounds)
                        && may_draw(row[late] - kw, bounds)
                };
                let candidates = [most, row[late] - bounds.min_kw].into_iter();
                let Some(kw) = candidates.filter(legal).reduce(f64::max) else {
                    continue;
                };
                row[early] += kw;
                row[late] = cleared(row[late] - kw);
                steps.grid[early] += kw;
                steps.grid[late] -= kw;
                steps.circuits.shift(car, (late, early), kw);
            }
        }
    }
}

/// The first `many` loads, whoever is due first first.
fn by_due(due: &[i64], many: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..many.min(due.len())).collect();
    order.sort_by_key(|&i| due[i]);
    order
}

fn may_draw(kw: f64, load: Bounds) -> bool {
    let tiny = 1e-9;
    kw.abs() <= tiny || (load.min_kw - tiny..=load.max_kw + tiny).contains(&kw)
}

fn cleared(kw: f64) -> f64 {
    if kw.abs() <= 1e-9 { 0.0 } else { kw }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(departure: i64) -> Session {
        Session {
            departure,
            min_kw: 4.0,
            max_kw: 11.0,
            phases: [true; 3],
            efficiency: 1.0,
            ..Session::default()
        }
    }

    fn departures(sessions: &[Session]) -> Vec<i64> {
        sessions.iter().map(|session| session.departure).collect()
    }

    fn check(sessions: &[Session], before: &[Vec<f64>], after: &[Vec<f64>]) {
        for (i, session) in sessions.iter().enumerate() {
            let sum = |rows: &[Vec<f64>]| rows[i].iter().sum::<f64>();
            assert!((sum(before) - sum(after)).abs() < 1e-6, "energy of {i}: {after:?}");
            assert!(after[i].iter().all(|kw| may_draw(*kw, session.into())), "{after:?}");
            let until = usize::try_from(session.departure).unwrap();
            assert!(after[i].iter().skip(until).all(|kw| *kw == 0.0), "{after:?}");
        }
        for step in 0..before[0].len() {
            let sum = |rows: &[Vec<f64>]| rows.iter().map(|row| row[step]).sum::<f64>();
            assert!((sum(before) - sum(after)).abs() < 1e-6, "step {step}: {after:?}");
        }
    }

    #[test]
    fn whoever_leaves_first_charges_first_and_nothing_else_changes() {
        let sessions = [session(4), session(3)];
        let before = [vec![11.0, 11.0, 0.0, 0.0], vec![0.0, 0.0, 11.0, 0.0]];
        let mut after = before.to_vec();
        earliest_first((&sessions, &Circuits::default()), &departures(&sessions), &mut after, None);
        check(&sessions, &before, &after);
        assert_eq!(after[1], [11.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_car_in_a_hurry_comes_before_one_that_is_due_before_it_leaves() {
        // The first leaves in four steps and is due in two; the second leaves, and is due, in three.
        let sessions = [session(4), session(3)];
        let before = [vec![0.0, 0.0, 11.0, 0.0], vec![11.0, 0.0, 0.0, 0.0]];
        let mut after = before.to_vec();
        earliest_first((&sessions, &Circuits::default()), &[2, 3], &mut after, None);
        check(&sessions, &before, &after);
        assert_eq!(after, [before[1].clone(), before[0].clone()]);
        // Nobody is moved past its own departure.
        let before = [vec![0.0, 0.0, 0.0, 11.0], vec![11.0, 0.0, 0.0, 0.0]];
        let mut after = before.to_vec();
        earliest_first((&sessions, &Circuits::default()), &[2, 3], &mut after, None);
        assert_eq!(after, before);
    }

    #[test]
    fn nobody_lands_between_zero_and_the_minimum() {
        for seed in 0..2000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let steps = 8;
            let mut sessions: Vec<Session> = (0..3).map(|_| session(rng.i64(1..=8))).collect();
            sessions[2].phases = [rng.bool(), true, true];
            let row = |s: &Session, rng: &mut fastrand::Rng| -> Vec<f64> {
                let draws = |step: i64, rng: &mut fastrand::Rng| {
                    let on = step < s.departure && rng.bool();
                    if on { 4.0 + rng.f64() * 7.0 } else { 0.0 }
                };
                (0..steps).map(|step| draws(step, rng)).collect()
            };
            let before: Vec<Vec<f64>> = sessions.iter().map(|s| row(s, &mut rng)).collect();
            let mut after = before.clone();
            earliest_first(
                (&sessions, &Circuits::default()),
                &departures(&sessions),
                &mut after,
                None,
            );
            check(&sessions, &before, &after);
        }
    }

    #[test]
    fn cars_on_other_phases_are_left_alone() {
        let mut sessions = [session(4), session(3)];
        sessions[1].phases = [true, false, false];
        let before = [vec![11.0, 11.0, 0.0, 0.0], vec![0.0, 0.0, 11.0, 0.0]];
        let mut after = before.to_vec();
        earliest_first((&sessions, &Circuits::default()), &departures(&sessions), &mut after, None);
        assert_eq!(after, before);
    }

    #[test]
    fn the_battery_charges_after_the_cars_and_not_after_it_gives() {
        let store = Store { charge_kw: 10.0, ..Store::default() };
        let sessions = [session(4)];
        let before = [vec![0.0, 0.0, 11.0, 0.0]];
        let mut after = before.to_vec();
        let mut stored = vec![8.0, 0.0, 0.0, -3.0];
        earliest_first(
            (&sessions, &Circuits::default()),
            &departures(&sessions),
            &mut after,
            Some((&store, &mut stored)),
        );
        assert_eq!(
            (after[0].as_slice(), stored.as_slice()),
            ([7.0, 0.0, 4.0, 0.0].as_slice(), [1.0, 0.0, 7.0, -3.0].as_slice(),)
        );
        let mut after = before.to_vec();
        let mut stored = vec![8.0, -3.0, 0.0, 0.0];
        earliest_first(
            (&sessions, &Circuits::default()),
            &departures(&sessions),
            &mut after,
            Some((&store, &mut stored)),
        );
        assert_eq!(after[0], before[0], "it must have what it gives");
    }

    #[test]
    fn what_costs_the_same_is_had_early_as_far_as_there_is_room() {
        let sessions = [session(4)];
        let mut powers = [vec![0.0, 0.0, 0.0, 11.0]];
        let mut grid = [5.0, 5.0, 5.0, 16.0];
        let price = [2.0, 1.0, 1.0, 1.0];
        let mut steps =
            Steps { price: &price, grid: &mut grid, most_kw: 12.0, circuits: Circuits::default() };
        early_for_nothing(&sessions, &departures(&sessions), &mut powers, &mut steps);
        // The first step is dearer, the second has room for seven.
        assert_eq!(powers[0], [0.0, 7.0, 4.0, 0.0]);
        assert_eq!(grid, [5.0, 12.0, 9.0, 5.0]);
    }

    #[test]
    fn nothing_is_moved_beyond_what_a_circuit_leaves() {
        let sessions = [session(4), session(3), session(4)];
        let circuit = |members: &[usize]| Group {
            limit_kw: 12.0,
            members: members.iter().map(|&car| Member::Session(car)).collect(),
        };
        let before =
            [vec![0.0, 0.0, 0.0, 11.0], vec![5.0, 0.0, 0.0, 0.0], vec![11.0, 0.0, 0.0, 0.0]];
        let mut after = before.to_vec();
        let circuits = Circuits::of(&[circuit(&[0, 1])], &after);
        let mut grid = [16.0, 0.0, 0.0, 11.0];
        let mut steps = Steps { price: &[1.0; 4], grid: &mut grid, most_kw: 40.0, circuits };
        early_for_nothing(&sessions, &departures(&sessions), &mut after, &mut steps);
        // Seven are left beside the second car, and the rest comes next.
        assert_eq!(after[0], [7.0, 4.0, 0.0, 0.0]);
        // Cars of different circuits exchange nothing.
        let mut after = before.to_vec();
        let circuits = Circuits::of(&[circuit(&[0]), circuit(&[2])], &after);
        earliest_first((&sessions, &circuits), &[2, 3, 4], &mut after, None);
        assert_eq!(after, before);
        earliest_first((&sessions, &Circuits::default()), &[2, 3, 4], &mut after, None);
        assert_eq!(after[0], [11.0, 0.0, 0.0, 0.0], "the story needs cars that would");
    }
}
