//! The day plan: which load runs when, what the battery does, and how far that is from the best there
//! can be. Owns the search; what is asked is in `problem`, what makes it computable in `sieve`.
//!
//! ```text
//!  Problem ─sieve─▶ Sound ─model,interior─▶ fluid plan, prices, bound
//!                              │ sweep: on or off, never below the least power
//!                              ▼
//!                        switches ─model,interior─▶ powers ─ledger─▶ legal Plan
//! ```
//! What a stranger gets wrong: the order of wishes is strict (least overload, then most energy, then
//! least cost); the bound is on cost plus ten times the energy not served, and holds for any schedule.

mod answer;
mod interior;
mod ledger;
mod model;
mod problem;
mod program;
mod rooms;
mod sieve;
mod sweep;
mod why;

pub use problem::{
    Demand, Fault, FaultKind, Group, Job, Member, Place, Problem, Session, Store, Taper,
};
pub use why::{Bottleneck, Limit};

use answer::{Answer, Ways};
use ledger::Sheet;
use model::{Freedom, Model};
use sieve::Sound;

/// How much may be computed, counted in multiplications, so that the same input gives the same plan on
/// every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

impl Default for Budget {
    /// Well under a second on one slow core.
    fn default() -> Budget {
        Budget(1_200_000_000)
    }
}

/// What to do, and how good that is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// kW of each car in each step, in the order of the problem.
    pub session_kw: Vec<Vec<f64>>,
    /// kW of each job in each step.
    pub job_kw: Vec<Vec<f64>>,
    /// kW of the battery in each step, charging positive.
    pub store_kw: Vec<f64>,
    /// kW of sun not taken in each step.
    pub curtail_kw: Vec<f64>,
    /// kWh above the import and phase limits that could not be avoided.
    pub overload_kwh: f64,
    /// kWh asked for and not given.
    pub unserved_kwh: f64,
    /// Energy, demand charge and wear, currency.
    pub cost: f64,
    /// Cost plus ten for each kWh not served.
    pub score: f64,
    /// No legal schedule has a lower score.
    pub bound: f64,
    /// Who gets less than asked for, and the limit in the way.
    pub bottlenecks: Vec<Bottleneck>,
    /// What could not be taken as it was.
    pub faults: Vec<Fault>,
    /// Whether the search ended by itself and not by its budget.
    pub finished: bool,
    /// Multiplications spent, about.
    pub work: u64,
}

/// Gap at which a programme counts as solved.
const GAP: f64 = 5e-6;
/// A site with more loads times steps than this is large.
const MANY_PLACES: usize = 60_000;
/// How eagerly loads are switched on, one value a try.
const EAGER: [f64; 4] = [0.5, 0.9, 0.2, 0.7];
/// Most programmes with switches.
const MOST_TRIES: usize = 5;
/// Most rounds of finding phase limits that matter.
const MOST_PHASE_ROUNDS: usize = 4;
/// Up to so many phase rows are written at once.
const FEW_ROWS: usize = 60;

/// Plans the site. Total: any input gives a plan, and what could not be planned is in `faults`.
#[must_use]
pub fn solve(problem: &Problem, budget: Budget) -> Plan {
    let (site, faults) = sieve::sift(problem);
    let mut plan = Plan {
        session_kw: vec![vec![0.0; site.steps]; problem.sessions.len()],
        job_kw: vec![vec![0.0; site.steps]; problem.jobs.len()],
        faults,
        ..Plan::default()
    };
    if site.steps == 0 {
        return plan;
    }
    let mut search = Search { site: &site, work: budget.0, phases: Vec::new() };
    let (sheet, fluid) = search.run();
    plan.work = budget.0 - search.work;
    plan.finished = fluid.good;
    plan.score = sheet.score();
    // Overload above nothing counts for the bound at its weight.
    let over = answer::weights(&site).over * (sheet.overload_kwh + sheet.broken);
    plan.bound = (fluid.bound - over).min(plan.score);
    plan.bottlenecks = why::bottlenecks(&site, &fluid, &sheet.short);
    for (load, kw) in site.loads.iter().zip(&sheet.kw) {
        let row = match load.member {
            Member::Session(i) => &mut plan.session_kw[i],
            Member::Job(i) => &mut plan.job_kw[i],
        };
        row[load.from..load.to].copy_from_slice(kw);
    }
    (plan.store_kw, plan.curtail_kw) = (sheet.store, sheet.curtail);
    (plan.overload_kwh, plan.unserved_kwh, plan.cost) =
        (sheet.overload_kwh, sheet.unserved_kwh, sheet.cost);
    plan
}

struct Search<'a> {
    site: &'a Sound,
    work: u64,
    /// Phase rows that are written, phase after phase.
    phases: Vec<bool>,
}

impl Search<'_> {
    fn run(&mut self) -> (Sheet, Answer) {
        let site = self.site;
        let whole = self.work;
        let fluid = self.fluid();
        let weight = answer::weights(site).unserved;
        let mut best = {
            let kw = sweep::sweep(site, &fluid, EAGER[0]);
            ledger::settle(site, kw, vec![0.0; site.steps], vec![0.0; site.steps])
        };
        for eager in EAGER {
            let kw = sweep::sweep(site, &fluid, eager);
            self.refine(&fluid, kw, (&mut best, weight));
            let near = (1e-3 * fluid.floor.abs()).max(0.01);
            if best.score() - fluid.floor < near || self.work < whole / 2 {
                break;
            }
        }
        (best, fluid)
    }

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
fn phase_candidates(site: &Sound) -> Vec<bool> {
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
