//! Where a plan stood when it was made, and the plan after a small change that is mended from it: who stays has what
//! it had, who is new finds its place, and the old prices prove how good that is. Owns who is taken for whom, and when
//! a mended plan will do.
//!
//! What a stranger gets wrong: a mended plan is held against its own bound and may be no further from it than the plan
//! that was searched for; what it may be off is not added up from one mending to the next. Where the old prices prove
//! too little it is not lost: the search begins with it, and ends where new prices prove that it will do.

use super::answer::Answer;
use super::fluid::{self, curtail};
use super::ledger::{self, Sheet};
use super::quick;
use super::sieve::{Load, Sound};
use super::{auction, market::Market};

/// Most loads that are new in a plan that is mended.
const MOST_NEW: usize = 4;
/// A need that has changed by no more than this is that of the same load, kWh.
const SAME_KWH: f64 = 1.0;

/// Where a plan stands: its prices, who had what, and how far it is from its bound. The plan after a small change
/// begins there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    step: Vec<f64>,
    rows: Vec<f64>,
    stays: Vec<Stay>,
    store: Vec<f64>,
    /// Above its bound, currency; of the plan that was searched for.
    gap: f64,
}

/// A load and what it had.
#[derive(Clone, Debug, PartialEq)]
struct Stay {
    from: usize,
    to: usize,
    kwh: f64,
    min_kw: f64,
    max_kw: f64,
    /// kWh for a kW and step.
    gain: f64,
    phases: [bool; 3],
    groups: Vec<usize>,
    kw: Vec<f64>,
}

impl Stay {
    fn of(load: &Load, kw: &[f64]) -> Stay {
        let Load { from, to, kwh, min_kw, max_kw, gain, phases, .. } = *load;
        let (groups, kw) = (load.groups.clone(), kw.to_vec());
        Stay { from, to, kwh, min_kw, max_kw, gain, phases, groups, kw }
    }

    /// What is left of it when so many steps are over; nothing where it has left.
    fn later(&self, steps: usize) -> Option<Stay> {
        let over = steps.saturating_sub(self.from);
        if over >= self.to - self.from {
            return None;
        }
        let (had, kw) = self.kw.split_at(over);
        let (from, to) = (self.from.saturating_sub(steps), self.to - steps);
        let kwh = self.kwh - self.gain * had.iter().sum::<f64>();
        Some(Stay { from, to, kwh, kw: kw.to_vec(), groups: self.groups.clone(), ..*self })
    }

    fn is(&self, load: &Load) -> bool {
        (self.from, self.to, self.phases) == (load.from, load.to, load.phases)
            && (self.kwh - load.kwh).abs() <= SAME_KWH
            && self.min_kw == load.min_kw
            && self.max_kw == load.max_kw
            && self.groups == load.groups
    }
}

impl Standing {
    /// Of a plan and the fluid one it follows.
    pub(super) fn of(site: &Sound, sheet: &Sheet, fluid: &Answer) -> Standing {
        let rows = [fluid.phase_price.as_slice(), fluid.group_price.as_slice()].concat();
        let stays = site.loads.iter().zip(&sheet.kw).map(|(load, kw)| Stay::of(load, kw));
        let gap = (sheet.score() - fluid.floor).max(0.0);
        let (step, store) = (fluid.price.clone(), sheet.store.clone());
        Standing { step, rows, stays: stays.collect(), store, gap }
    }

    /// Where it stands when so many of its steps are over and the horizon has moved on: the steps that are new at its end
    /// are taken to be as the first were, since the horizon of a day is the same hour again.
    #[must_use]
    pub fn later(&self, steps: usize) -> Standing {
        let mut later = self.clone();
        let over = steps.min(self.step.len());
        let all = self.step.len().max(1);
        later.step.rotate_left(over);
        later.rows.chunks_exact_mut(all).for_each(|row| row.rotate_left(over));
        if later.store.len() == all {
            later.store.rotate_left(over);
        }
        later.stays = self.stays.iter().filter_map(|stay| stay.later(steps)).collect();
        later
    }

    /// Of a plan that was mended from this one: it is held to the same gap.
    pub(super) fn mended(&self, site: &Sound, sheet: &Sheet, fluid: &Answer) -> Standing {
        Standing { gap: self.gap, ..Standing::of(site, sheet, fluid) }
    }

    /// What the plan that was searched for is above its bound, currency.
    pub(super) fn gap(&self) -> f64 {
        self.gap
    }

    /// Prices of the steps, and of phases and circuits in them.
    pub(super) fn prices(&self) -> (&[f64], &[f64]) {
        (&self.step, &self.rows)
    }

    /// Powers of those who stay, nothing for those who are new, and who these are; nothing where too many are.
    fn powers(&self, site: &Sound) -> Option<(Vec<Vec<f64>>, Vec<usize>)> {
        let (mut free, mut new) = (self.stays.iter().collect::<Vec<&Stay>>(), Vec::new());
        let mut powers = Vec::with_capacity(site.loads.len());
        // Loads come in the same order as they did, nearly: who is looked for is near the front.
        for (i, load) in site.loads.iter().enumerate() {
            let known = free.iter().take(MOST_NEW + 1).position(|stay| stay.is(load));
            match known {
                Some(place) => powers.push(free.remove(place).kw.clone()),
                None => {
                    new.push(i);
                    powers.push(vec![0.0; load.to - load.from]);
                }
            }
            if new.len() > MOST_NEW {
                return None;
            }
        }
        Some((powers, new))
    }
}

/// The plan before with what has changed put in its place, and the fluid one at the old prices; whether it will do is
/// said beside. Takes from `work`.
pub fn mend(site: &Sound, before: &Standing, work: &mut u64) -> Option<(Sheet, Answer, bool)> {
    if before.step.len() != site.steps || before.store.len() != site.steps {
        return None;
    }
    let (powers, new) = before.powers(site)?;
    let fluid = auction::stand(site, before, work)?;
    let mut market: Market<'_> = fluid::open(site);
    market.load(&powers, &before.store);
    let curtail = (0..site.steps).map(|t| curtail(site, t, market.demand[t])).collect();
    let sheet = ledger::settle(site, powers, before.store.clone(), curtail);
    let sheet = quick::mend(&mut market, (sheet, &new), &fluid, before.gap);
    *work = work.saturating_sub(market.work);
    let good = quick::as_close(site, &sheet, fluid.floor, before.gap);
    Some((sheet, fluid, good))
}

#[cfg(test)]
mod tests {
    use super::super::problem::{Demand, Problem, Session};
    use super::super::{Budget, solve, solve_after};

    const STEPS: usize = 96;

    /// A day of thirty cars from step `at` on: each hour of the day costs the same every day.
    fn day(at: usize, had: &[Vec<f64>]) -> Problem {
        let price = |t: usize| 0.2 + 0.1 * ((t + at) % STEPS / 4 * 7 % 24) as f64 / 24.0;
        let car = |i: usize| {
            let had: f64 = had.get(i).map_or(0.0, |kw| kw[..at].iter().sum::<f64>() * 0.25);
            Session {
                arrival: 0,
                departure: (30 + 2 * i as i64) - at as i64,
                need_kwh: 12.0 + i as f64 - had,
                efficiency: 1.0,
                min_kw: 4.14,
                max_kw: 11.0,
                phases: [true; 3],
                ..Session::default()
            }
        };
        Problem {
            steps: STEPS,
            step_hours: 0.25,
            pv_kw: vec![0.0; STEPS],
            base_kw: vec![5.0; STEPS],
            import_price: (0..STEPS).map(price).collect(),
            export_price: vec![0.05; STEPS],
            import_limit_kw: vec![80.0; STEPS],
            export_limit_kw: vec![80.0; STEPS],
            base_share: [1.0 / 3.0; 3],
            demand: Demand::default(),
            sessions: (0..30).map(car).collect(),
            ..Problem::default()
        }
    }

    /// When a step is over and all went as planned, the plan is the rest of the one before, at a part of the work.
    #[test]
    fn a_plan_is_carried_into_the_next_step() {
        let first = solve(&day(0, &[]), Budget::default());
        let next = day(1, &first.session_kw);
        let cold = solve(&next, Budget::default());
        let carried = solve_after(&first.standing.later(1), &next, Budget::default());
        assert!(carried.score <= cold.score * 1.002, "{} and {}", carried.score, cold.score);
        assert!(carried.work * 4 < cold.work, "{} and {}", carried.work, cold.work);
        let unmoved = solve_after(&first.standing, &next, Budget::default());
        assert!(carried.work < unmoved.work, "{} and {}", carried.work, unmoved.work);
    }

    #[test]
    fn what_is_over_is_no_part_of_where_it_stands() {
        let first = solve(&day(0, &[]), Budget::default()).standing;
        let later = first.later(40);
        assert_eq!(later.step[..STEPS - 40], first.step[40..]);
        assert_eq!(later.step[STEPS - 40..], first.step[..40]);
        // The cars that left by step 40 are gone, the others have what they had from there on.
        assert_eq!(later.stays.len(), first.stays.iter().filter(|stay| stay.to > 40).count());
        for (stay, before) in later.stays.iter().zip(first.stays.iter().filter(|s| s.to > 40)) {
            assert_eq!(
                (stay.from, stay.to, stay.kw.as_slice()),
                (0, before.to - 40, &before.kw[40..])
            );
            let had: f64 = before.kw[..40].iter().sum::<f64>() * before.gain;
            assert!((stay.kwh + had - before.kwh).abs() < 1e-9);
        }
        assert_eq!(first.later(0), first);
        assert!(first.later(1000).stays.is_empty());
    }
}
