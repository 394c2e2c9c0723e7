//! The careful way: the fluid plan as a linear programme, solved by the interior-point method to many digits,
//! and programmes again for the powers once it is known who is on. Owns how often; slower than the market
//! (`quick`) and right where that is not sharp enough: few loads, phases and circuits at their limits.

use super::answer::{self, Answer, Ways};
use super::auction;
use super::ledger::{self, Sheet};
use super::model::{Freedom, Model};
use super::quick;
use super::sieve::Sound;
use super::sweep;

/// Gap at which a programme counts as solved.
const GAP: f64 = 5e-6;
/// A site with more loads times steps than this is large.
const MANY_PLACES: usize = 60_000;
/// How eagerly loads are switched on, one value a try.
const EAGER: [f64; 4] = [0.5, 0.9, 0.2, 0.7];
/// Part of the gap that is good enough at which loads that improve in turn have done all that is worth it.
const FOLLOWED: f64 = 0.5;
/// Most programmes with switches.
const MOST_TRIES: usize = 5;
/// Most rounds of finding phase limits that matter.
const MOST_PHASE_ROUNDS: usize = 4;
/// Up to so many phase rows are written at once.
const FEW_ROWS: usize = 60;

/// A plan at least as good as `best`, and the fluid one it follows; takes from `work`.
pub fn careful(site: &Sound, mut best: Sheet, work: &mut u64) -> (Sheet, Answer) {
    let mut search = Search { site, work: *work, phases: Vec::new() };
    let fluid = search.fluid();
    if auction::large(site) {
        best = auction::follow(site, &fluid, best, &mut search.work);
    }
    if !quick::close(site, &best, fluid.floor, FOLLOWED) {
        best = quick::follow(site, &fluid, best, &mut search.work);
    }
    if quick::close(site, &best, fluid.floor, FOLLOWED) {
        *work = search.work;
        return (best, fluid);
    }
    let weight = answer::weights(site).unserved;
    for eager in EAGER {
        let kw = sweep::sweep(site, &fluid, eager);
        search.refine(&fluid, kw, (&mut best, weight));
        let near = (1e-3 * fluid.floor.abs()).max(0.01);
        if best.score() - fluid.floor < near || search.work < *work / 2 {
            break;
        }
    }
    *work = search.work;
    (best, fluid)
}

struct Search<'a> {
    site: &'a Sound,
    work: u64,
    /// Phase rows that are written, phase after phase.
    phases: Vec<bool>,
}

impl Search<'_> {
    /// Powers for these switches, then switches where energy is still missing, and again.
    fn refine(&mut self, fluid: &Answer, mut kw: Vec<Vec<f64>>, (best, weight): (&mut Sheet, f64)) {
        let site = self.site;
        let first = ledger::settle(site, kw.clone(), fluid.store.clone(), fluid.curtail.clone());
        let lacks = |short: &[f64]| -> Vec<f64> {
            let lack = |(i, short): (usize, &f64)| {
                let load = &site.loads[i];
                let want: f64 = fluid.kw[i].iter().sum();
                short - (load.kwh - load.gain * want).max(0.0)
            };
            short.iter().enumerate().map(lack).collect()
        };
        sweep::enrich(site, fluid, &mut kw, &lacks(&first.short));
        if first.beats(best, weight) {
            *best = first;
        }
        for _ in 0..MOST_TRIES {
            let model = Model::new(site, Freedom::Switched(&kw), &fluid.ways, &self.phases);
            let answer = model.solve(self.gap(), &mut self.work);
            let (store, curtail) = (answer.store.clone(), answer.curtail.clone());
            let mut sheet = ledger::settle(site, answer.kw.clone(), store, curtail);
            if sweep::top_up(site, &answer, &mut sheet) {
                sheet = ledger::settle(site, sheet.kw, sheet.store, sheet.curtail);
                kw.clone_from(&sheet.kw);
            }
            let short = lacks(&sheet.short);
            if sheet.beats(best, weight) {
                *best = sheet;
            }
            if !sweep::enrich(site, &answer, &mut kw, &short) {
                break;
            }
        }
    }

    /// A large site is content with less, so that it is planned within a second.
    fn gap(&self) -> f64 {
        let places: usize = self.site.loads.iter().map(|load| load.to - load.from).sum();
        if places > MANY_PLACES { 20.0 * GAP } else { GAP }
    }

    /// The fluid plan, with those phase limits that matter.
    fn fluid(&mut self) -> Answer {
        let candidates = phase_candidates(self.site);
        let few = candidates.iter().filter(|on| **on).count() <= FEW_ROWS;
        self.phases = if few { candidates.clone() } else { vec![false; candidates.len()] };
        let ways = Ways::open(self.site.steps);
        let mut answer = self.solve_fluid(&ways);
        for _ in 0..MOST_PHASE_ROUNDS {
            let mut grown = false;
            for (k, over) in phase_overloads(self.site, &answer).iter().enumerate() {
                if *over && candidates[k] && !self.phases[k] {
                    self.phases[k] = true;
                    grown = true;
                }
            }
            if !grown {
                break;
            }
            answer = self.solve_fluid(&ways);
        }
        answer
    }

    fn solve_fluid(&mut self, ways: &Ways) -> Answer {
        Model::new(self.site, Freedom::Fluid, ways, &self.phases).solve(self.gap(), &mut self.work)
    }
}

/// Phases and steps at which the limit could be passed at all.
pub fn phase_candidates(site: &Sound) -> Vec<bool> {
    let Some(limit) = site.phase else {
        return Vec::new();
    };
    let mut most = vec![0.0; 3 * site.steps];
    for load in &site.loads {
        for phase in (0..3).filter(|p| load.phases[*p]) {
            for t in load.from..load.to {
                most[phase * site.steps + t] += load.max_kw * load.share;
            }
        }
    }
    let store = site.store.map_or(0.0, |s| s.charge_kw.max(s.discharge_kw)) / 3.0;
    let over = |k: usize| {
        let (phase, t) = (k / site.steps, k % site.steps);
        let base = site.share[phase] * site.base[t];
        base + most[k] + store > limit || site.pv[t] / 3.0 + store - base > limit
    };
    (0..3 * site.steps).map(over).collect()
}

fn phase_overloads(site: &Sound, answer: &Answer) -> Vec<bool> {
    let Some(limit) = site.phase else {
        return Vec::new();
    };
    let rest = |k: usize| {
        let (phase, t) = (k / site.steps, k % site.steps);
        let beside = answer.store[t] - site.pv[t] + answer.curtail[t];
        site.share[phase] * site.base[t] + beside / 3.0
    };
    let mut flow: Vec<f64> = (0..3 * site.steps).map(rest).collect();
    for (load, kw) in site.loads.iter().zip(&answer.kw) {
        for phase in (0..3).filter(|p| load.phases[*p]) {
            let base = phase * site.steps + load.from;
            kw.iter().enumerate().for_each(|(k, kw)| flow[base + k] += kw * load.share);
        }
    }
    flow.iter().map(|flow| flow.abs() > limit + 1e-6).collect()
}
