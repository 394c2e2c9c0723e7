//! The day plan: which load runs when, what the battery does, and how far that is from the best there
//! can be. Owns the search; what is asked is in `problem`, what makes it computable in `sieve`.
//!
//! ```text
//!  Problem ─sieve─▶ Sound ─┬ a plan before: standing ─▶ mended, if it will do ─┐
//!                          ├ many loads: auction ─▶ prices, bound ─▶ legal ─┬─ledger─▶ Plan
//!                          └ few, or where prices do not do: careful ───────┘
//!                              model, interior ─▶ fluid plan, bound ─▶ quick ─ sweep, market, polish
//!                                                    where that is far ─▶ dive, load after load
//! ```
//! What a stranger gets wrong: the order of wishes is strict (least overload, then most energy, then
//! least cost); the bound is on cost plus ten times the energy not served, and holds for any schedule.

mod answer;
mod auction;
mod bound;
mod careful;
mod curve;
mod dive;
mod fluid;
mod interior;
mod ledger;
mod market;
mod model;
mod polish;
mod problem;
mod program;
mod quick;
mod release;
mod reservoir;
mod rooms;
mod rows;
mod sieve;
mod standing;
mod sweep;
mod why;

pub use problem::{
    Demand, Fault, FaultKind, Group, Job, Member, Place, Problem, Session, Store, Taper,
};
pub use standing::Standing;
pub use why::{Bottleneck, Limit};

use answer::Answer;
use ledger::Sheet;
use sieve::Sound;

/// Steps of the longest horizon that the planner is made for: two days of five minutes.
const LONG: usize = 576;

/// How much may be computed, counted in multiplications, so that the same input gives the same plan on
/// every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

impl Budget {
    /// For the second that a plan may take on a slow core: beyond two days of five minutes numbers leave the cache, and
    /// a multiplication takes up to three times as long.
    #[must_use]
    pub fn of(problem: &Problem) -> Budget {
        let Budget(whole) = Budget::default();
        Budget(if problem.steps > LONG { whole / 3 } else { whole })
    }
}

impl Default for Budget {
    /// Well under a second on one slow core.
    fn default() -> Budget {
        Budget(1_400_000_000)
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
    /// No schedule that keeps the limits has a lower score, not even one that knows no least power.
    pub bound: f64,
    /// No legal schedule has a lower score: nearer, because it knows which needs are too small to be served.
    pub legal_bound: f64,
    /// Who gets less than asked for, and the limit in the way.
    pub bottlenecks: Vec<Bottleneck>,
    /// What could not be taken as it was.
    pub faults: Vec<Fault>,
    /// Whether the search ended by itself and not by its budget.
    pub finished: bool,
    /// Multiplications spent, about.
    pub work: u64,
    /// Where its prices stand, for the plan after it.
    pub standing: Standing,
}

/// Plans the site. Total: any input gives a plan, and what could not be planned is in `faults`.
#[must_use]
pub fn solve(problem: &Problem, budget: Budget) -> Plan {
    solve_after(&Standing::default(), problem, budget)
}

/// The same after another plan of nearly the same site, whose prices it begins with: a car more or less moves
/// them little. Prices of other steps or circuits count for nothing.
#[must_use]
pub fn solve_after(before: &Standing, problem: &Problem, budget: Budget) -> Plan {
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
    let mut work = budget.0;
    let (sheet, fluid, standing) = after(&site, before, &mut work);
    plan.work = budget.0 - work;
    plan.finished = fluid.good;
    plan.standing = standing;
    plan.score = sheet.score();
    // Overload above nothing counts for the bound at its weight.
    let over = answer::weights(&site).over * (sheet.overload_kwh + sheet.broken);
    plan.bound = (fluid.bound - over).min(plan.score);
    plan.legal_bound = (fluid.floor - over).min(plan.score);
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

/// The plan before mended, where that will do, or else one that is searched for; and where it stands.
fn after(site: &Sound, before: &Standing, work: &mut u64) -> (Sheet, Answer, Standing) {
    let mended = standing::mend(site, before, work);
    let known = mended.is_some();
    let (sheet, fluid) = match mended {
        Some((sheet, fluid, true)) => (sheet, fluid),
        Some((sheet, _, false)) => search(site, (Some(sheet), before), work),
        None => search(site, (None, before), work),
    };
    let standing = match known && quick::as_close(site, &sheet, fluid.floor, before.gap()) {
        true => before.mended(site, &sheet, &fluid),
        false => Standing::of(site, &sheet, &fluid),
    };
    (sheet, fluid, standing)
}

/// Prices for many loads, and the careful way for few or where that is not proven good; a plan that was mended from the
/// one before is kept where it is the best.
fn search(
    site: &Sound,
    (mended, before): (Option<Sheet>, &Standing),
    work: &mut u64,
) -> (Sheet, Answer) {
    if !auction::large(site) {
        let before = mended.is_some().then_some(before);
        return careful::careful(site, (mended, before), work);
    }
    let (sheet, fluid) = auction::plan(site, (mended, before), work);
    if *work == 0 || quick::close(site, &sheet, fluid.floor, 1.0) {
        return (sheet, fluid);
    }
    let (sheet, mut exact) = careful::careful(site, (Some(sheet), None), work);
    // Prices' bound holds where nothing is overloaded.
    if sheet.overload_kwh <= 0.0 && sheet.broken <= 0.0 {
        exact.bound = exact.bound.max(fluid.bound);
        exact.floor = exact.floor.max(fluid.floor);
    }
    (sheet, exact)
}
